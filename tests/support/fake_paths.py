"""Walks the fake kernel as a packet does: which way an address goes out, and which ways lead to a floating IP.

A pure reading of rules, routes, devices, addresses and NAT: what conntrack would add is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Literal, NamedTuple

from dvr_agent.kernel.fake import FakeKernel, FakeNamespace
from dvr_agent.state.filter import Dnat, FilterRule, Not, Snat
from dvr_agent.state.route import MAIN_TABLE, Hop
from dvr_agent.state.rule import KERNEL_RULES, Rule

OUTSIDE = "198.51.100.1"
BROKEN = "lost"


class Way(NamedTuple):
    """A way through the router: ``local`` by the fip namespace, ``central`` by the snat namespace, or lost."""

    by: str
    address: str = ""
    gateway: str = ""


def outbound(fake: FakeKernel, router_id: str, fixed: str) -> Way:
    """Return the way of packets from an instance to the outside, and the address that the outside sees."""
    name = f"qrouter-{router_id}"
    if name not in fake.world.namespaces:
        return Way("none")
    there = fake[name]
    found = _lookup(there, fixed, OUTSIDE, "")
    if found is None:
        return Way("none")
    if found.device.startswith("rfp-"):
        return _out_locally(fake, there, fixed, found)
    return _out_centrally(fake, f"snat-{router_id}", fixed, found)


def inbound(fake: FakeKernel, router_id: str, floating: str) -> set[Way]:
    """Return the ways of packets to a floating IP, one for each device that answers ARP for it."""
    ways: set[Way] = set()
    for name, there in fake.world.namespaces.items():
        if name.startswith("fip-"):
            host = [route for route in there.routes.values() if route.key == (f"{floating}/32", MAIN_TABLE)]
            ways |= {_in_locally(fake, there, floating, route.hops[0]) for route in host}
    central = fake.world.namespaces.get(f"snat-{router_id}")
    if central is not None and any(one.ip == floating for one in central.addresses if one.device.startswith("qg-")):
        fixed = _dnat(central, floating)
        ways.add(Way("central", fixed) if fixed else Way(BROKEN, "no DNAT in snat"))
    return ways


def dangling_rules(fake: FakeKernel) -> list[tuple[str, Rule]]:
    """Return the rules that lead to a table without a route."""
    return [
        (name, rule)
        for name, there in fake.world.namespaces.items()
        for rule in there.rules
        if rule not in KERNEL_RULES and all(route.table != rule.table for route in there.routes.values())
    ]


def _out_locally(fake: FakeKernel, there: FakeNamespace, fixed: str, hop: Hop) -> Way:
    seen = _snat(there, fixed, hop.device)
    if seen is None:
        return Way(BROKEN, "leaves untranslated")
    peer = there.links[hop.device].peer
    if peer is None or peer[0] not in fake.world.namespaces:
        return Way(BROKEN, "no pair")
    far = fake[peer[0]]
    if not far.links[peer[1]].up or all(one.ip != hop.gateway for one in far.addresses):
        return Way(BROKEN, "fpr- is down or has no address")
    onwards = _lookup(far, seen, OUTSIDE, peer[1])
    if onwards is None or not onwards.device.startswith("fg-"):
        return Way(BROKEN, "no way out of the fip namespace")
    if not any(way.by == "local" for way in inbound(fake, "", seen)):
        return Way(BROKEN, "no way back")
    return Way("local", seen, str(onwards.gateway))


def _out_centrally(fake: FakeKernel, name: str, fixed: str, hop: Hop) -> Way:
    central = fake.world.namespaces.get(name)
    forwards = central is not None and central.sysctls["ipv4/ip_forward"] == "1"
    if central is None or not forwards or all(one.ip != hop.gateway for one in central.addresses):
        return Way("none")
    onwards = _lookup(central, fixed, OUTSIDE, "")
    if onwards is None:
        return Way("none")
    seen = _snat(central, fixed, onwards.device)
    if seen is None or all(one.ip != seen for one in central.addresses):
        return Way(BROKEN, f"leaves snat as {seen}")
    return Way("central", seen, str(onwards.gateway))


def _in_locally(fake: FakeKernel, there: FakeNamespace, floating: str, hop: Hop) -> Way:
    link = there.links.get(hop.device)
    if link is None or link.peer is None or not link.up:
        return Way(BROKEN, "no fpr-")
    inside = fake[link.peer[0]]
    if all(one.ip != hop.gateway for one in inside.addresses):
        return Way(BROKEN, "rfp- has no address")
    fixed = _dnat(inside, floating)
    return Way("local", fixed) if fixed else Way(BROKEN, "no DNAT in qrouter")


def _lookup(there: FakeNamespace, source: str, destination: str, iif: str) -> Hop | None:
    """Find the next hop as fib_rules and fib_trie do: the first table with a route, and in it the longest prefix."""
    for rule in sorted(there.rules, key=lambda one: one.priority):
        if rule.family != 4 or (rule.iif is not None and rule.iif != iif):
            continue
        if rule.src is not None and ip_address(source) not in ip_network(rule.src, strict=False):
            continue
        found = [
            (network.prefixlen, route.hops[0])
            for route in there.routes.values()
            if route.table == rule.table
            and isinstance(network := ip_network(route.dst), IPv4Network)
            and ip_address(destination) in network
        ]
        if found:
            return max(found)[1]
    return None


def _nat_rules(there: FakeNamespace, chain: Literal["PREROUTING", "POSTROUTING"]) -> Iterator[FilterRule]:
    table = there.tables.get((4, "nat"))
    for one in table.chains if table is not None else ():
        if one.name == f"dvr-{chain}":
            yield from one.rules


def _snat(there: FakeNamespace, source: str, oif: str) -> str | None:
    for rule in _nat_rules(there, "POSTROUTING"):
        device = rule.oif
        if (isinstance(device, Not) and device.value == oif) or (isinstance(device, str) and device != oif):
            continue
        by_source = isinstance(rule.src, str) and ip_address(source) in ip_network(rule.src)
        if isinstance(rule.target, Snat) and (by_source or (rule.src is None and device == oif and not rule.matches)):
            return rule.target.address
    return None


def _dnat(there: FakeNamespace, floating: str) -> str:
    for rule in _nat_rules(there, "PREROUTING"):
        if isinstance(rule.target, Dnat) and rule.dst == f"{floating}/32":
            return rule.target.address
    return ""
