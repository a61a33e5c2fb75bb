"""Questions and events that follow from notifications about routers and networks, in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.sources.api import Bad, Changed, Deleted, Failed, Synced
from dvr_agent.sources.neutron.api import (
    ExternalNetworkGone,
    NetworkUpdated,
    RemoteError,
    RouterDeleted,
    RouterRemoved,
    RoutersUpdated,
    ServerAwayError,
)
from tests.support.scripted_neutron import GATEWAY_PORT, HOST, NETWORK, Server, desk
from tests.support.waiting import wait_for

AWAY = ServerAwayError("nobody there")


@pytest.fixture
def server() -> Server:
    return Server()


def rename(server: Server, router_id: str, name: str) -> None:
    server.routers[router_id]["name"] = name


def test_update_is_fetched_and_emitted(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        rename(server, router_id, "other")
        a.say(RoutersUpdated((router_id,)))
        assert a.next(Changed).document.router.name == "other"
    assert server.of("get_router_ids") == [None]  # it would schedule routers


def test_router_that_is_asked_for_again_is_open_until_its_answer_is_taken(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        wait_for(lambda: not a.source.status()["asking"])
        rename(server, router_id, "other")
        gate = server.hold("sync_routers")
        assert a.source.ask_again(router_id) is True
        gate.wait()
        assert a.source.status()["asking"] is True
        gate.open()
        assert a.next(Changed).document.router.name == "other"
        wait_for(lambda: not a.source.status()["asking"])


def test_server_that_is_away_keeps_a_question_open(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        server.away(AWAY)
        a.source.ask_again(router_id)
        a.next(Failed)
        assert a.source.status()["asking"] is True


def test_new_router_is_emitted_and_ports_of_its_subnets_are_fetched(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        a.sync()
        router_id = server.add(1)
        a.say(RoutersUpdated((router_id.upper(),)))
        assert a.next(Changed).document.router.id == router_id
        assert a.router(router_id).ports_by_subnet[0][1]


def test_updates_that_come_while_one_is_fetched_are_one_question(server: Server, tmp_path: Path) -> None:
    first, second, third = (server.add(number) for number in range(3))
    with desk(server, tmp_path) as a:
        a.sync()
        gate = server.hold("sync_routers")
        a.say(RoutersUpdated((first,)))
        gate.wait()
        for _ in range(3):
            a.say(RoutersUpdated((third, second)))
        gate.open()
        assert server.wait_calls("sync_routers", 3)[1:] == [[first], [third, second]]
        a.sync()
    assert len(server.of("sync_routers")) == 4


def test_a_router_that_the_server_adds_to_its_answer_is_taken(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        related = server.add(2)
        server.answers["sync_routers"] = lambda ids: [server.routers[router_id], server.routers[related]]
        a.say(RoutersUpdated((router_id,)))
        assert a.next(Changed).document.router.id == related


def test_deletion_is_emitted_at_once_and_no_older_answer_revives_the_router(server: Server, tmp_path: Path) -> None:
    router_id, other = server.add(1), server.add(2)
    with desk(server, tmp_path) as a:
        a.sync()
        rename(server, router_id, "older answer")
        rename(server, other, "other")
        gate = server.hold("sync_routers")
        a.say(RoutersUpdated((router_id, other)))
        gate.wait()
        a.say(RouterDeleted(router_id))
        assert a.next(Deleted).router_id == router_id  # while the answer is still under way
        gate.open()
        assert a.next(Changed).document.router.id == other
        del server.routers[router_id]
        a.sync()
        assert [event for event in a.events if isinstance(event, Changed)][-1].document.router.id == other
        assert a.source.document(router_id) is None
        assert not (tmp_path / f"{router_id}.json").exists()


def test_deletion_of_an_unknown_router_is_not_emitted(server: Server, tmp_path: Path) -> None:
    gone = server.add(1)
    del server.routers[gone]
    with desk(server, tmp_path) as a:
        a.sync()
        before = len(a.events)
        a.say(RouterDeleted(gone))
        a.say(RouterDeleted("no id"))
        a.sync()
        assert [type(event) for event in a.since(before)] == [Synced]


def test_before_the_first_sync_every_deletion_is_emitted(server: Server, tmp_path: Path) -> None:
    gone = server.add(1)
    with desk(server, tmp_path) as a:
        gate = server.hold("get_router_ids")
        a.source.rescan()
        gate.wait()
        a.say(RouterDeleted(gone))
        assert a.next(Deleted).router_id == gone
        del server.routers[gone]
        gate.open()
        assert a.next(Synced).known == frozenset()


def test_a_removal_is_confirmed_by_asking_for_the_router(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        del server.routers[router_id]
        a.say(RouterRemoved(router_id))
        assert a.next(Deleted).router_id == router_id
        assert a.source.document(router_id) is None
    assert len(server.of("sync_routers")) == 2


def test_a_removal_of_a_router_that_is_still_here_is_an_update(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        rename(server, router_id, "back already")
        a.say(RouterRemoved(router_id))
        assert a.next(Changed).document.router.name == "back already"
    assert not any(isinstance(event, Deleted) for event in a.events)


def test_a_router_that_an_answer_leaves_out_is_asked_for_again_before_it_counts_as_gone(
    server: Server, tmp_path: Path
) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        raw = server.routers.pop(router_id)
        answers: list[list[Any]] = [[], [{**raw, "name": "there after all"}]]
        server.answers["sync_routers"] = lambda ids: answers.pop(0)
        a.say(RoutersUpdated((router_id,)))
        assert a.next(Changed).document.router.name == "there after all"
        del server.answers["sync_routers"]
        a.say(RoutersUpdated((router_id,)))
        assert a.next(Deleted).router_id == router_id
    assert server.of("sync_routers") == [[router_id]] * 5


def test_a_new_router_that_is_not_visible_at_first_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        a.sync()
        router_id = server.add(1)
        answers: list[list[Any]] = [[], [server.routers[router_id]]]
        server.answers["sync_routers"] = lambda ids: answers.pop(0)
        a.say(RoutersUpdated((router_id,)))
        assert a.next(Changed).document.router.id == router_id


@pytest.mark.parametrize("removed", [True, False])
def test_an_answer_that_lacks_most_routers_deletes_nothing(server: Server, tmp_path: Path, removed: bool) -> None:
    ids = [server.add(number) for number in range(12)]
    with desk(server, tmp_path) as a:
        a.sync()
        server.answers["sync_routers"] = lambda asked: []
        gate = server.hold("sync_routers")
        a.say(RoutersUpdated((ids[0],)))
        gate.wait()
        for router_id in ids:
            a.say(RouterRemoved(router_id) if removed else RoutersUpdated((router_id,)))
        server.listed = []
        gate.open()
        assert a.next(Synced) == Synced(frozenset())
    assert not any(isinstance(event, Deleted) for event in a.events)


def test_an_update_during_an_outage_is_not_forgotten(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        rename(server, router_id, "changed meanwhile")
        server.away(AWAY)
        a.say(RoutersUpdated((router_id,)))
        a.next(Failed)
        assert a.source.status()["server"]["pending"] == 1
        before = server.away(None)["sync_routers"]  # the start, and tries that failed: at load there are several
        assert a.next(Changed).document.router.name == "changed meanwhile"
        a.next(Synced)
        a.sync()
        assert a.source.status()["server"]["pending"] == 0
    # Two full syncs: the first of these has answered the update.
    assert len(server.of("sync_routers")) == before + 2


def test_a_full_sync_answers_waiting_updates_first_and_nothing_is_asked_twice(server: Server, tmp_path: Path) -> None:
    first, second, changed = (server.add(number) for number in (1, 2, 3))
    with desk(server, tmp_path) as a:
        a.sync()
        server.away(AWAY)
        a.say(RoutersUpdated((changed,)))
        a.next(Failed)
        gate = server.hold("sync_routers")
        before = server.away(None)["sync_routers"]
        gate.wait()
        a.say(RoutersUpdated((second,)))  # while the server thinks about the full sync's first question
        server.wait_calls("sync_routers", before + 2)
        gate.open()
        a.next(Synced)
    assert server.of("sync_routers")[before:] == [[changed, first, second], [second]]


def test_a_removal_during_an_outage_is_a_deletion_after_it(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        del server.routers[router_id]
        server.away(AWAY)
        a.say(RouterRemoved(router_id))
        a.next(Failed)
        server.away(None)
        assert a.next(Deleted).router_id == router_id
        assert a.next(Synced).known == frozenset()


def test_an_update_that_the_server_cannot_answer_is_bad_and_tried_again(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        rename(server, router_id, "other")
        server.fail("sync_routers", RemoteError("deadlock"), RemoteError("deadlock"))
        a.say(RoutersUpdated((router_id,)))
        assert a.next(Bad).router_id == router_id
        assert a.next(Changed).document.router.name == "other"
        assert a.source.status()["bad"] == {}
    assert sum(isinstance(event, Bad) for event in a.events) == 1


def test_a_changed_network_has_its_routers_fetched(server: Server, tmp_path: Path) -> None:
    router_id, _other = server.add(1), server.add(2)
    inside = server.routers[router_id]["_interfaces"][0]
    with desk(server, tmp_path) as a:
        a.sync()
        inside["mtu"] = 1400
        a.say(NetworkUpdated(inside["network_id"], 1400))
        assert a.next(Changed).document.router.interfaces[0].mtu == 1400
    assert server.of("sync_routers")[1:] == [[router_id]]


def test_without_agent_gateway_port_it_is_asked_for_once_per_network(server: Server, tmp_path: Path) -> None:
    ids = [server.add(number, _floatingip_agent_interfaces=[]) for number in range(3)]
    with desk(server, tmp_path, mode=AgentMode.DVR) as a:
        a.sync()
        assert [port.id for port in a.router(ids[2]).agent_gateways] == [GATEWAY_PORT["id"]]
        a.say(RoutersUpdated((ids[0],)))
        server.wait_calls("sync_routers", 2)
        assert server.of("get_agent_gateway_port") == [NETWORK]
        a.sync()
        assert server.of("get_agent_gateway_port") == [NETWORK] * 2


def test_agent_gateway_port_of_another_host_does_not_count(server: Server, tmp_path: Path) -> None:
    foreign = {**GATEWAY_PORT, "id": "8ff41de9-0000-45ce-9591-95b67f793eb9", "binding:host_id": "compute7"}
    foreign |= {"mac_address": "fa:16:3e:00:00:07", "fixed_ips": []}
    router_id = server.add(1, _floatingip_agent_interfaces=[foreign])
    with desk(server, tmp_path) as a:
        a.sync()
        assert {port.host for port in a.router(router_id).agent_gateways} == {"compute7", HOST}


@pytest.mark.parametrize(
    "changes",
    [{"gw_port": None}, {"distributed": False}, {"ha": True, "distributed": False}],
    ids=["no gateway", "legacy", "HA"],
)
def test_routers_that_need_no_agent_gateway_port(server: Server, tmp_path: Path, changes: dict[str, Any]) -> None:
    router_id = server.add(1, _floatingip_agent_interfaces=[], **changes)
    if changes.get("gw_port", 1) is None:
        server.routers[router_id]["_floatingips"] = []
    with desk(server, tmp_path) as a:
        a.sync()
        assert a.router(router_id).agent_gateways == ()
    assert server.of("get_agent_gateway_port") == []
    if not changes.get("distributed", True):  # it asks by ARP, like any router
        assert server.of("get_ports_by_subnet") == []


def test_a_distributed_ha_router_gets_neighbours_and_an_agent_gateway_port(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1, _floatingip_agent_interfaces=[], ha=True)
    with desk(server, tmp_path) as a:
        a.sync()
        router = a.router(router_id)
        assert [port.host for port in router.agent_gateways] == [HOST]
        assert [len(ports) for _, ports in router.ports_by_subnet] == [len(next(iter(server.ports.values())))]


def test_without_external_networks_no_agent_gateway_port_is_asked_for(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1, _floatingip_agent_interfaces=[])
    with desk(server, tmp_path, mode=AgentMode.DVR_NO_EXTERNAL) as a:
        a.sync()
        assert a.router(router_id)
    assert server.of("get_agent_gateway_port") == []


@pytest.mark.parametrize("wrong", [None, [], {"mac_address": "x"}])
def test_no_agent_gateway_port_is_an_error_of_the_routers_that_need_it(
    server: Server, tmp_path: Path, wrong: Any
) -> None:
    lacking, other = server.add(1, _floatingip_agent_interfaces=[]), server.add(2)
    server.gateways[NETWORK] = wrong
    with desk(server, tmp_path) as a:
        assert a.sync().known == frozenset({lacking, other})
        assert [event.router_id for event in a.events if isinstance(event, Bad)] == [lacking]
        server.gateways[NETWORK] = GATEWAY_PORT
        assert a.next(Changed, lacking)


def test_agent_gateway_port_is_fetched_anew_after_its_external_network_was_reported_gone(
    server: Server, tmp_path: Path
) -> None:
    router_id = server.add(1, _floatingip_agent_interfaces=[])
    with desk(server, tmp_path) as a:
        a.sync()
        server.gateways[NETWORK] = {**GATEWAY_PORT, "id": "8ff41de9-0000-45ce-9591-95b67f793eb9"}
        a.say(ExternalNetworkGone(NETWORK))
        assert a.next(Changed).document.router.agent_gateways[0].id == "8ff41de9-0000-45ce-9591-95b67f793eb9"
    assert server.of("sync_routers")[1:] == [[router_id]]


def test_an_mtu_that_a_port_lacks_is_that_of_its_network(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    port = server.routers[router_id]["_interfaces"][0]
    del port["mtu"]
    server.mtus[port["network_id"]] = 1442
    with desk(server, tmp_path) as a:
        a.sync()
        assert a.router(router_id).interfaces[0].mtu == 1442
    assert server.of("get_networks") == [[port["network_id"]]]


def test_ports_that_cannot_be_pulled_are_an_error_of_the_routers_of_their_subnet(
    server: Server, tmp_path: Path
) -> None:
    first, second = server.add(1), server.add(2)
    with desk(server, tmp_path) as a:
        server.fail("get_ports_by_subnet", RemoteError("no such subnet"))
        assert a.sync().known == frozenset({first, second})
        assert [event.router_id for event in a.events if isinstance(event, Bad)] == [first]
        assert a.next(Changed, first)
