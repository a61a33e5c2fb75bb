"""Devices of ports, read from the kernel; names, marks and faults of outer ends on a Linux bridge.

``tap…`` and ``brq…`` are the names of Neutron's Linux bridge agent (neutron.plugins.ml2.drivers.linuxbridge), which
operators know.  The interface alias (``ip link set … alias``) marks devices that this agent made.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dvr_agent.errors import AttachError
from dvr_agent.kernel.netlink.handler import NO_DEVICE
from dvr_agent.kernel.netlink.link import LinkInfo, decode_related_link, get_link
from dvr_agent.kernel.netlink.schema import Data
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.state.link import Port

TAP, BRIDGE = "tap", "brq"
ID_LENGTH = 11
"""Characters of an id that fit behind a prefix of three: 14 in total (neutron_lib, DEVICE_NAME_MAX_LEN)."""
NAME_MAX = 15
"""IFNAMSIZ without the closing NUL (linux/if.h)."""
ALIAS = "dvr-agent"
"""Alias of bridges that this agent made, and begin of a ``tap…`` device's (:func:`tap_alias`)."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DEVICE = re.compile(rf"[^\s/:]{{1,{NAME_MAX}}}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Device(NamedTuple):
    """A device with its relations to others (:class:`~dvr_agent.kernel.netlink.link.LinkRelations`).

    :ivar peer: index of the other end of a veth pair, in the namespace of that end
    :ivar ipv6: the device has IPv6
    :ivar lower: index of the device in this namespace that it is on top of (VLAN, macvlan, …), 0 for none
    """

    info: LinkInfo
    peer: int
    ipv6: bool
    lower: int = 0


def tap_name(port_id: str) -> str:
    """Return the name of a port's outer end."""
    return TAP + port_id[:ID_LENGTH]


def bridge_name(network_id: str) -> str:
    """Return the name of a network's bridge."""
    return BRIDGE + network_id[:ID_LENGTH]


def tap_alias(port_id: str, namespace: str) -> str:
    """Return the interface alias that marks an outer end as made by this agent."""
    return f"{ALIAS}:{port_id}:{namespace}"


def read_alias(alias: str) -> tuple[str, str] | None:
    """Return (port id, namespace) of an alias that :func:`tap_alias` made, None for any other."""
    mark, _, rest = alias.partition(":")
    port_id, _, namespace = rest.partition(":")
    return (port_id, namespace) if mark == ALIAS and _UUID.fullmatch(port_id) and namespace else None


def check_ports(namespace: str, ports: Iterable[Port]) -> None:
    """Refuse malformed values before they become device names or attributes.

    :raises AttachError: EINVAL, naming the port and what is wrong with it
    """
    for port in ports:
        for what, pattern, value in (
            ("device name", _DEVICE, port.device),
            ("port id", _UUID, port.port_id),
            ("network id", _UUID, port.network_id),
            ("MAC address", _MAC, port.mac),
        ):
            if not pattern.fullmatch(value):
                raise AttachError(namespace, port.text, errno.EINVAL, f"{value!r} cannot be a {what}")


def read_devices(sock: NetlinkSocket, names: Sequence[str]) -> dict[str, Device]:
    """Read the named devices that exist, by one request each: a host may have thousands of others."""
    answers = sock.get([get_link(name, NO_DEVICE) for name in names])
    return {name: read_device(data) for name, data in zip(names, answers, strict=True) if data is not None}


def ipv6_switch(name: str) -> str:
    """Return the parameter that makes a device layer 2 only when it is 1."""
    return f"ipv6/conf/{name}/disable_ipv6"


def same_pair(outer: Device, inner: Device) -> bool:
    """True if two devices are the ends of one veth pair."""
    return outer.peer == inner.info.ifindex and inner.peer == outer.info.ifindex


def fault(port: Port, tap: Device | None, bridge: Device | None, name: str) -> str:
    """Return what is wrong on the outer side of a port, empty if nothing is.

    :param bridge: None: there is none of the name
    """
    if bridge is None:
        return f"bridge {name} is missing"
    if tap is None:
        return f"{tap_name(port.port_id)} is missing"
    return _tap_fault(port, tap, bridge, name) or _bridge_fault(bridge, name) or _ipv6_fault(port, tap)


def _tap_fault(port: Port, tap: Device, bridge: Device, name: str) -> str:
    outer = tap_name(port.port_id)
    if tap.info.master != bridge.info.ifindex:
        return f"{outer} is not on bridge {name}"
    if not tap.info.up:
        return f"{outer} is down"
    if tap.info.mtu != port.mtu:
        return f"{outer} has MTU {tap.info.mtu} instead of {port.mtu}"
    found = read_alias(tap.info.alias)
    return f"{outer} has alias {tap.info.alias!r}" if found is None or found[0] != port.port_id else ""


def _bridge_fault(bridge: Device, name: str) -> str:
    """Return the fault of a bridge that this agent made; other bridges have none."""
    if bridge.info.alias != ALIAS:
        return ""
    if not bridge.info.up:
        return f"bridge {name} is down"
    return f"{name} has IPv6" if bridge.ipv6 else ""


def _ipv6_fault(port: Port, tap: Device) -> str:
    return f"{tap_name(port.port_id)} has IPv6" if tap.ipv6 else ""


def read_device(data: Data) -> Device:
    """Decode one RTM_NEWLINK message."""
    info, relations = decode_related_link(data)
    on_top = info.kind != "veth" and not relations.elsewhere
    return Device(info, relations.peer, relations.ipv6, relations.peer if on_top else 0)
