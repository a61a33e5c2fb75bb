"""Neighbours that answer or not: the gateway of the external network, and what probes have heard."""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.address_path import Leg
from dvr_agent.cli.why.attachment import has_address, instance_macs, is_unseen, place_of, strange_mac
from dvr_agent.cli.why.checks.layer2 import mac_step
from dvr_agent.cli.why.facts import Facts, Kind, NeighbourFacts
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong

_SILENT = frozenset({"FAILED", "INCOMPLETE"})
_PERMANENT = frozenset({"PERMANENT", "NOARP"})
"""Not learned: dvr-agent's own entries, whose difference the planner finds."""


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
    probe, subject, path = facts.probe, facts.subject, facts.path
    outside = path.outside
    if probe.gateway is not None and outside is not None:
        yield _answered("gateway", gateway_address(outside), outside.device, probe.gateway, causes.GATEWAY_SILENT)
    if probe.instance is not None and path.inside:
        device = path.inside[-1].device
        yield _answered("instance", subject.fixed, device, probe.instance, causes.INSTANCE_SILENT)
        yield from _other_instances(facts, path.inside[-1], probe.instance)
    if probe.others is not None and outside is not None:
        yield from _others(facts, outside, probe.others)


def _answered(who: str, address: str, device: str, macs: tuple[str, ...], cause: causes.Cause) -> Step:
    if not macs:
        text = f"{who} {address} does not answer ARP on {device}"
        return wrong("probe", text, "", cause, address=address, device=device)
    return ok("probe", f"{who} {address} answers ARP on {device}", f"{address} dev {device} lladdr {macs[0]}")


def _other_instances(facts: Facts, leg: Leg, macs: tuple[str, ...]) -> Iterator[Step]:
    port, mine = facts.subject.port, _known_macs(facts)
    strangers = [mac for mac in macs if mac not in mine]
    if port is None or not strangers:
        return
    if len(macs) == 1 and is_unseen(facts, leg, port.mac):
        shown_by = f"the answer to ARP ({place_of(facts, leg, macs[0])})"
        yield mac_step(facts, "probe", shown_by, macs[0])
        return
    for mac in strangers:
        text = f"{facts.subject.fixed} is answered by {mac} instead of {port.mac}"
        yield _elsewhere(facts, "probe", text, leg, facts.subject.fixed, mac)


def _known_macs(facts: Facts) -> frozenset[str]:
    """Return the MAC addresses that may answer for the instance, and the one that it really has."""
    found = strange_mac(facts)
    return instance_macs(facts) | ({found[1]} if found is not None else set())


def _others(facts: Facts, leg: Leg, macs: tuple[str, ...]) -> Iterator[Step]:
    address = facts.subject.address
    if not macs:
        yield ok("probe", f"nobody else answers ARP for {address}")
    for mac in macs:
        yield _elsewhere(facts, "probe", f"{mac} answers ARP for {address}, too", leg, address, mac)


def _elsewhere(facts: Facts, step: str, text: str, leg: Leg, address: str, mac: str) -> Step:
    place = place_of(facts, leg, mac)
    network = f"{'external ' if leg == facts.path.outside else ''}network {leg.port.network_id}"
    return wrong(
        step, f"{text}; {place}", f"{address} lladdr {mac}", causes.ADDRESS_ELSEWHERE,
        address=address, mac=mac, place=place, network=network,
    )  # fmt: skip


def other_owners(facts: Facts) -> Iterator[Step]:
    """Judge whether another device on a segment has the address, and neighbour entries that say so."""
    if "segments" in facts.host.here.unread:
        yield unknown("owner", f"devices of other namespaces: {facts.host.here.unread['segments']}")
    for leg, address, mine in _answering(facts):
        segment, there = facts.host.segments.get(leg.device), facts.namespaces.get(leg.namespace)
        answers = facts.probe.others if leg == facts.path.outside else facts.probe.instance
        for device in segment.members if segment is not None else ():
            if has_address(device, address) and device.mac not in {*mine, *(answers or ())}:
                yield _elsewhere(facts, "owner", f"another device has {address}", leg, address, device.mac)
        for one in there.neighbours if there is not None and answers is None else ():
            is_learned = one.state not in _SILENT | _PERMANENT and one.mac not in mine
            if is_learned and (one.address, one.device) == (address, leg.device):
                yield _claimed(facts, leg, one)


def _answering(facts: Facts) -> Iterator[tuple[Leg, str, frozenset[str]]]:
    """Return each address that others may have, too: the leg by which it is reached, and its right MAC addresses."""
    subject, path = facts.subject, facts.path
    is_outside = subject.fip is not None or subject.kind is Kind.FORWARDED
    if subject.kind is Kind.OWN and path.legs:
        yield path.legs[0], subject.address, frozenset({path.legs[0].port.mac})
    elif path.outside is not None and is_outside:
        address = str(subject.fip.address) if subject.fip is not None else subject.address
        yield path.outside, address, frozenset({path.outside.port.mac})
    if path.inside and subject.port is not None:
        yield path.inside[-1], subject.fixed, _known_macs(facts)


def _claimed(facts: Facts, leg: Leg, entry: NeighbourFacts) -> Step:
    place = place_of(facts, leg, entry.mac)
    return unknown(
        "owner", f"{leg.namespace} has a neighbour entry for {entry.address}; {place}", entry.text,
        causes.ADDRESS_CLAIMED, address=entry.address, namespace=leg.namespace, place=place,
    )  # fmt: skip
