"""The netlink transport of all families (route, netfilter): one plain socket, bound for life to one namespace.

Everything that talks netlink to the kernel opens a :class:`NetlinkSocket`: links, routes and their like
(``kernel/observe.py``, ``apply.py``, ``attach/``), connection tracking (``kernel/conntrack``) and nf_tables.

Requests are sent many at a time with an acknowledgement asked for on the last only: the kernel reports every error with
the sequence number of its request anyway, and goes on with the rest.  Kernel-side handlers of both families work inside
``send``, and prepare the next part of a dump inside ``recv``; so an answer is always there already, and no call here
ever waits for one.
"""

from __future__ import annotations

import errno
import logging
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from pyroute2.netlink import (
    NETLINK_EXT_ACK,
    NETLINK_GET_STRICT_CHK,
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    SOL_NETLINK,
)

from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.explain import explain
from dvr_agent.kernel.netlink.framing import (
    DONE_SIZE,
    HEADER_SIZE,
    chunks,
    dump_error_text,
    error_code,
    error_text,
    message_around,
    messages,
    pack,
)
from dvr_agent.kernel.netlink.message import HEADER, Data, Request
from dvr_agent.kernel.netns import entered

NETLINK_CAP_ACK = 10
"""``include/uapi/linux/netlink.h``; pyroute2 has no name for it."""
SO_SNDBUFFORCE = 32
"""``include/uapi/asm-generic/socket.h``; nor has Python for this one."""

BUFFER = 64 * 1024
"""Bytes; the kernel fills at most 32 KiB at a time (netlink_dump in net/netlink/af_netlink.c)."""
SEND_BUFFER = 128 * 1024
"""Bytes that a socket takes in one send with the kernel's defaults (208 KiB, which counts its overhead too)."""
DUMP_TRIES = 16
"""A dump is repeated when the list was changed while it was read."""
LOG = logging.getLogger(__name__)

_FLAGS = socket.MSG_DONTWAIT | socket.MSG_TRUNC
_pool: list[bytearray] = []


def open_raw(namespace: str, protocol: int = NETLINK_ROUTE) -> socket.socket:
    """Open the bare socket, for a caller that enters the namespace itself to open other things there too.

    :param namespace: for errors only
    :param protocol: ``NETLINK_ROUTE`` or ``NETLINK_NETFILTER``
    :raises KernelError: no descriptor is left, or EPROTONOSUPPORT: this kernel has no such family
    """
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as exc:
        raise KernelError(namespace, "netlink socket", exc.errno or errno.EIO) from exc


class _RepeatError(Exception):
    """The dump has to be read again: it was interrupted, or the buffer was too small."""


class NetlinkSocket:
    """Batches, transactions, single gets and dumps in one namespace.

    Use it in a ``with`` block and keep it short: it keeps its namespace alive.

    :ivar namespace: for errors only
    """

    def __init__(self, namespace: str, raw: socket.socket, counters: WriteCounters | None) -> None:
        """
        :param namespace: for errors only
        :param raw: from :func:`open_raw`, called inside that namespace; closed with this object
        :param counters: :attr:`WriteCounters.netlink` counts what goes through :meth:`batch`
        """
        self.namespace = namespace
        self._raw = raw
        self._counters = counters
        # Not from 1 on: small numbers stand everywhere inside messages, and message_around() must not find them there.
        self._sequence = random.randrange(1 << 28, 1 << 31)
        try:
            for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
                raw.setsockopt(SOL_NETLINK, option, 1)
        except OSError as exc:
            raw.close()
            raise self._error("netlink socket", exc.errno or errno.EIO) from exc
        self._buffer = _pool.pop() if _pool else bytearray(BUFFER)

    @classmethod
    def open(cls, namespace: str, counters: WriteCounters | None, protocol: int = NETLINK_ROUTE) -> NetlinkSocket:
        """Open a socket in a named namespace, ``""`` for the one the thread is in.

        :param counters: None: what is written through this socket is not counted
        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: no descriptor is left, or EPROTONOSUPPORT: this kernel has no such family
        """
        with entered(namespace):
            raw = open_raw(namespace, protocol)
        return cls(namespace, raw, counters)

    def close(self) -> None:
        """Close the socket, and give its buffer back for the next one."""
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
        :raises KernelError: naming the first request that failed otherwise; later requests were sent as well, up to
            the end of its chunk of at most :data:`~.framing.BATCH_MESSAGES`
        """
        tolerated: list[tuple[Request, int]] = []
        for chunk in chunks(requests):
            if self._counters is not None:
                self._counters.netlink += len(chunk)
            first = self._send(chunk, NLM_F_ACK)
            worst: tuple[int, int, str] | None = None
            for index, code, hint in self._acknowledged(first, len(chunk)):
                if code in chunk[index].tolerate:
                    tolerated.append((chunk[index], code))
                elif worst is None or index < worst[0]:
                    worst = (index, code, hint)
            if worst is not None:
                raise self._refused(chunk[worst[0]], *worst[1:])
        return tolerated

    def transaction(self, begin: Request, changes: Sequence[Request], end: Request) -> None:
        """Ask for all of the changes or none of them, between two messages that mark a transaction (nf_tables).

        Always one send: the kernel acknowledges a transaction without its end, and does not carry it out.  The end
        itself is answered by newer kernels only (Linux 6.10), so the last change is the one to be acknowledged.

        :raises KernelError: naming the request that was refused; nothing was changed
        """
        acknowledged = changes[-1]._replace(flags=changes[-1].flags | NLM_F_ACK)
        requests = (begin, *changes[:-1], acknowledged, end)
        size = sum(HEADER_SIZE + len(request.body) for request in requests)
        if size > SEND_BUFFER:
            try:
                self._raw.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * size)
            except OSError as exc:
                raise self._error(begin.text, exc.errno or errno.EIO, "netlink send buffer") from exc
        self._settle(requests, self._send(requests, 0))

    def get(self, requests: Sequence[Request]) -> list[Data | None]:
        """One answer to each request that asks for a single object; None where it fails in a way it tolerates."""
        answers: list[Data | None] = []
        for chunk in chunks(requests):
            first = self._send(chunk, 0)
            answers += self._answers(chunk, first)
        return answers

    def dump(self, request: Request) -> list[Data]:
        """The bodies of all messages that answer a request with NLM_F_DUMP, in one consistent view.

        An errno that the request tolerates is an empty answer.
        """
        return self._consistent(request, lambda: self._dump(request))

    def dump_containing(self, request: Request, needles: Sequence[bytes]) -> list[Data]:
        """Of a dump only the messages in which one of the byte strings occurs, found without reading the others.

        For lists that are long because of others (the rules of a shared namespace, tracked connections), where the
        kernel has no filter.  The search runs at memory speed; the cost of a needle is one search of the whole list.
        """
        return self._consistent(request, lambda: self._dump_containing(request, needles))

    def _consistent(self, request: Request, read: Callable[[], list[Data]]) -> list[Data]:
        """Repeat a dump until the kernel's list did not change while it was read."""
        for _ in range(DUMP_TRIES):
            try:
                return read()
            except _RepeatError:
                self._drain()
        raise self._error(request.text, errno.EINTR, f"changed {DUMP_TRIES} times while it was read")

    def _error(self, what: str, code: int, hint: str = "") -> KernelError:
        return KernelError(self.namespace, what, code, hint)

    def _refused(self, request: Request, code: int, hint: str) -> KernelError:
        if LOG.isEnabledFor(logging.DEBUG):
            LOG.debug("refused in namespace %s: %s", self.namespace or "(host)", explain(request.kind, request.body))
        return self._error(request.text, code, hint)

    def _send(self, requests: Sequence[Request], last: int) -> int:
        """Send them all, with the flags ``last`` added to the last one; returns the first one's sequence number."""
        first = self._sequence + 1
        self._sequence += len(requests)
        try:
            self._raw.send(pack(requests, first, last))
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

    def _acknowledged(self, first: int, count: int) -> Iterator[tuple[int, int, str]]:
        """(index, errno, hint) of each request that failed, until the last one has been answered."""
        while True:
            try:
                size = self._receive("netlink batch")
            except _RepeatError:
                continue
            if not size:
                raise self._error("netlink batch", errno.ENOBUFS, "the acknowledgement was lost")
            for kind, flags, sequence, start, end in messages(self._buffer, size):
                index = sequence - first
                if kind != NLMSG_ERROR or not 0 <= index < count:
                    continue
                code = error_code(self._buffer, start, end)
                if code:
                    yield index, code, error_text(self._buffer, flags, start, end)
                if index == count - 1:
                    return

    def _settle(self, requests: Sequence[Request], first: int) -> None:
        """Read all answers to a transaction.

        :raises KernelError: the first refusal, or no acknowledgement
        """
        acknowledged = False
        while size := self._receive_or_skip(requests[0].text):
            for kind, flags, sequence, start, end in messages(self._buffer, size):
                index = sequence - first
                if kind != NLMSG_ERROR or not 0 <= index < len(requests):
                    continue
                if code := error_code(self._buffer, start, end):
                    hint = error_text(self._buffer, flags, start, end)
                    self._drain()
                    if 0 < index < len(requests) - 1:
                        raise self._refused(requests[index], code, hint)
                    raise self._error(requests[index].text, code, hint)
                acknowledged = True
        if not acknowledged:
            raise self._error(requests[0].text, errno.ENOBUFS, "the acknowledgement was lost")

    def _receive_or_skip(self, what: str) -> int:
        """As :meth:`_receive`; answers that did not fit are skipped."""
        while True:
            try:
                return self._receive(what)
            except _RepeatError:
                continue

    def _answers(self, requests: Sequence[Request], first: int) -> list[Data | None]:
        answers: dict[int, Data | None] = {}
        while len(answers) < len(requests):
            try:
                size = self._receive(requests[0].text)
            except _RepeatError:
                size = 0
            if not size:
                raise self._error(requests[0].text, errno.ENOBUFS, "an answer was lost")
            for kind, flags, sequence, start, end in messages(self._buffer, size):
                index = sequence - first
                if not 0 <= index < len(requests):
                    continue
                if kind != NLMSG_ERROR:
                    answers[index] = self._buffer[start:end]
                    continue
                code = error_code(self._buffer, start, end)
                if code not in requests[index].tolerate:
                    raise self._error(requests[index].text, code, error_text(self._buffer, flags, start, end))
                answers[index] = None
        return [answers[index] for index in range(len(requests))]

    def _dump(self, request: Request) -> list[Data]:
        """:raises _RepeatError: the kernel's list was changed, or the buffer was too small"""
        wanted = self._send((request,), 0)
        found: list[Data] = []
        interrupted = 0
        while size := self._receive(request.text):
            # The loop of framing.messages(), written out: this is where a thousand routes pass by.
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
                        self._end_of_dump(request, kind, flags, at + 16, at + length)
                        if (interrupted | flags) & NLM_F_DUMP_INTR:
                            raise _RepeatError
                        return found
                at += (length + 3) & ~3 or 16
        raise _RepeatError

    def _dump_containing(self, request: Request, needles: Sequence[bytes]) -> list[Data]:
        """:raises _RepeatError: the kernel's list was changed, or the buffer was too small"""
        wanted = self._send((request,), 0)
        found: list[Data] = []
        while size := self._receive(request.text):
            found += self._messages_containing(needles, size, wanted)
            if self._is_last_part(request, size, wanted):
                return found
        raise _RepeatError

    def _messages_containing(self, needles: Sequence[bytes], size: int, sequence: int) -> list[Data]:
        """The bodies of those messages of one part of a dump in which a needle occurs, each once, in their order."""
        found: dict[int, Data] = {}
        buffer = self._buffer
        for needle in needles:
            hit = buffer.find(needle, 0, size)
            while hit >= 0:
                begin, end = message_around(buffer, hit, sequence)
                if end > begin:
                    found[begin] = buffer[begin + 16 : end]
                hit = buffer.find(needle, max(end, hit + 1), size)
        return [found[begin] for begin in sorted(found)]

    def _is_last_part(self, request: Request, size: int, wanted: int) -> bool:
        """True if the part in the buffer ends the dump.

        A part is one list of the kernel's, so a change before it shows in its first message; the end is the last.

        :raises _RepeatError: the list was changed
        """
        for at in (0, size - DONE_SIZE) if size > DONE_SIZE else (0,):
            length, kind, flags, sequence, _port = HEADER.unpack_from(self._buffer, at)
            if sequence != wanted:
                continue
            if kind in (NLMSG_DONE, NLMSG_ERROR) and at + length == size:
                self._end_of_dump(request, kind, flags, at + 16, at + length)
                if flags & NLM_F_DUMP_INTR:
                    raise _RepeatError
                return True
            if kind > NLMSG_DONE and flags & NLM_F_DUMP_INTR and at == 0:
                raise _RepeatError
        return False

    def _end_of_dump(self, request: Request, kind: int, flags: int, start: int, end: int) -> None:
        code = error_code(self._buffer, start, end)
        if code == errno.EBUSY or code == errno.EINTR:
            raise _RepeatError
        if code and code not in request.tolerate:
            text = error_text if kind == NLMSG_ERROR else dump_error_text
            raise self._error(request.text, code, text(self._buffer, flags, start, end))

    def _drain(self) -> None:
        """Throw away the rest of an answer."""
        while self._receive_or_skip("netlink socket"):
            pass
