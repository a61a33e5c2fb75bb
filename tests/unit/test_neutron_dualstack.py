"""Networks with several subnets: each list holds addresses of its subnet, and the newest message of the server counts.

Notifications are about one subnet, answers about all addresses of a port: a router must be served whatever order they
come in.
"""

from __future__ import annotations

import copy
import itertools
import json
import uuid
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.desired.qrouter import qrouter_state
from dvr_agent.model.router import Router
from dvr_agent.sources.api import Bad, Changed
from dvr_agent.sources.neutron.api import ArpEntry, Json, RouterDeleted, RoutersUpdated
from dvr_agent.sources.neutron.store.neighbours import SubnetPorts
from tests.support.scripted_neutron import HOST, Desk, Server, desk

V4 = "11111111-1111-4111-8111-111111111111"
V6 = "66666666-6666-4666-8666-666666666666"
OLD, NEW, OTHER = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "fa:16:3e:00:00:03"
CSNAT = "network:router_centralized_snat"


@pytest.fixture
def server() -> Server:
    return Server()


def port(number: int, mac: str, *fixed: tuple[str, str], **more: Any) -> Json:
    """A port as the server lists it."""
    return {
        "id": str(uuid.UUID(int=number)),
        "mac_address": mac,
        "device_owner": "compute:nova",
        "fixed_ips": [{"subnet_id": subnet_id, "ip_address": address} for subnet_id, address in fixed],
        "allowed_address_pairs": [],
        **more,
    }


def gives(router: Router) -> dict[str, str]:
    """Address → MAC address of the neighbours that the desired state makes of the document."""
    view = make_view(router, HostSettings(HOST, AgentMode.DVR_NO_EXTERNAL))
    state, _ = qrouter_state(view, HostAllocations())
    return {neighbour.dst: neighbour.mac for neighbour in state.neighbours}


# The cache


def claims(cache: SubnetPorts, subnet_id: str) -> set[tuple[str, str]]:
    """(address, MAC address) of all fixed IPs in a list."""
    listed = json.loads(cache.text(subnet_id))
    return {(fixed["ip_address"], one["mac_address"]) for one in listed for fixed in one["fixed_ips"]}


def apply_casts(cache: SubnetPorts, casts: Iterable[tuple[bool, str, str, str]]) -> None:
    for present, subnet_id, address, mac in casts:
        cache.patch(ArpEntry("r", subnet_id, address, mac, present))


def dual_stack() -> SubnetPorts:
    """One port in the lists of two subnets, each time with all that it has, as the server answers."""
    cache = SubnetPorts()
    for subnet_id in (V4, V6):
        cache.put(subnet_id, [port(1, OLD, (V4, "10.0.0.5"), (V6, "fd00::5"))])
    return cache


def test_list_of_a_subnet_holds_addresses_of_that_subnet_only() -> None:
    cache = dual_stack()
    assert claims(cache, V4) == {("10.0.0.5", OLD)}
    assert claims(cache, V6) == {("fd00::5", OLD)}


MAC_CHANGE = (
    (False, V4, "10.0.0.5", OLD),
    (True, V4, "10.0.0.5", NEW),
    (False, V6, "fd00::5", OLD),
    (True, V6, "fd00::5", NEW),
)


@pytest.mark.parametrize("casts", list(itertools.permutations(MAC_CHANGE)))
def test_port_with_another_mac_address_has_it_in_each_subnet_in_any_order_of_casts(casts: Any) -> None:
    cache = dual_stack()
    apply_casts(cache, casts)
    assert claims(cache, V4) == {("10.0.0.5", NEW)}
    assert claims(cache, V6) == {("fd00::5", NEW)}


SUCCESSOR = (
    (False, V4, "10.0.0.5", OLD),
    (False, V6, "fd00::5", OLD),
    (True, V4, "10.0.0.5", OTHER),
    (True, V6, "fd00::6", OTHER),
)


@pytest.mark.parametrize("casts", list(itertools.permutations(SUCCESSOR)))
def test_address_of_a_deleted_port_goes_to_another_port(casts: Any) -> None:
    cache = dual_stack()
    apply_casts(cache, casts)
    assert claims(cache, V4) == {("10.0.0.5", OTHER)}
    assert claims(cache, V6) == {("fd00::6", OTHER)}


@pytest.mark.parametrize("text", ["fd00::5", "FD00::5", "fd00:0:0::5", "fd00:0000:0000:0000:0000:0000:0000:0005"])
def test_forms_of_an_ipv6_address_are_one_address(text: str) -> None:
    for listed, notified in ((text, "fd00::5"), ("fd00::5", text)):
        cache = SubnetPorts()
        pairs = [{"ip_address": "FD00:0::9/128", "mac_address": OLD.upper()}]
        cache.put(V6, [port(1, OLD.upper(), (V6.upper(), listed), allowed_address_pairs=pairs)])
        assert not cache.patch(ArpEntry("r", V6, notified, OLD, True))
        apply_casts(cache, [(True, V6, notified, NEW), (False, V6, "fd00::9", OLD.upper())])
        assert claims(cache, V6) == {("fd00::5", NEW)}
        assert "::9" not in cache.text(V6).decode()


def test_two_ports_with_one_mac_address_are_two_ports() -> None:
    cache = SubnetPorts()
    cache.put(V4, [port(1, OLD, (V4, "10.0.0.5")), port(2, OLD, (V4, "10.0.0.6"))])
    apply_casts(cache, [(True, V4, "10.0.0.5", OLD), (False, V4, "10.0.0.6", OLD), (True, V4, "10.0.0.5", NEW)])
    assert claims(cache, V4) == {("10.0.0.5", NEW)}


def test_address_pairs_are_in_the_list_of_the_subnet_that_they_lie_in() -> None:
    pairs = [{"ip_address": text, "mac_address": OLD} for text in ("10.0.0.9", "fd00::9/128", "10.9.0.0/24")]
    cache = SubnetPorts()
    for subnet_id, cidr in ((V4, "10.0.0.0/24"), (V6, "fd00::/64")):
        answer = [port(1, OLD, (V4, "10.0.0.5"), (V6, "fd00::5"), allowed_address_pairs=pairs)]
        cache.put(subnet_id, answer, ip_network(cidr))
    kept = {
        subnet_id: [pair["ip_address"] for one in json.loads(cache.text(subnet_id)) for pair in one[key]]
        for key in ("allowed_address_pairs",)
        for subnet_id in (V4, V6)
    }
    assert kept == {V4: ["10.0.0.9"], V6: ["fd00::9"]}
    apply_casts(cache, [(False, V4, "10.0.0.9", OLD), (False, V4, "10.0.0.5", OLD)])
    assert cache.text(V4) == b"[]"
    assert claims(cache, V6) == {("fd00::5", OLD)}


@pytest.mark.parametrize("named", [OLD, NEW], ids=["port", "pair"])
def test_address_pair_is_removed_by_its_own_mac_address_or_that_of_its_port(named: str) -> None:
    cache = SubnetPorts()
    listed = port(1, OLD, (V4, "10.0.0.5"), allowed_address_pairs=[{"ip_address": "10.0.0.9", "mac_address": NEW}])
    other = port(2, OTHER, (V4, "10.0.0.6"), allowed_address_pairs=[{"ip_address": "10.0.0.9", "mac_address": OTHER}])
    cache.put(V4, [listed, other])
    apply_casts(cache, [(False, V4, "10.0.0.9", named)])
    kept = {one["mac_address"]: one["allowed_address_pairs"] for one in json.loads(cache.text(V4))}
    assert kept == {OLD: [], OTHER: other["allowed_address_pairs"]}


def test_address_moved_to_a_port_that_gives_no_neighbour_is_no_neighbour() -> None:
    cache = dual_stack()
    apply_casts(cache, [(True, V4, "10.0.0.5", "01:00:5e:00:00:01")])
    assert claims(cache, V4) == set()
    assert claims(cache, V6) == {("fd00::5", OLD)}


# The source


class Site:
    """A router with one IPv4 subnet, at first; each step tells the source and looks at what became of the router."""

    def __init__(self, server: Server, a: Desk) -> None:
        self.server, self.a = server, a
        self.id = server.add(1)
        self.router = server.routers[self.id]
        self.v4 = self.router["_interfaces"][0]["fixed_ips"][0]["subnet_id"]
        a.sync()

    def join(self, subnet_id: str, cidr: str, address: str) -> None:
        """The router gets an interface and a csnat port in another subnet of its network."""
        for key, last in (("_interfaces", ""), ("_snat_router_interfaces", "7")):
            made = copy.deepcopy(self.router[key][0])
            number = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.id} {key} {address}")
            made["id"] = str(number)
            made["mac_address"] = "fa:16:3e:" + ":".join(str(number)[at : at + 2] for at in (0, 2, 4))
            fixed, prefixlen = address + last, int(cidr.partition("/")[2])
            made["fixed_ips"] = [{"subnet_id": subnet_id, "ip_address": fixed, "prefixlen": prefixlen}]
            made["subnets"] = [{"id": subnet_id, "cidr": cidr, "gateway_ip": address}]
            self.router[key].append(made)
            if last:
                self.server.ports.setdefault(subnet_id, []).append(made)

    def leave(self, subnet_id: str) -> None:
        """The router's interface in the subnet is removed, and its csnat port."""
        for key in ("_interfaces", "_snat_router_interfaces"):
            self.router[key] = [one for one in self.router[key] if one["fixed_ips"][0]["subnet_id"] != subnet_id]
        gone = {one["id"] for one in self.server.ports[subnet_id] if one["device_owner"] == CSNAT}
        self.server.ports[subnet_id] = [one for one in self.server.ports[subnet_id] if one["id"] not in gone]

    def cast(self, present: bool, subnet_id: str, address: str, mac: str) -> None:
        self.a.say(ArpEntry(self.id, subnet_id, address, mac, present))

    def updated(self) -> dict[str, str]:
        """Notify that the router has changed; returns its neighbours."""
        self.a.passed()
        self.a.say(RoutersUpdated((self.id,)))
        return gives(self.a.next(Changed, self.id).document.router)

    def has(self, wanted: dict[str, str | None]) -> None:
        """Wait until the router has these neighbours; None: it has not."""

        def met() -> bool:
            found = gives(self.a.router(self.id))
            return all(found.get(address) == mac for address, mac in wanted.items())

        self.a.wait(met)

    def served(self) -> None:
        """No document was bad so far."""
        assert [event for event in self.a.events if isinstance(event, Bad)] == []


def test_ipv6_subnet_is_added_to_a_network_with_running_instances(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        site = Site(server, a)
        site.cast(True, site.v4, "10.1.0.200", OLD)  # an instance that only a notification has named
        site.has({"10.1.0.200": OLD})
        there = port(1, OLD, (site.v4, "10.1.0.200"), (V6, "fd00::200"))
        server.ports[site.v4].append(there)
        server.ports[V6] = [there]
        site.join(V6, "fd00::/64", "fd00::1")
        found = site.updated()
        assert (found["10.1.0.200"], found["fd00::200"]) == (OLD, OLD)
        site.served()


def test_ipv4_address_of_a_deleted_dual_stack_instance_is_given_to_another(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        site = Site(server, a)
        server.ports[V6] = [port(1, OLD, (site.v4, "10.1.0.200"), (V6, "fd00::200"))]
        server.ports[site.v4] += server.ports[V6]
        site.join(V6, "fd00::/64", "fd00::1")
        site.updated()
        a.sync()
        site.has({"10.1.0.200": OLD, "fd00::200": OLD})
        site.cast(False, site.v4, "10.1.0.200", OLD)
        site.cast(False, V6, "fd00::200", OLD)
        site.cast(True, site.v4, "10.1.0.200", NEW)
        site.has({"10.1.0.200": NEW, "fd00::200": None})
        site.router["name"] = "changed"
        site.updated()
        assert a.router(site.id).name == "changed"
        site.served()


def test_third_subnet_is_attached_after_notifications(server: Server, tmp_path: Path) -> None:
    third = "33333333-3333-4333-8333-333333333333"
    with desk(server, tmp_path) as a:
        site = Site(server, a)
        site.join(V6, "fd00::/64", "fd00::1")
        site.updated()
        site.cast(True, site.v4, "10.1.0.200", OLD)
        site.cast(True, V6, "FD00:0::200", OLD)
        site.has({"10.1.0.200": OLD, "fd00::200": OLD})
        server.ports[third] = [port(1, NEW, (site.v4, "10.1.0.200"), (V6, "fd00:0::200"), (third, "10.3.0.200"))]
        site.join(third, "10.3.0.0/24", "10.3.0.1")
        found = site.updated()
        assert (found["10.1.0.200"], found["fd00::200"], found["10.3.0.200"]) == (OLD, OLD, NEW)
        site.served()


def test_router_is_built_despite_stale_addresses_of_other_subnets_in_a_list(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        site = Site(server, a)
        server.ports[site.v4].append(port(2, NEW, (site.v4, "10.1.0.200")))
        server.ports[V6] = [
            port(1, OLD, (site.v4, "10.1.0.200"), (V6, "fd00::200")),
            port(3, OTHER, (V6, "fd00::3"), (site.v4, "no address")),
        ]
        site.join(V6, "fd00::/64", "fd00::1")
        a.sync()
        site.has({"10.1.0.200": NEW, "fd00::200": OLD, "fd00::3": OTHER})
        site.served()


def test_two_ports_with_one_address_in_a_list_are_a_warning(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        site = Site(server, a)
        server.ports[site.v4] += [port(1, OLD, (site.v4, "10.1.0.200")), port(2, NEW, (site.v4, "10.1.0.200"))]
        a.sync()
        site.has({"10.1.0.200": NEW})
        site.served()
        site.cast(True, site.v4, "10.1.0.200", OLD)
        site.has({"10.1.0.200": OLD})


# Ports of routers, and subnets that a router leaves and joins


def csnat_of(router: Json, subnet_id: str) -> tuple[str, str]:
    """Address and MAC address."""
    (found,) = [
        (fixed["ip_address"], one["mac_address"])
        for one in router["_snat_router_interfaces"]
        for fixed in one["fixed_ips"]
        if fixed["subnet_id"] == subnet_id
    ]
    return found


@pytest.mark.parametrize("between", [True, False], ids=["seen without it", "seen at the end only"])
def test_csnat_port_of_an_interface_that_was_removed_is_no_neighbour(
    server: Server, tmp_path: Path, between: bool
) -> None:
    with desk(server, tmp_path) as a:
        site = Site(server, a)
        server.ports[V6] = [port(1, OLD, (V6, "fd00::200"))]
        site.join(V6, "fd00::/64", "fd00::1")
        site.updated()
        old, mac = csnat_of(site.router, V6)
        site.has({old: mac, "fd00::200": OLD})
        site.leave(V6)
        if between:
            site.updated()
        # Without a router in the subnet the server sends no notifications about its ports.
        server.ports[V6] = [port(2, NEW, (V6, "fd00::201"))]
        site.join(V6, "fd00::/64", "fd00::e")
        new, new_mac = csnat_of(site.router, V6)
        found = site.updated()
        assert old not in found
        assert "fd00::200" not in found
        assert found[new] == new_mac
        assert found["fd00::201"] == NEW
        site.served()


def test_csnat_port_of_another_router_is_removed_by_an_answer_about_that_router(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        first = Site(server, a)
        shared = "55555555-5555-4555-8555-555555555555"
        second_id = server.add(2)
        second = Site.__new__(Site)
        second.server, second.a, second.id = server, a, second_id
        second.router = server.routers[second_id]
        first.join(shared, "10.5.0.0/24", "10.5.0.1")
        second.join(shared, "10.5.0.0/24", "10.5.0.2")
        mine, theirs = csnat_of(first.router, shared), csnat_of(second.router, shared)
        a.sync()
        for site in (first, second):
            site.has(dict([mine, theirs]))
        second.router["gw_port"] = None  # its csnat ports go with its gateway
        del second.router["_snat_router_interfaces"]
        second.router["_floatingips"] = []
        second.updated()
        first.has(dict([mine, (theirs[0], None)]))
        second.has(dict([mine, (theirs[0], None)]))
        first.served()


def test_csnat_port_of_a_deleted_router_is_no_neighbour(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        first = Site(server, a)
        csnat = copy.deepcopy(first.router["_snat_router_interfaces"][0])
        elsewhere = str(uuid.uuid4())
        csnat |= {"id": str(uuid.uuid4()), "device_id": elsewhere, "mac_address": OTHER}
        csnat["fixed_ips"][0]["ip_address"] = "10.1.0.77"
        server.ports[first.v4].append(csnat)
        a.sync()
        first.has({"10.1.0.77": OTHER})
        a.say(RouterDeleted(elsewhere))
        first.has({"10.1.0.77": None})


def test_port_list_newer_than_an_answer_about_a_router_keeps_its_ports(server: Server, tmp_path: Path) -> None:
    cache = SubnetPorts()
    router_id = str(uuid.uuid4())
    listed = port(7, OLD, (V4, "10.0.0.7"), device_owner=CSNAT, device_id=router_id)
    cache.put(V4, [listed], None, 5)
    assert cache.retain_ports(router_id, {V4: {listed["id"]}}, 6) == set()
    assert cache.retain_ports(router_id, {}, 4) == set()
    assert cache.retain_ports(str(uuid.uuid4()), {}) == set()
    assert cache.retain_ports(router_id, {}, 6) == {V4}
    assert cache.text(V4) == b"[]"


def test_unchanged_interface_causes_no_question(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        site = Site(server, a)
        asked = len(server.of("get_ports_by_subnet"))
        site.router["name"] = "changed"
        site.updated()
        assert len(server.of("get_ports_by_subnet")) == asked
