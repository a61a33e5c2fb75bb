"""What the executor's own work takes of a build: order, dependencies, and steps of tables.

The kernel is the real one.  The executor's time is that of its call less that of the calls that it makes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from bench import states
from bench.reliability import cost
from bench.reliability.api import Figure, Options
from dvr_agent.kernel.api import Kernel
from dvr_agent.model.router import Router
from dvr_agent.reconcile.executor import Executor
from dvr_agent.reconcile.post_commit import PostCommit
from dvr_agent.reconcile.reconciler import RouterReconciler

LIMIT = 0.03
"""Share of a build's processor time."""
WARM_UP = 5
"""Routers that are built first: modules are loaded, and the kernel's tables are made."""


class _Stopwatch:
    """Sums up the time of functions that it wraps; one that runs inside another counts once.

    It reads the clock of the wall, since reading that of the thread takes longer than what is measured: what the kernel
    takes cancels out, and a process that comes between is one of the builds that the median leaves out.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0
        self._running = False

    def wrap(self, owner: object, *names: str) -> None:
        """Replace methods of an object by ones that are timed."""
        for name in names:
            setattr(owner, name, self.timed(getattr(owner, name)))

    def block(self, opened: Callable[[], AbstractContextManager[Any]]) -> Callable[[], AbstractContextManager[Any]]:
        """Return the context manager with its block timed."""

        @contextmanager
        def timed() -> Iterator[Any]:
            self.calls += 1
            started = time.perf_counter()
            try:
                with opened() as value:
                    yield value
            finally:
                self.seconds += time.perf_counter() - started

        return timed

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._running:
                return function(*args, **kwargs)
            self.calls += 1
            self._running, started = True, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started
                self._running = False

        return timed


def _overhead(rounds: int = 2000) -> float:
    """Return the seconds that a timed call costs its caller beyond what the stopwatch counts."""
    watch = _Stopwatch()
    nothing = watch.timed(lambda: None)
    started = time.perf_counter()
    for _ in range(rounds):
        nothing()
    return (time.perf_counter() - started - watch.seconds) / rounds


class _Share:
    """Builds routers, and takes the executor's share of each."""

    def __init__(self, reconciler: RouterReconciler) -> None:
        self._reconciler = reconciler
        self._outer, self._inner = _Stopwatch(), _Stopwatch()
        self._overhead = _overhead()
        self._outer.wrap(Executor, "apply")
        kernel: Kernel = reconciler.kernel
        self._inner.wrap(kernel.namespaces, "create")
        self._inner.wrap(kernel.interfaces, "apply")
        kernel.packet_filter.defer_apply = self._inner.block(kernel.packet_filter.defer_apply)  # type: ignore[method-assign]
        self._inner.wrap(PostCommit, "note", "announce")
        self._inner.wrap(reconciler.attach, "plug", "prepare")

    def of(self, router: Router) -> float:
        """Build a router and return the executor's share of its processor time."""
        outer, inner, calls = self._outer.seconds, self._inner.seconds, self._inner.calls
        started = time.thread_time()
        self._reconciler.reconcile(router, in_resync=True)
        whole = time.thread_time() - started
        own = self._outer.seconds - outer - (self._inner.seconds - inner)
        return (own - (self._inner.calls - calls) * self._overhead) / whole


def shares(mode: str, count: int) -> list[float]:
    """Return the executor's share of each build."""
    routers: Sequence[Router] = states.parse(states.raw_documents(mode, count + WARM_UP))
    cost.prepare()
    reconciler = cost.make(mode)
    reconciler.load()
    reconciler.begin_resync()
    share = _Share(reconciler)
    return [share.of(router) for router in routers][WARM_UP:]


def measure(options: Options) -> Figure:
    """Measure the executor's share of a build."""
    found = shares(cost.MODE, 10 if options.quick else 50)
    middle = statistics.median(found)
    text = f"{middle:.1%} of the processor time of a build (median of {len(found)} routers, mode {cost.MODE})"
    return Figure(text, middle <= LIMIT)
