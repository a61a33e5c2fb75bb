"""Full syncs of the neutron source: start order, chunks, failures, what is known afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvr_agent.sources.api import Bad, Changed, Failed, Synced
from dvr_agent.sources.neutron.api import (
    AgentUpdated,
    Reconnected,
    RemoteError,
    RouterDeleted,
    RoutersUpdated,
    ServerAwayError,
    ServerTimeoutError,
)
from tests.support.scripted_neutron import HOST, Desk, Server, desk, recorded

AWAY = ServerAwayError("nobody there")
TIMEOUT = ServerTimeoutError("no answer in 60 s")


@pytest.fixture
def server() -> Server:
    return Server()


def sizes(server: Server) -> list[int]:
    return [len(ids) for ids in server.of("sync_routers")]


def changed(desk: Desk) -> list[str]:
    return [event.document.router.id for event in desk.events if isinstance(event, Changed)]


def test_start_asks_in_the_order_of_neutron_l3_agent(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        assert a.sync() == Synced(frozenset({router_id}))
        methods = [method for method, _ in server.calls]
    assert a.bus.listening
    assert methods[:5] == [
        "report_state",
        "get_service_plugin_list",
        "get_host_ha_router_count",
        "get_router_ids",
        "sync_routers",
    ]


@pytest.mark.parametrize(("routers", "has_booted", "calls"), [(2, True, 1), (2, False, 0), (0, True, 0)])
def test_ha_ports_are_reported_down_after_a_boot_before_any_router_is_asked_for(
    server: Server, tmp_path: Path, routers: int, has_booted: bool, calls: int
) -> None:
    server.ha_routers = routers
    with desk(server, tmp_path, has_booted=has_booted) as a:
        a.sync()
    methods = [method for method, _ in server.calls]
    assert methods.count("update_all_ha_network_port_statuses") == calls
    assert "update_all_ha_network_port_statuses" not in methods[methods.index("get_router_ids") :]


def test_before_the_first_rescan_nothing_is_asked(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        assert a.source.poll() == []
    assert server.calls == []
    assert not a.bus.listening


def test_documents_are_envelopes_with_neighbours(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        router = a.router(router_id)
    assert [subnet_id for subnet_id, _ in router.ports_by_subnet] == server.of("get_ports_by_subnet")
    assert len(router.ports_by_subnet[0][1]) == len(server.ports[router.ports_by_subnet[0][0]])


@pytest.mark.parametrize("name", [f"h_dual_stack-{HOST}", f"j_two_subnets_two_networks-{HOST}", f"e_no_gateway-{HOST}"])
def test_recorded_routers_are_good_documents(server: Server, tmp_path: Path, name: str) -> None:
    document = recorded(name)
    router = document["router"]
    server.routers[router["id"]] = router
    server.ports = document["ports_by_subnet"]
    with desk(server, tmp_path) as a:
        a.sync()
        assert a.router(router["id"]).name == router["name"]
        assert {subnet for subnet, _ in a.router(router["id"]).ports_by_subnet} == set(server.ports)


def test_second_sync_without_changes_emits_no_document(server: Server, tmp_path: Path) -> None:
    ids = [server.add(number) for number in range(3)]
    with desk(server, tmp_path) as a:
        a.sync()
        before = len(a.events)
        for router in server.routers.values():  # without meaning for us
            router["updated_at"] = "2030-01-01T00:00:00Z"
            router["_floatingips"][0]["status"] = "DOWN"
        assert a.sync().known == frozenset(ids)
    assert a.since(before) == [Synced(frozenset(ids))]


def test_several_requests_before_a_sync_begins_are_one(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        gate = server.hold("report_state")
        a.source.rescan()
        gate.wait()
        a.source.rescan()
        a.say(AgentUpdated(True))
        a.say(Reconnected())
        gate.open()
        a.next(Synced)
        a.sync()
    assert len(server.of("get_router_ids")) == 2


@pytest.mark.parametrize("trigger", [AgentUpdated(False), Reconnected()])
def test_notifications_that_lead_to_a_full_sync(server: Server, tmp_path: Path, trigger: Any) -> None:
    with desk(server, tmp_path) as a:
        a.sync()
        router_id = server.add(1)
        a.say(trigger)
        assert a.next(Synced).known == frozenset({router_id})


def test_chunks_are_halved_on_time_outs_and_grow_again(server: Server, tmp_path: Path) -> None:
    ids = [server.add(number) for number in range(300)]
    with desk(server, tmp_path, chunk_size=256) as a:
        server.fail("sync_routers", TIMEOUT, TIMEOUT)
        assert a.sync().known == frozenset(ids)
        assert sizes(server) == [256, 128, 64, 96, 128, 12]
        assert a.source.status()["server"]["chunk_size"] == 160


def test_a_chunk_that_times_out_at_the_smallest_size_fails_the_sync_but_not_the_other_chunks(
    server: Server, tmp_path: Path
) -> None:
    ids = [server.add(number) for number in range(100)]
    with desk(server, tmp_path, chunk_size=32) as a:
        server.fail("sync_routers", TIMEOUT)
        a.source.rescan()
        failed = a.next(Failed)
        assert "no answer in 60 s" in str(failed.error)
        assert len(changed(a)) == 68
        assert a.next(Synced).known == frozenset(ids)
    assert len(changed(a)) == 100
    assert set(changed(a)) == set(ids)


def test_a_server_that_is_away_is_one_failure_until_it_is_back(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        server.away(AWAY)
        a.source.rescan()
        a.next(Failed)
        server.wait_calls("get_router_ids", len(server.of("get_router_ids")) + 4)
        a.take()
        assert sum(isinstance(event, Failed) for event in a.events) == 1
        status = a.source.status()
        assert (status["error"], status["server"]["away"]) == ("neutron-server: nobody there", True)
        server.away(None)
        assert a.next(Synced) == Synced(frozenset({router_id}))
        assert a.source.status()["error"] is None


def test_a_server_that_is_away_at_the_start_is_waited_for(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    server.away(AWAY)
    with desk(server, tmp_path) as a:
        a.source.rescan()
        a.next(Failed)
        server.wait_calls("report_state", 4)
        assert server.of("get_router_ids") == []  # a server that does not know the agent would list nothing
        server.away(None)
        assert a.next(Synced).known == frozenset({router_id})
        assert all("start_flag" in state for state in server.of("report_state"))


def test_a_listed_router_that_is_left_out_is_not_known_and_not_deleted(server: Server, tmp_path: Path) -> None:
    there, away = server.add(1), server.add(2)
    with desk(server, tmp_path) as a:
        a.sync()
        del server.routers[away]
        server.listed = [there, away]
        before = len(a.events)
        assert a.sync().known == frozenset({there})
        assert a.since(before) == [Synced(frozenset({there}))]
        assert a.source.document(away) is None


def test_a_router_deleted_during_a_sync_is_not_known_after_it(server: Server, tmp_path: Path) -> None:
    there, gone = server.add(1), server.add(2)
    with desk(server, tmp_path) as a:
        a.sync()
        gate = server.hold("sync_routers")
        a.source.rescan()
        gate.wait()
        a.say(RouterDeleted(gone))
        gate.open()
        assert a.next(Synced).known == frozenset({there})
        assert a.source.document(gone) is None


def test_a_router_that_comes_during_a_sync_is_known_after_it(server: Server, tmp_path: Path) -> None:
    first = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        gate = server.hold("sync_routers")
        a.source.rescan()
        gate.wait()
        second = server.add(2)
        a.say(RoutersUpdated((second,)))
        gate.open()
        assert a.next(Synced).known == frozenset({first, second})


def test_a_router_that_changes_while_the_server_thinks_about_a_sync_does_not_wait_for_it(
    server: Server, tmp_path: Path
) -> None:
    """And what the sync says of it afterwards is older: it counts as known, and changes nothing."""
    first, second = server.add(1), server.add(2)
    with desk(server, tmp_path) as a:
        a.sync()
        gate = server.hold("sync_routers")
        a.source.rescan()
        gate.wait()
        server.routers[first]["name"] = "renamed"
        a.say(RoutersUpdated((first,)))
        assert a.next(Changed).document.router.name == "renamed"
        number = len(a.events)
        gate.open()
        assert a.next(Synced).known == frozenset({first, second})
        assert [event for event in a.since(number) if not isinstance(event, Synced)] == []
        assert a.router(first).name == "renamed"


def test_one_router_that_the_server_cannot_describe_does_not_keep_the_others_back(
    server: Server, tmp_path: Path
) -> None:
    good, bad = server.add(1), server.add(2)

    def answer(ids: list[str]) -> Any:
        if bad in ids:
            raise RemoteError("KeyError: 'gw_port'")
        return [server.routers[router_id] for router_id in ids]

    with desk(server, tmp_path) as a:
        server.answers["sync_routers"] = answer
        assert a.sync().known == frozenset({good, bad})
        found = next(event for event in a.events if isinstance(event, Bad))
        assert (found.name, found.router_id) == (f"neutron:{bad}", bad)
        assert "KeyError" in str(found.error)
        del server.answers["sync_routers"]
        assert a.next(Changed, bad)  # asked again without anybody saying so
        assert a.source.status()["bad"] == {}


def test_a_server_that_can_describe_no_router_is_a_failure_of_the_server(server: Server, tmp_path: Path) -> None:
    ids = [server.add(number) for number in range(20)]
    with desk(server, tmp_path) as a:
        server.fail("sync_routers", *[RemoteError("DBConnectionError")] * 6)
        a.source.rescan()
        assert "DBConnectionError" in str(a.next(Failed).error)
        assert a.next(Synced).known == frozenset(ids)
    assert not any(isinstance(event, Bad) for event in a.events)


@pytest.mark.parametrize("wrong", [None, {}, "routers", 7])
def test_an_answer_that_is_no_list_is_an_error_of_its_chunk(server: Server, tmp_path: Path, wrong: Any) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        server.answers["sync_routers"] = lambda ids: wrong
        assert a.sync().known == frozenset({router_id})
        assert "no list" in str(next(event for event in a.events if isinstance(event, Bad)).error)


@pytest.mark.parametrize("wrong", [None, [], {"name": "no id"}, {"id": 7}])
def test_router_without_id_in_an_answer_is_an_error_of_the_missing_router(
    server: Server, tmp_path: Path, wrong: Any
) -> None:
    good, bad = server.add(1), server.add(2)
    server.routers[bad] = wrong
    with desk(server, tmp_path) as a:
        assert a.sync().known == frozenset({good, bad})
        assert [event.router_id for event in a.events if isinstance(event, Bad)] == [bad]
        assert a.router(good)


def test_document_that_does_not_parse_is_bad_and_its_recovery_is_an_event(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        mac = server.routers[router_id]["gw_port"].pop("mac_address")
        a.sync()
        found = next(event for event in a.events if isinstance(event, Bad))
        assert str(found.error).startswith(f"neutron:{router_id}: $.router.gw_port.mac_address is missing")
        assert a.router(router_id).gateway is not None
        server.routers[router_id]["gw_port"]["mac_address"] = mac
        before = len(a.events)
        a.sync()
        assert [type(event) for event in a.since(before)] == [Changed, Synced]


@pytest.mark.parametrize("wrong", [None, "x", {"a": 1}])
def test_answer_that_is_no_list_of_ids_fails_the_sync(server: Server, tmp_path: Path, wrong: Any) -> None:
    with desk(server, tmp_path) as a:
        server.answers["get_router_ids"] = lambda args: wrong
        a.source.rescan()
        assert "no list" in str(a.next(Failed).error)


def test_listing_with_an_invalid_router_id_is_not_complete(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    server.listed = [router_id, None, "x"]
    with desk(server, tmp_path) as a:
        found = a.sync()
        assert (found.known, found.complete) == (frozenset({router_id}), False)
        assert found.why


def test_internal_only_routers_are_skipped_where_so_configured(server: Server, tmp_path: Path) -> None:
    router_id, other = server.add(1), server.add(2)
    gateway = server.routers[router_id]["gw_port"]
    with desk(server, tmp_path, handle_internal_only_routers=False) as a:
        assert a.sync().known == frozenset({router_id, other})
        server.routers[router_id]["gw_port"] = None
        assert a.sync().known == frozenset({other})
        server.routers[router_id]["gw_port"] = gateway
        assert a.sync().known == frozenset({router_id, other})
        assert a.router(router_id)


def test_close_ends_in_time_while_the_server_does_not_answer(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        gate = server.hold("get_router_ids")
        a.source.rescan()
        gate.wait()
        a.source.close()
        gate.open()
    assert a.bus.closed
    assert a.source.poll() == []
