"""Tells by which device the instance is connected to this host, and which MAC addresses are behind a port.  Pure.

A device is the instance's if it is named after its port (Nova, os-vif), if Open vSwitch has its port id, if the other
end of its veth pair or a bridge says that its MAC address is there, or if the other end has its address.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from dvr_agent.attach.outer_ends import tap_name
from dvr_agent.cli.why.address_path import Leg
from dvr_agent.cli.why.facts import Facts, HostFacts, LinkFacts
from dvr_agent.trace.addresses import ip_of
from dvr_agent.trace.segment import VIRTUAL_MACHINE
from dvr_agent.trace.world import Device

_HYPERVISOR = "fe:"
"""libvirt gives a tap device the MAC address of the instance with this first octet (virnetdevtap.c)."""
_VRRP = ("00:00:5e:00:01:", "00:00:5e:00:02:")
"""Virtual router MAC addresses (RFC 5798, section 7.3), which an instance may have beside its own."""


class Attachment(NamedTuple):
    """The device by which the instance is connected to this host.

    :ivar bridge: that the device is a port of; empty: none, or Open vSwitch
    :ivar macs: that the instance has there, as far as it can be seen
    :ivar is_certain: its interface was read; else a bridge has learned them from its frames
    :ivar is_configured: the hypervisor gave the interface the MAC address of the document
    """

    device: str
    bridge: str
    macs: tuple[str, ...] = ()
    is_certain: bool = False
    is_configured: bool = False
    is_ovs: bool = False

    @property
    def text(self) -> str:
        """The device and where it is, for people."""
        where = f"port of bridge {self.bridge}" if self.bridge else "on no bridge"
        return f"{self.device} ({'port of Open vSwitch' if self.is_ovs else where})"


def instance_link(host: HostFacts, port_id: str) -> LinkFacts | None:
    """Return the instance's device on this host, as Nova and os-vif name it; None if it is not here."""
    return host.here.link(tap_name(port_id)) or host.here.link(f"qvo{port_id}"[:14])


def find_attachment(facts: Facts) -> Attachment | None:
    """Return the device by which the instance is connected, None if none is known here."""
    port, host = facts.subject.port, facts.host
    if port is None:
        return None
    for one in host.ovs or ():
        if one.port_id == port.id:
            return Attachment(one.name, one.bridge, (one.mac,) if one.mac else (), bool(one.mac), is_ovs=True)
    link = instance_link(host, port.id) or next(_candidates(facts, port.mac), None)
    return _attachment(host, link, port.mac) if link is not None else None


def _candidates(facts: Facts, mac: str) -> Iterator[LinkFacts]:
    """Return the host's devices behind which the instance's MAC address, or else its address, is."""
    host = facts.host
    yield from (link for link in host.here.links if link.name in host.peers and host.peers[link.name].mac == mac)
    taps = [link for link in host.here.links if link.kind == VIRTUAL_MACHINE]
    yield from (link for link in taps if link.name in host.fdb.get(link.master, {}).get(mac, ()))
    bridges = {bridge_of(facts, leg) for leg in facts.path.inside} - {""}
    ports = [link for link in host.here.links if link.master in bridges and link.name in host.peers]
    for link in ports:
        is_elsewhere = set(host.fdb.get(link.master, {}).get(mac, ())) - {link.name}
        if has_address(host.peers[link.name], facts.subject.fixed) and not is_elsewhere:
            yield link


def _attachment(host: HostFacts, link: LinkFacts, mac: str) -> Attachment:
    seen = tuple(one for one, ports in host.fdb.get(link.master, {}).items() if link.name in ports)
    peer = host.peers.get(link.name)
    if peer is not None:
        return Attachment(link.name, link.master, (peer.mac,), is_certain=True)  # what was learned may be old
    is_known = link.kind == VIRTUAL_MACHINE and link.mac.startswith(_HYPERVISOR)
    is_same = is_known and link.mac[2:] == mac[2:]
    if is_known and not is_same:
        return Attachment(link.name, link.master, (mac[:2] + link.mac[2:], *seen), is_certain=True)
    return Attachment(link.name, link.master, seen, is_configured=is_same)


def strange_mac(facts: Facts) -> tuple[Attachment, str] | None:
    """Return the instance's device and MAC address, where that is another one than the document has."""
    found, port = find_attachment(facts), facts.subject.port
    if found is None or port is None or port.mac in found.macs:
        return None
    if not found.is_certain and facts.host.fdb.get(found.bridge, {}).get(port.mac):
        return None  # it has moved: the bridge has seen it elsewhere
    known = instance_macs(facts)
    others = [mac for mac in found.macs if mac not in known and not mac.startswith(_VRRP)]
    return (found, others[0]) if others else None


def is_unseen(facts: Facts, leg: Leg, mac: str) -> bool:
    """Return True if neither a device nor a bridge on the segment of a leg has a MAC address."""
    segment = facts.host.segments.get(leg.device)
    is_device = segment is not None and segment.of_mac(mac)
    return not is_device and not facts.host.fdb.get(bridge_of(facts, leg), {}).get(mac)


def instance_macs(facts: Facts) -> frozenset[str]:
    """Return the MAC addresses that may answer for the instance's address: of its port, and of address pairs."""
    subject, router = facts.subject, facts.subject.router
    if router is None or subject.port is None:
        return frozenset()
    ports = [port for _, listed in router.ports_by_subnet for port in listed]
    pairs = {mac for port in ports for mac, net in port.pairs if ip_address(subject.fixed) in net}
    return frozenset(pairs | {subject.port.mac})


def bridge_of(facts: Facts, leg: Leg) -> str:
    """Return the bridge that a leg's outer side is a port of; empty: none, or Open vSwitch."""
    tap = facts.host.here.link(tap_name(leg.port.id))
    return tap.master if tap is not None else ""


def has_address(device: Device, address: str) -> bool:
    """Return True if a device has an address."""
    return any(ip_of(one) == address for one in device.addresses)


def place_of(facts: Facts, leg: Leg, mac: str) -> str:
    """Return where a MAC address is on the segment of a leg, for people."""
    bridge, segment = bridge_of(facts, leg), facts.host.segments.get(leg.device)
    devices = segment.of_mac(mac) if segment is not None else []
    ends = [device.peer.device for device in devices if device.peer is not None and not device.peer.namespace]
    ports = facts.host.fdb.get(bridge, {}).get(mac) or tuple(ends)
    words = [device.place.text for device in devices[:1]]
    if ports:
        link = facts.host.here.link(ports[0])
        words.append(f"behind port {ports[0]} of bridge {link.master if link is not None and link.master else bridge}")
    if words:
        return f"it is {', '.join(words)}"
    return f"bridge {bridge} has not learned behind which port" if bridge else "behind which port is not known here"
