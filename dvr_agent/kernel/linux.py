"""Open the real kernel (:func:`open_kernel`), and check that it has what routers need (:func:`probe_kernel`)."""

from __future__ import annotations

import contextlib
import errno
import subprocess
from pathlib import Path

from dvr_agent.errors import KernelError
from dvr_agent.kernel.announce import PacketAnnouncer
from dvr_agent.kernel.api import Kernel, WriteCounters
from dvr_agent.kernel.conntrack.manager import NetlinkConntrack
from dvr_agent.kernel.filter_choice import choose
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.kernel.iptables.lock import TIMEOUT
from dvr_agent.kernel.iptables.manager import LibiptcManager
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.kernel.nftables.filter_manager import NftablesFilter
from dvr_agent.kernel.nftables.manager import NftablesTables
from dvr_agent.kernel.other_filters import OtherFilters
from dvr_agent.kernel.plumber import RealPlumber
from dvr_agent.settings import FilterChoice


def open_kernel(lock_timeout: float = TIMEOUT) -> Kernel:
    """Open this host's kernel; in its methods ``""`` names the network namespace that the calling thread is in.

    :param lock_timeout: seconds to wait for the lock of iptables programs
    """
    counters = WriteCounters()
    namespaces = RealNamespaces(counters)
    legacy = LibiptcManager(namespaces, counters, lock_timeout=lock_timeout)
    packet_filter = NftablesFilter(counters) if HostFilter.backend == "nftables" else legacy
    return Kernel(
        namespaces,
        RealPlumber(counters, namespaces),
        packet_filter,
        OtherFilters(HostFilter.backend, counters, legacy, NftablesTables(counters)),
        NetlinkConntrack(),
        PacketAnnouncer(namespaces.packet_sockets),
        counters,
    )


_CONNTRACK_SYSCTL = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")


def probe_kernel(packet_filter: FilterChoice = "auto") -> None:
    """Check, at the start of the daemon, that this kernel has what every router needs; choose the packet filter.

    Loads the module nf_conntrack if it is not loaded yet, since its parameters are set before the first rule that would
    load it.

    :raises TablesUnavailableError: no packet filter that can be used
    :raises KernelError: no connection tracking, or not root
    """
    if not _CONNTRACK_SYSCTL.exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["modprobe", "nf_conntrack"], capture_output=True, timeout=30, check=False)
    if not _CONNTRACK_SYSCTL.exists():
        raise KernelError("", "net.netfilter", errno.ENOENT, "this kernel needs its module nf_conntrack")
    choose(packet_filter)
