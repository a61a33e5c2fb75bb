"""The real kernel behind the interface of :mod:`dvr_agent.kernel.api`, put together."""

from __future__ import annotations

from dvr_agent.kernel.announce import PacketAnnouncer
from dvr_agent.kernel.api import Kernel, WriteCounters
from dvr_agent.kernel.conntrack import NetlinkConntrack
from dvr_agent.kernel.iptables.manager import LibiptcManager
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.kernel.plumber import RealPlumber


def open_kernel() -> Kernel:
    """This machine's kernel, seen from the network namespace of the calling thread."""
    counters = WriteCounters()
    namespaces = RealNamespaces(counters)
    return Kernel(
        namespaces,
        RealPlumber(counters, namespaces),
        LibiptcManager(namespaces, counters),
        NetlinkConntrack(namespaces),
        PacketAnnouncer(namespaces),
        counters,
    )
