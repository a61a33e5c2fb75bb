"""Runs all calls that block in one native thread: kernel work, reading documents, writing state files.

Calls go in by a thread-safe queue; results come back by another one and a byte in a pipe that wakes the hub.
A green thread calls :meth:`WorkerThread.call` and is suspended until the result is there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
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
    """The worker thread.  It ends with the process; a call that hangs does not keep the process alive."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._results: SimpleQueue[_Call] = SimpleQueue()
        self._readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = make_thread("worker", self._main)
        self._repeats = Repeats()

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

    def _main(self) -> None:
        while True:
            call = self._calls.get()
            try:
                call.result = call.function()
            except BaseException as exc:  # noqa: BLE001 - re-raised in the calling green thread
                call.error = exc
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
