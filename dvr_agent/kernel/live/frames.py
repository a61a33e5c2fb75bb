"""Make a marked packet as bytes, and read addresses and mark of a frame.  Pure."""

from __future__ import annotations

import ipaddress
import struct

from pyroute2.protocols import ETH_P_IP, ETH_P_IPV6

from dvr_agent.internet_checksum import checksum
from dvr_agent.trace.packet import ICMP, ICMPV6, TCP, UDP, Packet, Tuple

MARK_SIZE = 16
"""Bytes of the mark, which ends the payload."""
TTL = 64
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_SYN, _WINDOW = 0x02, 64240
_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}
"""Protocol → offset of its checksum."""


def make_ip_packet(packet: Packet, mark: bytes) -> bytes:
    """Make the packet: an echo request, a datagram or a SYN whose payload ends with the mark.

    :param mark: :data:`MARK_SIZE` bytes
    :raises ValueError: packets of this protocol cannot be made
    """
    head = packet.head
    is_six = packet.family == 6
    size = max(packet.size - (40 if is_six else 20), 0)
    body = _body(head, mark, size)
    src, dst = (ipaddress.ip_address(one).packed for one in (head.src, head.dst))
    pseudo = src + dst + struct.pack("!II", len(body), head.protocol)
    body = _summed(head.protocol, body, pseudo if is_six or head.protocol != ICMP else b"")
    if is_six:
        return _IPV6.pack(6 << 28, len(body), head.protocol, TTL, src, dst) + body
    header = _IPV4.pack(0x45, 0, 20 + len(body), 0, 0x4000, TTL, head.protocol, 0, src, dst)
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + body


def _body(head: Tuple, mark: bytes, size: int) -> bytes:
    match head.protocol:
        case 1 | 58:
            start = struct.pack("!BBHHH", head.dport, 0, 0, head.sport, 1)
        case 17:
            start = struct.pack("!HHHH", head.sport, head.dport, max(size, 8 + MARK_SIZE), 0)
        case 6:
            start = struct.pack("!HHIIBBHHH", head.sport, head.dport, 1, 0, 5 << 4, _SYN, _WINDOW, 0, 0)
        case _:
            raise ValueError("a live packet is icmp, tcp or udp")
    return start + bytes(max(size - len(start) - MARK_SIZE, 0)) + mark


def _summed(protocol: int, body: bytes, pseudo: bytes) -> bytes:
    at = _CHECKSUM_AT[protocol]
    # The pseudo header of IPv4 has other fields than that of IPv6, with the same sum (RFC 8200, section 8.1).
    return body[:at] + (checksum(pseudo + body) or 0xFFFF).to_bytes(2, "big") + body[at + 2 :]


def ethernet(destination: str, source: str, packet: bytes) -> bytes:
    """Make a frame."""
    kind: int = ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP
    return _mac(destination) + _mac(source) + kind.to_bytes(2, "big") + packet


def _mac(text: str) -> bytes:
    return bytes(int(part, 16) for part in text.split(":"))


def read_addresses(packet: bytes) -> tuple[str, str] | None:
    """Return source and destination of an IP packet; None for anything else."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        return str(ipaddress.ip_address(packet[12:16])), str(ipaddress.ip_address(packet[16:20]))
    if len(packet) >= 40 and packet[0] >> 4 == 6:
        return str(ipaddress.ip_address(packet[8:24])), str(ipaddress.ip_address(packet[24:40]))
    return None
