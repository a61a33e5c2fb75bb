"""Post-commit work of a job: delete conntrack entries with a wrong translation, announce new addresses.

No later job would find that either is missing: the kernel's objects agree with the desired state by then.  So both are
noted before the first write and stay pending, in the host memory, until they are done, even if the job fails half way.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import GratuitousArp, Kernel
from dvr_agent.state.diff import Changes, TableChange
from dvr_agent.state.filter import Dnat, FilterRule, Ports, Snat, Table
from dvr_agent.state.missing import Missing
from dvr_agent.state.namespace import Announcement
from dvr_agent.state.table_steps import elsewhere
from dvr_agent.state.translations import Inbound, inbound, rules_of

LOG = logging.getLogger(__name__)


class PostCommit:
    """Pending post-commit work of one router, over all its namespaces."""

    def __init__(self) -> None:
        self._connections: dict[tuple[str, str], frozenset[Ports] | None] = {}
        """(Namespace, address) whose conntrack entries are stale → those to these ports only; None: all of them."""
        self._untranslated: dict[str, tuple[set[str], tuple[str, ...]]] = {}
        """Namespace → addresses that got a translation, networks of the inside."""
        self._announcements: dict[tuple[str, Announcement], None] = {}
        self._sent: list[tuple[str, Announcement]] = []

    def note(self, changes: Changes) -> None:
        """Note the post-commit work of changes that are about to be made."""
        namespace = changes.namespace
        released = released_addresses(changes.tables) | released_by_takeover(changes.stale_tables)
        for one in sorted(released | forwarded_ports(changes), key=str):
            self._release(namespace, one)
        translated = newly_translated(changes)
        if translated:
            addresses, _ = self._untranslated.get(namespace, (set(), ()))
            self._untranslated[namespace] = (addresses | translated, changes.outbound.inside)
        self._announcements.update({(namespace, announcement): None for announcement in changes.announcements})

    def delete_connections(self, kernel: Kernel, held: Collection[str] = ()) -> int:
        """Delete conntrack entries that the rules would translate otherwise now; returns their number.

        :param held: addresses that stay on their old path: their entries stay too, and pending

        These are the entries of addresses that lost their translation, and entries of connections that an address began
        before it had its translation: conntrack decides at a connection's first packet, so the packets would leave with
        a source address that gets no answers.

        :raises KernelError: the other entries stay pending
        """
        deleted = 0
        for namespace, address in [key for key in self._connections if key[1] not in held]:
            ports = self._connections[namespace, address]
            try:
                if ports is None:
                    deleted += kernel.conntrack.delete(namespace, address)
                else:
                    deleted += kernel.conntrack.delete_to_ports(namespace, address, ports)
            except NamespaceGoneError:
                LOG.debug("namespace %s is gone, and its conntrack entries with it", namespace)
            del self._connections[namespace, address]
        for namespace, (addresses, inside) in list(self._untranslated.items()):
            try:
                deleted += kernel.conntrack.drop_untranslated(namespace, addresses.difference(held), inside)
            except NamespaceGoneError:
                LOG.debug("namespace %s is gone, and its conntrack entries with it", namespace)
            waiting = addresses.intersection(held)
            if waiting:
                self._untranslated[namespace] = (waiting, inside)
            else:
                del self._untranslated[namespace]
        return deleted

    def announce(self, kernel: Kernel, arp: GratuitousArp, missing: Missing) -> None:
        """Send the pending announcements once, and note them as sent, since the daemon repeats them.

        Those of addresses to which nothing leads yet stay pending.  A failure does not degrade the router: the
        repetition follows.

        :param arp: the frames to send first; repetitions send the others
        :param missing: what the job could not make
        """
        by_namespace: dict[str, list[Announcement]] = {}
        for namespace, announcement in list(self._announcements):
            if not missing.silences(namespace, announcement):
                by_namespace.setdefault(namespace, []).append(announcement)
                del self._announcements[namespace, announcement]
        for namespace, announcements in by_namespace.items():
            self._sent += [(namespace, announcement) for announcement in announcements]
            try:
                kernel.announcer.announce(namespace, announcements, arp)
            except KernelError as exc:
                LOG.warning("announcement failed, it is repeated: %s", exc)

    def _release(self, namespace: str, released: Released) -> None:
        """Note stale entries of an address; all of them count, once they are noted."""
        key = (namespace, released.address)
        noted = self._connections.get(key, frozenset())
        whole = released.ports is None or noted is None
        self._connections[key] = None if whole else frozenset({*(noted or ()), *filter(None, [released.ports])})

    def take_sent(self) -> list[tuple[str, Announcement]]:
        """Return (namespace, announcement) of those sent since the last call."""
        sent, self._sent = self._sent, []
        return sent


class Released(NamedTuple):
    """An address whose conntrack entries are stale.

    :ivar ports: only those that began to these ports of it; None: all
    """

    address: str
    ports: Ports | None = None


def released_addresses(changes: Iterable[TableChange]) -> set[Released]:
    """Return the addresses, or ports of them, that lose their translation or get another one."""
    found: set[Released] = set()
    for change in changes:
        if change.old.chains:
            gone = elsewhere(change.old, change.new)
            kept = list(_like(gone, [change.new]))
            found |= {Released(address) for address, _ in _outbound(gone) - _outbound(kept)}
            found |= _released(set(inbound(gone)), set(inbound(kept)))
    return found


def _released(old: set[Inbound], new: set[Inbound]) -> set[Released]:
    """Return what the old translations have and the new ones not; an address goes with its last port."""
    by_port = {one.address for one in new if one.ports is not None}
    return {Released(one.address, one.ports if one.address in by_port else None) for one in old - new}


def forwarded_ports(changes: Changes) -> set[Released]:
    """Return the ports of floating IPs that are translated from now on: what came to them was not led on."""
    if changes.create:
        return set()
    come = {one for one in inbound(_coming(changes)) if one.ports is not None}
    had = set(inbound(_had(changes))) if come else come
    return {Released(one.address, one.ports) for one in come - had}


def newly_translated(changes: Changes) -> set[str]:
    """Return the fixed addresses that get a translation and had none, by our rules or by neutron-l3-agent's."""
    if changes.create or not changes.tables:
        return set()
    pairs = {one[:2] for one in inbound(_had(changes))}
    return {one.fixed for one in inbound(_coming(changes)) if one[:2] not in pairs} & changes.outbound.addresses


def _coming(changes: Changes) -> list[FilterRule]:
    """Return the rules that come, or move."""
    return [rule for change in changes.tables for rule in elsewhere(change.new, change.old)]


def _had(changes: Changes) -> Iterator[FilterRule]:
    """Yield the rules that the old tables have for the addresses of rules that come."""
    return _like(_coming(changes), [change.old for change in (*changes.tables, *changes.stale_tables)])


def _like(rules: Sequence[FilterRule], tables: Iterable[Table]) -> Iterator[FilterRule]:
    """Yield the rules in tables that are about the same addresses: a table may have thousands of others."""
    destinations = {rule.dst for rule in rules if isinstance(rule.target, Dnat)}
    addresses = {rule.target.address for rule in rules if isinstance(rule.target, Snat)}
    if not destinations and not addresses:
        return
    for table in tables:
        for chain in table.chains:
            yield from [
                rule
                for rule in chain.rules
                if rule.dst in destinations or (isinstance(rule.target, Snat) and rule.target.address in addresses)
            ]


def released_by_takeover(changes: Sequence[TableChange]) -> set[Released]:
    """Return the addresses that neutron-l3-agent's chains translate, and ours not at all or to another address.

    A translation that both have only moves from table to table: its connections continue.  neutron-l3-agent's rules for
    outbound packets may be written differently from ours: of outbound translations only the outside address counts.
    """
    old, new = [change.old for change in changes], [change.new for change in changes]
    before, after = ({one for table in tables for one in _inbound(table)} for tables in (old, new))
    kept = {address for table in new for address in _outside(table)}
    gone = {Released(address) for table in old for address in _outside(table) if address not in kept}
    return gone | _released(before, after)


def _outside(table: Table) -> set[str]:
    """Return the outside addresses of all translations."""
    return {one.address for one in _inbound(table)} | {address for address, _ in _outbound(rules_of([table]))}


def _outbound(rules: Iterable[FilterRule]) -> set[tuple[str, str]]:
    """Return (outside address, source or device) of each SNAT rule."""
    return {(rule.target.address, str(rule.src or rule.oif or "")) for rule in rules if isinstance(rule.target, Snat)}


def _inbound(table: Table) -> set[Inbound]:
    return set(inbound(rules_of([table])))
