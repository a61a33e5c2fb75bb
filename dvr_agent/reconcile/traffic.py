"""Reads how many bytes floating IPs have received and sent, from the rules of ``desired/accounting.py``.

Blocking code for the worker thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dvr_agent.desired.accounting import counted
from dvr_agent.desired.build import DesiredRouter
from dvr_agent.errors import DvrError
from dvr_agent.reconcile.api import Traffic
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.reader import IptablesReader
from dvr_agent.state.filter import Table, TableKey

MANGLE: TableKey = (4, "mangle")


def read_traffic(iptables: IptablesReader, memory: HostMemory, router_ids: Collection[str]) -> list[Traffic]:
    """Return the traffic of the floating IPs of these routers; a namespace that cannot be read is left out."""
    found = []
    for router_id in router_ids:
        state = memory.desired_of(router_id)
        if state is not None:
            found += list(_of_router(iptables, router_id, state))
    return found


def _of_router(iptables: IptablesReader, router_id: str, state: DesiredRouter) -> Iterator[Traffic]:
    sums: dict[str, dict[str, int]] = {}
    for part in (state.qrouter, state.snat):
        if part is None or not any(map(_counts, part.tables)):
            continue
        try:
            counts = iptables.counts(part.name, MANGLE)
        except DvrError:  # its job says it
            continue
        for one in counts:
            what = counted(one.rule)
            if what is not None:
                of_fip = sums.setdefault(what.floating_ip, {"received": 0, "sent": 0})
                of_fip[what.direction] += one.bytes
    for floating_ip, of_fip in sums.items():
        yield Traffic(router_id, floating_ip, of_fip["received"], of_fip["sent"])


def _counts(table: Table) -> bool:
    return table.key == MANGLE and any(counted(rule) for chain in table.chains for rule in chain.rules)
