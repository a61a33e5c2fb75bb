"""Finds routers whose packet filter tables differ from their desired states, at a tenth of the cost of an audit.

The kernel tells no events of legacy tables and of limits, so they are compared often; what has events, and the rest, is
left to audits.  Used by the reconciler for ``daemon/audits``.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Sequence

from dvr_agent.desired.build import DesiredRouter
from dvr_agent.errors import DvrError
from dvr_agent.reconcile.memory import CheckedTables, HostMemory
from dvr_agent.reconcile.reader import InterfaceReader, IptablesReader
from dvr_agent.state.diff import tables_differ
from dvr_agent.state.filter import Table
from dvr_agent.state.namespace import NamespaceState


class TableCheck:
    """Compares tables with the desired states of the last jobs.

    It also notices another program's policy DROP that comes or goes: a job warns about it.
    """

    def __init__(self, iptables: IptablesReader, interfaces: InterfaceReader, memory: HostMemory) -> None:
        self._iptables, self._interfaces, self._memory = iptables, interfaces, memory

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
            checked = self._memory.router(router_id).checked_tables
            parts = [part for part in _parts(state) if part.name not in shared]
            if state.base is not None:
                shared.add(state.base.name)
            if sum(self._has_changed(part, checked) for part in parts):  # all of them are looked at
                changed.append(router_id)
        return changed

    def _has_changed(self, desired: NamespaceState, checked: CheckedTables) -> bool:
        """Compare the tables and the bandwidth limits of one namespace.

        :param checked: by namespace, the desired state and the tables that agreed with it
        """
        try:
            found = self._iptables.observe(desired.name, [table.key for table in desired.tables])
            if desired.limits and self._interfaces.limits(desired.name, desired.ownership) != desired.limits:
                return True
        except DvrError:  # the job says it
            return True
        state, before = checked.get(desired.name, (None, ()))
        # An unchanged table is the same object as before: nearly always nothing has to be compared.
        if state is desired and all(map(operator.is_, found, before)):
            return False
        if tables_differ(found, desired.tables):
            return True
        checked[desired.name] = (desired, found)
        return _dropping(found) != _dropping(before)


def _parts(state: DesiredRouter) -> Iterator[NamespaceState]:
    """Yield the desired states of a router's namespaces that have tables."""
    for part in (state.qrouter, state.snat, state.base):
        if part is not None and part.tables:
            yield part


def _dropping(tables: Sequence[Table]) -> list[str]:
    """Return the built-in chains whose policy is DROP."""
    return [f"{table.text} {chain}" for table in tables for chain in table.dropping]
