"""What the reconciler returns, and the interface the daemon's worker drives it by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dvr_agent.model.router import Router
from dvr_agent.services.bundle import ServiceChange, Services
from dvr_agent.state.diff import Changes
from dvr_agent.state.namespace import Announcement

GUARD_MINIMUM = 10
"""A removal of fewer routers than this is never held back."""


def is_mass_removal(stale: int, present: int) -> bool:
    """True if removing ``stale`` of ``present`` routers looks like a fault of the source (design, decision 4)."""
    return stale >= GUARD_MINIMUM and stale * 2 > present


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done for one router, or for left-overs.

    :ivar subject: ``router <uuid>`` or ``left-overs``
    :ivar changes: one entry per namespace that differs; empty when in sync
    :ivar ports: text lines for what the attach driver would do, by namespace
    :ivar warnings: things the operator should know that are no errors (an extra route with unreachable next hop)
    :ivar services: what would be done to the router's services (metadata, radvd)
    :ivar omitted: objects of the document that are left out, and why: the router is degraded until the document changes
    """

    subject: str
    changes: tuple[Changes, ...] = ()
    ports: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    services: tuple[ServiceChange, ...] = ()
    omitted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes or self.ports or self.services)

    def counts(self) -> dict[str, int]:
        """Kind of object → how many are added, removed or changed, e.g. ``{"route": 3, "table": 2}``."""
        # Two slices of one namespace may both find it missing; it is made once.
        namespaces = {change.namespace for change in self.changes if change.create or change.remove}
        counts: dict[str, int] = {"namespace": len(namespaces)} if namespaces else {}
        for change in self.changes:
            for kind in (
                *(item.kind for item in change.items),
                *("table" for _ in change.tables),
                *("nft table" for _ in change.left_over),
            ):
                counts[kind] = counts.get(kind, 0) + 1
        if self.ports:
            counts["port"] = len(self.ports)
        if self.services:
            counts["service"] = len(self.services)
        return dict(sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done.

    :ivar plan: the plan that was carried out
    :ivar seconds: how long observing, computing and writing took
    :ivar announcements: (namespace, announcement) already sent once; the daemon repeats them
    :ivar affected: ids of other routers that have something to do now: routes that they conceded are free
    :ivar trouble: what is wrong with the router's services; its kernel state is in place nevertheless
    """

    plan: Plan
    seconds: float
    announcements: tuple[tuple[str, Announcement], ...] = ()
    conntrack_deleted: int = field(default=0)
    trouble: tuple[str, ...] = ()
    affected: tuple[str, ...] = ()


class Reconciler(Protocol):
    """Every method blocks, does kernel work, and is called from one thread only.

    :ivar services: what routers need beside their kernel state
    """

    services: Services

    def load(self) -> None:
        """Read state files and kernel once, before the first write: which pairs and priorities are in use."""

    def plan(self, router: Router) -> Plan:
        """What :meth:`reconcile` would do.  Writes nothing, neither kernel nor files.

        :raises NotSupportedError: HA or not distributed: left alone
        :raises KernelError: the kernel could not be read
        """

    def reconcile(self, router: Router, shared: bool = True) -> Outcome:
        """Make the kernel agree with the router; a second call writes nothing.

        :param shared: also check the part of the fip namespace that all routers share; a pass over many routers
            needs that once per external network only, see :meth:`begin_pass`
        :returns: what was done; services that do not serve the router are named in it
        :raises DvrError: what exists is left as it is, and the call may be repeated
        """

    def look(self, router: Router) -> None:
        """Observe what the kernel holds of a router, for :meth:`plan_stale`.  Writes nothing.

        :raises DvrError: as :meth:`plan`
        """

    def begin_pass(self) -> None:
        """A full sync or audit begins: shared parts are checked once in it."""

    def remove(self, router_id: str) -> Outcome:
        """The router is gone by the source's word: remove what is its own, and shared parts nobody uses any more."""

    def plan_remove(self, router_id: str) -> Plan:
        """What :meth:`remove` would do.  Writes nothing."""

    def plan_stale(self, known: Collection[str]) -> Plan:
        """What is ours in the kernel and the state files and belongs to none of the ``known`` router ids."""

    def stale_routers(self, known: Collection[str]) -> tuple[Sequence[str], int]:
        """(ids of routers present in the kernel that are not known, number of all routers present)."""

    def remove_stale(self, known: Collection[str]) -> Outcome:
        """Carry out :meth:`plan_stale`."""

    def idle_bridges(self, networks: Collection[str] = ()) -> list[str]:
        """Names of the bridges that this agent made, that nothing uses, and that are of none of the networks.

        :param networks: those of all router documents: an instance that is about to start may count on their bridges
        """

    def remove_bridges(self, networks: Collection[str] = ()) -> list[str]:
        """Remove :meth:`idle_bridges`; returns their names."""

    def tidy(self, networks: Collection[str] = ()) -> list[str]:
        """As :meth:`remove_bridges`, but only once the kernel has torn down the ports of namespaces that are gone."""

    def flush(self) -> None:
        """Write state files that changed.  Cheap when nothing did."""
