"""Adds and removes the addresses and routes of a master, by netlink messages that the agent has made.

One message removes what another one has added if its type is the next number (RTM_NEWADDR, RTM_DELADDR …), so that this
process needs no message formats but the header, and for reading addresses and links what :mod:`struct` can do.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence

# include/uapi/linux/netlink.h, rtnetlink.h, if_addr.h, if_link.h, net/if.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x01, 0x04, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
IFA_LOCAL = 2
IFF_UP, IFF_RUNNING = 0x1, 0x40

HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")

CHUNK = 100
"""Messages of one send: all answers fit into the receive buffer even if each fails."""
RECEIVE = 256 * 1024

THERE = frozenset({errno.EEXIST})
GONE = frozenset({errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENOENT})


class Requests:
    """Sends requests on a netlink socket, and reads their answers, which the kernel gives at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sequence = 0

    def add(self, messages: Sequence[bytes]) -> list[OSError]:
        """Add addresses and routes; returns what was refused, but for those that are there already."""
        return self._send(messages, 0, THERE)

    def remove(self, messages: Sequence[bytes]) -> list[OSError]:
        """Remove what these messages add; returns what was refused, but for those that are gone already."""
        return self._send(messages, 1, GONE)

    def has_address(self, interface: int, address: bytes) -> bool:
        """Return True if an interface has an IPv4 address.

        :raises OSError: it cannot be read
        """
        answers = list(self._ask(RTM_GETADDR, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, interface), NLM_F_DUMP))
        return any(
            kind == RTM_NEWADDR
            and _ADDRESS.unpack_from(body)[4] == interface
            and address in _attributes(body[_ADDRESS.size :], IFA_LOCAL)
            for kind, body in answers
        )

    def is_up(self, interface: int) -> bool:
        """Return True if an interface is there, up, and has a carrier.

        :raises OSError: it cannot be read
        """
        try:
            answers = list(self._ask(RTM_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, interface, 0, 0), NLM_F_ACK))
        except OSError as exc:
            if exc.errno == errno.ENODEV:
                return False
            raise
        return any(link_state(kind, body, interface) is True for kind, body in answers)

    def _send(self, messages: Sequence[bytes], step: int, tolerated: frozenset[int]) -> list[OSError]:
        """Send messages in portions; each portion's answers are read before the next."""
        refused: list[OSError] = []
        for start in range(0, len(messages), CHUNK):
            part = messages[start : start + CHUNK]
            first, self._sequence = self._sequence + 1, self._sequence + len(part)
            buffer = bytearray()
            for sequence, message in enumerate(part, first):
                length, kind, flags, _, _ = HEADER.unpack_from(message)
                more = NLM_F_REQUEST | (NLM_F_ACK if sequence == self._sequence else 0)
                # A request to remove has no flags of NLM_F_CREATE and the like.
                buffer += HEADER.pack(length, kind + step, (0 if step else flags) | more, sequence, 0)
                buffer += message[HEADER.size :]
            try:
                self._sock.send(buffer)
                for kind, body in self._answers(self._sequence, NLMSG_ERROR):
                    code = -_ERROR.unpack_from(body)[0] if kind == NLMSG_ERROR else 0
                    if code and code not in tolerated:
                        refused.append(OSError(code, errno.errorcode.get(code, "?")))
            except OSError as exc:
                refused.append(exc)
        return refused

    def _ask(self, kind: int, body: bytes, flags: int) -> Iterator[tuple[int, bytes]]:
        self._sequence += 1
        self._sock.send(HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, self._sequence, 0) + body)
        last = NLMSG_DONE if flags == NLM_F_DUMP else NLMSG_ERROR
        for found, content in self._answers(self._sequence, last):
            if found == NLMSG_ERROR and _ERROR.unpack_from(content)[0]:
                code = -_ERROR.unpack_from(content)[0]
                raise OSError(code, errno.errorcode.get(code, "?"))
            yield found, content

    def _answers(self, sequence: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Yield (type, body) of the answers, up to the last one to the request of this number."""
        while True:
            for kind, number, body in messages_in(self._sock.recv(RECEIVE)):
                if number < sequence - CHUNK or number > sequence:
                    continue  # an answer that came too late
                yield kind, body
                if number == sequence and kind in (last, NLMSG_ERROR):
                    return


def messages_in(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (type, sequence number, body) of netlink messages."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, _flags, sequence, _pid = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            return
        yield kind, sequence, data[at + HEADER.size : at + length]
        at += (length + 3) & ~3


def link_state(kind: int, body: bytes, interface: int) -> bool | None:
    """Return whether a message says that an interface can be used; None: it is about something else."""
    if kind not in (RTM_NEWLINK, RTM_DELLINK) or len(body) < _LINK.size:
        return None
    _family, _type, index, flags, _change = _LINK.unpack_from(body)
    if index != interface:
        return None
    return kind == RTM_NEWLINK and flags & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING


def _attributes(data: bytes, wanted: int) -> list[bytes]:
    found, at = [], 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        if kind == wanted:
            found.append(data[at + _ATTRIBUTE.size : at + length])
        at += (length + 3) & ~3
    return found
