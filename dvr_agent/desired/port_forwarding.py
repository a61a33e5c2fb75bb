"""Port forwardings: ports of a floating IP that lead to ports of instances (``docs/dataplane.md``, "Port forwarding").

One flat list of rules, not a chain for each: a packet meets the same number of rules, and what is found in the kernel
can be compared rule by rule.  Answers need no rule: connection tracking translates them back.
"""

from __future__ import annotations

from dvr_agent.desired.host_view import HostView
from dvr_agent.model.features import PortForwarding
from dvr_agent.state.address import Address
from dvr_agent.state.filter import Dnat, DportMatch, FilterRule, Transport

TRANSPORTS: dict[str, Transport] = {"tcp": "tcp", "udp": "udp", "sctp": "sctp", "dccp": "dccp"}


def forwarding_rules(view: HostView) -> tuple[FilterRule, ...]:
    """Return the DNAT rules of the port forwardings that are built here; those found, where these are not known."""
    if view.router.features.port_forwardings is None:
        return view.found_forwardings if view.forwarding_ips else ()
    here = {ip.address for ip in view.forwarding_ips}
    forwardings = (one for one in view.router.features.port_forwardings if one.address in here)
    return tuple(_rule(one) for one in sorted(forwardings, key=_place))


def forwarding_addresses(view: HostView, device: str) -> list[Address]:
    """Return the addresses of their floating IPs."""
    return [Address(device, f"{fip.address}/32") for fip in view.forwarding_ips]


def _place(one: PortForwarding) -> tuple[int, str, int]:
    """Sort by what a packet must have, so that the order of objects does not matter."""
    return int(one.address), one.protocol, one.external.first


def _rule(one: PortForwarding) -> FilterRule:
    external, internal = one.external, one.internal
    shift = external.first if internal.size > 1 else None
    target = Dnat(str(one.fixed_address), (internal.first, internal.last), shift)
    protocol = TRANSPORTS[one.protocol]
    match = DportMatch(protocol, external.first, external.last)
    return FilterRule(target, dst=f"{one.address}/32", protocol=protocol, matches=(match,), note="port forwardings")
