"""What follows the writes of a job: conntrack entries with a wrong translation are deleted, addresses are announced.

Neither shows as missing in the kernel afterwards.  So both are noted before the first write and stay pending until they
are done, also when the job fails in between and the next job finds no other difference.  Kept in the host memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import Kernel
from dvr_agent.state.diff import Changes, TableChange
from dvr_agent.state.filter import Dnat, Snat, Table
from dvr_agent.state.namespace import Announcement

LOG = logging.getLogger(__name__)


class PostCommit:
    """Pending post-commit work of one router, over all its namespaces."""

    def __init__(self) -> None:
        self._connections: dict[tuple[str, str], None] = {}
        self._untranslated: dict[str, tuple[set[str], tuple[str, ...]]] = {}
        """Namespace → addresses that got a translation, networks of the inside."""
        self._announcements: dict[tuple[str, Announcement], None] = {}

    def note(self, changes: Changes) -> None:
        """Note what has to follow changes that are about to be made."""
        namespace = changes.namespace
        released = {*released_addresses(changes.tables), *left_addresses(changes.stale_tables)}
        self._connections.update({(namespace, address): None for address in sorted(released)})
        translated = gained_addresses(changes)
        if translated:
            addresses, _ = self._untranslated.get(namespace, (set(), ()))
            self._untranslated[namespace] = (addresses | translated, changes.outbound.inside)
        self._announcements.update({(namespace, announcement): None for announcement in changes.announcements})

    def delete_connections(self, kernel: Kernel) -> int:
        """Delete conntrack entries that rules now translate otherwise; returns how many there were.

        These are the entries of addresses whose translation is gone, and entries that an address opened before it had
        its translation: conntrack decides at a connection's first packet, so their packets would leave with an address
        to which no answer comes back.

        :raises KernelError: the rest stays pending
        """
        deleted = 0
        for namespace, address in list(self._connections):
            try:
                deleted += kernel.conntrack.delete(namespace, address)
            except NamespaceGoneError:
                LOG.debug("namespace %s is gone, and its conntrack entries with it", namespace)
            del self._connections[namespace, address]
        for namespace, (addresses, inside) in list(self._untranslated.items()):
            try:
                deleted += kernel.conntrack.drop_untranslated(namespace, addresses, inside)
            except NamespaceGoneError:
                LOG.debug("namespace %s is gone, and its conntrack entries with it", namespace)
            del self._untranslated[namespace]
        return deleted

    def announce(self, kernel: Kernel) -> list[tuple[str, Announcement]]:
        """Send all pending announcements once; returns them, for their repetition by the daemon.

        A router whose announcement cannot be sent is not degraded: the repetition follows.
        """
        sent = list(self._announcements)
        by_namespace: dict[str, list[Announcement]] = {}
        for namespace, announcement in sent:
            by_namespace.setdefault(namespace, []).append(announcement)
        for namespace, announcements in by_namespace.items():
            try:
                kernel.announcer.announce(namespace, announcements)
            except KernelError as exc:
                LOG.warning("announcement failed, it is repeated: %s", exc)
        self._announcements.clear()
        return sent


def released_addresses(changes: Iterable[TableChange]) -> list[str]:
    """Return the addresses whose translation was removed or changed: their conntrack entries are stale."""
    gone: set[tuple[str, str]] = set()
    for change in changes:
        gone |= _translations(change.old) - _translations(change.new)
    return sorted({address for address, _ in gone})


def gained_addresses(changes: Changes) -> set[str]:
    """Return the addresses that get a translation, having none by our rules nor by those of neutron-l3-agent."""
    if changes.create or not changes.tables:
        return set()
    new = {pair for change in changes.tables for pair in _inbound(change.new)}
    had = {pair for change in (*changes.tables, *changes.stale_tables) for pair in _inbound(change.old)}
    return {fixed for _, fixed in new - had} & changes.outbound.addresses


def left_addresses(changes: Sequence[TableChange]) -> list[str]:
    """Return the addresses that neutron-l3-agent's chains translate, and ours not at all or to another address.

    A translation that is the same in both has only moved from table to table: its connections continue.  The rules of
    neutron-l3-agent for outbound packets may be written differently from ours: there the address alone counts.
    """
    old, new = [change.old for change in changes], [change.new for change in changes]
    moved = {pair for table in old for pair in _inbound(table)} - {pair for table in new for pair in _inbound(table)}
    kept = {address for table in new for address, _ in _translations(table)}
    gone = {address for table in old for address, _ in _translations(table)} - kept
    return sorted(gone | {address for address, _ in moved})


def _translations(table: Table) -> set[tuple[str, str]]:
    """Return (outside address, inside address or source) of each NAT rule."""
    rules = [rule for chain in table.chains for rule in chain.rules]
    outbound = {
        (rule.target.address, str(rule.src or rule.oif or "")) for rule in rules if isinstance(rule.target, Snat)
    }
    return _inbound(table) | outbound


def _inbound(table: Table) -> set[tuple[str, str]]:
    """Return (floating IP, fixed IP) of each DNAT rule."""
    return {
        (rule.dst.partition("/")[0], rule.target.address)
        for chain in table.chains
        for rule in chain.rules
        if isinstance(rule.target, Dnat) and isinstance(rule.dst, str)
    }
