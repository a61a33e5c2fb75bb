"""Make a world of namespace states (:func:`world_of_states`): the ways of packets before anything is in a kernel.

What a :class:`~dvr_agent.state.namespace.NamespaceState` does not say is as the kernel makes it: routes of addresses,
link-local addresses, the rule for the table local.  Each network of ports is a bridge with one more device, behind
which everything else of the network is.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface

from dvr_agent.state.address import has_ethernet_address, kernel_link_local
from dvr_agent.state.filter import Jump, Table
from dvr_agent.state.link import Link, Port, Veth, VethPeer
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.route import MAIN_TABLE
from dvr_agent.state.rule import KERNEL_RULES, Rule
from dvr_agent.trace.filter_values import WholeChain, WholeRule, WholeTable, legacy_bases, whole_rule
from dvr_agent.trace.world import Device, Namespace, NeighbourEntry, NextHop, Place, RouteEntry, RuleEntry, World

LOCAL_TABLE = 255
"""RT_TABLE_LOCAL (include/uapi/linux/rtnetlink.h)."""
_BUILTINS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


def world_of_states(states: Iterable[NamespaceState]) -> World:
    """Make a world of states; slices of one namespace are joined.

    :param states: with the origins of their links, as desired states have them
    """
    joined: dict[str, list[NamespaceState]] = {}
    for state in states:
        joined.setdefault(state.name, []).append(state)
    devices: dict[str, dict[str, Device]] = {"": {}}
    for name, slices in joined.items():
        devices[name] = {link.name: _device(name, link, slices) for one in slices for link in one.links}
        for one in slices:
            for link in one.links:
                if isinstance(link.origin, Port):
                    _plug(devices[""], name, link, link.origin)
    spaces = {name: _namespace(name, slices, devices[name]) for name, slices in joined.items()}
    spaces[""] = Namespace("", devices[""])
    return World(devices, spaces.__getitem__)


def _device(namespace: str, link: Link, slices: list[NamespaceState]) -> Device:
    origin = link.origin
    peer = Place("", link.name) if isinstance(origin, Port) else None
    if isinstance(origin, Veth | VethPeer):
        peer = Place(origin.peer_namespace, origin.peer_name)
    own = [one.cidr for state in slices for one in sorted(state.addresses) if one.device == link.name]
    if has_ethernet_address(link.mac) and not any(one.startswith("fe80:") for one in own):
        own.append(kernel_link_local(link.name, link.mac).cidr)
    return Device(
        Place(namespace, link.name), link.mac, link.mtu, link.up, kind="veth", peer=peer, addresses=tuple(own)
    )


def _plug(host: dict[str, Device], namespace: str, link: Link, port: Port) -> None:
    """Connect a port to the bridge of its network, on the host."""
    bridge, beyond = f"network {port.network_id}", f"rest of network {port.network_id}"
    host.setdefault(bridge, Device(Place("", bridge), "", 65535, kind="bridge"))
    host.setdefault(beyond, Device(Place("", beyond), "", 65535, master=bridge))
    host[link.name] = Device(
        Place("", link.name), "", 65535, kind="veth", master=bridge, peer=Place(namespace, link.name)
    )


def _namespace(name: str, slices: list[NamespaceState], devices: dict[str, Device]) -> Namespace:
    settings = {one.key: one.value for state in slices for one in state.sysctls}
    if settings.get("ipv4/ip_forward") == "1":
        settings = {f"ipv4/conf/{device}/forwarding": "1" for device in devices} | settings
    found = {rule for state in slices for rule in state.rules}
    rules = [_rule(rule) for rule in sorted(found | KERNEL_RULES, key=lambda rule: rule.text)]
    neighbours = [
        *(NeighbourEntry(one.dst, one.device, one.mac, "PERMANENT") for state in slices for one in state.neighbours),
        *(NeighbourEntry(one.dst, one.device, "", "", True) for state in slices for one in state.proxy_neighbours),
    ]
    return Namespace(
        name,
        devices,
        (*_routes_of_addresses(devices), *_routes(slices)),
        tuple(sorted(rules, key=lambda rule: (rule.family, rule.priority))),
        tuple(neighbours),
        settings,
        tuple(_table(table) for state in slices for table in state.tables),
        tuple(limit for state in slices for limit in state.limits),
    )


def _rule(rule: Rule) -> RuleEntry:
    return RuleEntry(
        4 if rule.family == 4 else 6,
        rule.priority,
        rule.table,
        src=rule.src,
        iif=rule.iif,
        suppress=0 if rule.suppress_default else None,
        text=rule.text.removeprefix("rule "),
    )


def _routes_of_addresses(devices: dict[str, Device]) -> Iterable[RouteEntry]:
    for device in devices.values():
        hop = (NextHop(None, device.name),)
        for one in device.addresses:
            address = ip_interface(one)
            whole, subnet = f"{address.ip}/{address.max_prefixlen}", str(address.network)
            yield RouteEntry(whole, LOCAL_TABLE, "local", hop, text=f"local {whole} dev {device.name} table local")
            yield RouteEntry(subnet, MAIN_TABLE, "unicast", hop, text=f"{subnet} dev {device.name}")


def _routes(slices: list[NamespaceState]) -> Iterable[RouteEntry]:
    for route in sorted(route for state in slices for route in state.routes):
        hops = tuple(NextHop(hop.gateway, hop.device) for hop in route.hops)
        yield RouteEntry(route.dst, route.table, "unicast", hops, text=route.text.removeprefix("route "))


def _table(table: Table) -> WholeTable:
    chains = {chain.name: WholeChain(chain.name, tuple(map(whole_rule, chain.rules))) for chain in table.chains}
    for builtin in _BUILTINS:
        jumps = [chain for found, chain in table.jumps if found == builtin]
        if jumps or builtin in table.dropping:
            policy = "DROP" if builtin in table.dropping else "ACCEPT"
            chains[builtin] = WholeChain(
                builtin, tuple(WholeRule(Jump(chain), f"-j {chain}") for chain in jumps), policy
            )
    bases = legacy_bases(table.name, [name for name in chains if name in _BUILTINS])
    return WholeTable((table.family,), table.name, chains, bases)
