"""Remembers what a job could not make, and tells what depends on it (:class:`Missing`).

What depends on a refused object is skipped: it is neither tried nor reported, since the refused object says it all.
What a refused object should have replaced stays.  A floating IP is a unit: while one of its objects is missing, none
that leads its traffic to the new path is made, and none of its old path is removed.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from dvr_agent.errors import KernelError
from dvr_agent.state.address import Address
from dvr_agent.state.dependency import is_needed, is_on_every_path, subject
from dvr_agent.state.diff import Action, Change, Changes, TableChange
from dvr_agent.state.filter import FilterRule, Snat, Table, TableKey
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.link import Link, Veth
from dvr_agent.state.namespace import KIND_OF, Announcement, thing_of
from dvr_agent.state.route import Route
from dvr_agent.state.rule import Rule
from dvr_agent.state.table_steps import gained_subjects, is_by_own_address, lost_subjects, masqueraded_devices, subjects


@dataclass(frozen=True, slots=True)
class Paths:
    """How the namespaces of a job are connected, as far as their objects do not say it.

    :ivar units: pairs of addresses (or networks) whose traffic is diverted together: floating IP and fixed IP
    :ivar leads: (namespace, routing table) → namespace into which the table leads
    """

    units: tuple[tuple[str, str], ...] = ()
    leads: Mapping[tuple[str, int], str] = field(default_factory=dict)

    @property
    def led(self) -> frozenset[str]:
        """All addresses and networks of units."""
        return frozenset(chain.from_iterable(self.units))


class Missing:
    """What the namespaces of one job lack because something was refused; false while nothing was.

    :ivar errors: one for each refused object, in the order of refusal
    :ivar refused: (namespace, object)
    :ivar held: addresses and networks whose new path is incomplete: their traffic stays on the old one
    :ivar undone: (``thing_of``) of the objects that were refused or skipped, and of namespaces that were not removed
    """

    def __init__(self, paths: Paths | None = None) -> None:
        self.errors: list[KernelError] = []
        self.refused: set[tuple[str, KernelObject]] = set()
        self.held: set[str] = set()
        self.undone: set[Hashable] = set()
        self._paths = paths or Paths()
        self._sources = {namespace for namespace, _table in self._paths.leads}
        self._joined: list[tuple[tuple[str, str], ...]] = []
        self._of_pairs: dict[str, set[str]] = {}
        self._objects: dict[str, list[KernelObject]] = {}
        self._namespaces: set[str] = set()
        self._broken: set[str] = set()
        self._tables: set[tuple[str, TableKey]] = set()
        self._committed: dict[tuple[str, TableKey], Table] = {}
        self._untranslated: set[tuple[str, str]] = set()
        self._going: set[tuple[str, str]] = set()
        self._leaving: dict[tuple[str, str], Address] = {}
        self._leaving_devices: set[tuple[str, str]] = set()
        self._staying: set[tuple[str, int]] = set()
        self.join(self._paths.units)

    def __bool__(self) -> bool:
        return bool(self.errors)

    def join(self, pairs: tuple[tuple[str, str], ...]) -> None:
        """Note pairs of addresses that are one unit."""
        self._joined.append(pairs)

    @property
    def _units(self) -> dict[str, set[str]]:
        """The addresses of the pairs of each address; they are asked for when something was refused."""
        while self._joined:
            for one, other in self._joined.pop():
                self._of_pairs.setdefault(one, {one}).add(other)
                self._of_pairs.setdefault(other, {other}).add(one)
        return self._of_pairs

    # --- what was refused ---

    def refuse(self, namespace: str, change: Change, error: KernelError) -> None:
        """Note that the kernel refused a change."""
        self.fault(error)
        self.refused.add((namespace, change.item))
        self.undone.add(thing_of(namespace, change.item))
        if change.action is not Action.REMOVE:
            self._lack(namespace, change)
            return
        about = subject(change.item)
        if about is not None:  # traffic is still led to the old path
            self.hold(about)
        if isinstance(change.item, Rule):
            self._staying.add((namespace, change.item.table))

    def fault(self, error: KernelError) -> None:
        """Note an error on which nothing depends; one that is the cause of several is noted once."""
        if str(error) not in map(str, self.errors):
            self.errors.append(error)

    def refuse_namespace(self, namespace: str, error: KernelError) -> None:
        """Note that a namespace could not be made: nothing in it can be."""
        self.fault(error)
        self.undone.add(thing_of(namespace, None))
        self._namespaces.add(namespace)
        self._broken.add(namespace)

    def refuse_repair(self, namespace: str, device: str, error: KernelError) -> None:
        """Note that the outer side of a port could not be repaired; nothing depends on it: the device may be there."""
        self.fault(error)
        self.undone.add((namespace, "port", device))

    def refuse_removal(self, namespace: str, items: Iterable[KernelObject | None], error: KernelError) -> None:
        """Note that objects could not be removed, or the namespace itself (None); nothing depends on it."""
        self.fault(error)
        self.undone |= {thing_of(namespace, item) for item in items}

    def refuse_table(self, namespace: str, change: TableChange, error: KernelError) -> None:
        """Note that a packet filter table stays as it was: what it should translate must not be led to it."""
        self.fault(error)
        self._tables.add((namespace, change.new.key))
        self.skip_table(change)
        self._untranslated |= {(namespace, device) for device in masqueraded_devices(change)}
        for address in lost_subjects(change):  # its rules are still there
            self.hold(address)

    def note_table(self, namespace: str, table: Table) -> None:
        """Note a packet filter table as it was committed."""
        self._committed[(namespace, table.key)] = table

    def skip_table(self, change: TableChange) -> None:
        """Leave on the old path what the table should translate."""
        for address in gained_subjects(change):
            self.hold(address)

    def hold_new(self, change: Change) -> None:
        """Leave on the old path what a new object would divert."""
        about = subject(change.item) if change.action is not Action.REMOVE else None
        if about is not None:
            self.hold(about)

    def hold(self, address: str) -> None:
        """Leave the traffic of an address, and of the rest of its unit, on the old path."""
        todo = [address]
        while todo:
            one = todo.pop()
            if one not in self.held:
                self.held.add(one)
                todo += self._units.get(one, ())

    # --- what was made ---

    def done(self, changes: Changes) -> Changes:
        """Return the changes of a namespace without what was refused or skipped."""
        name = changes.namespace
        stays = thing_of(name, None) in self.undone
        lacks_tables = bool(changes.stale_tables) and self.lacks_tables(name)
        return replace(
            changes,
            create=changes.create and not stays,
            remove=changes.remove and not stays,
            items=tuple(one for one in changes.items if not self.is_undone(name, one)),
            tables=tuple(filter(None, (self._done_table(name, one) for one in changes.tables))),
            stale_tables=() if lacks_tables else changes.stale_tables,
        )

    def is_undone(self, namespace: str, change: Change) -> bool:
        """True if a change was refused or skipped."""
        return self.lacks_namespace(namespace) or thing_of(namespace, change.item) in self.undone

    def _done_table(self, namespace: str, change: TableChange) -> TableChange | None:
        """Return what was made of a table's change: rules may have been left out; None: nothing."""
        if not self:
            return change
        if self.lacks_namespace(namespace) or self.lacks_table(namespace, change.new.key):
            return None
        made = self._committed.get((namespace, change.new.key), change.old)
        return None if made == change.old else TableChange(change.old, made)

    # --- what depends on it ---

    def lacks_namespace(self, namespace: str) -> bool:
        """True if the namespace could not be made."""
        return namespace in self._namespaces

    def is_broken(self, namespace: str) -> bool:
        """True if no traffic gets through the namespace by what this job should have made."""
        return namespace in self._broken

    def lacks_tables(self, namespace: str) -> bool:
        """True if any table of the namespace was refused."""
        return any(name == namespace for name, _key in self._tables)

    def lacks_table(self, namespace: str, key: TableKey) -> bool:
        """True if the table was refused once in this job."""
        return (namespace, key) in self._tables

    def expect_removal(self, namespace: str, changes: Iterable[Change]) -> None:
        """Note the devices that are to be removed: each stays with all that is on it, or goes with all of it."""
        self._going |= {(namespace, change.item.name) for change in changes if isinstance(change.item, Link)}

    def expect_leaving(self, namespace: str, changes: Iterable[Change]) -> None:
        """Note the addresses that are to be removed: a rule that translates to one of them stays or goes with it."""
        gone = [change.item for change in changes if change.action is Action.REMOVE]
        self._leaving |= {(namespace, item.ip): item for item in gone if isinstance(item, Address)}
        self._leaving_devices |= {(namespace, item.name) for item in gone if isinstance(item, Link)}

    def takes(self, namespace: str, change: Change) -> bool:
        """True if the change must be skipped; what depends on it is then skipped, too."""
        if not self.errors:
            return False
        removes = change.action is Action.REMOVE
        taken = self._must_stay(namespace, change.item) if removes else self._depends(namespace, change.item)
        if taken:
            self.undone.add(thing_of(namespace, change.item))
            if not removes:
                self._lack(namespace, change)
        return taken

    def silences(self, namespace: str, announcement: Announcement) -> bool:
        """True if an address must not be announced: it is not there, or nothing leads its packets on."""
        if announcement.address in self.held:
            return True
        return announcement.because in self._objects.get(namespace, ())

    def keeps_rule(self, namespace: str, rule: FilterRule) -> bool:
        """True if a packet filter rule that is to go must stay: its traffic stays on the old path.

        A rule of the namespace at large stays while a device, an address or the way out lacks there; masquerading by
        the gateway only if the gateway's old address stays too: packets with a source that is gone get no answer.
        """
        about = subjects(rule)
        if not self.held.isdisjoint(about):
            return True
        source = rule.target.address if isinstance(rule.target, Snat) else None
        leaving = self._leaving.get((namespace, source)) if source is not None else None
        lacking = self._objects.get(namespace, ())
        if leaving is not None and (namespace, leaving.device) not in self._leaving_devices:
            return self._must_stay(namespace, leaving)
        return namespace in self._broken or any(isinstance(one, Link | Address) for one in lacking)

    def admits_rule(self, own: Collection[str], rule: FilterRule) -> bool:
        """False if a new packet filter rule gives packets a source address that could not be added.

        :param own: addresses that come or go in the namespace
        """
        return not is_by_own_address(rule, own) or self.held.isdisjoint(subjects(rule))

    def _lack(self, namespace: str, change: Change) -> None:
        """Note that an object is not there; one that could not be changed is, in its old form."""
        item = change.item
        about = subject(item)
        if about is not None:
            self.hold(about)
        if is_on_every_path(item) and namespace not in self._sources:
            self._broken.add(namespace)
        if change.action is Action.CHANGE and not _was_down(change.old):
            return
        self._objects.setdefault(namespace, []).append(item)
        if isinstance(item, Link) and isinstance(item.origin, Veth):
            end = Link(item.origin.peer_name, item.origin.peer_mac, item.mtu)
            self._objects.setdefault(item.origin.peer_namespace, []).append(end)

    def _depends(self, namespace: str, item: KernelObject) -> bool:
        if namespace in self._namespaces:
            return True
        if isinstance(item, Link):
            return self._lacks_end(namespace, item)
        about = subject(item)
        if about in self.held or (about in self._units and namespace in self._broken):
            return True
        if isinstance(item, Route) and any((namespace, hop.device) in self._untranslated for hop in item.hops):
            return True
        if isinstance(item, Rule) and self._paths.leads.get((namespace, item.table)) in self._broken:
            return True
        return any(is_needed(one, item) for one in self._objects.get(namespace, ()))

    def _lacks_end(self, namespace: str, link: Link) -> bool:
        """True if a link cannot be there since the pair could not be made, or its other namespace."""
        if isinstance(link.origin, Veth) and link.origin.peer_namespace in self._namespaces:
            return True
        return any(isinstance(one, Link) and one.name == link.name for one in self._objects.get(namespace, ()))

    def _must_stay(self, namespace: str, item: KernelObject) -> bool:
        """True if an object that is to be removed is of an old path whose traffic could not be led to the new one.

        Rules come before the routes of their tables.
        """
        lacking = self._objects.get(namespace, ())
        if isinstance(item, Rule):
            stays = item.src is not None and subject(item) in self.held
            if stays or any(isinstance(one, Rule) and one.selector == item.selector for one in lacking):
                self._staying.add((namespace, item.table))
                return True
            return False
        about = item.ip if isinstance(item, Address) else subject(item)
        if about in self.held or (isinstance(item, Route) and (namespace, item.table) in self._staying):
            return True
        if namespace in self._broken or any(isinstance(one, Link) for one in lacking):
            # A device has no identity beyond its name: an old one may be the predecessor of the missing one, or the
            # way out may still be by it.
            return any((namespace, device) in self._going for device in KIND_OF[type(item)].devices(item))
        return isinstance(item, Address) and any(_is_alike(one, item) for one in lacking)


def _was_down(old: KernelObject | None) -> bool:
    return isinstance(old, Link) and not old.up


def _is_alike(missing: KernelObject, old: Address) -> bool:
    """True if a missing address may be the successor of an old one: same device and family."""
    if not isinstance(missing, Address) or missing.device != old.device:
        return False
    return (":" in missing.cidr) == (":" in old.cidr)
