"""Small worlds for ``dvr_agent.trace``, made of a few words: no kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface

from dvr_agent.trace.filter_values import WholeChain, WholeRule, WholeTable, legacy_bases
from dvr_agent.trace.world import Device, Namespace, NeighbourEntry, NextHop, Place, RouteEntry, RuleEntry, World

MAIN, LOCAL = 254, 255
KERNEL_RULES = (
    RuleEntry(4, 0, LOCAL, text="0: from all lookup local"),
    RuleEntry(4, 32766, MAIN, text="32766: from all lookup main"),
    RuleEntry(6, 0, LOCAL, text="0: from all lookup local"),
    RuleEntry(6, 32766, MAIN, text="32766: from all lookup main"),
)


@dataclass
class Builder:
    """Makes a world step by step."""

    devices: dict[str, dict[str, Device]] = field(default_factory=lambda: {"": {}})
    routes: dict[str, list[RouteEntry]] = field(default_factory=dict)
    rules: dict[str, list[RuleEntry]] = field(default_factory=dict)
    neighbours: dict[str, list[NeighbourEntry]] = field(default_factory=dict)
    sysctls: dict[str, dict[str, str]] = field(default_factory=dict)
    tables: dict[str, list[WholeTable]] = field(default_factory=dict)
    fdb: frozenset[tuple[str, str]] = frozenset()

    def device(self, namespace: str, name: str, *addresses: str, **more: object) -> Device:
        """Add a device with the kernel's routes for its addresses; it forwards."""
        number = sum(map(len, self.devices.values())) + 1
        made = Device(Place(namespace, name), f"02:00:00:00:00:{number:02x}", 1500, addresses=addresses, **more)  # type: ignore[arg-type]
        self.devices.setdefault(namespace, {})[name] = made
        for one in addresses:
            address = ip_interface(one)
            whole = f"{address.ip}/{address.max_prefixlen}"
            hop = (NextHop(None, name),)
            self.route(namespace, RouteEntry(whole, LOCAL, "local", hop, text=f"local {whole}"))
            self.route(
                namespace, RouteEntry(str(address.network), MAIN, "unicast", hop, text=f"{address.network} dev {name}")
            )
        settings = self.sysctls.setdefault(namespace, {"ipv6/conf/all/forwarding": "1"})
        settings[f"ipv4/conf/{name}/forwarding"] = "1"
        return made

    def pair(self, one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
        """Add a veth pair; ends are (namespace, name, address or empty)."""
        for (namespace, name, address), (theirs, peer, _address) in ((one, other), (other, one)):
            addresses = (address,) if address else ()
            self.device(namespace, name, *addresses, kind="veth", peer=Place(theirs, peer))

    def route(self, namespace: str, route: RouteEntry) -> None:
        self.routes.setdefault(namespace, []).append(route)

    def via(self, namespace: str, dst: str, gateway: str, device: str) -> None:
        text = f"{dst} via {gateway} dev {device}"
        self.route(namespace, RouteEntry(dst, MAIN, "unicast", (NextHop(gateway, device),), text=text))

    def chain(self, namespace: str, table: str, name: str, *rules: WholeRule, policy: str = "ACCEPT") -> None:
        chains = {name: WholeChain(name, rules, policy)}
        self.tables.setdefault(namespace, []).append(WholeTable((4,), table, chains, legacy_bases(table, chains)))

    def world(self) -> World:
        return World(self.devices, self._load)

    def _load(self, name: str) -> Namespace:
        rules: Sequence[RuleEntry] = sorted(
            [*KERNEL_RULES, *self.rules.get(name, [])], key=lambda rule: (rule.family, rule.priority)
        )
        return Namespace(
            name,
            self.devices[name],
            tuple(self.routes.get(name, ())),
            tuple(rules),
            tuple(self.neighbours.get(name, ())),
            self.sysctls.get(name, {}),
            tuple(self.tables.get(name, ())),
            fdb=self.fdb,
        )


def three_in_a_row() -> Builder:
    """``left`` 10.0.0.2 – ``middle`` 10.0.0.1, 10.0.1.1 – ``right`` 10.0.1.2, with default routes to the middle."""
    made = Builder()
    made.pair(("left", "l0", "10.0.0.2/24"), ("middle", "m0", "10.0.0.1/24"))
    made.pair(("middle", "m1", "10.0.1.1/24"), ("right", "r0", "10.0.1.2/24"))
    made.via("left", "0.0.0.0/0", "10.0.0.1", "l0")
    made.via("right", "0.0.0.0/0", "10.0.1.1", "r0")
    return made
