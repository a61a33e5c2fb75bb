"""Post-commit work of a job: delete conntrack entries with a wrong translation, announce new addresses.

No later job would find that either is missing: the kernel's objects agree with the desired state by then.  So both are
noted before the first write and stay pending, in the host memory, until they are done, even if the job fails half way.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import GratuitousArp, Kernel
from dvr_agent.reconcile.translations import dnat_pairs, rules_of
from dvr_agent.state.diff import Changes, TableChange
from dvr_agent.state.filter import Snat, Table
from dvr_agent.state.missing import Missing
from dvr_agent.state.namespace import Announcement

LOG = logging.getLogger(__name__)


class PostCommit:
    """Pending post-commit work of one router, over all its namespaces."""

    def __init__(self) -> None:
        self._connections: dict[tuple[str, str], None] = {}
        """(Namespace, address) whose conntrack entries are stale."""
        self._untranslated: dict[str, tuple[set[str], tuple[str, ...]]] = {}
        """Namespace → addresses that got a translation, networks of the inside."""
        self._announcements: dict[tuple[str, Announcement], None] = {}
        self._sent: list[tuple[str, Announcement]] = []

    def note(self, changes: Changes) -> None:
        """Note the post-commit work of changes that are about to be made."""
        namespace = changes.namespace
        released = {*released_addresses(changes.tables), *released_by_takeover(changes.stale_tables)}
        self._connections.update({(namespace, address): None for address in sorted(released)})
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
            try:
                deleted += kernel.conntrack.delete(namespace, address)
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

    def take_sent(self) -> list[tuple[str, Announcement]]:
        """Return (namespace, announcement) of those sent since the last call."""
        sent, self._sent = self._sent, []
        return sent


def released_addresses(changes: Iterable[TableChange]) -> list[str]:
    """Return the addresses that lose their translation or get another one: their conntrack entries are stale."""
    gone: set[tuple[str, str]] = set()
    for change in changes:
        if change.old.chains:
            gone |= _translations(change.old) - _translations(change.new)
    return sorted({address for address, _ in gone})


def newly_translated(changes: Changes) -> set[str]:
    """Return the fixed addresses that get a translation and had none, by our rules or by neutron-l3-agent's."""
    if changes.create or not changes.tables:
        return set()
    new = {pair for change in changes.tables for pair in _inbound(change.new)}
    had = {pair for change in (*changes.tables, *changes.stale_tables) for pair in _inbound(change.old)}
    return {fixed for _, fixed in new - had} & changes.outbound.addresses


def released_by_takeover(changes: Sequence[TableChange]) -> list[str]:
    """Return the addresses that neutron-l3-agent's chains translate, and ours not at all or to another address.

    A translation that both have only moves from table to table: its connections continue.  neutron-l3-agent's rules for
    outbound packets may be written differently from ours: of outbound translations only the outside address counts.
    """
    old, new = [change.old for change in changes], [change.new for change in changes]
    moved = {pair for table in old for pair in _inbound(table)} - {pair for table in new for pair in _inbound(table)}
    kept = {address for table in new for address, _ in _translations(table)}
    gone = {address for table in old for address, _ in _translations(table)} - kept
    return sorted(gone | {address for address, _ in moved})


def _translations(table: Table) -> set[tuple[str, str]]:
    """Return (outside address, fixed address, source or device) of each NAT rule, DNAT and SNAT."""
    rules = rules_of([table])
    outbound = {
        (rule.target.address, str(rule.src or rule.oif or "")) for rule in rules if isinstance(rule.target, Snat)
    }
    return _inbound(table) | outbound


def _inbound(table: Table) -> set[tuple[str, str]]:
    return set(dnat_pairs(rules_of([table])))
