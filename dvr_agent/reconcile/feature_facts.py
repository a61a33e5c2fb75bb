"""What the desired state of L3 agent extensions needs to know of this kernel.  Used by ``draft``; reads only."""

from __future__ import annotations

from collections.abc import Iterable

from dvr_agent.desired.common import FAMILIES
from dvr_agent.desired.conntrack_helpers import TRANSPORTS, kernel_name, served_helpers
from dvr_agent.desired.host_view import HostView, MissingHelper
from dvr_agent.reconcile.reader import FilterTables
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.sets import compact


def missing_helpers(tables: FilterTables, view: HostView) -> frozenset[MissingHelper]:
    """Return which of the router's conntrack helpers this kernel lacks, by family and protocol.

    The kernel would refuse the whole table for one of them.
    """
    found: set[MissingHelper] = set()
    for helper in served_helpers(view):
        transport, name = TRANSPORTS.get(helper.protocol), kernel_name(helper)
        if transport is not None:
            families = tables.helper_families(name, transport)
            found |= {MissingHelper(one, name, transport) for one in FAMILIES if one not in families}
    return compact(found)


def found_proxies(view: HostView, states: Iterable[NamespaceState | None]) -> tuple[tuple[str, str], ...]:
    """Return (namespace, address) of the proxied neighbours there; empty if those of the document are known.

    What the kernel has then stays as it is.
    """
    if view.router.features.ndp_proxies is not None:
        return ()
    return tuple(sorted({(state.name, one.dst) for state in states if state for one in state.proxy_neighbours}))
