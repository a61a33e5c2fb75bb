"""Opens the sockets by which dvr-vrrp acts in a router's namespace."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pyroute2.netlink.rtnl import RTMGRP_LINK

from dvr_agent.errors import KernelError, ServiceError
from dvr_agent.kernel import netns
from dvr_agent.vrrp.advert import GROUP, PROTOCOL, TTL

INTERNETWORK_CONTROL = 0xC0
"""IP precedence of routing protocols (RFC 791)."""
IP_MULTICAST_ALL = 49
"""include/uapi/linux/in.h; Python's ``socket`` lacks it."""
EVENT_BUFFER = 1 << 20
ECHO = {int(socket.AF_INET): socket.IPPROTO_ICMP, int(socket.AF_INET6): socket.IPPROTO_ICMPV6}
"""Family of a gateway → protocol of the echo requests to it."""


class VrrpSockets(NamedTuple):
    """Sockets of one virtual router; see ``dvr_agent.vrrp.protocol.Descriptors``.

    :ivar cookie: number of their network namespace
    :ivar interface: index of the device
    :ivar echo: raw sockets of ICMP and ICMPv6
    """

    vrrp: socket.socket
    requests: socket.socket
    events: socket.socket
    frames: socket.socket
    cookie: int
    interface: int
    echo: tuple[socket.socket, ...] = ()


@contextlib.contextmanager
def opened_sockets(namespace: str, device: str, source: str, families: Iterable[int] = ()) -> Iterator[VrrpSockets]:
    """Open the sockets for the time of a block: dvr-vrrp has copies of its own afterwards.

    :param device: device that speaks VRRP, which has the address ``source``
    :param families: of gateways that dvr-vrrp checks
    :raises ServiceError: there is no such namespace or device, or no descriptor left
    """
    with contextlib.ExitStack() as stack:
        with _as_service_errors(f"VRRP sockets on {device} in {namespace}"):
            with netns.entered(namespace):
                interface = socket.if_nametoindex(device)
                vrrp = stack.enter_context(_open(socket.AF_INET, socket.SOCK_RAW, PROTOCOL))
                requests = stack.enter_context(_open(socket.AF_NETLINK, socket.SOCK_RAW, 0))
                events = stack.enter_context(_open(socket.AF_NETLINK, socket.SOCK_RAW, 0))
                frames = stack.enter_context(_open(socket.AF_PACKET, socket.SOCK_RAW, 0))
                echo = tuple(
                    stack.enter_context(_open(family, socket.SOCK_RAW, ECHO[family])) for family in sorted(families)
                )
            _prepare(vrrp, device, interface, source)
            requests.bind((0, 0))
            events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, EVENT_BUFFER)
            events.bind((0, RTMGRP_LINK))
            found = VrrpSockets(vrrp, requests, events, frames, netns.cookie_of(vrrp), interface, echo)
        yield found


def open_vrrp(namespace: str, device: str, source: str) -> socket.socket:
    """Open a socket that sends and hears advertisements, as that of the program that speaks VRRP there.

    :raises ServiceError: there is no such namespace or device, or no descriptor left
    """
    with _as_service_errors(f"a VRRP socket on {device} in {namespace}"), contextlib.ExitStack() as stack:
        with netns.entered(namespace):
            interface = socket.if_nametoindex(device)
            vrrp = stack.enter_context(_open(socket.AF_INET, socket.SOCK_RAW, PROTOCOL))
        _prepare(vrrp, device, interface, source)
        stack.pop_all()
    return vrrp


@contextlib.contextmanager
def _as_service_errors(what: str) -> Iterator[None]:
    """Raise the errors of a block as ServiceError, which names what could not be opened."""
    try:
        yield
    except KernelError as exc:
        raise ServiceError(str(exc)) from exc
    except OSError as exc:
        raise ServiceError(f"cannot open {what}: {exc.strerror or exc}") from exc


def _open(family: int, kind: int, protocol: int) -> socket.socket:
    return socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)


def _prepare(vrrp: socket.socket, device: str, interface: int, source: str) -> None:
    """Let a raw socket send and receive advertisements on one device, as keepalived's do."""
    request = struct.pack("4s4si", socket.inet_aton(GROUP), socket.inet_aton(source), interface)
    sender = struct.pack("4s4si", bytes(4), socket.inet_aton(source), interface)
    vrrp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
    vrrp.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
    vrrp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, sender)
    vrrp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL)
    vrrp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    vrrp.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, INTERNETWORK_CONTROL)
    vrrp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
