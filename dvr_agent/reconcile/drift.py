"""Finds drift in events: which routers have lost something, or got something foreign (:class:`DriftJudge`).

An event counts if it contradicts the desired state in force: an object of it is gone or has another value, or there is
an object that a slice owns and does not want.  So what a job of ours leaves behind is no drift, whoever the kernel
says has done it, and neither are carrier changes, learned neighbours or link-local addresses.

While a job works on a router (``own``) the kernel tells of intermediate states: of its links and IPv6 addresses, whose
notifications do not say who asked, the last state counts, and what else the kernel does by itself does not.

Of nf_tables an event says only that another program has changed something in a namespace, be it in tables of its own:
ours are read, once for all such events.
Blocking code for the worker thread.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from dvr_agent.attach.outer_ends import bridge_name, tap_name
from dvr_agent.desired import names
from dvr_agent.desired.build import DesiredRouter
from dvr_agent.errors import DvrError
from dvr_agent.kernel.drift_events import HOST, AnyEvent, Event, Kept, RuleSetChange
from dvr_agent.kernel.netlink.listener import OverflowedError
from dvr_agent.kernel.port_owner import NOBODY, Author, any_of, owner_of
from dvr_agent.kernel.process_name import parent_text
from dvr_agent.plural import count
from dvr_agent.reconcile.contradictions import is_drift, is_up, ports_of, states_of, stems_of
from dvr_agent.reconcile.kept_trust import KeptRouter
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.reader import AttachReader
from dvr_agent.reconcile.table_check import TableCheck
from dvr_agent.state.address import Address
from dvr_agent.state.link import Link, Port
from dvr_agent.state.namespace import thing_of
from dvr_agent.state.sysctl import Sysctl

BATCH = 256
"""Notifications that are read at once: a few milliseconds."""
STORM = 16
"""Batches in a row after which the events are thrown away and an audit is asked for instead."""
MANY = 32
"""Findings of one router in one batch that are kept; one is enough to check it."""


class Finding(NamedTuple):
    """Drift of one router.

    :ivar thing: the object: its namespace, kind and identity (``state.namespace.thing_of``)
    :ivar text: what was found: namespace and object
    :ivar author: who did it, as far as it is known
    """

    router_id: str
    thing: Hashable
    text: str
    author: Author = NOBODY


class Judgement(NamedTuple):
    """What the events so far say.

    :ivar lost: events were lost or thrown away, so that only an audit finds what they would have told
    :ivar more: there may be more events
    :ivar switched: ids of HA routers of which this host has become, or ceased to be, the master
    """

    findings: tuple[Finding, ...] = ()
    lost: str = ""
    more: bool = False
    switched: tuple[str, ...] = ()


class Events(Protocol):
    """The source of events: :class:`dvr_agent.kernel.drift_events.DriftEvents`, whose docstrings are the contract."""

    heard: int

    @property
    def buffer_size(self) -> int:
        """Size of the receive buffer."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are events."""

    def listen(self, name: str) -> bool:
        """Hear a namespace; False if that is not possible."""

    def read(self, limit: int) -> tuple[list[AnyEvent], bool]:
        """Return the next events, and whether there may be more."""

    def discard(self) -> None:
        """Throw away all waiting events; namespaces are to be heard anew."""

    def keep(self) -> Kept:
        """Return what another process needs to go on hearing."""

    def is_kept(self, name: str) -> bool:
        """Return True if a namespace was heard without a gap since an earlier process."""

    def hears_whole(self, name: str) -> bool:
        """Return True if a namespace is heard since it is there."""

    def close(self) -> None:
        """Close everything."""


class DriftJudge:
    """Reads events and compares them with the desired states in the host memory.

    :ivar events: their source
    """

    def __init__(self, events: Events, memory: HostMemory, attach: AttachReader, tables: TableCheck) -> None:
        self.events = events
        self._memory, self._attach, self._tables = memory, attach, tables
        self._ports: dict[str, tuple[str, Port]] = {}
        """Outer end of a port → its router and the port."""
        self._bridges: dict[str, set[str]] = {}
        """Bridge of a network → outer ends of our ports on it."""
        self._known: dict[str, DesiredRouter] = {}
        self._stems: dict[str, str] = {}
        """Stem of a router's id, as device names have it → its id."""
        self._shared: set[str] = set()
        """Fip namespaces that were heard."""
        self._batches = 0
        self._followed: set[str] = set()
        """Ids of HA routers whose namespaces are heard."""
        self._unfollowed: set[str] = set()
        """Ids of those that were not read since."""
        self._is_left = False
        """All further events are for another process."""
        self._plugged: set[str] = set()
        """Outer ends of the ports that the last job may have made."""
        memory.trust.hears_whole = events.hears_whole

    def judge(self, own: str = "") -> Judgement:
        """Read one batch of events.

        :param own: id of the router that a job has just worked on: all events so far are from the time of the job
        """
        trust = self._memory.trust
        trust.behind = True  # also where the events cannot be read
        if self._is_left:
            return Judgement()
        try:
            events, more = self.events.read(STORM * BATCH if own else BATCH)
        except OverflowedError:
            return self._lost(f"the kernel dropped events; the buffer has {self.events.buffer_size >> 10} KiB now")
        self._batches = self._batches + 1 if more else 0
        if self._batches > STORM:
            return self._lost(f"more than {count(STORM * BATCH, 'event')} in a row were not looked at")
        if trust.kept is not None:
            trust.kept.note(events)
        objects = [event for event in events if isinstance(event, Event)]
        for event in objects:
            if event.namespace.startswith(names.FIP):
                self._memory.snapshot.outdate(event.namespace, stems_of(event))
        switched = tuple(self._switched(objects))
        findings = [
            *self._findings(self._foreign(objects, own) if own else objects),
            *self._of_rule_sets([event for event in events if isinstance(event, RuleSetChange)]),
        ]
        for finding in findings:
            self._memory.distrust(finding.router_id, finding.thing[:1] if isinstance(finding.thing, tuple) else ())
        trust.behind = more
        return Judgement(tuple(findings), "", more, switched)

    def _lost(self, reason: str) -> Judgement:
        """Begin again behind all events so far: until the buffer is empty the kernel tells of no further loss."""
        self._batches = 0
        self.events.discard()
        self._memory.distrust_all()
        self._memory.trust.behind = False
        return Judgement(lost=reason)

    def keep(self) -> Kept | None:
        """Return what another process needs to go on hearing, and trusting; None: there are too many events.

        The sockets stay open here, and are not read any more: what they hear from now on is for that process.
        """
        if not self._has_judged_all():
            return None
        events = self.events.keep()
        self._is_left = True
        routers = {
            router_id: list(one) for router_id, one in self._memory.keep().items() if not self._is_hindered(router_id)
        }
        return events._replace(record={"events": events.record, "routers": routers})

    def trust_kept(self, routers: Mapping[str, KeptRouter]) -> bool:
        """Trust what an earlier process has kept, whose sockets are heard here; False if events were lost meanwhile."""
        self._memory.trust_kept(routers, self.events.is_kept)
        if self._has_judged_all():
            return True
        self._memory.trust.kept = None
        return False

    @property
    def recognised(self) -> int:
        """Number of routers that were not read since an earlier process has kept them."""
        return self._memory.trust.recognised

    def _is_hindered(self, router_id: str) -> bool:
        """Return True if a bridge of the router was down when it was last read: it has to be warned of again."""
        return bool(self._attach.hindrances({port.network_id for port in ports_of(self._memory.desired_of(router_id))}))

    def _has_judged_all(self) -> bool:
        """Judge all events so far; False if some were lost, or there are too many."""
        while not (judgement := self.judge()).lost:
            if not judgement.more:
                return True
        return False

    def job_begins(self, router_id: str) -> None:
        """Hear the namespaces of a router that exist before a job reads them: so that events vouch for them at once."""
        own = [names.QROUTER + router_id, names.SNAT + router_id]
        self._hear(router_id, own + [names.FIP + network for network in self._memory.networks_of(router_id)])

    def job_ended(self, router_id: str) -> None:
        """Hear the namespaces of a router that a job has worked on, and note its ports."""
        desired = self._memory.desired_of(router_id)
        known = self._known.get(router_id)
        self._plugged = set()
        if known is not desired:
            self._plugged = self._note_ports(router_id, known, desired)
        self._hear(router_id, {state.name for state in states_of(desired)})
        if desired is not None and desired.shared_by_hosts is not None and router_id not in self._followed:
            self._followed.add(router_id)
            self._unfollowed.add(router_id)  # its state may have changed before its namespace was heard

    def _hear(self, router_id: str, namespaces: Iterable[str]) -> None:
        heard = [name for name in namespaces if self.events.listen(name)]
        shared = {name for name in heard if name.startswith(names.FIP)}
        if not shared <= self._shared:  # copies of slices may have been read before
            self._memory.snapshot.clear()
            self._shared |= shared
        self._memory.trust.hear(router_id, heard)

    def forget_gone(self) -> None:
        """Forget routers that the host memory knows no more, and their ports: a stale sweep has removed them."""
        self._followed = {one for one in self._followed if self._memory.desired_of(one) is not None}
        for router_id, known in list(self._known.items()):
            if self._memory.desired_of(router_id) is None:
                self._note_ports(router_id, known, None)

    def close(self) -> None:
        """Close the source of events."""
        self.events.close()

    def _findings(self, events: Iterable[Event]) -> Iterator[Finding]:
        kept: dict[str, int] = {}
        for event in events:
            finder = self._of_host if event.namespace == HOST else self._of_namespace
            for router_id in finder(event):
                kept[router_id] = kept.get(router_id, 0) + 1
                if kept[router_id] <= MANY:
                    author = owner_of(event.port, event.protocol)
                    yield Finding(router_id, thing_of(event.namespace, event.item), _text(event), author)

    def _switched(self, events: Iterable[Event]) -> Iterator[str]:
        """Yield the HA routers whose primary virtual address has come or gone since their last job has read it."""
        last: dict[str, bool] = {}
        for event in events:
            parsed = names.parse_namespace(event.namespace) if isinstance(event.item, Address) else None
            desired = self._memory.desired_of(parsed[1]) if parsed is not None else None
            shared = desired.shared_by_hosts if desired is not None else None
            if parsed is None or shared is None or shared.virtual_router is None or shared.name != event.namespace:
                continue
            if event.item == shared.virtual_router.primary:
                last[parsed[1]] = event.present
        yield from self._unfollowed
        self._unfollowed.clear()
        yield from (one for one, is_master in last.items() if is_master != self._memory.is_master(one))

    def _of_namespace(self, event: Event) -> Iterator[str]:
        """Yield the routers of which an event in one of our namespaces is drift."""
        for router_id in self._routers(event):
            desired = self._memory.desired_of(router_id)
            if any(state.name == event.namespace and is_drift(state, event) for state in states_of(desired)):
                yield router_id

    def _of_rule_sets(self, events: Iterable[RuleSetChange]) -> Iterator[Finding]:
        """Yield the tables and limits that are not as desired where other programs have changed nf_tables."""
        authors: dict[str, set[Author]] = {}
        for event in events:
            authors.setdefault(event.namespace, set()).add(
                Author(event.pid, event.program, parent=parent_text(event.pid))
            )
        for namespace, known in authors.items():
            routers = self._routers_in(namespace)
            for difference in self._tables.differences(namespace, routers)[:MANY]:
                for router_id in routers:
                    yield Finding(router_id, *difference, any_of(known))

    def _routers(self, event: Event) -> Iterable[str]:
        """Return the routers whose desired state may have something to do with an event.

        In a fip namespace an object that names the device of a pair is that router's; others concern all routers there.
        """
        if not event.namespace.startswith(names.FIP):
            return self._routers_in(event.namespace)
        stems = stems_of(event)
        if stems:
            return [self._stems[stem] for stem in stems if stem in self._stems]
        return self._routers_in(event.namespace)

    def _routers_in(self, namespace: str) -> list[str]:
        """Return the routers that have, or share, a namespace; none where it is not ours."""
        parsed = names.parse_namespace(namespace)
        if parsed is None:
            return []
        prefix, object_id = parsed
        return [*self._memory.routers_on(object_id)] if prefix == names.FIP else [object_id]

    def _of_host(self, event: Event) -> Iterator[str]:
        """Yield the routers with a port on whose outer side an event has left a fault."""
        if not isinstance(event.item, Link):
            return
        name = event.item.name
        bridge = self._bridges.get(name, ())
        wanted = [self._ports[tap] for tap in ((name,) if name in self._ports else bridge) if tap in self._ports]
        if not wanted or (bridge and event.present and event.item.up):
            return
        try:
            faults = self._attach.check([port for _router_id, port in wanted])
        except DvrError:
            faults = {port.device: "" for _router_id, port in wanted}
        yield from dict.fromkeys(router_id for router_id, port in wanted if port.device in faults)

    def _foreign(self, events: Iterable[Event], own: str) -> list[Event]:
        """Return the events without those that our own job explains: intermediate states, and what the kernel did then.

        The fip namespace counts as the router's here: its job may have changed the shared part.  A link that was gone
        or down meanwhile is checked once more even if it is back: its addresses and routes went without an event.
        """
        last: dict[Hashable, Event] = {}
        gone: dict[Hashable, Event] = {}
        others: list[Event] = []
        for event in events:
            item = event.item
            if isinstance(item, Link) and event.namespace == HOST:
                last[HOST, item.name] = event
            elif item is None or (not event.namespace.endswith(own) and not event.namespace.startswith(names.FIP)):
                others.append(event)
            elif isinstance(item, Link | Sysctl) or (isinstance(item, Address) and ":" in item.cidr):
                thing = thing_of(event.namespace, item)
                was_up = is_up(last[thing]) if thing in last else not event.is_new
                last[thing] = event
                if isinstance(item, Link) and (not event.present or (was_up and not item.up)):
                    gone[thing] = event
            elif event.port:
                others.append(event)
        return [*others, *(event for event in (last | gone).values() if not self._is_of_plugging(event))]

    def _is_of_plugging(self, event: Event) -> bool:
        """Return True for the last event of an outer end that the job may have made, if that is up."""
        made = event.namespace == HOST and isinstance(event.item, Link) and event.item.name in self._plugged
        return made and is_up(event)

    def _note_ports(self, router_id: str, before: DesiredRouter | None, now: DesiredRouter | None) -> set[str]:
        """Note which ports a router has now; returns the outer ends that it did not have before."""
        had, has = set(ports_of(before)), set(ports_of(now))
        gone, new = had - has, has - had
        for port in gone:
            self._forget_port(router_id, port)
        for port in new:
            self._ports[tap_name(port.port_id)] = (router_id, port)
            self._bridges.setdefault(bridge_name(port.network_id), set()).add(tap_name(port.port_id))
        stem = names.router_stem(router_id)
        if now is not None:
            self._known[router_id] = now
            self._stems[stem] = router_id
        else:
            self._known.pop(router_id, None)
            if self._stems.get(stem) == router_id:
                del self._stems[stem]
        # A port of which only a property has changed has its outer end.
        return {tap_name(port.port_id) for port in new} - {tap_name(port.port_id) for port in gone}

    def _forget_port(self, router_id: str, port: Port) -> None:
        """Forget a port that a router had, unless another router has it by now."""
        tap, bridge = tap_name(port.port_id), bridge_name(port.network_id)
        if self._ports.get(tap, (router_id,))[0] != router_id:
            return
        self._ports.pop(tap, None)
        taps = self._bridges.get(bridge, set())
        taps.discard(tap)
        if not taps:
            self._bridges.pop(bridge, None)


def _text(event: Event) -> str:
    what = "namespace removed" if event.item is None else f"{event.item.text} {'found' if event.present else 'gone'}"
    return f"{event.namespace or '(host)'}: {what}"
