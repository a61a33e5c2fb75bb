"""The only place that imports eventlet, and all that the daemon uses of it.

Green threads carry timers, waiting for descriptors and the admin socket.  No monkey-patching: ``threading``,
``socket`` and ``time`` stay what they are, so a call that blocks must go to the native worker thread.

eventlet prints a deprecation banner when it is imported; the operator can do nothing about it, so it is silenced
here (``docs/architecture.md`` says why eventlet is there and how it is fenced in).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import eventlet
    import eventlet.event
    import eventlet.hubs
    import eventlet.semaphore
    import eventlet.wsgi
    from eventlet.green import socket as green_socket
    from eventlet.support.greenlets import GreenletExit

LOG = logging.getLogger(__name__)

Semaphore = eventlet.semaphore.Semaphore
socket = green_socket
wsgi_server = eventlet.wsgi.server


class HttpProtocol(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]  # eventlet has no types
    """eventlet's HTTP, but what it would print on stderr about bad requests goes to the log at DEBUG."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server gives it
        LOG.debug("http: %s", (format % args).encode("ascii", "backslashreplace").decode())


def use_epoll() -> None:
    """Choose the hub by name, whatever EVENTLET_HUB says.  To be called once, in the thread that will run the loop."""
    eventlet.hubs.use_hub("epolls")


def sleep(seconds: float) -> None:
    eventlet.sleep(seconds)


def wait_readable(fd: int) -> None:
    """Suspend the green thread until the descriptor can be read.  One waiter per descriptor."""
    eventlet.hubs.trampoline(fd, read=True)


class Event:
    """Something that happens once, with a value; any number of green threads may wait for it."""

    def __init__(self) -> None:
        self._event = eventlet.event.Event()

    def set(self, value: Any = None) -> None:
        """The first call counts, later ones do nothing."""
        if not self._event.ready():
            self._event.send(value)

    def is_set(self) -> bool:
        return bool(self._event.ready())

    def wait(self, seconds: float | None = None) -> Any:
        """The value, or None when ``seconds`` have passed before."""
        return self._event.wait(seconds)


class Wakeup:
    """A bell for one green thread: rung any number of times, it wakes the sleeper once."""

    def __init__(self) -> None:
        self._event = Event()

    def ring(self) -> None:
        self._event.set()

    def wait(self, seconds: float | None = None) -> None:
        """Sleep until the bell has rung since the last call, or ``seconds`` have passed."""
        self._event.wait(seconds)
        self._event = Event()


class Timer:
    """A call in some seconds that can be cancelled; it runs in a green thread of its own."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._green = eventlet.spawn_after(seconds, guarded(call))

    def cancel(self) -> None:
        self._green.cancel()


def spawn(call: Callable[[], None], on_crash: Callable[[], None] | None = None) -> Any:
    """Run ``call`` in a green thread; :func:`kill` takes the result.

    An exception that escapes is logged (eventlet itself would print it on stderr), then ``on_crash`` is called.
    """
    return eventlet.spawn(guarded(call, on_crash))


def kill(thread: Any) -> None:
    thread.kill()


def guarded(call: Callable[[], None], on_crash: Callable[[], None] | None = None) -> Callable[[], None]:
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
