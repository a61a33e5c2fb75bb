"""Which faults follow from another one, so that their lines need no explanation of their own.  Pure."""

from __future__ import annotations

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.causes import Cause
from dvr_agent.cli.why.verdicts import Step

_RECORDS = frozenset(
    {
        causes.REFUSED, causes.DEGRADED, causes.PENDING, causes.STATUS_DOWN, causes.STATUS_WAITING,
        causes.NOT_COMPARED,
    }
)  # fmt: skip
"""What the daemon or the server says of the router: it follows from any other fault."""
_NOT_BUILT = frozenset(
    {
        causes.NAMESPACE_MISSING, causes.LINK_MISSING, causes.LINK_DOWN, causes.LINK_WRONG, causes.ADDRESS_MISSING,
        causes.RULE_MISSING, causes.ROUTE_MISSING, causes.ROUTE_WRONG, causes.NAT_MISSING, causes.FILTER_WRONG,
        causes.PROXY_ARP, causes.FORWARDING, causes.SYSCTL, causes.NEIGHBOUR_WRONG, causes.STALE_OBJECT,
        causes.LIMIT_WRONG, causes.OTHER_CHANGE, causes.REST_DIFFERS, causes.KERNEL_ONLY, causes.SERVICE_WRONG,
        causes.METADATA_DEAD, causes.RADVD_DEAD, causes.VRRP_DEAD,
    }
)  # fmt: skip
"""Objects and services that are not as the document says."""
_UNHEARD = frozenset(
    {
        causes.NO_CARRIER, causes.PORT_UNPLUGGED, causes.GATEWAY_SILENT, causes.INSTANCE_SILENT, causes.NO_UPLINK,
        causes.VRRP_NO_MASTER, causes.VRRP_TWO_MASTERS,
    }
)  # fmt: skip
"""What is seen where packets do not pass a link."""
_ON_LINKS = _NOT_BUILT - {causes.NAMESPACE_MISSING, causes.FILTER_WRONG, causes.NAT_MISSING}
"""Objects that the kernel removes with a link, or when it goes down."""

_FOLLOWS: dict[Cause, frozenset[Cause]] = {
    **dict.fromkeys(
        (
            causes.DOCUMENT_REFUSED, causes.HELD_BACK, causes.ROUTER_DOWN, causes.LEFT_OUT, causes.CLAIM_LOST,
            causes.NO_GATEWAY, causes.NO_AGENT_GATEWAY, causes.NO_SNAT_HOST, causes.TABLE_LOCK, causes.NOT_COMPARED,
            causes.REFUSED, causes.DAEMON_SILENT,
        ),
        _NOT_BUILT,
    ),
    **dict.fromkeys((causes.BRIDGE_MISSING, causes.OVS_ERROR), _NOT_BUILT | _UNHEARD),
    **dict.fromkeys((causes.NO_UPLINK, causes.PORT_UNPLUGGED, causes.NO_CARRIER), _UNHEARD),
    causes.BRIDGE_DOWN: _UNHEARD | {causes.PORT_CLOSED},  # the kernel disables its ports: br_stp_disable_bridge()
    causes.NAMESPACE_MISSING: _NOT_BUILT | _UNHEARD,
    **dict.fromkeys((causes.LINK_MISSING, causes.LINK_DOWN), _ON_LINKS | _UNHEARD),
    **dict.fromkeys((causes.INSTANCE_PORT_DOWN, causes.INSTANCE_MAC), frozenset({causes.INSTANCE_SILENT})),
    causes.INSTANCE_OFF_BRIDGE: frozenset({causes.INSTANCE_SILENT, causes.MAC_ELSEWHERE}),
    **dict.fromkeys(
        (causes.FILTER_DROP, causes.HOST_FILTER), frozenset({causes.GATEWAY_SILENT, causes.INSTANCE_SILENT})
    ),
    **dict.fromkeys((causes.PORT_ISOLATED, causes.PORT_CLOSED), _UNHEARD),
    causes.RULE_BEFORE: frozenset({causes.BLACKHOLE, causes.FOREIGN_ROUTE}),
}  # fmt: skip
"""Fault → faults that follow from it."""


def is_disputed(step: Step, root: Step) -> bool:
    """Return True if a line is about the very object that another program changes again and again."""
    return root.cause is causes.FIGHT and bool(step.object) and step.object in root.object


def follows(cause: Cause, root: Cause) -> bool:
    """Return True if a fault is the root, follows from it, or is mended by its advice."""
    if "{repair}" in root.advice and (cause is causes.DAEMON_SILENT or "{repair}" in cause.advice):
        return True  # the same advice mends it
    return cause is root or cause in _RECORDS or cause in _FOLLOWS.get(root, ())
