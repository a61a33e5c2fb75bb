"""Which packet filter the routers of this host have: a fact about the host, for the whole process.

Set by ``kernel/filter_choice.py`` from the option ``[dvr_agent] packet_filter``, before a kernel is opened.
"""

from __future__ import annotations

from typing import Literal

Backend = Literal["legacy", "nftables"]


class HostFilter:
    """What was chosen.

    :cvar reason: what it is and why, for the log
    """

    backend: Backend = "legacy"
    reason: str = "legacy tables"
