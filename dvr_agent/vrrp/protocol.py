"""The control protocol between dvr-agent and dvr-vrrp.

The agent connects to a Unix socket of type SOCK_SEQPACKET and asks, one question at a time (``dvr_agent.control``).

====== ==================================================== ==================================================
``do`` further keys of the question                         keys of the answer, beside ``ok`` or ``error``
====== ==================================================== ==================================================
hello  ``version``                                          ``version``, ``pid``, ``features``: what not all
                                                            programs of this version have, :data:`FEATURES`
serve  ``router``; ``namespace``: number of its network     (none); a router that is served with the same
       namespace; descriptors: see :class:`Descriptors`,    agreement goes on in its state
       then raw sockets of ICMP and ICMPv6, as far as its
       gateways need them
stop   ``router``                                           (none); addresses were removed, others may be master
forget ``router``                                           (none); addresses stay, nothing is said to others
list   ``after``: a router id or ``""``                     ``routers``: {router id: [namespace, digest, state]},
                                                            sorted, at most ``control.questions.PAGE``; ``more``
status (none)                                               ``routers``, ``masters``, ``late``: largest delay of an
                                                            advertisement in seconds, since the last such question
====== ==================================================== ==================================================

One descriptor of ``serve`` is a memory file with a :class:`VirtualRouter` as JSON: it may be larger than a message
can be, and has a password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import socket
from dataclasses import dataclass, field
from typing import NamedTuple

from dvr_agent.errors import ServiceError
from dvr_agent.vrrp.advert import Speech, make_speech

VERSION = 1
CHECKS_GATEWAYS = "gateways"
FEATURES = (CHECKS_GATEWAYS,)
MAX_SIZE = 64 * 1024 * 1024
"""Bytes of a virtual router."""


class Descriptors(NamedTuple):
    """Sockets of one virtual router, opened in its network namespace, and its description.

    :ivar vrrp: raw socket of protocol 112 that sends and receives on the interface
    :ivar requests: netlink socket (NETLINK_ROUTE)
    :ivar events: the same, a member of the group RTNLGRP_LINK
    :ivar frames: packet socket that receives nothing
    :ivar description: a memory file
    """

    vrrp: int
    requests: int
    events: int
    frames: int
    description: int


class Frame(NamedTuple):
    """An announcement of an address, as it goes onto the wire."""

    device: str
    protocol: int
    data: bytes


class Gateway(NamedTuple):
    """A gateway of an external subnet.

    :ivar interface: index of the device, by which a link-local address is reached
    """

    address: str
    interface: int

    @property
    def family(self) -> socket.AddressFamily:
        """Family of the address."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def packed(self) -> bytes:
        """The address in network byte order."""
        return socket.inet_pton(self.family, self.address)

    @property
    def socket_address(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """The address as sockets take it."""
        return (self.address, 0, 0, self.interface) if self.family == socket.AF_INET6 else (self.address, 0)


@dataclass(frozen=True, slots=True)
class VirtualRouter:
    """A virtual router: what the hosts agree on, and what the master of them has.

    Messages are RTM_NEWADDR and RTM_NEWROUTE, with headers whose sequence number is to be filled in.

    :ivar interface: index of the device that speaks VRRP
    :ivar source: its own address
    :ivar primary: message of the primary virtual address, by which others see the state
    :ivar addresses: messages of all other addresses, in the order in which they are added
    :ivar routes: messages of routes that need the addresses
    :ivar frames: what announces the addresses
    :ivar gateways: which the master has to reach; empty: that is not checked
    :ivar check_interval: seconds between two checks of them
    """

    vr_id: int
    priority: int
    interval: int
    interface: int
    source: str
    address: str
    primary: bytes
    addresses: tuple[bytes, ...] = ()
    routes: tuple[bytes, ...] = ()
    frames: tuple[Frame, ...] = ()
    password: str = field(default="", repr=False)
    gateways: tuple[Gateway, ...] = ()
    check_interval: int = 0

    @property
    def check(self) -> tuple[object, ...]:
        """Values with which a check of the gateways begins anew."""
        return (self.gateways, self.check_interval)

    @property
    def speech(self) -> Speech:
        """What the hosts agree on, as advertisements have it."""
        return make_speech(self.vr_id, self.interval, self.address, self.password)

    @property
    def agreement(self) -> tuple[object, ...]:
        """Values that cannot change without beginning anew."""
        return (self.speech, self.priority, self.interface, self.source, self.primary)


def dumps(router: VirtualRouter) -> bytes:
    """Return a virtual router as JSON; one without gateways is described as to programs that do not know them."""
    check: dict[str, object] = {}
    if router.gateways:
        check = {"gateways": [list(one) for one in router.gateways], "check_interval": router.check_interval}
    return json.dumps(
        {
            "vr_id": router.vr_id,
            "priority": router.priority,
            "interval": router.interval,
            "interface": router.interface,
            "source": router.source,
            "address": router.address,
            "password": router.password,
            "primary": _text(router.primary),
            "addresses": [_text(one) for one in router.addresses],
            "routes": [_text(one) for one in router.routes],
            "frames": [[one.device, one.protocol, _text(one.data)] for one in router.frames],
            **check,
        },
        sort_keys=True,
    ).encode()


def loads(data: bytes) -> VirtualRouter:
    """Read a virtual router from JSON.

    :raises ServiceError: it is none; the text does not quote it, since it has a password
    """
    try:
        found = json.loads(data)
        router = VirtualRouter(
            vr_id=int(found["vr_id"]),
            priority=int(found["priority"]),
            interval=int(found["interval"]),
            interface=int(found["interface"]),
            source=str(found["source"]),
            address=str(found["address"]),
            password=str(found["password"]),
            primary=_bytes(found["primary"]),
            addresses=tuple(map(_bytes, found["addresses"])),
            routes=tuple(map(_bytes, found["routes"])),
            frames=tuple(Frame(str(device), int(number), _bytes(text)) for device, number, text in found["frames"]),
            gateways=tuple(Gateway(str(address), int(interface)) for address, interface in found.get("gateways", ())),
            check_interval=int(found.get("check_interval", 0)),
        )
        socket.inet_aton(router.source)
        _check(router)
    except (ValueError, TypeError, KeyError, RecursionError, OSError, binascii.Error) as exc:
        raise ServiceError(f"the description of a virtual router is malformed: {type(exc).__name__}") from None
    return router


def _check(router: VirtualRouter) -> None:
    if not (0 < router.vr_id < 256 and 0 < router.priority < 255 and 0 < router.interval < 256):
        raise ValueError("out of range")
    if len(router.speech.address) != 4 or not all(one.packed for one in router.gateways):
        raise ValueError("no address")
    if router.gateways and router.check_interval < 1:
        raise ValueError("no interval")


def digest(data: bytes) -> str:
    """Return what tells two descriptions apart."""
    return hashlib.sha256(data).hexdigest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
