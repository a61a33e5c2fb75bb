"""Port forwardings: ports of a floating IP that lead to ports of instances (``docs/dataplane.md``, "Port forwarding").

One flat list of rules, not a chain for each: a packet meets the same number of rules, and what is found in the kernel
can be compared rule by rule.  Answers need no rule: connection tracking translates them back.
"""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.desired.host_view import HostView
from dvr_agent.model.features import PortForwarding, PortRange
from dvr_agent.state.address import Address
from dvr_agent.state.filter import Dnat, DportMatch, FilterRule, Transport

TRANSPORTS: dict[str, Transport] = {"tcp": "tcp", "udp": "udp", "sctp": "sctp", "dccp": "dccp"}


def forwarding_rules(view: HostView) -> tuple[FilterRule, ...]:
    """Return the DNAT rules of the port forwardings that are built here; those found, where these are not known."""
    if view.router.features.port_forwardings is None:
        return view.found_forwardings if view.forwarding_ips else ()
    here = {ip.address for ip in view.forwarding_ips}
    forwardings = (one for one in view.router.features.port_forwardings if one.address in here)
    return tuple(rule for one in sorted(forwardings, key=_place) for rule in _rules(one))


def forwarding_addresses(view: HostView, device: str) -> list[Address]:
    """Return the addresses of their floating IPs."""
    return [Address(device, f"{fip.address}/32") for fip in view.forwarding_ips]


def _place(one: PortForwarding) -> tuple[int, str, int]:
    """Sort by what a packet must have, so that the order of objects does not matter."""
    return int(one.address), one.protocol, one.external.first


def _rules(one: PortForwarding) -> Iterator[FilterRule]:
    protocol = TRANSPORTS[one.protocol]
    for external, internal in _pairs(one.external, one.internal):
        shift = external.first if internal.size > 1 else None
        target = Dnat(str(one.fixed_address), (internal.first, internal.last), shift)
        match = DportMatch(protocol, external.first, external.last)
        yield FilterRule(target, dst=f"{one.address}/32", protocol=protocol, matches=(match,), note="port forwardings")


def _pairs(external: PortRange, internal: PortRange) -> Iterator[tuple[PortRange, PortRange]]:
    """Yield ranges that lead to one port, or to as many.

    neutron-server checks the sizes only of what one request sets, so a range may lead to a smaller one, which then
    begins again, or to a larger one, whose first ports are used: what x_tables makes of them, too.
    """
    if internal.size == 1:
        yield external, internal
        return
    for first in range(external.first, external.last + 1, internal.size):
        last = min(first + internal.size - 1, external.last)
        yield PortRange(first, last), PortRange(internal.first, internal.first + last - first)
