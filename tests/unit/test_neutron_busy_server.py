"""A server that is busy for hours: it is asked for less at a time, waited for longer, and nothing is asked twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dvr_agent.sources.api import Failed, Synced
from dvr_agent.sources.neutron.api import Json, Reconnected, RouterDeleted, ServerTimeoutError
from dvr_agent.sources.neutron.crossing.fetch_inbox import FetchInbox
from dvr_agent.sources.neutron.crossing.router_store import RouterStore
from dvr_agent.sources.neutron.fetch.chunked_fetch import CHUNK_MAX, CHUNK_MIN, LATE, SOON, ChunkedFetch
from dvr_agent.sources.neutron.wire.rpc_client import Timeouts
from tests.support.scripted_neutron import Server, desk
from tests.support.waiting import wait_for

TIMEOUT = ServerTimeoutError("no answer in 60 s")


@pytest.fixture
def server() -> Server:
    return Server()


def test_an_answer_that_took_long_leaves_twice_its_time_for_the_next() -> None:
    timeouts = Timeouts(60, 600)
    timeouts.timed_out("sync_routers", 60)
    timeouts.answered("sync_routers", 100)
    assert timeouts.of("sync_routers") == 200
    assert timeouts.of("get_ports_by_subnet") == 60


def test_a_time_out_grows_to_the_maximum_and_goes_back_with_quick_answers() -> None:
    timeouts = Timeouts(60, 600)
    for _ in range(5):
        timeouts.timed_out("sync_routers", timeouts.of("sync_routers"))
    found = [timeouts.of("sync_routers")]
    for _ in range(5):
        timeouts.answered("sync_routers", 1)
        found.append(timeouts.of("sync_routers"))
    assert found == [600, 300, 150, 75, 60, 60]


class Slow:
    """Answers after a time by a clock of its own."""

    def __init__(self) -> None:
        self.now, self.seconds = 0.0, 0.0
        self.asked: list[int] = []

    def ask(self, router_ids: Sequence[str]) -> list[Json]:
        self.asked.append(len(router_ids))
        self.now += self.seconds
        return [{"id": router_id} for router_id in router_ids]


@pytest.mark.parametrize(
    ("seconds", "sizes"), [(SOON, [64, 96, 128]), ((SOON + LATE) / 2, [64, 64, 64]), (LATE + 1, [64, CHUNK_MIN, 32])]
)
def test_chunks_are_as_large_as_the_server_answers_soon(seconds: float, sizes: list[int]) -> None:
    slow = Slow()
    slow.seconds = seconds
    store = RouterStore(lambda event: None, 0)
    fetch = ChunkedFetch(slow.ask, store, FetchInbox(), 64, clock=lambda: slow.now)
    for _ in fetch.ask([f"00000000-0000-0000-0000-{number:012}" for number in range(600)]):
        pass
    assert slow.asked[:3] == sizes
    assert max(slow.asked) <= CHUNK_MAX


def test_the_first_question_is_a_small_one(server: Server, tmp_path: Path) -> None:
    for number in range(100):
        server.add(number)
    with desk(server, tmp_path) as a:
        a.sync()
    assert [len(ids) for ids in server.of("sync_routers")] == [32, 64, 4]


def test_a_sync_that_is_not_answered_to_its_end_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    ids = [server.add(number) for number in range(100)]
    with desk(server, tmp_path, chunk_size=32) as a:
        server.fail("sync_routers", TIMEOUT)
        a.source.rescan()
        a.next(Failed)
        assert a.next(Synced).known == frozenset(ids)
    first, *_, last = server.of("sync_routers")
    assert last == first
    assert sum(map(len, server.of("sync_routers"))) == 100 + len(first)
    assert len(server.of("get_ports_by_subnet")) == len(set(server.of("get_ports_by_subnet")))
    assert len(server.of("get_router_ids")) == 1


def test_ports_that_are_not_answered_in_time_cost_no_router_before_them(server: Server, tmp_path: Path) -> None:
    ids = [server.add(number) for number in range(3)]
    with desk(server, tmp_path) as a:
        server.answers["get_router_ids"] = lambda _: ids
        calls = iter(range(100))

        def late(subnet_id: str) -> object:
            if next(calls) == 2:
                raise TIMEOUT
            return server.ports[subnet_id]

        server.answers["get_ports_by_subnet"] = late
        a.source.rescan()
        a.next(Failed)
        assert a.next(Synced).known == frozenset(ids)
    whole, rest = server.of("sync_routers")
    assert whole == ids
    assert 0 < len(rest) < 3


def test_a_router_that_left_while_a_sync_was_unfinished_is_not_known_after_it(server: Server, tmp_path: Path) -> None:
    ids = [server.add(number) for number in range(100)]

    def answer(asked: list[str]) -> object:
        if len(server.of("sync_routers")) in (2, 3):
            a.say(RouterDeleted(ids[0]))
            raise TIMEOUT
        return [server.routers[router_id] for router_id in asked]

    with desk(server, tmp_path, chunk_size=32) as a:
        server.answers["sync_routers"] = answer
        a.source.rescan()
        a.next(Failed)
        assert a.next(Synced).known == frozenset(ids[1:])
        assert a.source.document(ids[0]) is None


def test_a_sync_that_does_not_get_on_begins_anew_when_one_is_due(server: Server, tmp_path: Path) -> None:
    first, second = server.add(1), server.add(2)

    def answer(asked: list[str]) -> object:
        if second in asked:
            raise TIMEOUT
        return [server.routers[router_id] for router_id in asked]

    with desk(server, tmp_path, chunk_size=32, resync_interval=0) as a:
        server.listed = [first]
        server.answers["sync_routers"] = answer
        a.sync()
        server.listed = [second]
        a.source.rescan()
        server.wait_calls("get_router_ids", 4)
        del server.answers["sync_routers"]
        assert a.next(Synced).known == frozenset({second})


def test_after_a_lost_connection_a_sync_begins_anew(server: Server, tmp_path: Path) -> None:
    ids = [server.add(number) for number in range(100)]
    with desk(server, tmp_path, chunk_size=32) as a:
        server.fail("sync_routers", TIMEOUT)
        gate = server.hold("sync_routers")
        a.source.rescan()
        gate.wait()
        a.say(Reconnected())
        gate.open()
        assert a.next(Synced).known == frozenset(ids)
        assert sum(map(len, server.of("sync_routers"))) == 100 + 100


def test_a_periodic_sync_does_not_follow_one_that_takes_longer_than_the_interval(
    server: Server, tmp_path: Path
) -> None:
    server.add(1)
    with desk(server, tmp_path) as a:
        gate = server.hold("sync_routers")
        a.source.rescan()
        gate.wait()
        a.source.rescan(periodic=True)
        gate.open()
        a.next(Synced)
        wait_for(lambda: not a.source.status()["asking"], "the sync has ended")
        assert len(server.of("get_router_ids")) == 1
        a.source.rescan(periodic=True)
        a.next(Synced)
    assert len(server.of("get_router_ids")) == 2
