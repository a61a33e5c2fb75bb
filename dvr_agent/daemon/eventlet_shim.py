"""The only module that imports eventlet, with everything that the daemon uses of it.

Green threads carry timers, waiting for descriptors and the admin socket.  No monkey-patching: ``threading``,
``socket`` and ``time`` stay what they are, so a call that blocks must run in the native worker thread.

eventlet prints a deprecation banner when it is imported; an operator cannot act on it, so it is silenced
here (``docs/architecture.md`` says why eventlet is there and how it is fenced in).
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

_GREENDNS = "EVENTLET_NO_GREENDNS"
_had = os.environ.get(_GREENDNS)
# dnspython, which nothing here uses, would take a quarter of the time of a start.
os.environ[_GREENDNS] = "yes"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import eventlet
    import eventlet.event
    import eventlet.hubs
    import eventlet.semaphore
    import eventlet.wsgi
    from eventlet.green import socket as green_socket
    from eventlet.support.greenlets import GreenletExit
if _had is None:
    del os.environ[_GREENDNS]
else:
    os.environ[_GREENDNS] = _had

LOG = logging.getLogger(__name__)

Semaphore = eventlet.semaphore.Semaphore
socket = green_socket
wsgi_server = eventlet.wsgi.server


class HttpProtocol(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]  # eventlet has no types
    """eventlet's HTTP protocol; its messages about bad requests go to the log at DEBUG instead of stderr."""

    def handle(self) -> None:
        """Serve a connection until it ends, by whatever error of its socket."""
        try:
            super().handle()
        except OSError as exc:
            self.log_message("connection ended: %s", exc)

    def finish(self) -> None:
        """Send what is left of the answer, and close."""
        try:
            super().finish()
        except OSError as exc:
            self.log_message("connection ended: %s", exc)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server gives it
        """Log what http.server would print."""
        LOG.debug("http: %s", (format % args).encode("ascii", "backslashreplace").decode())


def use_epoll() -> None:
    """Use eventlet's epoll hub, regardless of EVENTLET_HUB.  To be called once, in the loop's thread."""
    eventlet.hubs.use_hub("epolls")


def sleep(seconds: float) -> None:
    """Suspend the calling green thread."""
    eventlet.sleep(seconds)


def wait_readable(fd: int) -> None:
    """Suspend the calling green thread until the descriptor is readable.  One waiter per descriptor."""
    eventlet.hubs.trampoline(fd, read=True)


class GreenEvent:
    """An event that happens once, with a value; any number of green threads may wait for it."""

    def __init__(self) -> None:
        self._event = eventlet.event.Event()

    def set(self, value: Any = None) -> None:
        """Make the event happen; later calls do nothing."""
        if not self._event.ready():
            self._event.send(value)

    def is_set(self) -> bool:
        """Return True after :meth:`set`."""
        return bool(self._event.ready())

    def wait(self, seconds: float | None = None) -> Any:
        """Wait for the event; returns its value, or None when ``seconds`` have passed before."""
        return self._event.wait(seconds)


class Wakeup:
    """Wakes one green thread: any number of rings between two waits ends one wait."""

    def __init__(self) -> None:
        self._event = GreenEvent()

    def ring(self) -> None:
        """End the current or the next wait."""
        self._event.set()

    def wait(self, seconds: float | None = None) -> None:
        """Suspend the calling green thread until a ring since the last wait, or until ``seconds`` have passed."""
        self._event.wait(seconds)
        self._event = GreenEvent()


class GreenTimer:
    """A call in some seconds, in a green thread of its own; it can be cancelled until it starts."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._green = eventlet.spawn_after(seconds, guarded(call))

    def cancel(self) -> None:
        """Cancel the call if it has not started."""
        self._green.cancel()


def spawn(call: Callable[[], None], on_crash: Callable[[], None] | None = None) -> None:
    """Run ``call`` in a green thread.

    An exception that escapes is logged (eventlet itself would print it on stderr), then ``on_crash`` is called.
    """
    eventlet.spawn(guarded(call, on_crash))


def guarded(call: Callable[[], None], on_crash: Callable[[], None] | None = None) -> Callable[[], None]:
    """Return the call with its exceptions handled as :func:`spawn` says."""

    def run() -> None:
        try:
            call()
        except GreenletExit:
            pass
        except Exception:
            LOG.exception("this is a bug: a green thread of the daemon ended")
            if on_crash is not None:
                on_crash()

    return run
