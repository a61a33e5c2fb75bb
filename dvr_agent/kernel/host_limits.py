"""How the routers of this host limit bandwidth: a fact about the host, for the whole process.

Set by ``kernel/nftables/limit_probe.py`` by what the kernel can do, before limits are read or written.
"""

from __future__ import annotations


class HostLimits:
    """What was chosen.

    :cvar by_tc: limits are police filters of traffic control (``kernel/tc_limits.py``); else they are in nf_tables
    :cvar reason: what it is and why, for the log
    """

    by_tc: bool = False
    reason: str = "nf_tables"
