"""Writes packets of several interfaces into one file in the pcapng format (draft-ietf-opsawg-pcapng).

Of the format only what a capture needs: one section, an interface description block per interface (name, filter,
nanoseconds), enhanced packet blocks, and an interface statistics block per interface at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import BinaryIO

from dvr_agent.capture.pcap import Packet

_SECTION, _INTERFACE, _PACKET, _STATISTICS = 0x0A0D0D0A, 1, 6, 5
"""Block types."""
_BYTE_ORDER, _UNKNOWN_LENGTH = 0x1A2B3C4D, 0xFFFFFFFFFFFFFFFF
_COMMENT, _APPLICATION = 1, 4
_IF_NAME, _IF_DESCRIPTION, _IF_RESOLUTION, _IF_FILTER = 2, 3, 9, 11
_RECEIVED, _DROPPED = 4, 7
"""Options; see the tables of the specification's blocks."""
_NANOSECONDS = b"\x09"
"""``if_tsresol``: time stamps in units of 10^-9 s."""
_FILTER_TEXT = b"\x00"
"""First byte of ``if_filter``: the filter is text in libpcap's syntax."""

Options = Iterable[tuple[int, bytes]]


class PcapngWriter:
    """Writes one section.

    :param file: open for writing
    :param application: name and version of the program
    """

    def __init__(self, file: BinaryIO, application: str, comment: str = "") -> None:
        self._file = file
        self._interfaces = 0
        options = [(_COMMENT, comment.encode())] if comment else []
        head = struct.pack("=IHHQ", _BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
        self._block(_SECTION, head, [*options, (_APPLICATION, application.encode())])

    def add_interface(self, name: str, link_type: int, snapshot: int, description: str = "", filter_: str = "") -> int:
        """Write the description of an interface; return its number for :meth:`add_packet`."""
        options = [(_IF_NAME, _utf8(name)), (_IF_RESOLUTION, _NANOSECONDS)]
        options += [(_IF_DESCRIPTION, _utf8(description))] if description else []
        options += [(_IF_FILTER, _FILTER_TEXT + filter_.encode())] if filter_ else []
        self._block(_INTERFACE, struct.pack("=HHI", link_type, 0, snapshot), options)
        self._interfaces += 1
        return self._interfaces - 1

    def add_packet(self, interface: int, packet: Packet) -> None:
        """Write a packet of an interface."""
        head = struct.pack(
            "=IIIII",
            interface,
            packet.time >> 32,
            packet.time & 0xFFFFFFFF,
            len(packet.data),
            packet.length,
        )
        self._block(_PACKET, head + _padded(packet.data), ())

    def add_statistics(self, interface: int, time: int, received: int, dropped: int) -> None:
        """Write how many packets an interface had, and how many of them the kernel dropped before they were read.

        :param time: nanoseconds since the epoch
        """
        head = struct.pack("=III", interface, time >> 32, time & 0xFFFFFFFF)
        options = [(_RECEIVED, struct.pack("=Q", received)), (_DROPPED, struct.pack("=Q", dropped))]
        self._block(_STATISTICS, head, options)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def _block(self, kind: int, body: bytes, options: Options) -> None:
        body += b"".join(struct.pack("=HH", code, len(value)) + _padded(value) for code, value in options)
        body += struct.pack("=HH", 0, 0) if options else b""
        length = len(body) + 12
        self._file.write(struct.pack("=II", kind, length) + body + struct.pack("=I", length))


def _utf8(text: str) -> bytes:
    """Encode a text as the format demands; names of devices may have bytes that are not UTF-8 (surrogates)."""
    return text.encode(errors="backslashreplace")


def _padded(data: bytes) -> bytes:
    """Return data with zeroes up to a multiple of four bytes."""
    return data + bytes(-len(data) % 4)
