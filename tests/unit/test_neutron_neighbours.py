"""The neighbour cache of the neutron source: pulled once per subnet, patched by ARP notifications, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.desired.qrouter import qrouter_state
from dvr_agent.model.router import Router
from dvr_agent.sources.api import Changed, Synced
from dvr_agent.sources.neutron.api import ArpEntry, RoutersUpdated
from dvr_agent.sources.neutron.store.neighbours import SubnetPorts
from tests.support.scripted_neutron import HOST, Server, desk

NEW_MAC = "fa:16:3e:00:00:77"


@pytest.fixture
def server() -> Server:
    return Server()


def subnet_of(server: Server, router_id: str) -> str:
    found: str = server.routers[router_id]["_interfaces"][0]["fixed_ips"][0]["subnet_id"]
    return found


def entry(server: Server, router_id: str, address: str, mac: str = NEW_MAC, present: bool = True) -> ArpEntry:
    return ArpEntry(router_id, subnet_of(server, router_id), address, mac, present)


def addresses(router: Router) -> dict[str, str]:
    """Address → MAC of the neighbours that the desired state makes of the document, without those of the link."""
    view = make_view(router, HostSettings(HOST, AgentMode.DVR_NO_EXTERNAL))
    state, _ = qrouter_state(view, HostAllocations())
    return {neighbour.dst: neighbour.mac for neighbour in state.neighbours}


def test_a_subnet_is_pulled_once_and_shared_by_its_routers(server: Server, tmp_path: Path) -> None:
    first, second = server.add(1), server.add(2)
    server.routers[second]["_interfaces"] = server.routers[first]["_interfaces"]
    server.routers[second]["_snat_router_interfaces"] = []
    with desk(server, tmp_path) as a:
        a.sync()
        assert server.of("get_ports_by_subnet") == [subnet_of(server, first)]
        a.say(RoutersUpdated((first, second)))
        server.wait_calls("sync_routers", 2)
        a.sync()
        assert len(server.of("get_ports_by_subnet")) == 2  # refreshed by full syncs only


def test_a_new_address_is_a_neighbour_without_any_question(server: Server, tmp_path: Path) -> None:
    router_id, _other = server.add(1), server.add(2)
    with desk(server, tmp_path) as a:
        a.sync()
        before = addresses(a.router(router_id))
        asked = len(server.calls)
        a.say(entry(server, router_id, "10.1.0.200"))
        assert addresses(a.next(Changed).document.router) == {**before, "10.1.0.200": NEW_MAC}
        assert len(server.calls) == asked


def test_removed_address_is_no_neighbour(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        before = addresses(a.router(router_id))
        assert "10.1.0.112" in before
        a.say(entry(server, router_id, "10.1.0.112", before["10.1.0.112"], present=False))
        del before["10.1.0.112"]
        assert addresses(a.next(Changed).document.router) == before


def test_address_moved_to_another_mac_address_belongs_to_that_port_only(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        a.say(entry(server, router_id, "10.1.0.112"))
        assert addresses(a.next(Changed).document.router)["10.1.0.112"] == NEW_MAC


def test_notification_decides_between_a_fixed_ip_and_an_allowed_address_pair_of_another_port(
    server: Server, tmp_path: Path
) -> None:
    router_id = server.add(1)
    port = server.ports[subnet_of(server, router_id)][0]
    port["allowed_address_pairs"] = [{"ip_address": "10.1.0.99/32", "mac_address": "fa:16:3e:00:00:11"}]
    with desk(server, tmp_path) as a:
        a.sync()
        assert addresses(a.router(router_id))["10.1.0.99"] == "fa:16:3e:00:00:11"
        a.say(entry(server, router_id, "10.1.0.99", NEW_MAC))
        assert addresses(a.next(Changed).document.router)["10.1.0.99"] == NEW_MAC
        a.say(entry(server, router_id, "10.1.0.99", NEW_MAC, present=False))
        assert "10.1.0.99" not in addresses(a.next(Changed).document.router)


def test_notification_of_a_known_address_or_an_unknown_subnet_changes_nothing(server: Server, tmp_path: Path) -> None:
    router_id, elsewhere = server.add(1), server.add(2)
    foreign = entry(server, elsewhere, "10.1.0.200")
    del server.routers[elsewhere]
    with desk(server, tmp_path) as a:
        a.sync()
        before = len(a.events)
        a.say(foreign)
        a.say(entry(server, router_id, "10.1.0.112", addresses(a.router(router_id))["10.1.0.112"]))
        a.say(entry(server, router_id, "10.1.0.222", present=False))
        a.say(entry(server, router_id, "no address"))
        a.say(entry(server, router_id, "10.1.0.200", "no mac"))
        a.sync()
        assert [type(event) for event in a.since(before)] == [Synced]


def test_an_entry_that_comes_while_the_subnet_is_pulled_survives_the_pull(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        gate = server.hold("get_ports_by_subnet")
        a.source.rescan()
        gate.wait()  # the answer is made already
        a.say(entry(server, router_id, "10.1.0.200"))
        gate.open()
        a.wait(lambda: a.source.document(router_id) and "10.1.0.200" in addresses(a.router(router_id)))


def test_an_entry_that_is_older_than_a_pull_does_not_come_back(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        gate = server.hold("sync_routers")
        a.source.rescan()
        gate.wait()
        a.say(entry(server, router_id, "10.1.0.200"))  # then the port's address changes: no notification is sent
        gate.open()
        a.next(Synced)
        assert "10.1.0.200" not in addresses(a.router(router_id))


def test_next_full_sync_replaces_notified_addresses(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        before = addresses(a.router(router_id))
        a.say(entry(server, router_id, "10.1.0.200"))
        a.next(Changed)
        a.sync()
        assert addresses(a.router(router_id)) == before


def test_an_entry_during_a_sync_does_not_make_its_router_known(server: Server, tmp_path: Path) -> None:
    unlisted, there = server.add(1), server.add(2)
    with desk(server, tmp_path) as a:
        a.sync()
        server.listed = [there]
        gate = server.hold("sync_routers")
        a.source.rescan()
        gate.wait()
        a.say(entry(server, unlisted, "10.1.0.200"))
        gate.open()
        assert a.next(Synced).known == frozenset({there})


def test_many_entries_are_one_document(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        before = len(a.events)
        gate = server.hold("sync_routers")
        a.say(RoutersUpdated((router_id,)))
        gate.wait()
        for last in range(100, 150):
            a.say(entry(server, router_id, f"10.1.0.{last}"))
        gate.open()
        a.next(Changed)
        a.sync()
        # the entries together, and the full sync which does not know them
        assert [type(event) for event in a.since(before)] == [Changed, Changed, Synced]


def test_ipv6_addresses_are_compared_as_addresses() -> None:
    cache = SubnetPorts()
    port = {"id": "1", "mac_address": "FA:16:3E:00:00:77", "fixed_ips": [{"subnet_id": "s", "ip_address": "FD00::5"}]}
    cache.put("s", [port])
    assert not cache.patch(ArpEntry("r", "s", "fd00:0::5", NEW_MAC, True))
    assert cache.patch(ArpEntry("r", "s", "fd00::5", NEW_MAC, False))
    assert cache.text("s") == b"[]"


def test_of_two_ports_with_one_pair_the_active_one_counts_until_a_notification_names_another(
    server: Server, tmp_path: Path
) -> None:
    router_id = server.add(1)
    down, up = server.ports[subnet_of(server, router_id)][:2]
    for port, status in ((down, "DOWN"), (up, "ACTIVE")):
        port |= {"allowed_address_pairs": [{"ip_address": "10.1.0.99"}], "status": status, "admin_state_up": True}
    with desk(server, tmp_path) as a:
        a.sync()
        assert addresses(a.router(router_id))["10.1.0.99"] == up["mac_address"]
        a.say(entry(server, router_id, "10.1.0.99", down["mac_address"]))
        assert addresses(a.next(Changed).document.router)["10.1.0.99"] == down["mac_address"]
        down["status"], up["status"] = "ACTIVE", "DOWN"
        a.sync()
        assert addresses(a.router(router_id))["10.1.0.99"] == down["mac_address"]


def test_status_of_a_port_without_pairs_makes_no_other_document(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    port = server.ports[subnet_of(server, router_id)][0]
    port |= {"allowed_address_pairs": [], "status": "ACTIVE", "admin_state_up": True}
    with desk(server, tmp_path) as a:
        a.sync()
        before = len(a.events)
        port["status"] = "DOWN"
        a.sync()
        assert [type(event) for event in a.since(before)] == [Synced]


def test_router_is_built_despite_a_port_that_gives_no_neighbour(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    port = server.ports[subnet_of(server, router_id)][0]
    port["mac_address"] = "01:00:5e:00:00:01"
    with desk(server, tmp_path) as a:
        a.sync()
        router = a.router(router_id)
        assert len(router.skipped) == 1
        assert port["fixed_ips"][0]["ip_address"] not in addresses(router)


def test_a_port_with_an_id_that_is_none_hinders_no_other_port() -> None:
    """The document with it is refused; other routers share the subnet."""
    router_id = "a1a1a1a1-0000-4000-8000-000000000001"
    ours = {"id": "1", "device_owner": "network:router_interface_distributed", "device_id": router_id}
    wrong: list[object] = [[], {}, None, 7]
    for port_id in wrong:
        subnets = SubnetPorts()
        subnets.put("s", [ours, {**ours, "id": port_id}])
        assert subnets.retain_ports(router_id, {"s": frozenset()}) == {"s"}
        assert b'"1"' not in subnets.text("s")
