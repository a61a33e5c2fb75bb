"""Bridges and ports of Open vSwitch, VLAN tags, and the instance's own device on this host."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dvr_agent.attach.outer_ends import tap_name
from dvr_agent.cli.why import causes
from dvr_agent.cli.why.address_path import Leg
from dvr_agent.cli.why.attachment import bridge_of, find_attachment, instance_link, strange_mac
from dvr_agent.cli.why.facts import Facts, LinkFacts, OvsPort
from dvr_agent.cli.why.remedy import daemon_text
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong
from dvr_agent.plural import count

DEAD_VLAN = 4095
"""neutron_lib.constants: ports that the Open vSwitch agent has not wired."""


def bridges(facts: Facts) -> Iterator[Step]:
    """Judge the outer sides of the ports on the path, their bridges, and the way out of the host."""
    if facts.plan.view is None:
        return
    for leg in facts.path.legs:
        fault = facts.plan.ports.get(leg.device, "")
        yield from _faulty(facts, leg, fault) if fault else _whole(facts, leg)
    for text in (*facts.plan.hindrances, *facts.plan.host_hindrances):
        if text.startswith("bridge "):
            yield _broken(facts, text, text.split()[1])


def _broken(facts: Facts, text: str, bridge: str) -> Step:
    """Judge a bridge that is down, or that reaches nothing outside: no fault of a path that does not pass it."""
    known = {bridge_of(facts, leg): leg for leg in reversed(facts.path.legs)}
    if bridge not in known and "" not in known:
        return unknown("uplink", f"{text} (not on this path)")
    leg = known.get(bridge)
    reach = _reach(facts, leg) if leg is not None else "what is beyond is cut off"
    if text == f"bridge {bridge} is down":
        return wrong("bridge", text, bridge, causes.BRIDGE_DOWN, bridge=bridge, reach=reach)
    return wrong("uplink", text, bridge, causes.NO_UPLINK, reach=reach)


def _reach(facts: Facts, leg: Leg) -> str:
    """Return what a bridge cuts off that carries a leg's network, if nothing passes it."""
    network, fips = leg.port.network_id, facts.outside_fips
    if leg != facts.path.outside or not fips:
        return f"network {network} is cut off on this host"
    if fips == 1:
        return f"the only floating IP that this host has in external network {network} is out"
    return f"all {count(fips, 'floating IP')} that this host has in external network {network} are out"


def _faulty(facts: Facts, leg: Leg, fault: str) -> Iterator[Step]:
    words, reach = fault.split(), _reach(facts, leg)
    if fault.startswith("bridge ") and fault.endswith("is missing"):
        yield wrong("bridge", fault, "", causes.BRIDGE_MISSING, bridge=words[1], device=leg.device, reach=reach)
    elif fault.startswith("bridge ") and fault.endswith("is down"):
        yield wrong("bridge", fault, words[1], causes.BRIDGE_DOWN, bridge=words[1], reach=reach)
    elif facts.host.ovs is not None and ": " in fault:
        yield wrong("bridge", fault, leg.device, causes.OVS_ERROR, device=leg.device)
    else:
        yield wrong(
            "bridge",
            fault,
            _outer_text(facts, leg),
            causes.PORT_UNPLUGGED,
            device=leg.device,
            daemon=daemon_text(facts),
        )


def _whole(facts: Facts, leg: Leg) -> Iterator[Step]:
    tap = facts.host.here.link(tap_name(leg.port.id))
    if tap is None:
        if facts.host.ovs is None:
            yield unknown("bridge", f"the outer side of {leg.device} is not there")
        return
    yield ok("bridge", f"{leg.device} is connected", tap.text)
    bridge = facts.host.here.link(tap.master)
    if bridge is None:
        return
    if not bridge.up and not any(f"bridge {bridge.name} is down" == text for text in facts.plan.hindrances):
        text, values = f"{bridge.name} is down", {"bridge": bridge.name, "reach": _reach(facts, leg)}
        yield wrong("bridge", text, bridge.text, causes.BRIDGE_DOWN, **values)
    elif bridge.up:
        yield from _bridge_ports(facts, leg, bridge)


def _bridge_ports(facts: Facts, leg: Leg, bridge: LinkFacts) -> Iterator[Step]:
    ports = [link for link in facts.host.here.links if link.master == bridge.name]
    others = [link for link in ports if not link.name.startswith("tap")]
    if leg == facts.path.outside:
        names = ", ".join(f"{link.name} {'up' if link.carrier else 'no carrier'}" for link in others[:5])
        if not others:
            yield unknown("uplink", f"{bridge.name} has no port of others: nothing leads out of the host", bridge.text)
        elif any(link.carrier and link.up for link in others):
            yield ok("uplink", f"{bridge.name}: {names}", bridge.text)
    smallest = min(ports, key=lambda link: link.mtu, default=bridge)
    if smallest.mtu < leg.port.mtu:
        text = f"{bridge.name}: {smallest.name} has MTU {smallest.mtu}"
        yield wrong(
            "mtu", text, smallest.text, causes.BRIDGE_MTU,
            bridge=bridge.name, mtu=smallest.mtu, wanted=leg.port.mtu, smallest=smallest.name,
        )  # fmt: skip


def _outer_text(facts: Facts, leg: Leg) -> str:
    tap = facts.host.here.link(tap_name(leg.port.id))
    return tap.text if tap is not None else ""


def vlans(facts: Facts) -> Iterator[Step]:
    """Judge the VLAN tags of the ports of Open vSwitch on the path, and that of the instance's port."""
    if facts.host.ovs is None:
        return
    by_id = {port.port_id: port for port in facts.host.ovs if port.port_id}
    port = facts.subject.port
    theirs = by_id.get(port.id) if port is not None else None
    for leg in facts.path.legs:
        ours = by_id.get(leg.port.id)
        if ours is not None:
            yield _tag(ours, theirs if leg in facts.path.inside else None)
    if theirs is not None:
        yield _tag(theirs, None)


def _tag(port: OvsPort, other: OvsPort | None) -> Step:
    if port.error:
        return wrong("vlan", port.error, port.text, causes.OVS_ERROR, device=port.name)
    if port.tag == DEAD_VLAN:
        return wrong("vlan", "tag 4095", port.text, causes.VLAN_DEAD, device=port.name)
    if port.tag is None:
        return wrong("vlan", "no tag", port.text, causes.VLAN_NONE, device=port.name)
    if other is not None and other.tag not in (None, DEAD_VLAN, port.tag):
        text = f"tag {port.tag}, the instance's port has {other.tag}"
        return wrong(
            "vlan", text, port.text, causes.VLAN_MISMATCH,
            device=port.name, tag=port.tag, other=other.name, other_tag=other.tag,
        )  # fmt: skip
    return ok("vlan", f"tag {port.tag}", port.text)


def instance(facts: Facts) -> Iterator[Step]:
    """Judge the instance's device: there, up, with a carrier, on the right bridge, MTU."""
    port, view = facts.subject.port, facts.plan.view
    if port is None or view is None or not facts.path.inside:
        return
    leg, here = facts.path.inside[-1], facts.host.here
    found = find_attachment(facts)
    tap = instance_link(facts.host, port.id) or (here.link(found.device) if found and not found.is_ovs else None)
    if tap is None and found is not None:
        yield ok("instance", f"connected by {found.text}")
        return
    if tap is None:
        device = tap_name(port.id)
        is_bound = facts.subject.fip is not None and view.bound_here(facts.subject.fip)
        cause = causes.INSTANCE_ABSENT if is_bound and here.links else None
        yield unknown("instance", f"no device {device} on this host", "", cause, device=device)
        return
    router_tap = here.link(tap_name(leg.port.id))
    if not tap.up or not tap.carrier:
        state = "down" if not tap.up else "without carrier"
        yield wrong("instance", state, tap.text, causes.INSTANCE_PORT_DOWN, device=tap.name, state=state)
    elif router_tap is not None and tap.master != router_tap.master:
        where = f"is on bridge {tap.master}" if tap.master else "is on no bridge"
        yield wrong(
            "instance", where, tap.text, causes.INSTANCE_OFF_BRIDGE,
            device=tap.name, bridge=router_tap.master, where=where,
        )  # fmt: skip
    elif tap.mtu < leg.port.mtu:
        text = f"MTU {tap.mtu} instead of {leg.port.mtu}"
        yield wrong("mtu", text, tap.text, causes.INSTANCE_MTU, device=tap.name, mtu=tap.mtu, wanted=leg.port.mtu)
    else:
        yield ok("instance", "connected", tap.text)


def instance_mac(facts: Facts) -> Iterator[Step]:
    """Judge whether the instance has the MAC address that the document has for it."""
    found = strange_mac(facts)
    if found is not None and facts.path.inside:
        attachment, real = found
        yield mac_step(facts, "mac", attachment.text, real, unknown if attachment.is_configured else wrong)


def mac_step(facts: Facts, step: str, shown_by: str, real: str, make: Callable[..., Step] = wrong) -> Step:
    """Make the line of an instance with another MAC address than the document has.

    :param shown_by: what shows the MAC address that it really has
    """
    leg, address, port = facts.path.inside[-1], facts.subject.fixed, facts.subject.port
    assert port is not None
    there = facts.namespaces.get(leg.namespace)
    entries = [one for one in (there.neighbours if there else ()) if (one.address, one.device) == (address, leg.device)]
    is_entry = any(one.mac == port.mac for one in entries)
    entry = f"as the neighbour entry in {leg.namespace}" if is_entry else "no neighbour entry does"
    text = f"{shown_by} shows MAC address {real}, the document has {port.mac} for {address}"
    values = {"entry": entry, "address": address, "mac": port.mac, "device": shown_by, "real": real, "port": port.id}
    return make(step, text, entries[0].text if entries else "", causes.INSTANCE_MAC, **values)


def macs(facts: Facts) -> Iterator[Step]:
    """Judge where the bridges have learned the MAC addresses of the instance and of the way out."""
    port, outside = facts.subject.port, facts.path.outside
    if facts.path.inside and port is not None:
        tap = facts.host.here.link(tap_name(port.id))
        yield from _learned(facts, facts.path.inside[-1], port.mac, f"instance {facts.subject.fixed}", tap)
    if outside is not None:
        tap = facts.host.here.link(tap_name(outside.port.id))
        yield from _learned(facts, outside, outside.port.mac, outside.device, tap)


def _learned(facts: Facts, leg: Leg, mac: str, owner: str, tap: LinkFacts | None) -> Iterator[Step]:
    router_tap = facts.host.here.link(tap_name(leg.port.id))
    bridge = router_tap.master if router_tap is not None else ""
    ports = facts.host.fdb.get(bridge, {}).get(mac, ())
    if not ports:
        segment = facts.host.segments.get(leg.device)
        is_nowhere = segment is not None and not segment.exits and not segment.of_mac(mac)
        nobody = f"; nobody on the segment of {leg.device} has it" if is_nowhere and mac != leg.port.mac else ""
        yield unknown("fdb", f"{bridge or 'the bridge'} has not seen {mac} ({owner}) lately{nobody}")
        return
    item = f"{mac} dev {ports[0]} master {bridge}"
    at = tap_name(leg.port.id) if mac == leg.port.mac else tap.name if tap is not None else ""
    if at and at not in ports:
        yield wrong(
            "fdb", f"{owner} is behind {ports[0]}", item, causes.MAC_ELSEWHERE,
            mac=mac, owner=owner, port=ports[0], bridge=bridge,
        )  # fmt: skip
    else:
        yield ok("fdb", f"{owner} is behind {ports[0]}", item)
