"""Find where a packet with a source address begins on this host (:func:`locate`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dvr_agent.trace.addresses import family_of, ip_of, is_in, is_link_local
from dvr_agent.trace.ends import EndOfWay
from dvr_agent.trace.engine import Start
from dvr_agent.trace.neighbours import answers, entry_of
from dvr_agent.trace.routing import Flow, first, lookup
from dvr_agent.trace.segment import segment_of
from dvr_agent.trace.world import Device, World, namespace_text

HOST = "host"
"""Name of the host's own namespace on the command line."""


class LocateError(ValueError):
    """Where the packet begins cannot be told; the text says what to name."""


@dataclass(frozen=True, slots=True)
class Hint:
    """The namespace, and maybe the device, that somebody named.

    :ivar namespace: None: not named
    :ivar device: empty: not named
    """

    namespace: str | None = None
    device: str = ""


def locate(world: World, src: str, dst: str, hint: Hint, gateways: Sequence[str] = ()) -> Start:
    """Find the namespace that has the source address, or the device by which packets from it come in.

    :param gateways: beginnings of the names of devices that are gateways of their segments, the likeliest first
    :raises LocateError: it cannot be told
    """
    try:
        return _located(world, src, dst, hint, gateways)
    except EndOfWay as end:
        raise LocateError(f"where {src} begins is not known: {end.reason}") from end


def _located(world: World, src: str, dst: str, hint: Hint, gateways: Sequence[str]) -> Start:
    if hint.namespace is not None:
        return _named(world, src, hint.namespace, hint.device)
    holders = sorted({name for name, devices in world.devices.items() if _has(devices.values(), src)})
    if len(holders) > 1:
        names = ", ".join(f"{src}%{name or HOST}" for name in holders)
        raise LocateError(f"{src} is an address in several namespaces; name one of {names}")
    if holders:
        return Start(holders[0], note=f"{namespace_text(holders[0])} has {src}, and sends it")
    return _outside(world, src, dst, gateways)


def _named(world: World, src: str, name: str, device: str) -> Start:
    if name not in world.devices:
        raise LocateError(f"there is no namespace {name}")
    if device:
        if device not in world.devices[name]:
            raise LocateError(f"there is no device {device} in {namespace_text(name)}")
        return Start(name, device, f"comes in by {device}, as was asked for")
    if _has(world.devices[name].values(), src):
        return Start(name, note=f"{namespace_text(name)} has {src}, and sends it")
    found = lookup(world.namespace(name), Flow(family_of(src), "", src, "lo"), first)
    if found.hop is None or found.route is None:
        where = namespace_text(name)
        place = f"{src}%{name or HOST}/DEVICE"
        raise LocateError(f"{where} has no address {src} and no route to it; name the device: {place}")
    text = f"{src} is beyond {found.hop.device}: {found.route.text}"
    return Start(name, found.hop.device, text)


def _has(devices: Iterable[Device], address: str) -> bool:
    return any(ip_of(one) == address for device in devices for one in device.addresses)


def _outside(world: World, src: str, dst: str, gateways: Sequence[str]) -> Start:
    """Find the device that gets packets of a host that is not a namespace here: an instance, or a host outside."""
    near = _with_subnet(world, src)
    if near:
        if any(is_in(dst, one) for device in near for one in device.addresses if is_in(src, one)):
            return _answering(world, near, src, dst)
        return _gateway(world, near, src, gateways)
    far = _with_subnet(world, dst)
    if far:
        return _answering(world, far, src, dst)
    raise LocateError(
        f"no device of this host is in a network of {src} or {dst}; name where it comes in: {src}%NAMESPACE/DEVICE"
    )


def _with_subnet(world: World, address: str) -> list[Device]:
    """Return the devices that have an address of the same subnet."""
    return [
        device
        for devices in world.devices.values()
        for device in devices.values()
        if any(is_in(address, one) and not is_link_local(ip_of(one)) for one in device.addresses)
    ]


def _answering(world: World, devices: Sequence[Device], src: str, dst: str) -> Start:
    """Return the device that answers for the destination on the segments of devices."""
    members = {device.place: device for device in devices}
    for device in devices:
        members |= {one.place: one for one in segment_of(world, device).members}
    found = [(one, why) for one in members.values() if (why := answers(world, one, dst, ""))]
    if not found:
        places = ", ".join(sorted(device.place.text for device in devices))
        raise LocateError(
            f"{src} is on no namespace of this host, and nobody here answers for {dst} where {src} would ask ({places})"
        )
    if len({one.mac for one, _why in found}) > 1:
        places = ", ".join(sorted(f"{src}%{one.place.namespace or HOST}/{one.name}" for one, _why in found))
        raise LocateError(f"several devices answer for {dst}; name one of {places}")
    holder, why = found[0]
    return Start(
        holder.place.namespace, holder.name, f"{src} asks for {dst} by ARP or neighbour discovery: {holder.name} {why}"
    )


def _gateway(world: World, near: Sequence[Device], src: str, gateways: Sequence[str]) -> Start:
    """Return the device that is the gateway of a segment."""
    for prefix in gateways:
        found = [device for device in near if device.name.startswith(prefix)]
        if len(found) > 1:
            places = ", ".join(sorted(f"{src}%{one.place.namespace or HOST}/{one.name}" for one in found))
            raise LocateError(f"the network of {src} has more than one router here; name one of {places}")
        if found:
            return _from_neighbour(world, found[0], src)
    places = ", ".join(sorted(f"{src}%{one.place.namespace or HOST}/{one.name}" for one in near))
    raise LocateError(f"it is not known which device is the gateway of {src}; name one of {places}")


def _from_neighbour(world: World, device: Device, src: str) -> Start:
    entry = entry_of(world.namespace(device.place.namespace), src, device.name)
    known = f"{src} is its {entry.text}" if entry else f"it has no neighbour entry for {src}"
    text = f"comes from the segment of {device.name}: {known}"
    return Start(device.place.namespace, device.name, text)
