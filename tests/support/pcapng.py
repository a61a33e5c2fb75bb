"""Reads pcapng files, as far as the tests of captures need it: written from the specification, not from the writer."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import NamedTuple


class Seen(NamedTuple):
    """An IPv4 packet that an interface saw; ``kind`` is the ICMP type, -1 for other protocols."""

    interface: str
    source: str
    destination: str
    kind: int
    time: int


class Capture(NamedTuple):
    interfaces: list[str]
    filters: list[str]
    packets: list[Seen]
    blocks: list[int]
    received: dict[str, int]


def options(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        code, length = struct.unpack_from("<HH", data)
        if code == 0:
            break
        found[code] = data[4 : 4 + length]
        data = data[4 + length + -length % 4 :]
    return found


def read(path: Path) -> Capture:
    """Read a file of this machine's byte order (little-endian), and check the frame of each block.

    It may still be written: a block that is not complete is left out.
    """
    data, capture = path.read_bytes(), Capture([], [], [], [], {})
    while data:
        kind, length = struct.unpack_from("<II", data.ljust(8, b"\0"))
        if len(data) < max(length, 12):
            break  # not written to its end yet
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, length - 4) == (length,)
        body, data = data[8 : length - 4], data[length:]
        capture.blocks.append(kind)
        if kind == 0x0A0D0D0A:
            assert struct.unpack_from("<IHH", body) == (0x1A2B3C4D, 1, 0)
        elif kind == 1:
            found = options(body[8:])
            assert struct.unpack_from("<H", body) == (1,)  # LINKTYPE_ETHERNET
            assert found[9] == b"\x09"  # nanoseconds
            capture.interfaces.append(found[2].decode())
            capture.filters.append(found.get(11, b"\0")[1:].decode())
        elif kind == 6:
            number, high, low, captured, wire = struct.unpack_from("<IIIII", body)
            assert captured == wire
            seen = decode(capture.interfaces[number], high << 32 | low, body[20 : 20 + captured])
            capture.packets.extend([seen] if seen else [])
        elif kind == 5:
            number, *_ = struct.unpack_from("<III", body)
            capture.received[capture.interfaces[number]] = struct.unpack("<Q", options(body[12:])[4])[0]
    return capture


def decode(interface: str, time: int, frame: bytes) -> Seen | None:
    if frame[12:14] != b"\x08\x00":
        return None
    packet = frame[14:]
    kind = packet[(packet[0] & 0xF) * 4] if packet[9] == socket.IPPROTO_ICMP else -1
    return Seen(interface, socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20]), kind, time)
