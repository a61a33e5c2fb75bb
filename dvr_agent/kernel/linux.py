"""The real kernel behind the interface of :mod:`dvr_agent.kernel.api`, put together."""

from __future__ import annotations

import contextlib
import errno
import subprocess
from pathlib import Path

from dvr_agent.errors import KernelError
from dvr_agent.kernel.announce import PacketAnnouncer
from dvr_agent.kernel.api import Kernel, WriteCounters
from dvr_agent.kernel.conntrack.manager import NetlinkConntrack
from dvr_agent.kernel.iptables.binding import probe
from dvr_agent.kernel.iptables.manager import LibiptcManager
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.kernel.nftables.manager import NftablesTables
from dvr_agent.kernel.plumber import RealPlumber


def open_kernel() -> Kernel:
    """This machine's kernel, seen from the network namespace of the calling thread."""
    counters = WriteCounters()
    namespaces = RealNamespaces(counters)
    return Kernel(
        namespaces,
        RealPlumber(counters, namespaces),
        LibiptcManager(namespaces, counters),
        NftablesTables(counters),
        NetlinkConntrack(),
        PacketAnnouncer(namespaces),
        counters,
    )


_CONNTRACK_SYSCTL = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")


def probe_kernel() -> None:
    """Fail now, with a text for the operator, if this kernel lacks something that every router needs.

    Loads the connection tracking module where it is one and is not there yet: its parameters are set before the first
    rule that would load it.

    :raises TablesUnavailableError: no legacy packet filter tables
    :raises KernelError: no connection tracking, or not root
    """
    if not _CONNTRACK_SYSCTL.exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["modprobe", "nf_conntrack"], capture_output=True, timeout=30, check=False)
    if not _CONNTRACK_SYSCTL.exists():
        raise KernelError("", "net.netfilter", errno.ENOENT, "this kernel needs its module nf_conntrack")
    probe()
