"""Reads the bytes of floating IPs, from the rules of ``desired/accounting.py``, and what their limits have dropped.

Blocking code for the worker thread.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

from dvr_agent.desired.accounting import counted
from dvr_agent.desired.build import DesiredRouter
from dvr_agent.errors import DvrError
from dvr_agent.reconcile.api import Traffic
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.reader import KernelReader
from dvr_agent.state.filter import Table, TableKey

MANGLE: TableKey = (4, "mangle")


def read_traffic(kernel: KernelReader, memory: HostMemory, router_ids: Collection[str]) -> list[Traffic]:
    """Return the traffic of the floating IPs of these routers; a namespace that cannot be read is left out."""
    found = []
    for router_id in router_ids:
        state = memory.desired_of(router_id)
        if state is not None:
            found += list(_of_router(kernel, router_id, state))
    return found


def _of_router(kernel: KernelReader, router_id: str, state: DesiredRouter) -> Iterator[Traffic]:
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    dropped: dict[str, Counter[str]] = {}
    for part in (state.qrouter, state.snat):
        if part is None or not any(map(_counts, part.tables)):
            continue
        try:
            counts = kernel.packet_filter.counts(part.name, MANGLE)
            drops = kernel.interfaces.limit_drops(part.name) if part.limits else ()
        except DvrError:  # its job says it
            continue
        for rule, _packets, number in counts:
            if what := counted(rule):
                sums[what.floating_ip][what.direction] += number
        dropped = {limit.address: Counter() for limit in part.limits} | dropped
        for drop in drops:
            dropped.setdefault(drop.address, Counter())[drop.direction] += drop.packets
    for address, of_fip in sums.items():
        of_limit = dropped.get(address)
        packets = None if of_limit is None else (of_limit["entering"], of_limit["leaving"])
        yield Traffic(router_id, address, of_fip["received"], of_fip["sent"], packets)


def _counts(table: Table) -> bool:
    return table.key == MANGLE and any(counted(rule) for chain in table.chains for rule in chain.rules)
