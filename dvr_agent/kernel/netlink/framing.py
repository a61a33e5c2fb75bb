"""Framing of netlink messages in a buffer (netlink(7)): pack requests, walk answers, read errors.  Pure.

Used by :mod:`.endpoint` (send) and :mod:`.transport` (answers).  The modules of the kinds make and read the bodies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyroute2.netlink import NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_REQUEST, NLMSG_DONE, nlmsgerr

from dvr_agent.kernel.netlink.message import HEADER, Request
from dvr_agent.kernel.netlink.schema import Data, Schema, positions

_ERROR = Schema(nlmsgerr)
_MESSAGE = _ERROR.number("NLMSGERR_ATTR_MSG")
_read_message = _ERROR.reader("NLMSGERR_ATTR_MSG")
_read_error = _ERROR.read_head("error")
ERROR_SIZE = _ERROR.size
"""The errno at the begin of an NLMSG_ERROR or NLMSG_DONE message."""
HEADER_SIZE = HEADER.size
DONE_SIZE = HEADER_SIZE + ERROR_SIZE
"""Header and errno: the last message of a dump that succeeded."""
BATCH_BYTES = 32 * 1024
BATCH_MESSAGES = 128
"""If each message fails, the answers still fit into the default receive buffer of 208 KiB (768 bytes each)."""


def pack(requests: Sequence[Request], first: int, last: int) -> bytes:
    """Pack requests for one send.

    :param first: sequence number of the first request
    :param last: flags that are added to the last request
    """
    header, size = HEADER.pack, HEADER_SIZE
    end = first + len(requests) - 1
    return b"".join(
        [
            header(size + len(body), kind, flags | NLM_F_REQUEST | (last if number == end else 0), number, 0) + body
            for number, (kind, flags, body, _what, _tolerate) in enumerate(requests, first)
        ]
    )


def chunks(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Split requests into portions that one send and the receive buffer can take."""
    for start in range(0, len(requests), BATCH_MESSAGES):
        yield from _halves(requests[start : start + BATCH_MESSAGES])


def _halves(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Split requests until the bytes of each portion, or its only request, fit into one send."""
    size = sum([len(request.body) for request in requests]) + len(requests) * HEADER_SIZE
    middle = len(requests) // 2
    if size <= BATCH_BYTES or not middle:
        yield requests
    else:
        yield from _halves(requests[:middle])
        yield from _halves(requests[middle:])


def messages(buffer: Data, size: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (type, flags, sequence number, begin and end of the body) of each message in ``buffer[:size]``."""
    at, head = 0, HEADER_SIZE
    unpack = HEADER.unpack_from
    while at + head <= size:
        length, kind, flags, sequence, _port = unpack(buffer, at)
        if length < head:
            return
        yield kind, flags, sequence, at + head, at + length
        at += (length + 3) & ~3


def message_around(buffer: Data, position: int, sequence: int) -> tuple[int, int]:
    """Return begin and end of the message that contains ``position``: its header is the nearest one that spans it."""
    for at in range(position & ~3, -1, -4):
        length, kind, _flags, found, _port = HEADER.unpack_from(buffer, at)
        if found == sequence and kind > NLMSG_DONE and at + HEADER_SIZE <= position < at + length:
            return at, at + length
    return 0, 0


def error_code(buffer: Data, start: int, end: int) -> int:
    """Return the positive errno in an NLMSG_ERROR or NLMSG_DONE message; 0: success (an acknowledgement)."""
    return -int(_read_error(buffer, start)[0]) if end - start >= ERROR_SIZE else 0


def error_text(buffer: Data, flags: int, start: int, end: int) -> str:
    """Return the kernel's text for an error (extended acknowledgement), ``""`` without one."""
    if not flags & NLM_F_ACK_TLVS:
        return ""
    quoted = HEADER_SIZE if flags & NLM_F_CAPPED else HEADER.unpack_from(buffer, start + ERROR_SIZE)[0]
    return _message_attribute(buffer, start + ERROR_SIZE + ((quoted + 3) & ~3), end)


def dump_error_text(buffer: Data, flags: int, start: int, end: int) -> str:
    """Return the kernel's text in an NLMSG_DONE message, which quotes no request: attributes follow the errno."""
    return _message_attribute(buffer, start + ERROR_SIZE, end) if flags & NLM_F_ACK_TLVS else ""


def _message_attribute(buffer: Data, start: int, end: int) -> str:
    found = positions(attributes := bytes(buffer[start:end]), 0, _MESSAGE)
    return str(_read_message(attributes, found[_MESSAGE])) if _MESSAGE in found else ""
