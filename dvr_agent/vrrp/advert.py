"""Advertisements of VRRP version 2 (RFC 3768, section 5.1; authentication data as in RFC 2338).  Pure.

======= ==========================================================
byte    content
======= ==========================================================
0       version (2) and type (1, advertisement)
1       virtual router id
2       priority; 0: the sender yields
3       number of addresses
4       authentication: 0 none, 1 simple text password
5       seconds between advertisements
6-7     checksum of the whole packet
8…      addresses, then 8 bytes of authentication data
======= ==========================================================
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from dvr_agent import plural
from dvr_agent.internet_checksum import checksum

GROUP = "224.0.0.18"
PROTOCOL = 112
TTL = 255
LOWEST = 1
"""Priority that no master yields to: it announces its addresses, which switches may have learned to be elsewhere."""
VERSION_AND_TYPE = 0x21
AUTH_SIZE = 8

_HEAD = struct.Struct("!BBBBBBH")
_ADDRESS_SIZE = 4
_IP_TTL, _IP_SOURCE = 8, slice(12, 16)
_CHECKSUM = slice(6, 8)


class Speech(NamedTuple):
    """What both sides of a virtual router must agree on.

    :ivar vr_id: virtual router id
    :ivar interval: seconds between advertisements
    :ivar address: the primary virtual address, four bytes
    :ivar password: eight bytes of a simple text password; empty: no authentication
    """

    vr_id: int
    interval: int
    address: bytes
    password: bytes = b""


def make_speech(vr_id: int, interval: int, address: str, password: str) -> Speech:
    """Make what both sides agree on; of the password, as keepalived does, from the first eight bytes."""
    return Speech(vr_id, interval, socket.inet_aton(address), password.encode()[:AUTH_SIZE])


class Advert(NamedTuple):
    """A received advertisement that counts.

    :ivar source: address of the sender as a number: of two equal priorities the higher one wins
    """

    priority: int
    source: int


def encode(speech: Speech, priority: int) -> bytes:
    """Return an advertisement, as the payload of an IPv4 packet."""
    auth = 1 if speech.password else 0
    head = _HEAD.pack(VERSION_AND_TYPE, speech.vr_id, priority, 1, auth, speech.interval, 0)
    packet = head + speech.address + speech.password.ljust(AUTH_SIZE, b"\0")[:AUTH_SIZE]
    return packet[: _CHECKSUM.start] + checksum(packet).to_bytes(2, "big") + packet[_CHECKSUM.stop :]


def decode(packet: bytes, speech: Speech) -> Advert | str | None:
    """Read a received packet, with its IPv4 header.

    :returns: the advertisement; or why it is ignored; None if it is of another virtual router
    """
    start = (packet[0] & 0x0F) * 4 if packet else 0
    body = packet[start:]
    if len(body) < _HEAD.size + AUTH_SIZE:
        return "it is too short"
    version_and_type, vr_id, priority, count, auth, interval, _sum = _HEAD.unpack_from(body)
    if vr_id != speech.vr_id:
        return None
    reason = _why_not(packet, body, speech, count, auth, version_and_type, interval)
    return reason or Advert(priority, int.from_bytes(packet[_IP_SOURCE], "big"))


def _why_not(
    packet: bytes, body: bytes, speech: Speech, count: int, auth: int, version_and_type: int, interval: int
) -> str:
    """Return why an advertisement of our virtual router is ignored; empty if it counts.  As keepalived decides it."""
    end = _HEAD.size + count * _ADDRESS_SIZE
    checks = (
        (packet[_IP_TTL] == TTL, f"its TTL is {packet[_IP_TTL]}, not {TTL}"),
        (version_and_type == VERSION_AND_TYPE, f"its version is {version_and_type >> 4}, not 2"),
        (len(body) >= end + AUTH_SIZE, f"it is too short for {plural.count(count, 'address')}"),
        (checksum(body) == 0, "its checksum is wrong"),
        (auth == (1 if speech.password else 0), f"its authentication type is {auth}"),
        (interval == speech.interval, f"its interval is {interval} s, not {speech.interval} s"),
        (speech.address in _addresses(body, end), "it has another primary address"),
        (not speech.password or _password(body, end) == _password(speech.password, 0), "its password is another one"),
    )
    return next((reason for holds, reason in checks if not holds), "")


def _addresses(body: bytes, end: int) -> list[bytes]:
    return [body[at : at + _ADDRESS_SIZE] for at in range(_HEAD.size, end, _ADDRESS_SIZE)]


def _password(data: bytes, at: int) -> bytes:
    return data[at : at + AUTH_SIZE].ljust(AUTH_SIZE, b"\0")
