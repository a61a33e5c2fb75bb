"""A plain route netlink socket, bound for life to the namespace it was opened in.

Requests go out many at a time with an acknowledgement asked for on the last only: the kernel reports every error with
the sequence number of its request anyway, and goes on with the rest.  rtnetlink works inside ``send``, and prepares the
next part of a dump inside ``recv``; so an answer is always there already, and no call here ever waits for one.
"""

from __future__ import annotations

import errno
import logging
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType

from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.explain import explain
from dvr_agent.kernel.netlink.message import HEADER, NLM_F_ACK, NLM_F_REQUEST, Data, Request, attributes
from dvr_agent.kernel.netns import entered

# include/uapi/linux/netlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSGERR_ATTR_MSG = 1
SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12

BUFFER = 64 * 1024
"""Bytes; the kernel fills at most 32 KiB at a time (netlink_dump in net/netlink/af_netlink.c)."""
BATCH_BYTES = 32 * 1024
BATCH_MESSAGES = 128
"""If each of them fails, the answers must still fit into the default receive buffer of 208 KiB (768 bytes each)."""
LOG = logging.getLogger(__name__)

DUMP_TRIES = 16
"""A dump is repeated when somebody changed the list while it was read."""

_DONE_SIZE = 20
"""Header and errno: the last message of a dump that went well."""
_ERRNO = struct.Struct("=i")
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_TRUNC
_pool: list[bytearray] = []


def open_raw(namespace: str) -> socket.socket:
    """The bare socket, for those who open it in a window of their own together with other things.

    :param namespace: for errors only
    :raises KernelError: no descriptor is left
    """
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    except OSError as exc:
        raise KernelError(namespace, "netlink socket", exc.errno or errno.EIO) from exc


class _RepeatError(Exception):
    """The dump has to be read again: it was interrupted, or the buffer was too small."""


class NetlinkSocket:
    """Batches and dumps.  Use it in a ``with`` block and keep it short: it keeps its namespace alive."""

    def __init__(self, namespace: str, raw: socket.socket, counters: WriteCounters) -> None:
        """
        :param namespace: for errors only
        :param raw: from :func:`open_raw`, called inside that namespace; closed with this object
        :param counters: :attr:`WriteCounters.netlink` counts what goes through :meth:`batch`
        """
        self.namespace = namespace
        self._raw = raw
        self._counters = counters
        # Not from 1 on: small numbers stand everywhere inside messages, and _message_around() must not find them there.
        self._sequence = random.randrange(1 << 28, 1 << 31)
        try:
            for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
                raw.setsockopt(SOL_NETLINK, option, 1)
        except OSError as exc:
            raw.close()
            raise self._error("netlink socket", exc.errno or errno.EIO) from exc
        self._buffer = _pool.pop() if _pool else bytearray(BUFFER)

    @classmethod
    def open(cls, namespace: str, counters: WriteCounters) -> NetlinkSocket:
        """
        :raises NamespaceGoneError: there is no such namespace
        """
        with entered(namespace):
            raw = open_raw(namespace)
        return cls(namespace, raw, counters)

    def close(self) -> None:
        self._raw.close()
        if len(self._buffer) == BUFFER:
            _pool.append(self._buffer)
        self._buffer = bytearray()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def batch(self, requests: Sequence[Request]) -> list[tuple[Request, int]]:
        """Ask for changes, in order.

        :returns: the requests that failed in a way they tolerate, each with its errno
        :raises KernelError: naming the first one that failed otherwise; those after it were tried as well, up to
            the end of its chunk of at most :data:`BATCH_MESSAGES`
        """
        tolerated: list[tuple[Request, int]] = []
        for chunk in _chunks(requests):
            self._counters.netlink += len(chunk)
            first = self._send(chunk, NLM_F_ACK)
            worst: tuple[int, int, str] | None = None
            for index, code, hint in self._acknowledged(first, len(chunk)):
                if code in chunk[index].tolerate:
                    tolerated.append((chunk[index], code))
                elif worst is None or index < worst[0]:
                    worst = (index, code, hint)
            if worst is not None:
                refused = chunk[worst[0]]
                if LOG.isEnabledFor(logging.DEBUG):
                    LOG.debug(
                        "refused in namespace %s: %s", self.namespace or "(host)", explain(refused.kind, refused.body)
                    )
                raise self._error(refused.text, *worst[1:])
        return tolerated

    def get(self, requests: Sequence[Request]) -> list[Data | None]:
        """One answer to each request that asks for a single object; None where it fails in a way it tolerates."""
        answers: list[Data | None] = []
        for chunk in _chunks(requests):
            first = self._send(chunk, 0)
            answers += self._answers(chunk, first)
        return answers

    def dump(self, request: Request) -> list[Data]:
        """The bodies of all messages that answer a request with NLM_F_DUMP, in one consistent view.

        An errno that the request tolerates is an empty answer.
        """
        for _ in range(DUMP_TRIES):
            try:
                return self._dump(request)
            except _RepeatError:
                self._drain()
        raise self._error(request.text, errno.EINTR, f"changed {DUMP_TRIES} times while it was read")

    def dump_containing(self, request: Request, needles: Sequence[bytes]) -> list[Data]:
        """Of a dump only the messages in which one of the byte strings occurs, found without looking at the others.

        For lists that are long because of others (the rules of a shared namespace), where the kernel has no filter.
        """
        for _ in range(DUMP_TRIES):
            try:
                return self._dump_containing(request, needles)
            except _RepeatError:
                self._drain()
        raise self._error(request.text, errno.EINTR, f"changed {DUMP_TRIES} times while it was read")

    def _error(self, what: str, code: int, hint: str = "") -> KernelError:
        return KernelError(self.namespace, what, code, hint)

    def _send(self, requests: Sequence[Request], last: int) -> int:
        """Send them all, with the flag ``last`` on the last one; returns the sequence number of the first."""
        first = self._sequence + 1
        pack = HEADER.pack
        parts: list[bytes] = []
        sequence = self._sequence
        end = sequence + len(requests)
        for request in requests:
            sequence += 1
            flags = request.flags | NLM_F_REQUEST | (last if sequence == end else 0)
            parts.append(pack(16 + len(request.body), request.kind, flags, sequence, 0))
            parts.append(request.body)
        self._sequence = sequence
        try:
            self._raw.send(b"".join(parts))
        except OSError as exc:
            raise self._error(requests[0].text, exc.errno or errno.EIO, "netlink send") from exc
        return first

    def _receive(self, what: str) -> int:
        """Fill the buffer; returns the number of bytes, 0 if there is nothing."""
        try:
            size = self._raw.recv_into(self._buffer, 0, _FLAGS)
        except BlockingIOError:
            return 0
        except OSError as exc:
            if exc.errno == errno.ENOBUFS:
                raise _RepeatError from exc
            raise self._error(what, exc.errno or errno.EIO, "netlink receive") from exc
        if size > len(self._buffer):
            self._buffer = bytearray(size * 2)
            raise _RepeatError
        return size

    def _messages(self, size: int) -> Iterator[tuple[int, int, int, int, int]]:
        """(type, flags, sequence number, begin and end of the body) of each message in the buffer."""
        at = 0
        buffer = self._buffer
        unpack = HEADER.unpack_from
        while at + 16 <= size:
            length, kind, flags, sequence, _port = unpack(buffer, at)
            if length < 16:
                return
            yield kind, flags, sequence, at + 16, at + length
            at += (length + 3) & ~3

    def _acknowledged(self, first: int, count: int) -> Iterator[tuple[int, int, str]]:
        """(index, errno, hint) of each request that failed, until the last one has been answered."""
        while True:
            try:
                size = self._receive("netlink batch")
            except _RepeatError:
                continue
            if not size:
                raise self._error("netlink batch", errno.ENOBUFS, "the acknowledgement was lost")
            for kind, flags, sequence, start, end in self._messages(size):
                index = sequence - first
                if kind != NLMSG_ERROR or not 0 <= index < count:
                    continue
                (code,) = _ERRNO.unpack_from(self._buffer, start)
                if code:
                    yield index, -code, self._hint(flags, start, end)
                if index == count - 1:
                    return

    def _answers(self, requests: Sequence[Request], first: int) -> list[Data | None]:
        answers: dict[int, Data | None] = {}
        while len(answers) < len(requests):
            try:
                size = self._receive(requests[0].text)
            except _RepeatError:
                size = 0
            if not size:
                raise self._error(requests[0].text, errno.ENOBUFS, "an answer was lost")
            for kind, flags, sequence, start, end in self._messages(size):
                index = sequence - first
                if not 0 <= index < len(requests):
                    continue
                if kind != NLMSG_ERROR:
                    answers[index] = self._buffer[start:end]
                    continue
                code = -_ERRNO.unpack_from(self._buffer, start)[0]
                if code not in requests[index].tolerate:
                    raise self._error(requests[index].text, code, self._hint(flags, start, end))
                answers[index] = None
        return [answers[index] for index in range(len(requests))]

    def _dump(self, request: Request) -> list[Data]:
        """:raises _RepeatError: what was read is not consistent"""
        wanted = self._send((request,), 0)
        found: list[Data] = []
        interrupted = 0
        while size := self._receive(request.text):
            # The loop of _messages(), written out: this is where a thousand routes pass by.
            at = 0
            buffer = self._buffer
            unpack = HEADER.unpack_from
            while at + 16 <= size:
                length, kind, flags, sequence, _port = unpack(buffer, at)
                if sequence == wanted:
                    if kind > NLMSG_DONE:
                        interrupted |= flags & NLM_F_DUMP_INTR
                        found.append(buffer[at + 16 : at + length])
                    else:
                        self._end_of_dump(request, flags, at + 16, at + length)
                        if (interrupted | flags) & NLM_F_DUMP_INTR:
                            raise _RepeatError
                        return found
                at += (length + 3) & ~3 or 16
        raise _RepeatError

    def _dump_containing(self, request: Request, needles: Sequence[bytes]) -> list[Data]:
        """:raises _RepeatError: what was read is not consistent"""
        wanted = self._send((request,), 0)
        found: dict[tuple[int, int], Data] = {}
        part = 0
        while size := self._receive(request.text):
            buffer = self._buffer
            part += 1
            for needle in needles:
                hit = buffer.find(needle, 0, size)
                while hit >= 0:
                    begin, end = self._message_around(hit, wanted)
                    if end > begin:
                        found[part, begin] = buffer[begin + 16 : end]
                    hit = buffer.find(needle, max(end, hit + 1), size)
            # A part is one list of the kernel's, so a change before it shows in its first message; the end is the last.
            for at in (0, size - _DONE_SIZE) if size > _DONE_SIZE else (0,):
                length, kind, flags, sequence, _port = HEADER.unpack_from(buffer, at)
                if sequence != wanted:
                    continue
                if kind in (NLMSG_DONE, NLMSG_ERROR) and at + length == size:
                    self._end_of_dump(request, flags, at + 16, at + length)
                    if flags & NLM_F_DUMP_INTR:
                        raise _RepeatError
                    return list(found.values())
                if kind > NLMSG_DONE and flags & NLM_F_DUMP_INTR and at == 0:
                    raise _RepeatError
        raise _RepeatError

    def _message_around(self, position: int, sequence: int) -> tuple[int, int]:
        """Begin and end of the message that ``position`` lies in: the nearest header before it that spans it."""
        for at in range(position & ~3, -1, -4):
            length, kind, _flags, found, _port = HEADER.unpack_from(self._buffer, at)
            if found == sequence and kind > NLMSG_DONE and at + 16 <= position < at + length:
                return at, at + length
        return 0, 0

    def _end_of_dump(self, request: Request, flags: int, start: int, end: int) -> None:
        code = -_ERRNO.unpack_from(self._buffer, start)[0] if end - start >= 4 else 0
        if code == errno.EBUSY or code == errno.EINTR:
            raise _RepeatError
        if code and code not in request.tolerate:
            hint = self._hint(flags | NLM_F_CAPPED, start - 16, end) if end - start > 4 else ""
            raise self._error(request.text, code, hint)

    def _drain(self) -> None:
        """Throw away the rest of an answer."""
        while True:
            try:
                if not self._receive("netlink socket"):
                    return
            except _RepeatError:
                continue

    def _hint(self, flags: int, start: int, end: int) -> str:
        """The kernel's own words on an error (extended acknowledgement), if it has any."""
        if not flags & NLM_F_ACK_TLVS:
            return ""
        quoted = 16 if flags & NLM_F_CAPPED else HEADER.unpack_from(self._buffer, start + 4)[0]
        for kind, begin, stop in attributes(self._buffer, start + 4 + ((quoted + 3) & ~3), end):
            if kind == NLMSGERR_ATTR_MSG:
                return self._buffer[begin:stop].rstrip(b"\0").decode(errors="replace")
        return ""


def _chunks(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """The requests in portions that one send and the receive buffer can take."""
    start = size = 0
    for index, request in enumerate(requests):
        length = 16 + len(request.body)
        if size and (size + length > BATCH_BYTES or index - start == BATCH_MESSAGES):
            yield requests[start:index]
            start, size = index, 0
        size += length
    if size:
        yield requests[start:]
