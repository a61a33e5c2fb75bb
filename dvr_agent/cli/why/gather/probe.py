"""Asks by ARP who has an address, as ``arping -D`` does (RFC 5227, section 2.1.1), and listens for VRRP masters."""

from __future__ import annotations

import select
import socket
import struct
import time
from ipaddress import IPv4Address

from pyroute2.arp import ARPHRD_ETHER
from pyroute2.protocols import ETH_P_ARP, ETH_P_IP

from dvr_agent.errors import DvrError
from dvr_agent.kernel.announce import ARPOP_REPLY, ARPOP_REQUEST, BROADCAST
from dvr_agent.kernel.netns import entered
from dvr_agent.state.virtual_router import VirtualRouterState
from dvr_agent.vrrp.advert import PROTOCOL

TRIES, WAIT = 3, 0.4
"""Number of requests, and seconds to wait for answers to each."""
ADVERTISEMENTS = 3.5
"""Advertisement intervals after which a VRRP master would have been heard (RFC 3768, Master_Down_Interval)."""
_FIELDS = struct.Struct("!HHBBH6s4s6s4s")


def ask_arp(namespace: str, device: str, address: str) -> tuple[str, ...] | None:
    """Return the MAC addresses that answer for an address; None if nothing could be sent.

    The sender's address is 0.0.0.0, so that no table of others changes.
    """
    if ":" in address:
        return None
    try:
        with entered(namespace):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP))
        with sock:
            sock.bind((device, ETH_P_ARP))
            return _answers(sock, address)
    except (OSError, DvrError):
        return None


def _answers(sock: socket.socket, address: str) -> tuple[str, ...]:
    mac, target = sock.getsockname()[4], IPv4Address(address).packed
    found: dict[str, None] = {}
    for _ in range(TRIES):
        sock.send(request(mac, target))
        end = time.monotonic() + WAIT
        while (left := end - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
            sender = answer(sock.recv(2048), target)
            if sender and sender != mac.hex(":"):
                found[sender] = None
        if found:
            break
    return tuple(found)


def request(mac: bytes, target: bytes) -> bytes:
    """Make an ARP probe for an address."""
    fields = _FIELDS.pack(ARPHRD_ETHER, ETH_P_IP, 6, 4, ARPOP_REQUEST, mac, bytes(4), bytes(6), target)
    return BROADCAST + mac + struct.pack("!H", ETH_P_ARP) + fields


def answer(frame: bytes, target: bytes) -> str:
    """Return the MAC address of an ARP reply for the address, empty for any other frame."""
    if len(frame) < 14 + _FIELDS.size:
        return ""
    _, _, _, _, operation, sender, address, _, _ = _FIELDS.unpack_from(frame, 14)
    return sender.hex(":") if operation == ARPOP_REPLY and address == target else ""


def hear_masters(namespace: str, router: VirtualRouterState) -> tuple[str, ...] | None:
    """Return the addresses of other hosts that advertise themselves as master; None if nothing could be heard."""
    try:
        with entered(namespace):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        with sock:
            sock.bind((router.device, ETH_P_IP))
            return _advertisers(sock, router)
    except (OSError, DvrError):
        return None


def _advertisers(sock: socket.socket, router: VirtualRouterState) -> tuple[str, ...]:
    end = time.monotonic() + ADVERTISEMENTS * router.interval
    while (left := end - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
        packet, place = sock.recvfrom(2048)
        if place[2] != socket.PACKET_OUTGOING and (source := advertiser(packet, router.vr_id)):
            return (source,)
    return ()


def advertiser(packet: bytes, vr_id: int) -> str:
    """Return the source of a VRRP advertisement for a virtual router, empty for any other packet."""
    if len(packet) < 20 or packet[9] != PROTOCOL:
        return ""
    body = packet[(packet[0] & 0xF) * 4 :]
    return str(IPv4Address(packet[12:16])) if len(body) > 1 and body[1] == vr_id else ""
