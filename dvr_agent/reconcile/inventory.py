"""Reads the inventory: our namespaces, with the slices and ``fg-`` devices in fip namespaces, over all routers.

It is read once at start, for the host memory, and before each removal of stale objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from dvr_agent.desired import names
from dvr_agent.desired.allocation import LinkLocalPair
from dvr_agent.desired.table_ids import fip_pair
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.reconcile.reader import KernelReader
from dvr_agent.state.filter import Table
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.route import DEFAULT_V4, DEFAULT_V6, Route
from dvr_agent.state.translations import dnat_pairs, rules_of

_FIP_DEVICES = Ownership(prefixes=(names.FIP_TO_ROUTER, names.AGENT_GATEWAY), rules=RuleOwner.BY_IIF)
_PAIR = Ownership(prefixes=(names.ROUTER_TO_FIP,))
_QROUTER_RULES = Ownership(rules=RuleOwner.QROUTER)


@dataclass(frozen=True, slots=True)
class PluggedGateway:
    """An ``fg-`` device as found in the kernel.

    :ivar addresses: with their prefix lengths, without link-local ones, which the kernel makes
    :ivar hops: next hops of the default routes by it
    :ivar onlink: destinations of our routes without next hop by it
    """

    mac: str
    addresses: frozenset[str]
    hops: frozenset[str]
    onlink: frozenset[str]


@dataclass(slots=True)
class Inventory:
    """Our namespaces and the devices that connect them.

    A stem is the beginning of a router id, as much of it as device names contain.

    :ivar routers: ids of routers with a qrouter or snat namespace
    :ivar slices: network id → stem of each router with an ``fpr-`` device in the network's fip namespace → the /31 of
        that device, if it has an address
    :ivar remains: likewise, of slices without that device: a rule of it is left; the /31 is that of its table
    :ivar gateways: network id → ``fg-`` devices in the network's fip namespace, as they are
    :ivar routes: name of a fip namespace → routes by ``fg-`` and ``fpr-`` devices in it
    """

    routers: set[str] = field(default_factory=set)
    slices: dict[str, dict[str, LinkLocalPair | None]] = field(default_factory=dict)
    remains: dict[str, dict[str, LinkLocalPair | None]] = field(default_factory=dict)
    gateways: dict[str, dict[str, PluggedGateway]] = field(default_factory=dict)
    routes: dict[str, frozenset[Route]] = field(default_factory=dict)

    def networks_of(self, router_id: str) -> set[str]:
        """Return the external networks whose fip namespace has a slice of the router."""
        stem = names.router_stem(router_id)
        return {network for network, stems in self.slices.items() if stem in stems}


def take_inventory(kernel: KernelReader) -> Inventory:
    """Read the inventory.

    :raises KernelError: a namespace could not be read
    """
    found = Inventory()
    for name in kernel.namespaces.list():
        parsed = names.parse_namespace(name)
        if parsed is None:
            continue
        prefix, uuid = parsed
        if prefix == names.FIP:
            _read_fip(kernel, name, uuid, found)
        else:
            found.routers.add(uuid)
    return found


def _read_fip(kernel: KernelReader, name: str, network: str, found: Inventory) -> None:
    state = kernel.interfaces.observe(name, _FIP_DEVICES, ())
    if state is None:
        return
    pairs = {address.device: LinkLocalPair.parse(address.cidr) for address in state.addresses}
    found.slices[network] = {
        link.name.removeprefix(names.FIP_TO_ROUTER): pairs.get(link.name)
        for link in state.links
        if link.name.startswith(names.FIP_TO_ROUTER)
    }
    by_iif = {rule.iif: fip_pair(rule.table) for rule in state.rules if rule.iif is not None}
    found.remains[network] = {
        stem: pair
        for device, pair in by_iif.items()
        if (stem := device.removeprefix(names.FIP_TO_ROUTER)) != device and stem not in found.slices[network]
    }
    found.routes[name] = state.routes
    found.gateways[network] = {
        link.name: _plugged(state, link) for link in state.links if link.name.startswith(names.AGENT_GATEWAY)
    }


def _plugged(state: NamespaceState, link: Link) -> PluggedGateway:
    routes = [(route.dst, hop) for route in state.routes for hop in route.hops if hop.device == link.name]
    default = (DEFAULT_V4, DEFAULT_V6)
    return PluggedGateway(
        link.mac,
        frozenset(
            address.cidr
            for address in state.addresses
            if address.device == link.name and not address.cidr.startswith("fe80:")
        ),
        frozenset(hop.gateway for dst, hop in routes if dst in default and hop.gateway is not None),
        frozenset(dst for dst, hop in routes if dst not in default and hop.gateway is None),
    )


def adopt_inventory(kernel: KernelReader, allocations: Allocations) -> Inventory:
    """Read the inventory and the state files into the allocations: link-local subnets in use.

    :raises StateFileError: descriptors or memory are short; a retry may succeed
    """
    found = take_inventory(kernel)
    by_stem = _pair_owners(kernel, found.routers)
    known: dict[str, LinkLocalPair] = {}
    unknown: list[LinkLocalPair] = []
    unknown += [pair for stems in found.remains.values() for pair in stems.values() if pair is not None]
    for stems in found.slices.values():
        for stem, pair in stems.items():
            if pair is not None and stem in by_stem:
                known[by_stem[stem]] = pair
            elif pair is not None:
                unknown.append(pair)
    allocations.load(known, unknown, found.routers, partial(_priorities_of, kernel))
    return found


def _pair_owners(kernel: KernelReader, routers: Iterable[str]) -> dict[str, str]:
    """Return stem → the router with it; of routers whose ids begin alike the one that has a pair."""
    found: dict[str, str] = {}
    for router_id in sorted(routers):
        stem = names.router_stem(router_id)
        if stem not in found or _has_pair(kernel, router_id):
            found[stem] = router_id
    return found


def _has_pair(kernel: KernelReader, router_id: str) -> bool:
    state = kernel.interfaces.observe(names.QROUTER + router_id, _PAIR, ())
    return state is not None and bool(state.links)


def _priorities_of(kernel: KernelReader, router_id: str) -> set[int]:
    """Return the priorities of all our rules in a router's qrouter namespace."""
    state = kernel.interfaces.observe(names.QROUTER + router_id, _QROUTER_RULES, ())
    return {rule.priority for rule in state.rules} if state is not None else set()


def floating_ips(kernel: KernelReader, router_id: str) -> list[str]:
    """Return the floating IPs that a router's qrouter namespace translates."""
    name = names.QROUTER + router_id
    if not kernel.namespaces.exists(name):
        return []
    return list(dict.fromkeys(floating_ip for floating_ip, _ in dnat_pairs(rules_of(nat_tables(kernel, name)))))


def nat_tables(kernel: KernelReader, namespace: str) -> list[Table]:
    """Return the tables that translate IPv4, with stale chains too: after a start the rules may be there only."""
    tables = [*kernel.packet_filter.observe(namespace, [(4, "nat")]), *kernel.nftables.observe(namespace)]
    return [table for table in tables if table.key == (4, "nat")]
