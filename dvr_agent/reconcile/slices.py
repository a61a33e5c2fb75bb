"""The fip namespaces as a pass over all routers sees them: each is read once and cut into its routers' slices.

Reading a slice by itself costs the kernel a walk over what all routers share (rules, the main table, neighbours).
That is right for a single update, and would make a pass cost the square of the number of routers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from dvr_agent.desired import names
from dvr_agent.kernel.api import InterfacePlumber
from dvr_agent.state.address import Address
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership, RuleOwner
from dvr_agent.state.route import MAIN_TABLE, Route
from dvr_agent.state.rule import Rule

_ALL = Ownership(prefixes=(names.FIP_TO_ROUTER, names.AGENT_GATEWAY), rules=RuleOwner.BY_IIF)

T = TypeVar("T")


@dataclass(slots=True)
class _Whole:
    """One namespace, its objects by device or table."""

    links: dict[str, list[Link]]
    addresses: dict[str, list[Address]]
    routes: dict[str, list[Route]]
    """Of the main table, by device."""
    tables: dict[int, list[Route]]
    rules: dict[str, list[Rule]]
    neighbours: dict[str, list[Neighbour]]
    used: set[str] = field(default_factory=set)
    """Devices whose copy was given out, or written over: each is good once."""


class Slices:
    """Copies of slices for one pass; whoever writes to a slice, or reads it otherwise, drops its copy."""

    def __init__(self, interfaces: InterfacePlumber) -> None:
        self._interfaces = interfaces
        self._wholes: dict[str, _Whole] = {}

    def begin(self) -> None:
        """A pass begins: nothing read before it counts."""
        self._wholes.clear()

    def drop(self, desired: NamespaceState) -> None:
        """The slice is dealt with outside the pass."""
        whole = self._wholes.get(desired.name)
        if whole is not None:
            whole.used |= desired.ownership.devices

    def read(self, desired: NamespaceState) -> NamespaceState | None:
        """What the kernel held of the slice when its namespace was read in this pass; later calls read it anew.

        :returns: None if there is no such namespace
        """
        whole = self._wholes.get(desired.name) or self._read_whole(desired.name)
        if whole is None:
            return None
        (device,) = desired.ownership.devices
        if device in whole.used:
            return self._interfaces.observe(desired.name, desired.ownership, ())
        whole.used.add(device)
        own = (route for table in desired.ownership.tables for route in whole.tables.get(table, ()))
        return NamespaceState(
            desired.name,
            desired.ownership,
            links=frozenset(whole.links.get(device, ())),
            addresses=frozenset(whole.addresses.get(device, ())),
            routes=frozenset([*whole.routes.get(device, ()), *own]),
            rules=frozenset(whole.rules.get(device, ())),
            neighbours=frozenset(whole.neighbours.get(device, ())),
        )

    def _read_whole(self, namespace: str) -> _Whole | None:
        state = self._interfaces.observe(namespace, _ALL, ())
        if state is None:
            return None
        main = [route for route in state.routes if route.table == MAIN_TABLE]
        whole = _Whole(
            links=_by(state.links, lambda link: link.name),
            addresses=_by(state.addresses, lambda address: address.device),
            routes=_by(main, lambda route: route.hops[0].device),
            tables=_by(state.routes - frozenset(main), lambda route: route.table),
            rules=_by(state.rules, lambda rule: rule.iif or ""),
            neighbours=_by(state.neighbours, lambda neighbour: neighbour.device),
        )
        self._wholes[namespace] = whole
        return whole


K = TypeVar("K", str, int)


def _by(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: defaultdict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)
