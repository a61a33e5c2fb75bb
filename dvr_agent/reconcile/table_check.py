"""Finds routers whose packet filter tables differ from their desired states, at a tenth of the cost of an audit.

The kernel tells no events of legacy tables, and of nf_tables only that something was changed in a namespace; so tables
are compared often, and when they may have changed.  What has other events, and the rest, is left to audits.  Used by
the reconciler for ``daemon/audits``, and by :mod:`.drift`.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from dvr_agent.desired.build import DesiredRouter
from dvr_agent.errors import DvrError
from dvr_agent.reconcile.memory import CheckedTables, HostMemory
from dvr_agent.reconcile.plan_lines import table_text
from dvr_agent.reconcile.reader import FilterTables, InterfaceReader
from dvr_agent.state.diff import table_changes
from dvr_agent.state.filter import Table
from dvr_agent.state.namespace import NamespaceState, thing_of


class Difference(NamedTuple):
    """A table or a limit that is not as desired.

    :ivar thing: its identity on this host, as in :class:`.drift.Finding`
    :ivar text: what was found: namespace and object
    """

    thing: Hashable
    text: str


class TableCheck:
    """Compares tables with the desired states of the last jobs.

    It also notices another program's policy DROP that comes or goes: a job warns about it.
    """

    def __init__(self, tables: FilterTables, interfaces: InterfaceReader, memory: HostMemory) -> None:
        self._tables, self._interfaces, self._memory = tables, interfaces, memory

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
            different = [part.name for part in parts if self._differences(part, checked)]
            if different:
                self._memory.distrust(router_id, different)
                changed.append(router_id)
        return changed

    def differences(self, namespace: str, router_ids: Iterable[str]) -> list[Difference]:
        """Return what of a namespace's tables and limits is not as desired by the first of its routers."""
        for router_id in router_ids:
            state = self._memory.desired_of(router_id)
            for part in _parts(state) if state is not None else ():
                if part.name == namespace:
                    return self._differences(part, self._memory.router(router_id).checked_tables)
        return []

    def _differences(self, desired: NamespaceState, checked: CheckedTables) -> list[Difference]:
        """Compare the tables and the bandwidth limits of one namespace.

        :param checked: by namespace, the desired state and the tables that agreed with it
        """
        name = desired.name
        try:
            found = self._tables.observe(name, [table.key for table in desired.tables], desired.tables)
            limits = self._interfaces.limits(name, desired.ownership) if desired.limits else desired.limits
        except DvrError as exc:  # the job says it
            return [Difference((name, "tables"), str(exc))]
        different = [Difference(thing_of(name, one), f"{name}: {one.text} changed") for one in limits ^ desired.limits]
        state, before = checked.get(name, (None, ()))
        # An unchanged table is the same object as before: nearly always nothing has to be compared.
        if state is desired and all(map(operator.is_, found, before)):
            return different
        changed = [change.new for change in table_changes(found, desired.tables)]
        if not changed:
            checked[name] = (desired, found)
            if _dropping(found) != _dropping(before):
                changed = [table for table in (*found, *before) if table.dropping]
        tables = [Difference((name, "table", one.key), f"{name}: {table_text(one)} changed") for one in changed]
        return [*tables, *different]


def _parts(state: DesiredRouter) -> Iterator[NamespaceState]:
    """Yield the desired states of a router's namespaces that have tables."""
    for part in (state.qrouter, state.snat, state.base):
        if part is not None and part.tables:
            yield part


def _dropping(tables: Sequence[Table]) -> list[str]:
    """Return the built-in chains whose policy is DROP."""
    return [f"{table.text} {chain}" for table in tables for chain in table.dropping]
