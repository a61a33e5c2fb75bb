"""The model of ``bench.scale``: simulated time, the server's workers, and the same calls as the real source makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.scale.__main__ import part_of
from bench.scale.clock import Box, Clock
from bench.scale.costs import Costs, Site
from bench.scale.hosts import Cloud, Host
from bench.scale.model import OURS, REFERENCE, run
from bench.scale.server import Server
from dvr_agent.sources.api import Synced
from dvr_agent.sources.neutron.api import ServerTimeoutError
from tests.support import scripted_neutron
from tests.support.scripted_neutron import desk

ONE_HOST = Site(1, 100, 1, boot=0, cached=False)
STATUSES = "update_floatingip_statuses"


def test_time_passes_from_one_event_to_the_next() -> None:
    clock, seen = Clock(), list[tuple[str, float]]()
    box: Box[str] = Box(clock)

    def taker() -> None:
        for _ in range(2):
            seen.append((box.take(), clock.now))

    def giver() -> None:
        for name in ("first", "second"):
            clock.sleep(2)
            box.put(name)

    clock.start(taker)
    clock.start(giver, 1)
    clock.run()
    assert seen == [("first", 3), ("second", 5)]


class Asker:
    """Calls a server at times, and notes when it was answered, None: not in time."""

    def __init__(self, workers: int = 1, threads: int = 1, prefetch: int | None = None) -> None:
        self.clock = Clock()
        self.server = Server(self.clock, workers, threads, prefetch)
        self.answered: list[float | None] = []

    def ask(self, when: float, work: float, timeout: float = 60) -> None:
        def call() -> None:
            try:
                self.server.call("sync_routers", work, timeout)
                self.answered.append(round(self.clock.now, 6))
            except ServerTimeoutError:
                self.answered.append(None)

        self.clock.start(call, when)


def test_threads_of_a_worker_share_its_processor() -> None:
    asker = Asker(threads=2)
    for when, work in ((0, 10), (4, 3), (4, 1)):
        asker.ask(when, work)
    asker.clock.run()
    assert asker.answered == [10, 12, 14]  # two at a time: 3 s of work take 6 s; the third begins when a thread is free


def test_calls_are_given_to_workers_in_turn() -> None:
    asker = Asker(workers=2)
    for work in (10, 1, 1):
        asker.ask(0, work)
    asker.clock.run()
    assert asker.answered == [1, 10, 11]


@pytest.mark.parametrize(("prefetch", "wasted", "done"), [(None, 5, 25), (1, 0, 20)])
def test_a_call_given_up_is_worked_on_unless_it_waits_in_the_broker(
    prefetch: int | None, wasted: float, done: float
) -> None:
    asker = Asker(prefetch=prefetch)
    asker.ask(0, 10)
    asker.ask(1, 5, timeout=100)
    asker.ask(2, 5, timeout=3)
    asker.ask(3, 5, timeout=100)
    asker.clock.run()
    assert asker.answered == [None, 10, 15, done]
    assert asker.server.load.wasted == wasted
    assert asker.server.load.inside == 0


class Scripted(Server):
    """Answers at once; some calls, by their number, get no answer in time."""

    def __init__(self, clock: Clock, unanswered: set[int]) -> None:
        super().__init__(clock, 1)
        self._unanswered = unanswered
        self.asked: list[str] = []

    def call(self, method: str, work: float, timeout: float) -> None:
        if method == STATUSES:
            return
        if method == "sync_routers":
            method += f" {round((work - Costs().sync_call) / Costs().sync_router)}"
        self.asked.append(method)
        if len(self.asked) - 1 in self._unanswered:
            raise ServerTimeoutError("no answer came in time")


def modelled(unanswered: set[int]) -> list[str]:
    """The calls of the model's host."""
    clock = Clock()
    server = Scripted(clock, unanswered)
    Host(Cloud(clock, server, Costs(), ONE_HOST), 0).start(0)
    clock.run()
    return server.asked


class Counting(scripted_neutron.Server):
    """The same for the real source."""

    def __init__(self, unanswered: set[int]) -> None:
        super().__init__()
        self._unanswered = unanswered
        self.asked: list[str] = []

    def _answer(self, method: str, args: object, ordinary: Callable[[], object]) -> object:
        if method in ("report_state", STATUSES):
            return super()._answer(method, args, ordinary)
        self.asked.append(f"{method} {len(args)}" if method == "sync_routers" and isinstance(args, list) else method)
        if len(self.asked) - 1 in self._unanswered:
            raise ServerTimeoutError("no answer came in time")
        return super()._answer(method, args, ordinary)


@pytest.mark.parametrize(
    "unanswered",
    [set(), {0}, {1}, {2}, {3}, {3, 4}, {3, 4, 5, 6}, {10}, {36, 37}, {36, 90, 91, 92}],
    ids=lambda numbers: ",".join(map(str, sorted(numbers))) or "none",
)
def test_the_model_asks_what_the_real_source_asks(unanswered: set[int], tmp_path: Path) -> None:
    server = Counting(unanswered)
    for number in range(ONE_HOST.routers):
        server.add(number)
    with desk(server, tmp_path) as a:
        a.source.rescan()
        a.next(Synced)
    assert modelled(unanswered) == server.asked


def test_one_host_is_synced_after_what_its_questions_take() -> None:
    costs, found = Costs(), run(OURS, ONE_HOST, threads=1)
    assert found.complete
    calls = found.load.calls
    assert (calls["sync_routers"], calls["get_ports_by_subnet"], calls[STATUSES]) == (3, 100, 100)
    asked = costs.listing(100) + 3 * costs.sync_call + 100 * (costs.sync_router + costs.ports) + 2 * costs.other
    assert asked < found.cloud.synced[0] <= asked + 100 * costs.statuses
    assert len(found.cloud.described) == len(found.cloud.built) == len(found.cloud.active) == 100
    assert found.load.seconds == pytest.approx(asked + 100 * costs.statuses)


def test_with_cached_documents_routers_are_built_without_the_server() -> None:
    site = Site(1, 100, 1, boot=0)
    found = run(OURS, site, Costs(list_router=1.0))
    assert max(found.cloud.built) < 30 < 100 < min(found.cloud.described)


def test_a_cloud_recovers_with_either_agent_and_ours_wastes_less() -> None:
    ours, reference = (run(agent, Site(30, 100, 1, boot=60)) for agent in (OURS, REFERENCE))
    for found in (ours, reference):
        assert found.complete
        assert len(found.cloud.active) == 3000
    assert ours.load.wasted < reference.load.wasted
    assert max(ours.cloud.synced) < max(reference.cloud.synced)


def test_the_same_run_is_the_same() -> None:
    first, second = (run(REFERENCE, Site(10, 50, 1)) for _ in range(2))
    assert first.cloud.active == second.cloud.active


def test_a_large_site_is_simulated_in_part_with_as_many_hosts_for_a_worker() -> None:
    assert part_of(Site(2000, 50, 64)) == Site(2000, 50, 64)
    part = part_of(Site(2000, 5000, 64))
    assert part.hosts / part.workers == pytest.approx(2000 / 64, rel=0.02)
