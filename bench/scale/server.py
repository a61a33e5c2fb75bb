"""The server of the model: neutron-server's RPC workers behind RabbitMQ.

A worker is a process, whose threads share one processor (``executor_thread_pool_size``; Python's lock).  The broker
gives messages to the workers in turn, as many as come (``rabbit_qos_prefetch_count`` = 0).  So what a caller has given
up is worked on all the same: a message expires in the broker's queue only (oslo_messaging, impl_rabbit.py), and nobody
looks at its age afterwards (rpc/server.py).  With a prefetch count the rest waits in the broker.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any

from greenlet import getcurrent

from bench.scale.clock import Clock
from dvr_agent.sources.neutron.api import ServerTimeoutError

THREADS = 64
"""oslo.messaging's ``executor_thread_pool_size``."""


@dataclass(slots=True, eq=False)
class _Call:
    method: str
    work: float
    deadline: float
    caller: Any
    waits: bool = True
    """The caller still waits for the answer."""


@dataclass
class Load:
    """What the server was asked for.

    :ivar calls: by method
    :ivar timeouts: calls whose callers gave up, by method
    :ivar seconds: processor seconds of all calls that were worked on
    :ivar wasted: of that, for callers that had given up
    :ivar longest: seconds until the answer that took longest
    :ivar peak: calls that waited or were worked on, at most
    """

    calls: Counter[str] = field(default_factory=Counter)
    timeouts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    wasted: float = 0.0
    longest: float = 0.0
    peak: int = 0
    inside: int = 0


class Server:
    """All RPC workers of a cloud.

    :param threads: of each worker
    :param prefetch: messages that a worker takes beyond those that its threads work on; None: all
    """

    def __init__(self, clock: Clock, workers: int, threads: int = THREADS, prefetch: int | None = None) -> None:
        self._clock, self._prefetch = clock, prefetch
        self.load = Load()
        self._queue: deque[_Call] = deque()
        self._workers = [_Worker(self, clock, threads) for _ in range(workers)]
        self._turn = 0

    def call(self, method: str, work: float, timeout: float) -> None:
        """Call a method and wait for its answer.

        :param work: processor seconds that it takes
        :raises ServerTimeoutError: no answer came in time
        """
        began, load = self._clock.now, self.load
        call = _Call(method, work, began + timeout, getcurrent())
        load.calls[method] += 1
        load.inside += 1
        load.peak = max(load.peak, load.inside)
        self._clock.at(call.deadline, self._expire, call)
        self._deliver(call)
        if not self._clock.block():
            load.timeouts[method] += 1
            raise ServerTimeoutError("no answer came in time")
        load.longest = max(load.longest, self._clock.now - began)

    def worked(self, call: _Call) -> None:
        """Answer a call that a worker has finished."""
        self.load.inside -= 1
        self.load.seconds += call.work
        if call.waits:
            call.waits = False
            call.caller.switch(True)
        else:
            self.load.wasted += call.work

    def refill(self, worker: _Worker) -> None:
        """Give a worker messages from the broker's queue; what has expired there is dropped."""
        while self._queue and worker.waiting < (self._prefetch or 1):
            call = self._queue.popleft()
            if call.waits:
                worker.take(call)
            else:
                self.load.inside -= 1

    def _deliver(self, call: _Call) -> None:
        for _ in self._workers:
            worker = self._workers[self._turn]
            self._turn = (self._turn + 1) % len(self._workers)
            if self._prefetch is None or worker.waiting < self._prefetch:
                worker.take(call)
                return
        self._queue.append(call)

    def _expire(self, call: _Call) -> None:
        if call.waits:
            call.waits = False
            call.caller.switch(False)


class _Worker:
    """A process: its threads share one processor.

    Time is counted in the service that each thread has had; the next call to end is the one that needs least.
    """

    def __init__(self, server: Server, clock: Clock, threads: int) -> None:
        self._server, self._clock, self._threads = server, clock, threads
        self._active: list[tuple[float, int, _Call]] = []
        self._waiting: deque[_Call] = deque()
        self._served = self._at = 0.0
        self._numbers = count()
        self._version = 0

    @property
    def waiting(self) -> int:
        """Messages that no thread works on yet."""
        return len(self._waiting)

    def take(self, call: _Call) -> None:
        """Take a message from the broker."""
        self._pass_time()
        if len(self._active) < self._threads:
            self._begin(call)
        else:
            self._waiting.append(call)
        self._wake()

    def _begin(self, call: _Call) -> None:
        heappush(self._active, (self._served + call.work, next(self._numbers), call))

    def _pass_time(self) -> None:
        if self._active:
            self._served += (self._clock.now - self._at) / len(self._active)
        self._at = self._clock.now

    def _wake(self) -> None:
        """Have the end of the next call noticed; what was arranged before does not count any more."""
        self._version += 1
        if self._active:
            seconds = max(self._active[0][0] - self._served, 0.0) * len(self._active)
            self._clock.at(self._clock.now + seconds, self._end, self._version)

    def _end(self, version: int) -> None:
        if version != self._version:
            return
        self._pass_time()
        end, _, call = heappop(self._active)
        self._served = max(self._served, end)
        if self._waiting:
            self._begin(self._waiting.popleft())
        self._wake()
        self._server.refill(self)
        self._server.worked(call)
