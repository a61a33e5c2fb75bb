"""Reads a stream in the pcap format, as ``tcpdump -w -`` writes it (pcap-savefile(5)), piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from dvr_agent.errors import DvrError

_ORDERS = "<>"
_MAGIC = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}
"""First number of a file → nanoseconds in the unit of its time stamps."""
_HEAD_SIZE, _RECORD_SIZE = 24, 16


class PcapError(DvrError):
    """The stream is no pcap file."""


class Packet(NamedTuple):
    """A captured packet.

    :ivar time: nanoseconds since the epoch
    :ivar length: bytes of the packet on the wire; ``data`` may be shorter
    """

    time: int
    length: int
    data: bytes


class PcapStream:
    """Cuts a stream into packets.

    :ivar link_type: ``LINKTYPE_…`` of the interface; None until the head of the stream has come
    """

    def __init__(self) -> None:
        self.link_type: int | None = None
        self.snapshot = 0
        self._buffer = bytearray()
        self._record = Struct("<IIII")
        self._unit = 1

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that are complete with these bytes.

        :raises PcapError: the stream does not begin as a pcap file does
        """
        self._buffer += data
        if self.link_type is None and not self._read_head():
            return
        while len(self._buffer) >= _RECORD_SIZE:
            seconds, fraction, captured, length = self._record.unpack_from(self._buffer)
            end = _RECORD_SIZE + captured
            if len(self._buffer) < end:
                return
            packet = Packet(
                seconds * 1_000_000_000 + fraction * self._unit, length, bytes(self._buffer[_RECORD_SIZE:end])
            )
            del self._buffer[:end]
            yield packet

    def _read_head(self) -> bool:
        if len(self._buffer) < _HEAD_SIZE:
            return False
        for order in _ORDERS:
            magic, _version, _zone, _accuracy, snapshot, link_type = Struct(order + "IIIIII").unpack_from(self._buffer)
            if magic in _MAGIC:
                self._unit, self._record = _MAGIC[magic], Struct(order + "IIII")
                self.snapshot, self.link_type = snapshot, link_type & 0xFFFF
                del self._buffer[:_HEAD_SIZE]
                return True
        raise PcapError(f"no pcap stream: it begins with {bytes(self._buffer[:4]).hex()}")
