"""Check capabilities of a process (capabilities(7)) and of this kernel.

Used by ``services/radvd.py`` before it starts a child as another user, by ``services/keepalived``, whose children call
conntrackd, by ``daemon/parts.py`` before it opens the events of the kernel, by ``reconcile/factory.py``, and by
``dvrctl`` before it calls programs of legacy tables.
"""

from __future__ import annotations

from pathlib import Path

from dvr_agent.state.filter import Family

CAP_SETGID, CAP_SETUID, CAP_NET_BROADCAST = 6, 7, 11
"""Bits (include/uapi/linux/capability.h)."""
IPV6_PARAMETERS = Path("/proc/sys/net/ipv6")
NETWORK = Path("/proc/self/net")


def has_ipv6(parameters: Path = IPV6_PARAMETERS) -> bool:
    """True if the kernel has IPv6: booted without ``ipv6.disable=1``, and its module is there (net/ipv6/af_inet6.c)."""
    return parameters.is_dir()


def has_legacy_tables(family: Family, directory: Path = NETWORK) -> bool:
    """True if the kernel has legacy packet filter tables of a family by now (net/netfilter/x_tables.c)."""
    return (directory / f"ip{'6' if family == 6 else ''}_tables_names").exists()


def has(*bits: int, process: int | None = None) -> bool:
    """True if a process has all of these capabilities, or if they cannot be read: then the kernel refuses in time.

    :param bits: ``CAP_…``
    :param process: its id; None: this process
    """
    try:
        lines = Path(f"/proc/{process or 'self'}/status").read_text().splitlines()
    except OSError:
        return True
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), -1)
    return all(effective >> bit & 1 for bit in bits)
