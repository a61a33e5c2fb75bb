"""Whether a namespace takes a packet from its source address: martians and ``rp_filter`` (``fib_validate_source``).

Source: net/ipv4/fib_frontend.c.  IPv6 has no such check.
"""

from __future__ import annotations

from dvr_agent.trace.routing import REFUSING, Flow, first, lookup
from dvr_agent.trace.world import Namespace

STRICT = 1
"""``rp_filter``: the way back must be by the same device; 2: there must be one."""


def source_fault(namespace: Namespace, src: str, dst: str, device: str, out: str, kind: str) -> str:
    """Return why the kernel discards an IPv4 packet because of its source, empty if it does not.

    :param device: it came in by
    :param out: device of the route to its destination
    :param kind: type of that route
    """
    rp_filter = max(namespace.of_device(4, "rp_filter", device))
    accept_local = any(namespace.of_device(4, "accept_local", device))
    iif = out if kind == "unicast" and out else "lo"
    found = lookup(namespace, Flow(4, dst, src, iif), first)
    if found.kind in ("local", "broadcast", "multicast"):
        return "" if found.kind == "local" and accept_local else f"its source {src} is an address of this namespace"
    if found.route is None or found.hop is None or found.kind in REFUSING:
        return f"rp_filter={rp_filter}: there is no route back to {src}" if rp_filter else ""
    if any(hop.device == device for hop in found.route.hops) or not rp_filter:
        return ""
    if rp_filter == STRICT:
        return f"rp_filter=1: the way back to {src} is by {found.hop.device}, not {device}"
    back = lookup(namespace, Flow(4, dst, src, iif, oif=device), first)
    return "" if back.hop is not None or back.route is None else f"rp_filter=2: there is no way back to {src}"
