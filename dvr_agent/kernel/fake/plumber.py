"""Links, addresses, routes, rules, neighbours and sysctls of the fake kernel."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.fake import routes
from dvr_agent.kernel.fake.faults import Faults
from dvr_agent.kernel.fake.world import FakeLink, FakeNamespace, World
from dvr_agent.state.address import Address
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.link import Link, Veth, VethPeer
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.route import Route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl


class FakePlumber:
    """:class:`~dvr_agent.kernel.api.InterfacePlumber` in memory."""

    def __init__(self, world: World, faults: Faults, counters: WriteCounters) -> None:
        self._world, self._faults, self._counters = world, faults, counters

    def observe(self, namespace: str, ownership: Ownership, sysctls: Iterable[str]) -> NamespaceState | None:
        keys = tuple(sysctls)
        self._faults.call("interfaces.observe", namespace, ownership, keys)
        there = self._world.namespaces.get(namespace)
        if there is None:
            return None
        owns = ownership.owns_device
        lo = there.links.get("lo")
        return NamespaceState(
            namespace,
            ownership,
            links=frozenset(Link(name, one.mac, one.mtu, one.up) for name, one in there.links.items() if owns(name)),
            addresses=frozenset(one for one in there.addresses if owns(one.device)),
            routes=frozenset(
                one
                for one in there.routes.values()
                if ownership.owns_route(one.table, tuple(hop.device for hop in one.hops))
            ),
            rules=frozenset(one for one in there.rules if ownership.owns_rule(one)),
            neighbours=frozenset(one for one in there.neighbours.values() if owns(one.device)),
            sysctls=frozenset(Sysctl(key, there.sysctls[key]) for key in keys if key in there.sysctls),
            loopback=Link("lo", lo.mac, lo.mtu, lo.up) if lo is not None and ownership.kernel_rules else None,
        )

    def apply(self, namespace: str, changes: Sequence[Change]) -> None:
        self._faults.call("interfaces.apply", namespace, tuple(changes))
        if not changes:
            return
        there = self._world.namespaces.get(namespace)
        if there is None:
            raise NamespaceGoneError(namespace, "namespace", errno.ENOENT, "it does not exist")
        for change in changes:
            self._faults.call("interfaces.change", namespace, change)
            if isinstance(change.item, Sysctl):
                self._counters.sysctls += 1
            else:
                self._counters.netlink += 1
            code = self._change(namespace, there, change)
            if code:
                raise KernelError(namespace, change.item.text, code)

    def _change(self, name: str, there: FakeNamespace, change: Change) -> int:
        """Make one change; returns the errno, 0: done."""
        item, action = change.item, change.action
        if isinstance(item, Link):
            return self._change_link(name, there, item, action)
        if isinstance(item, Address):
            return _change_address(there, item, action)
        if isinstance(item, Route):
            return _change_route(there, item, action)
        if isinstance(item, Rule):
            return _change_rule(there, item, action)
        if isinstance(item, Neighbour):
            return _change_neighbour(there, item, action)
        if item.key not in there.sysctls:
            return errno.ENOENT
        there.sysctls[item.key] = item.value
        return 0

    def _change_link(self, name: str, there: FakeNamespace, item: Link, action: Action) -> int:
        if action is Action.ADD:
            return self._add_link(name, there, item)
        if action is Action.CHANGE:
            return _set_link(there, item)
        self._world.remove_link(name, item.name)
        return 0

    def _add_link(self, name: str, there: FakeNamespace, item: Link) -> int:
        if isinstance(item.origin, VethPeer):
            return _set_link(there, item)
        if not isinstance(item.origin, Veth):
            raise ValueError(f"a {type(item.origin).__name__} is made by its attach driver: {item.text}")
        far = self._world.namespaces.get(item.origin.peer_namespace)
        if far is None:
            raise NamespaceGoneError(item.origin.peer_namespace, item.text, errno.ENOENT, "it does not exist")
        if item.name in there.links or item.origin.peer_name in far.links:
            return errno.EEXIST
        self._world.add_pair(
            (name, item.name),
            FakeLink(item.mac, item.mtu, item.up),
            (item.origin.peer_namespace, item.origin.peer_name),
            FakeLink(item.origin.peer_mac, item.mtu, False),
        )
        return 0


def _set_link(there: FakeNamespace, item: Link) -> int:
    link = there.links.get(item.name)
    if link is None:
        return errno.ENODEV
    if link.mac != item.mac:
        there.drop_neighbours(item.name)
    link.mac, link.mtu = item.mac, item.mtu
    if link.up and not item.up:
        there.set_down(item.name)
    link.up = item.up
    return 0


def _change_address(there: FakeNamespace, item: Address, action: Action) -> int:
    if action is Action.REMOVE:
        there.remove_address(item)
        return 0
    if item.device not in there.links:
        return errno.ENODEV
    if item not in there.addresses:
        there.addresses.append(item)
    return 0


def _change_route(there: FakeNamespace, item: Route, action: Action) -> int:
    if action is Action.REMOVE:
        if there.routes.get(item.key) == item:
            del there.routes[item.key]
        return 0
    up = {name: link.up for name, link in there.links.items()}
    code = routes.refusal(item, up, there.addresses, there.routes.values())
    if code:
        return code
    if action is Action.ADD and there.routes.get(item.key, item) != item:
        return errno.EEXIST
    there.routes[item.key] = item
    return 0


def _change_rule(there: FakeNamespace, item: Rule, action: Action) -> int:
    if action is Action.REMOVE:
        if item in there.rules:
            there.rules.remove(item)
        return 0
    if item not in there.rules:
        there.rules.append(item)
    return 0


def _change_neighbour(there: FakeNamespace, item: Neighbour, action: Action) -> int:
    if action is Action.REMOVE:
        there.neighbours.pop(item.key, None)
        return 0
    if item.device not in there.links:
        return errno.ENODEV
    there.neighbours[item.key] = item
    return 0
