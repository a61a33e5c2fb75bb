"""Asks gateways for an answer by ICMP and ICMPv6 echo requests.

The raw sockets come from the agent, which has opened them in the router's namespace: this process has no right to.
Answers are read when they have to be there, so nothing waits for them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Sequence

from dvr_agent.internet_checksum import checksum
from dvr_agent.libc import attach_filter
from dvr_agent.vrrp.protocol import Gateway

ICMP_REQUEST, ICMP_REPLY, ICMPV6_REQUEST, ICMPV6_REPLY = 8, 0, 128, 129
PACKET = 256
"""Bytes; an answer is as long as the request."""
PAYLOAD = b"dvr-vrrp"
_HEAD = struct.Struct("!BBHHH")
_INSTRUCTION = struct.Struct("=HBBI")


class EchoSockets:
    """Sockets of one virtual router, one for each family that its gateways have; they are ours.

    :raises OSError: they are no such sockets
    """

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        self._sockets = {one.family: one for one in sockets}
        self._sequence = 0
        # Not to be guessed: nobody else answers in place of a gateway, nor fills the buffer.
        self._identifier = int.from_bytes(os.urandom(2), "big")
        for family, one in self._sockets.items():
            attach_filter(one.fileno(), _answers_only(family, self._identifier))

    def ask(self, gateways: Sequence[Gateway]) -> None:
        """Send an echo request to each gateway; one that cannot be sent is not answered either."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        for gateway in gateways:
            kind = ICMP_REQUEST if gateway.family == socket.AF_INET else ICMPV6_REQUEST
            packet = _HEAD.pack(kind, 0, 0, self._identifier, self._sequence) + PAYLOAD
            if gateway.family == socket.AF_INET:  # that of ICMPv6 is computed by the kernel
                packet = packet[:2] + checksum(packet).to_bytes(2, "big") + packet[4:]
            with contextlib.suppress(OSError, KeyError):
                self._sockets[gateway.family].sendto(packet, gateway.socket_address)

    def silent(self, gateways: Iterable[Gateway]) -> list[Gateway]:
        """Return the gateways that have not answered the last request."""
        answered = {found for family in self._sockets for found in self._answered(family)}
        return [one for one in gateways if one.packed not in answered]

    def close(self) -> None:
        """Close the sockets."""
        for one in self._sockets.values():
            one.close()

    def _answered(self, family: int) -> Iterable[bytes]:
        """Yield the addresses of those that have answered; answers to earlier requests are dropped."""
        with contextlib.suppress(OSError):
            while True:
                packet, address = self._sockets[socket.AddressFamily(family)].recvfrom(PACKET)
                start = (packet[0] & 0x0F) * 4 if family == socket.AF_INET else 0
                if int.from_bytes(packet[start + 6 : start + 8], "big") == self._sequence:
                    yield socket.inet_pton(family, address[0].partition("%")[0])


def _answers_only(family: int, identifier: int) -> bytes:
    """Return a program of classic BPF: echo replies with this identifier (linux/filter.h)."""
    load_header, half_word, byte, equal, result = 0xB1, 0x48, 0x50, 0x15, 0x06
    is_ipv4 = family == socket.AF_INET  # such a packet begins with its IP header
    program = (
        (load_header, 0, 0, 0) if is_ipv4 else (0x01, 0, 0, 0),  # X = its length, or 0
        (half_word, 0, 0, 4),
        (equal, 0, 3, identifier),
        (byte, 0, 0, 0),
        (equal, 0, 1, ICMP_REPLY if is_ipv4 else ICMPV6_REPLY),
        (result, 0, 0, PACKET),
        (result, 0, 0, 0),
    )
    return b"".join(_INSTRUCTION.pack(*one) for one in program)
