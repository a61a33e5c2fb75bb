"""Who answers for an address on a segment: ARP with proxy ARP, neighbour discovery with proxied neighbours.

Sources: net/ipv4/arp.c (arp_process, arp_solicit), net/ipv6/ndisc.c (ndisc_recv_ns).
"""

from __future__ import annotations

from dvr_agent.trace.addresses import family_of, ip_of, is_in
from dvr_agent.trace.routing import Flow, first, lookup
from dvr_agent.trace.source_check import source_fault
from dvr_agent.trace.world import Device, Namespace, NeighbourEntry, World, namespace_text

USABLE = frozenset({"PERMANENT", "NOARP", "REACHABLE", "STALE", "DELAY", "PROBE"})
"""States of an entry whose MAC address is used."""


def entry_of(namespace: Namespace, address: str, device: str) -> NeighbourEntry | None:
    """Return the entry for an address on a device, None for none."""
    for entry in namespace.neighbours:
        if not entry.proxy and (entry.dst, entry.device) == (address, device):
            return entry
    return None


def announced_source(namespace: Namespace, device: Device, target: str, src: str) -> str:
    """Return the sender's address in an ARP request.

    :param src: source of the packet that waits for the answer
    """
    level = max(namespace.of_device(4, "arp_announce", device.name))
    local = {ip_of(one) for found in namespace.devices.values() for one in found.addresses}
    if level == 0 and src in local:
        return src
    own = [one for one in device.addresses if family_of(one) == 4]
    near = [one for one in own if is_in(target, one)]
    if level == 1 and src in local and any(is_in(src, one) for one in near):
        return src
    return ip_of((near or own or [""])[0])


def answers(world: World, device: Device, target: str, sender: str) -> str:
    """Return why a device answers a question for an address; empty: it does not.

    :param sender: address of the asking host, only for IPv4; empty: any host that the namespace answers
    """
    family = family_of(target)
    if family not in device.proxies and not _is_here(world, device, target):
        return ""  # without reading its namespace: there may be a thousand on the segment
    namespace = world.namespace(device.place.namespace)
    if family == 6:
        return _solicited(namespace, device, target)
    return _asked_by_arp(namespace, device, target, sender)


def _solicited(namespace: Namespace, device: Device, target: str) -> str:
    if any(ip_of(one) == target for one in device.addresses):
        return "has the address"
    proxied = any(entry.proxy and (entry.dst, entry.device) == (target, device.name) for entry in namespace.neighbours)
    forwards = namespace.number("ipv6/conf/all/forwarding")
    if proxied and forwards and any(namespace.of_device(6, "proxy_ndp", device.name)):
        return "is its proxy (proxy_ndp)"
    return ""


def refusal(world: World, device: Device, target: str, sender: str) -> str:
    """Return why a device does not answer for an address that its namespace has; empty if it has none."""
    if any(ip_of(one) == target for one in device.tentative):
        return f"{device.place.text} has it, but tentative (duplicate address detection)"
    if family_of(target) == 6 or not _is_here(world, device, target):
        return ""
    namespace = world.namespace(device.place.namespace)
    where = namespace_text(namespace.name)
    found = lookup(namespace, Flow(4, sender, target, device.name), first)
    if fault := source_fault(namespace, sender, target, device.name, "", "local"):
        return f"{where} has it and discards the request: {fault}"
    if found.kind == "local":
        return f"{where} has it on another device, and arp_ignore is set"
    return f"{where} has it, and a rule or route leads elsewhere"


def _is_here(world: World, device: Device, target: str) -> bool:
    """Return True if the namespace of a device has an address, on whatever device."""
    devices = world.devices[device.place.namespace].values()
    return any(ip_of(address) == target for one in devices for address in one.addresses)


def _asked_by_arp(namespace: Namespace, device: Device, target: str, sender: str) -> str:
    found = lookup(namespace, Flow(4, sender, target, device.name), first)
    out = found.hop.device if found.hop else ""
    if found.kind not in ("local", "unicast"):
        return ""
    if sender and source_fault(namespace, sender, target, device.name, out, found.kind):
        return ""
    if found.kind == "local":
        return _answered_here(namespace, device, target, sender)
    return _proxied(namespace, device, target, out)


def _answered_here(namespace: Namespace, device: Device, target: str, sender: str) -> str:
    ignore = max(namespace.of_device(4, "arp_ignore", device.name))
    if ignore == 0 or _is_on(device, target, sender if ignore == 2 else ""):
        return "has the address"
    return ""


def _proxied(namespace: Namespace, device: Device, target: str, out: str) -> str:
    """Return why a device answers in place of an address to which its namespace has a route."""
    if not namespace.of_device(4, "forwarding", device.name)[1] or out == device.name:
        return ""
    entry = any(one.proxy and (one.dst, one.device) == (target, device.name) for one in namespace.neighbours)
    if any(namespace.of_device(4, "proxy_arp", device.name)) or entry:
        return f"answers in its place (proxy_arp), since it has a route to it by {out}"
    return ""


def _is_on(device: Device, target: str, sender: str) -> bool:
    return any(ip_of(one) == target and (not sender or is_in(sender, one)) for one in device.addresses)
