"""One namespace's part of a plan, as the executor carries it out.  Made by the planner and by ``stale``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dvr_agent.state.diff import Change, Changes
from dvr_agent.state.link import Link, Port
from dvr_agent.state.route import Route
from dvr_agent.state.rule import Rule


@dataclass(frozen=True, slots=True)
class NamespaceJob:
    """The changes of one namespace, and what the attach driver has to do in it.

    :ivar first: devices that are removed before anything else: halves of a veth pair, in the way of a whole one
    :ivar repair: ports whose outer side is wrong though the device is there, and what is wrong
    :ivar port_prefixes: devices whose removal is the attach driver's work
    """

    changes: Changes
    first: tuple[Change, ...] = ()
    repair: tuple[tuple[Port, str], ...] = ()
    port_prefixes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes or self.first or self.repair)

    @property
    def new_ports(self) -> list[Port]:
        """Ports whose device the attach driver makes or changes."""
        links = [change.item for change in self.changes.items if isinstance(change.item, Link)]
        return [link.origin for link in links if isinstance(link.origin, Port)]

    @property
    def port_lines(self) -> list[tuple[str, str]]:
        """(namespace, line of a plan) for what the changes do not say."""
        namespace = self.changes.namespace
        return [
            *((namespace, f"{change.text} (half of a pair)") for change in self.first),
            *((namespace, f"~ port {port.device}: {why}") for port, why in self.repair),
        ]

    def without_links(self) -> NamespaceJob:
        """Return the job without the ``fpr-`` device, which goes with its other end: deleting it takes 20 ms."""
        items = tuple(change for change in self.changes.items if isinstance(change.item, Route | Rule))
        return replace(self, changes=replace(self.changes, items=items))
