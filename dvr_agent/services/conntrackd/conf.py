"""Writes the configuration of conntrackd for one virtual router: the values are those of neutron-l3-agent 29.

All hosts of a router have to agree on the mode, the multicast address and the port; either agent goes on with a
conntrackd that the other one started.
"""

from __future__ import annotations

from collections.abc import Iterable

from dvr_agent.services.conntrackd.files import ConntrackdFiles
from dvr_agent.settings import ConntrackdSettings
from dvr_agent.state.virtual_router import VirtualRouterState

PROTOCOLS = ("TCP", "SCTP", "DCCP", "UDP", "ICMP", "IPv6-ICMP")


def conntrackd_text(settings: ConntrackdSettings, state: VirtualRouterState, files: ConntrackdFiles) -> str:
    """Return the configuration."""
    ignored = ("IPv4_address 127.0.0.1", "IPv6_address ::1", f"IPv4_address {state.source}")
    general = (
        f"HashSize {settings.hashsize}",
        f"HashLimit {settings.hashlimit}",
        "Syslog on",
        f"LockFile {files.lock}",
        _block("UNIX", (f"Path {files.control}", f"Backlog {settings.unix_backlog}")),
        f"SocketBufferSize {settings.socketbuffersize}",
        f"SocketBufferSizeMaxGrown {settings.socketbuffersize_max_grown}",
        _block("Filter From Kernelspace", (_block("Protocol Accept", PROTOCOLS), _block("Address Ignore", ignored))),
    )
    multicast = (
        f"IPv4_address {settings.ipv4_mcast_addr}",
        f"IPv4_interface {state.source}",
        f"Group {settings.group + state.vr_id}",
        f"Interface {state.device}",
        f"SndSocketBuffer {settings.sndsocketbuffer}",
        f"RcvSocketBuffer {settings.rcvsocketbuffer}",
        "Checksum on",
    )
    sync = (_block("Mode FTFW", ()), _block("Multicast Default", multicast))
    return f"{_block('General', general)}\n{_block('Sync', sync)}\n"


def is_same(one: str, other: str) -> bool:
    """Return True if two configurations mean the same: white space does not count."""
    return one.split() == other.split()


def _block(head: str, parts: Iterable[str]) -> str:
    body = "".join(f"    {line}\n" for part in parts for line in part.split("\n"))
    return f"{head} {{\n{body}}}"
