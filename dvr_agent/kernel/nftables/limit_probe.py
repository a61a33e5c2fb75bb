"""Find out how this kernel can limit bandwidth (:func:`choose_layout`): in a namespace of a moment, for real."""

from __future__ import annotations

from collections.abc import Collection

from dvr_agent.errors import KernelError
from dvr_agent.kernel import tc_limits
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.host_limits import HostLimits
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import in_new_namespace
from dvr_agent.kernel.nftables.limit_messages import AROUND_NAT, AT_DEVICES
from dvr_agent.kernel.nftables.limits import HostLayout, write_limits
from dvr_agent.kernel.observe import observe_limits
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.limit import DIRECTIONS, Limit, make_limit
from dvr_agent.state.ownership import Ownership

NEEDS = (
    "CONFIG_NFT_LIMIT, and CONFIG_NF_TABLES_NETDEV with CONFIG_NETFILTER_EGRESS (Linux 5.16) or CONFIG_NF_TABLES_IPV4"
)
TC_NEEDS = "CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_POLICE"
_DEVICE = "lo"


def choose_layout() -> str:
    """Have limits in the first layout of nf_tables that this kernel can have, or in traffic control.

    :returns: why it can have none; empty: it can
    """
    trouble = ""
    HostLimits.by_tc, HostLimits.reason = False, "nf_tables"
    for layout in (one for at in (AT_DEVICES, AROUND_NAT) for one in (at, at._replace(counts=False))):
        HostLayout.choose(layout)
        found = _try_out()
        if not found:
            return ""
        trouble = trouble or found
    HostLayout.choose(AT_DEVICES)
    lacking = choose_tc(f"since nf_tables cannot limit: {trouble}")
    if not lacking:
        return ""
    HostLimits.reason = f"none: this kernel needs {NEEDS}: {trouble}; or {TC_NEEDS}: {lacking}"
    return HostLimits.reason.partition(": ")[2]


def choose_tc(reason: str) -> str:
    """Have limits in traffic control if this kernel can; returns why it cannot, empty: it can."""
    HostLimits.by_tc, HostLimits.reason = True, f"police filters of tc, {reason}"
    lacking = _try_out()
    if lacking:
        HostLimits.by_tc, HostLimits.reason = False, "nf_tables"
    return lacking


def _try_out() -> str:
    """Write limits and read them back; returns what is wrong, empty: nothing."""
    wanted = {make_limit(_DEVICE, direction, "192.0.2.1", 1000, 800) for direction in DIRECTIONS}

    def write_and_read() -> Collection[Limit]:
        changes = [Change(Action.ADD, one) for one in wanted]
        if HostLimits.by_tc:
            with NetlinkSocket.open("", None) as sock:
                tc_limits.write_limits(sock, changes)
        else:
            write_limits("", changes, WriteCounters())
        return observe_limits("", Ownership(limited=(_DEVICE,)))

    try:
        found = in_new_namespace(write_and_read)
    except (KernelError, OSError) as exc:
        return str(exc)
    return "" if found == wanted else "limits read back otherwise than they were written"
