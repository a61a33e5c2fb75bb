"""Finds routers whose packet filter tables differ from their desired states, at a tenth of the cost of an audit.

The kernel tells no events of legacy tables, so they are compared often; what has events, and the rest, is left to
audits.  Used by the reconciler for ``daemon/audits``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from dvr_agent.desired.build import DesiredRouter
from dvr_agent.errors import DvrError
from dvr_agent.reconcile.memory import HostMemory, RouterMemory
from dvr_agent.reconcile.reader import IptablesReader
from dvr_agent.state.diff import tables_differ
from dvr_agent.state.namespace import NamespaceState


class TableCheck:
    """Compares tables with the desired states of the last jobs.

    It also notices another program's policy DROP that comes or goes: a job warns about it.
    """

    def __init__(self, iptables: IptablesReader, memory: HostMemory) -> None:
        self._iptables, self._memory = iptables, memory

    def find_changed(self, router_ids: Collection[str]) -> list[str]:
        """Return the routers of these whose tables differ, cannot be read, or drop packets otherwise than before.

        A fip namespace is checked once, for the first of its routers.
        """
        changed: list[str] = []
        shared: set[str] = set()
        for router_id in router_ids:
            state = self._memory.desired_of(router_id)
            if state is None:
                continue
            parts = [part for part in _parts(state) if part.name not in shared]
            if state.base is not None:
                shared.add(state.base.name)
            if self._has_changed(self._memory.router(router_id), parts):
                changed.append(router_id)
        return changed

    def _has_changed(self, memory: RouterMemory, parts: Iterable[NamespaceState]) -> bool:
        """Compare the tables of one router's namespaces."""
        dropping: set[str] = set()
        differs = False
        for desired in parts:
            try:
                found = self._iptables.observe(desired.name, [table.key for table in desired.tables])
            except DvrError:  # the job says it
                return True
            differs = differs or tables_differ(found, desired.tables)
            dropping |= {f"{desired.name} {table.text} {chain}" for table in found for chain in table.dropping}
        differs = differs or dropping != memory.dropping
        memory.dropping = frozenset(dropping)
        return differs


def _parts(state: DesiredRouter) -> Iterator[NamespaceState]:
    """Yield the desired states of a router's namespaces that have tables."""
    for part in (state.qrouter, state.snat, state.base):
        if part is not None and part.tables:
            yield part
