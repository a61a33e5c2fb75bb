"""The job of one namespace: its part of a plan, for the executor.  Made by ``planner``, ``stale``, ``fip_slices``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dvr_agent.state.diff import Change, Changes
from dvr_agent.state.link import Link, Port
from dvr_agent.state.missing import Missing
from dvr_agent.state.proxy_neighbour import ProxyNeighbour
from dvr_agent.state.route import Route
from dvr_agent.state.rule import Rule


@dataclass(frozen=True, slots=True)
class NamespaceJob:
    """The changes of one namespace, and the work of the attach driver in it.

    :ivar first: removals that precede all other changes: an end of a veth pair without the other end blocks a new pair,
        and a port that another namespace gets is in one place only
    :ivar repair: (port, fault) of existing ports with a wrong outer side
    :ivar at_once: everything is removed, and no traffic needs an order: the router goes
    :ivar port_prefixes: beginnings of the names of devices that the attach driver removes
    """

    changes: Changes
    first: tuple[Change, ...] = ()
    repair: tuple[tuple[Port, str], ...] = ()
    port_prefixes: tuple[str, ...] = ()
    at_once: bool = False

    def __bool__(self) -> bool:
        return bool(self.changes or self.first or self.repair)

    @property
    def new_ports(self) -> list[Port]:
        """Ports whose device the attach driver makes or changes."""
        links = [change.item for change in self.changes.items if isinstance(change.item, Link)]
        return [link.origin for link in links if isinstance(link.origin, Port)]

    @property
    def port_lines(self) -> list[tuple[str, str]]:
        """(namespace, line of a plan) of ``first`` and ``repair``."""
        namespace = self.changes.namespace
        return [
            *((namespace, f"{change.text} ({self._why_first(change)})") for change in self.first),
            *((namespace, f"~ port {port.device}: {why}") for port, why in self.repair),
        ]

    def is_port(self, change: Change) -> bool:
        """True if the change is about a device that the attach driver plugs."""
        return isinstance(change.item, Link) and change.item.name.startswith(self.port_prefixes)

    def _why_first(self, change: Change) -> str:
        return "moves to another namespace" if self.is_port(change) else "half of a pair"

    def done(self, missing: Missing) -> NamespaceJob:
        """Return the job without what was refused or skipped when it was carried out."""
        name = self.changes.namespace
        first = tuple(change for change in self.first if not missing.is_undone(name, change))
        repair = tuple(one for one in self.repair if (name, "port", one[0].device) not in missing.undone)
        return replace(self, changes=missing.done(self.changes), first=first, repair=repair)

    def without_devices(self) -> NamespaceJob:
        """Return the job of a slice whose router goes, with routes, rules and proxied neighbours only.

        The ``fpr-`` device, with its addresses and neighbours, vanishes with its other end in a qrouter namespace that
        is removed in the background; deleting it would take 20 ms.
        """
        items = tuple(change for change in self.changes.items if isinstance(change.item, Route | Rule | ProxyNeighbour))
        return replace(self, changes=replace(self.changes, items=items), at_once=True)
