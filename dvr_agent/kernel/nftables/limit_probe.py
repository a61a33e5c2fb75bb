"""Find out how this kernel can limit bandwidth (:func:`choose_layout`): in a namespace of a moment, for real."""

from __future__ import annotations

import threading
from functools import partial

from dvr_agent import libc
from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.nftables.limit_messages import AROUND_NAT, AT_DEVICES
from dvr_agent.kernel.nftables.limits import HostLayout, write_limits
from dvr_agent.kernel.observe import observe_limits
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.limit import DIRECTIONS, make_limit
from dvr_agent.state.ownership import Ownership

NEEDS = (
    "CONFIG_NFT_LIMIT, and CONFIG_NF_TABLES_NETDEV with CONFIG_NETFILTER_EGRESS (Linux 5.16) or CONFIG_NF_TABLES_IPV4"
)
_DEVICE = "lo"


def choose_layout() -> str:
    """Have limits in the first layout that this kernel can have; returns why it can have none, empty: it can."""
    trouble = ""
    for layout in (AT_DEVICES, AROUND_NAT):
        HostLayout.choose(layout)
        found: list[str] = []
        thread = threading.Thread(target=partial(_try_out, found))  # its namespace ends with it
        thread.start()
        thread.join()
        if not found:
            return ""
        trouble = trouble or found[0]
    HostLayout.choose(AT_DEVICES)
    return f"this kernel needs {NEEDS}: {trouble}"


def _try_out(troubles: list[str]) -> None:
    wanted = {make_limit(_DEVICE, direction, "192.0.2.1", 1000, 800) for direction in DIRECTIONS}
    try:
        libc.unshare(libc.CLONE_NEWNET)
        write_limits("", [Change(Action.ADD, one) for one in wanted], WriteCounters())
        if observe_limits("", Ownership(limited=(_DEVICE,))) != wanted:
            troubles.append("limits read back otherwise than they were written")
    except (KernelError, OSError) as exc:
        troubles.append(str(exc))
