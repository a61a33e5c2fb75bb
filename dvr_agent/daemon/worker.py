"""Runs all calls that block in one native thread: kernel work, reading documents, writing state files.

Calls go in by a thread-safe queue; results come back by another one and a byte in a pipe that wakes the hub.
A green thread calls :meth:`WorkerThread.call` and is suspended until the result is there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from dvr_agent.daemon import eventlet_shim
from dvr_agent.errors import DvrError
from dvr_agent.repeats import Repeats
from dvr_agent.threads import make_thread

LOG = logging.getLogger(__name__)

T = TypeVar("T")

WAKE_RETRY_SECONDS = 0.1


@dataclass(slots=True)
class _Call:
    function: Callable[[], Any]
    finished: eventlet_shim.GreenEvent
    result: Any = None
    error: BaseException | None = None


class WorkerThread:
    """The worker thread.  It ends with the process; a call that hangs does not keep the process alive.

    :ivar calls: number of calls that have ended
    :ivar busy_since: begin of the call under way, by the monotonic clock; None: no call is under way
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._results: SimpleQueue[_Call] = SimpleQueue()
        self._readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = make_thread("worker", self._main)
        self._repeats = Repeats()
        self.calls = 0
        self.busy_since: float | None = None

    def start(self, on_crash: Callable[[], None] | None = None) -> None:
        """Start the thread, and the green thread that brings back results."""
        self._thread.start()
        eventlet_shim.spawn(self._deliver, on_crash)

    def call(self, function: Callable[[], T]) -> T:
        """Run ``function`` in the worker thread, after all earlier calls; other green threads go on.

        :raises BaseException: the exception of the function
        """
        call = _Call(function, eventlet_shim.GreenEvent())
        self._calls.put(call)
        call.finished.wait()
        if call.error is not None:
            raise call.error
        result: T = call.result
        return result

    def try_call(self, function: Callable[[], T], trouble: str) -> T | None:
        """Run ``function`` as :meth:`call` does; an exception is logged as ``trouble``, and None is returned.

        The same error again is logged after growing pauses.
        """
        try:
            return self.call(function)
        except DvrError as exc:
            text = f"{trouble}: {exc}"
            if self._repeats.is_due(text):
                LOG.error("%s", text)
        except Exception as exc:
            if self._repeats.is_due(f"{trouble}: {type(exc).__name__}"):
                LOG.exception("%s by an unexpected exception: this is a bug", trouble)
        return None

    @property
    def waiting(self) -> int:
        """Number of calls that wait for the call under way."""
        return self._calls.qsize()

    @property
    def is_alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    @property
    def processor_seconds(self) -> float:
        """Processor time of the thread.  It stays the same while a system call blocks, and only then."""
        ident = self._thread.ident
        if ident is None or not self._thread.is_alive():
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(ident))

    def stack(self) -> str:
        """Return what the thread is doing: its Python stack, innermost call last."""
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - its documented name
        return "".join(traceback.format_stack(frame)) if frame is not None else "the thread has ended\n"

    def _main(self) -> None:
        while True:
            call = self._calls.get()
            self.busy_since = time.monotonic()
            try:
                call.result = call.function()
            except BaseException as exc:  # noqa: BLE001 - re-raised in the calling green thread
                call.error = exc
            self.busy_since = None
            self.calls += 1
            self._results.put(call)
            self._wake_hub()

    def _wake_hub(self) -> None:
        """Write a byte for :meth:`_deliver`; without it the hub would wait for the result for ever."""
        while True:
            try:
                os.write(self._writable, b"\0")
                return
            except BlockingIOError:  # the pipe is full of wake-ups: one more changes nothing
                return
            except OSError:  # the kernel is short of memory
                time.sleep(WAKE_RETRY_SECONDS)

    def _deliver(self) -> None:
        while True:
            eventlet_shim.wait_readable(self._readable)
            with contextlib.suppress(OSError):  # the results count, not the bytes
                os.read(self._readable, 4096)
            with contextlib.suppress(Empty):
                while True:
                    self._results.get_nowait().finished.set()
