"""Neighbours that answer or not: the gateway of the external network, and what probes have heard."""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.address_path import Leg
from dvr_agent.cli.why.facts import Facts
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong

_SILENT = frozenset({"FAILED", "INCOMPLETE"})


def gateway_address(leg: Leg) -> str:
    """Return the IPv4 gateway of an external leg's subnet, empty without one."""
    gateways = [subnet.gateway_ip for subnet in leg.port.subnets if subnet.cidr.version == 4 and subnet.gateway_ip]
    return str(gateways[0]) if gateways else ""


def gateway_neighbour(facts: Facts) -> Iterator[Step]:
    """Judge the neighbour entry of the external network's gateway."""
    leg = facts.path.outside
    there = facts.namespaces.get(leg.namespace) if leg is not None else None
    if leg is None or there is None or not there.exists or not gateway_address(leg):
        return
    address = gateway_address(leg)
    if "neighbours" in there.unread:
        yield unknown("neighbour", f"in {there.name}: {there.unread['neighbours']}")
        return
    found = [one for one in there.neighbours if one.address == address and one.device == leg.device]
    if not found:
        yield unknown("neighbour", f"gateway {address} has not been asked for lately on {leg.device}")
    elif found[0].state in _SILENT:
        text = f"gateway {address} does not answer"
        yield wrong("neighbour", text, found[0].text, causes.GATEWAY_SILENT, address=address, device=leg.device)
    else:
        yield ok("neighbour", f"gateway {address}, in {there.name}", found[0].text)


def probes(facts: Facts) -> Iterator[Step]:
    """Judge the answers to ``--probe``."""
    probe, subject = facts.probe, facts.subject
    outside = facts.path.outside
    if probe.gateway is not None and outside is not None:
        yield _answered("gateway", gateway_address(outside), outside.device, probe.gateway, causes.GATEWAY_SILENT)
    if probe.instance is not None and facts.path.inside:
        device = facts.path.inside[-1].device
        yield _answered("instance", subject.fixed, device, probe.instance, causes.INSTANCE_SILENT)
        yield from _other_owner(facts, subject.fixed, probe.instance)
    if probe.others is not None:
        yield from _others(facts, probe.others)


def _answered(who: str, address: str, device: str, macs: tuple[str, ...], cause: causes.Cause) -> Step:
    if not macs:
        text = f"{who} {address} does not answer ARP on {device}"
        return wrong("probe", text, "", cause, address=address, device=device)
    return ok("probe", f"{who} {address} answers ARP on {device}", f"{address} dev {device} lladdr {macs[0]}")


def _other_owner(facts: Facts, address: str, macs: tuple[str, ...]) -> Iterator[Step]:
    port = facts.subject.port
    if port is None:
        return
    for mac in macs:
        if mac != port.mac:
            text = f"{address} is answered by {mac} instead of {port.mac}"
            yield wrong("probe", text, f"{address} lladdr {mac}", causes.ADDRESS_ELSEWHERE, address=address, mac=mac)


def _others(facts: Facts, macs: tuple[str, ...]) -> Iterator[Step]:
    address = facts.subject.address
    if not macs:
        yield ok("probe", f"nobody else answers ARP for {address}")
    for mac in macs:
        text = f"{mac} answers ARP for {address}, too"
        yield wrong("probe", text, f"{address} lladdr {mac}", causes.ADDRESS_ELSEWHERE, address=address, mac=mac)
