"""Plans and results, and the interface by which the daemon's worker thread and ``dvrctl`` use the reconciler."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from dvr_agent.errors import DvrError, joined
from dvr_agent.kernel.api import GratuitousArp
from dvr_agent.model.router import Router
from dvr_agent.services.bundle import ServiceChange, Services
from dvr_agent.state.diff import Changes
from dvr_agent.state.namespace import Announcement


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes that a job would make, for one router or for stale objects.

    :ivar subject: ``router <uuid>`` or ``stale objects``
    :ivar changes: one entry per namespace that differs; empty when in sync
    :ivar ports: (namespace, text) of each change that the attach driver would make; the first may be a state file, or
        ``(host)``
    :ivar warnings: notes for the operator that are no errors (an extra route with unreachable next hop)
    :ivar services: changes of the router's services (metadata, radvd)
    :ivar hindrances: what stops the router's traffic without being ours; it is not changed
    :ivar omitted: objects of the document that are left out, and why: the router is degraded until the document changes
    :ivar held: what VRRP adds and removes, so that no change of it is planned; empty if there is nothing of that kind
    """

    subject: str
    changes: tuple[Changes, ...] = ()
    ports: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    services: tuple[ServiceChange, ...] = ()
    omitted: tuple[str, ...] = ()
    hindrances: tuple[str, ...] = ()
    held: str = ""

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
                *("nft table" if table.old.nft else "legacy table" for table in change.stale_tables),
            ):
                counts[kind] = counts.get(kind, 0) + 1
        if self.ports:
            counts["port"] = len(self.ports)
        if self.services:
            counts["service"] = len(self.services)
        return dict(sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class Result:
    """Record of a finished job.

    :ivar plan: what was carried out of the plan
    :ivar seconds: how long observing, computing and writing took
    :ivar announcements: (namespace, announcement) that were sent once; the daemon repeats them
    :ivar conntrack_deleted: number of conntrack entries deleted
    :ivar trouble: faults of the router's services; its kernel state is in place nevertheless
    :ivar affected: ids of other routers to reconcile again: something that they claim, too, is free, or this router's
    :ivar rivals: ids of routers that have lost something to a newer document, as this job has found
    :ivar built: the document's router without what other routers have
    :ivar undone: (``state.namespace.thing_of``) of what was refused, and of what was skipped because of it
    :ivar staying: only of a removal of stale objects: ids of routers of which something could not be removed
    :ivar is_master: this host is the master of the HA router; None: it takes no part in its VRRP
    :ivar arp: the frames that were sent for the announcements of IPv4 addresses
    """

    plan: Plan
    seconds: float
    announcements: tuple[tuple[str, Announcement], ...] = ()
    conntrack_deleted: int = field(default=0)
    trouble: tuple[str, ...] = ()
    affected: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    built: Router | None = None
    undone: frozenset[Hashable] = frozenset()
    staying: frozenset[str] = frozenset()
    arp: GratuitousArp = GratuitousArp.BOTH
    is_master: bool | None = None


class Traffic(NamedTuple):
    """Traffic of one floating IP since its rules were made.

    :ivar received: bytes to it, from outside
    :ivar sent: bytes from it, to the outside
    :ivar dropped: packets to it and from it that its bandwidth limit has dropped; None: it has none
    """

    router_id: str
    floating_ip: str
    received: int
    sent: int
    dropped: tuple[int, int] | None = None


class RefusedError(DvrError):
    """Objects were refused; everything that does not depend on them was done.  Another try may succeed.

    An error and no field of the result: who does not know of it takes the job for failed, not for done.

    :param errors: one for each refused object
    :param held: addresses and networks whose new path is incomplete, so that their traffic stays on the old one
    :param result: of what was done
    """

    def __init__(self, errors: Sequence[DvrError], held: Collection[str], result: Result) -> None:
        self.errors, self.held, self.result = tuple(errors), frozenset(held), result
        self.affected = result.affected
        super().__init__(joined(self.errors))

    def brief(self, number: int = 3) -> str:
        """Return the first errors as text, and how many more there are."""
        more = len(self.errors) - number
        shown = joined(self.errors[:number])
        return f"{shown}; and {more} more" if more > 0 else shown


class RouterPlanner(Protocol):
    """Plans jobs.  Every method only reads the kernel, blocks, and is called from one thread."""

    def load(self) -> None:
        """Read state files and kernel once: which pairs and priorities are in use."""

    def declare(self, documents: Iterable[tuple[str, Router]]) -> None:
        """Declare all (name, router) before the first is planned, so that their order does not matter.

        :raises KernelError: the kernel could not be read
        """

    def why_left_alone(self, router: Router) -> str:
        """Return why this agent neither builds nor removes the router on this host; empty if it does."""

    def has_left(self, router: Router) -> bool:
        """Return True if the router is left alone, and this host has what it built when the router was distributed.

        All of that goes: a router that is not distributed any more is another host's.
        """

    def plan(self, router: Router) -> Plan:
        """Return what :meth:`Reconciler.reconcile` would do.

        :raises NotSupportedError: the router is left alone
        :raises KernelError: the kernel could not be read
        """

    def host_hindrances(self) -> tuple[str, ...]:
        """Return what stops the traffic of many routers without being ours: it is not changed.

        :raises DvrError: it could not be read
        """

    def learn(self, router: Router) -> None:
        """Read a router's routes, so that :meth:`plan_stale` keeps the devices which they use.

        :raises DvrError: as :meth:`plan`
        """

    def plan_remove(self, router_id: str) -> Plan:
        """Return what :meth:`Reconciler.remove` would do."""

    def plan_stale(self, known: Collection[str]) -> Plan:
        """Return what :meth:`Reconciler.remove_stale` would do."""

    def stale_routers(self, known: Collection[str]) -> tuple[Sequence[str], int]:
        """Return (ids of routers present in the kernel that are not known, number of all routers present)."""

    def idle_bridges(self, networks: Collection[str], plan: Plan) -> list[str]:
        """Return the names of bridges of ours that nothing uses after a plan, and that are of none of the networks.

        :param networks: networks of all router documents: an instance that is about to start may need their bridges
        """


class Reconciler(Protocol):
    """Makes the kernel agree with documents.  Every method blocks, and is called from one thread only.

    :ivar services: metadata and radvd of the routers
    """

    services: Services

    @property
    def planner(self) -> RouterPlanner:
        """The planner, which answers what a job would do, and cannot write."""

    def load(self) -> None:
        """Read state files and kernel once, before the first write: which pairs and priorities are in use."""

    def begin_resync(self, documents: Iterable[tuple[str, Router]] = (), trusting: bool = True) -> None:
        """Begin a resync or an audit, which reads the shared parts of namespaces only once.

        :param documents: (name, router) of all good documents: what several of them claim is decided before the first
            job
        :param trusting: False: the next job of each router reads everything
        """

    def reconcile(self, router: Router, in_resync: bool = False, document: str = "", trusting: bool = True) -> Result:
        """Make the kernel agree with the router; a second call writes nothing.

        :param in_resync: the call is one of a resync over many routers, see :meth:`begin_resync`
        :param document: name of the router's document, for messages
        :param trusting: do not read what events of the kernel vouch for; an audit reads everything
        :returns: the changes made, and the faults of services that do not serve the router
        :raises RefusedError: objects were refused; everything that does not depend on them was done
        :raises DvrError: changes made so far stay, and the call may be repeated
        """

    def find_changed_tables(self, router_ids: Collection[str]) -> list[str]:
        """Return the routers of these whose packet filter tables are not as desired, or cannot be read; only reads.

        :param router_ids: routers whose last job has succeeded
        """

    def read_traffic(self, router_ids: Collection[str]) -> list[Traffic]:
        """Return the bytes that floating IPs of these routers have received and sent, as far as they are counted."""

    def remove(self, router_id: str) -> Result:
        """Remove all that is the router's own, and shared parts that no router uses any more.

        :raises RefusedError: as :meth:`reconcile`
        """

    def remove_stale(self, known: Collection[str]) -> Result:
        """Remove all objects of ours, in the kernel and the state files, that belong to none of the known routers.

        :raises RefusedError: as :meth:`reconcile`; the result has what was removed, and whose objects stay
        """

    def remove_bridges(self, networks: Collection[str] = (), await_teardown: bool = False) -> list[str]:
        """Remove bridges of ours that nothing uses and that are of none of the networks; returns their names.

        :param await_teardown: first wait until the kernel has torn down the ports of namespaces that were removed
        """

    def flush(self) -> None:
        """Write state files that changed.  Cheap when nothing did."""
