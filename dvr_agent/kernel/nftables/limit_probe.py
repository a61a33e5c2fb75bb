"""Find out whether this kernel can limit bandwidth (:func:`limits_trouble`): in a namespace of a moment, for real."""

from __future__ import annotations

import threading

from dvr_agent import libc
from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.nftables.limits import write_limits
from dvr_agent.kernel.observe import observe_limits
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.limit import DIRECTIONS, make_limit
from dvr_agent.state.ownership import Ownership

NEEDS = "CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_EGRESS (Linux 5.16) and CONFIG_NFT_LIMIT"
_DEVICE = "lo"


def limits_trouble() -> str:
    """Return why this kernel can limit no bandwidth; empty: it can."""
    troubles: list[str] = []
    thread = threading.Thread(target=_try_out, args=(troubles,))  # its namespace ends with it
    thread.start()
    thread.join()
    return f"this kernel needs {NEEDS}: {troubles[0]}" if troubles else ""


def _try_out(troubles: list[str]) -> None:
    wanted = {make_limit(_DEVICE, direction, "192.0.2.1", 1000, 800) for direction in DIRECTIONS}
    try:
        libc.unshare(libc.CLONE_NEWNET)
        write_limits("", [Change(Action.ADD, one) for one in wanted], WriteCounters())
        if observe_limits("", Ownership(limited=(_DEVICE,))) != wanted:
            troubles.append("limits read back otherwise than they were written")
    except (KernelError, OSError) as exc:
        troubles.append(str(exc))
