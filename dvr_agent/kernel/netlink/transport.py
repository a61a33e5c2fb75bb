"""The netlink transport of all families (route, netfilter): batches, transactions, gets and dumps over one socket.

Everything that talks netlink to the kernel opens a :class:`NetlinkSocket`: links, routes and their like
(``kernel/observe.py``, ``apply.py``, ``attach/``), connection tracking (``kernel/conntrack``) and nf_tables.

Requests are sent many at a time with an acknowledgement asked for on the last only: the kernel reports every error with
the sequence number of its request anyway, and goes on with the rest.  No call here waits for an answer
(:mod:`.endpoint` says why).
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Sequence
from functools import partial

from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
)

from dvr_agent.errors import KernelError
from dvr_agent.kernel.netlink.endpoint import NetlinkEndpoint, RepeatError
from dvr_agent.kernel.netlink.framing import (
    DONE_SIZE,
    HEADER_SIZE,
    chunks,
    dump_error_text,
    error_code,
    error_text,
    message_around,
    messages,
)
from dvr_agent.kernel.netlink.message import HEADER, Request
from dvr_agent.kernel.netlink.schema import Data

SO_SNDBUFFORCE = 32
"""``include/uapi/asm-generic/socket.h``; Python has no name for it."""
SEND_BUFFER = 128 * 1024
"""Bytes that a socket takes in one send with the kernel's defaults (208 KiB, which counts its overhead too)."""
DUMP_TRIES = 16
"""A dump is repeated when the list was changed while it was read."""


class NetlinkSocket(NetlinkEndpoint):
    """Batches, transactions, single gets and dumps in one namespace."""

    def batch(self, requests: Sequence[Request]) -> list[tuple[Request, int]]:
        """Ask for changes, in order.

        :returns: the requests that failed in a way they tolerate, each with its errno
        :raises KernelError: naming the first request that failed otherwise; later requests were sent as well, up to
            the end of its chunk of at most :data:`~.framing.BATCH_MESSAGES`
        """
        tolerated: list[tuple[Request, int]] = []
        for chunk in chunks(requests):
            refused = []
            for index, code, hint, _body in sorted(self._ask(chunk, len(chunk))):
                if code in chunk[index].tolerate:
                    tolerated.append((chunk[index], code))
                else:
                    refused.append((chunk[index], code, hint))
            if refused:
                raise self.refused(*refused[0])
        return tolerated

    def attempt(self, requests: Sequence[Request]) -> list[tuple[int, int, str]]:
        """Ask for changes, in order, and go on after those that fail.

        :returns: (index, errno, hint) of the requests that failed, in order, also of those that tolerate it
        :raises KernelError: the requests could not be sent, or an answer was lost
        """
        return self.exchange(requests, ())[0]

    def make(self, changes: Sequence[Request], gets: Sequence[Request]) -> list[Data | None]:
        """Ask for changes as :meth:`batch` does, and for single objects as :meth:`get` does after them, in one send.

        :raises KernelError: naming the first change that failed in a way it does not tolerate
        """
        failed, answers = self.exchange(changes, gets)
        for index, code, hint in failed:
            if code not in changes[index].tolerate:
                raise self.refused(changes[index], code, hint)
        return answers

    def exchange(
        self, changes: Sequence[Request], gets: Sequence[Request]
    ) -> tuple[list[tuple[int, int, str]], list[Data | None]]:
        """Ask for changes as :meth:`attempt` does, and for single objects as :meth:`get` does after them, in one send.

        :returns: what these two return; after a change that failed an object is None for whatever reason
        """
        failed: list[tuple[int, int, str]] = []
        answers: dict[int, Data | None] = {}
        unanswered: KernelError | None = None
        start, last = 0, len(changes)
        for chunk in chunks([*changes, *gets]):
            for index, code, hint, body in self._ask(chunk, last - start):
                if start + index < last:
                    failed.append((start + index, code, hint))
                    continue
                answers[start + index] = body
                if code and code not in chunk[index].tolerate:
                    unanswered = unanswered or self._error(chunk[index].text, code, hint)
            start += len(chunk)
        if len(answers) < len(gets):
            raise self._error(gets[0].text, errno.ENOBUFS, "an answer was lost")
        if unanswered is not None and not failed:  # else most likely for want of what was refused
            raise unanswered
        return sorted(failed), [answers[last + index] for index in range(len(gets))]

    def _ask(self, chunk: Sequence[Request], changes: int) -> list[tuple[int, int, str, Data | None]]:
        """Send requests at once, the first ones of which are changes.

        :returns: (index, errno, hint, None) of those that failed, (index, 0, "", answer) of those that were answered
        """
        if self._counters is not None and changes > 0:
            self._counters.netlink += min(changes, len(chunk))
        first = self._send(chunk, NLM_F_ACK if changes >= len(chunk) else 0)
        last, head, unpack = len(chunk) - 1, HEADER_SIZE, HEADER.unpack_from
        found: list[tuple[int, int, str, Data | None]] = []
        while size := self._receive_or_skip("netlink batch"):
            # The loop of framing.messages(), written out: a job passes by here a dozen times.
            at, buffer = 0, self._buffer
            while at + head <= size:
                length, kind, flags, sequence, _port = unpack(buffer, at)
                index, start, end = sequence - first, at + head, at + length
                at += (length + 3) & ~3 or head
                if not 0 <= index <= last:
                    continue
                if kind != NLMSG_ERROR:
                    found.append((index, 0, "", buffer[start:end]))
                elif code := error_code(buffer, start, end):
                    found.append((index, code, error_text(buffer, flags, start, end), None))
                if index == last:
                    return found
        raise self._error("netlink batch", errno.ENOBUFS, "the acknowledgement was lost")

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
        """Return the answer to each request for a single object; None where it fails in a way it tolerates."""
        answers: list[Data | None] = []
        for chunk in chunks(requests):
            first = self._send(chunk, 0)
            answers += self._answers(chunk, first)
        return answers

    def dump(self, request: Request) -> list[Data]:
        """Return the bodies of all messages that answer a request with NLM_F_DUMP, in one consistent view.

        An errno that the request tolerates is an empty answer.
        """
        try:
            return self._dump(request)
        except RepeatError:
            return self._repeated(request, partial(self._dump, request))

    def dump_containing(self, request: Request, needles: Sequence[bytes]) -> list[Data]:
        """Return the messages of a dump that contain one of the byte strings; the other messages are not decoded.

        For long lists of which the caller wants few objects (rules of a shared namespace, tracked connections) and for
        which the kernel has no filter.  The search runs at memory speed; the cost of a needle is one search of the
        whole list.
        """
        try:
            return self._dump_containing(request, needles)
        except RepeatError:
            return self._repeated(request, partial(self._dump_containing, request, needles))

    def _repeated(self, request: Request, read: Callable[[], list[Data]]) -> list[Data]:
        """Repeat a dump until the kernel's list did not change while it was read."""
        for _ in range(DUMP_TRIES - 1):
            self._drain()
            with contextlib.suppress(RepeatError):
                return read()
        self._drain()
        raise self._error(request.text, errno.EINTR, f"changed {DUMP_TRIES} times while it was read")

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
                        raise self.refused(requests[index], code, hint)
                    raise self._error(requests[index].text, code, hint)
                acknowledged = True
        if not acknowledged:
            raise self._error(requests[0].text, errno.ENOBUFS, "the acknowledgement was lost")

    def _answers(self, requests: Sequence[Request], first: int) -> list[Data | None]:
        """Read the answers to the requests that were sent, in the order of the requests."""
        answers: dict[int, Data | None] = {}
        while len(answers) < len(requests):
            try:
                size = self._receive(requests[0].text)
            except RepeatError:
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
        """Read a dump once.

        :raises RepeatError: the kernel's list was changed, or the buffer was too small
        """
        wanted = self._send((request,), 0)
        found: list[Data] = []
        interrupted, head = 0, HEADER_SIZE
        while size := self._receive(request.text):
            # The loop of framing.messages(), written out: this is where a thousand routes pass by.
            at = 0
            buffer = self._buffer
            unpack = HEADER.unpack_from
            while at + head <= size:
                length, kind, flags, sequence, _port = unpack(buffer, at)
                if sequence == wanted:
                    if kind > NLMSG_DONE:
                        interrupted |= flags & NLM_F_DUMP_INTR
                        found.append(buffer[at + head : at + length])
                    else:
                        self._end_of_dump(request, kind, flags, at + head, at + length)
                        if (interrupted | flags) & NLM_F_DUMP_INTR:
                            raise RepeatError
                        return found
                at += (length + 3) & ~3 or head
        raise RepeatError

    def _dump_containing(self, request: Request, needles: Sequence[bytes]) -> list[Data]:
        """Read a dump once, and decode only messages that contain a needle.

        :raises RepeatError: the kernel's list was changed, or the buffer was too small
        """
        wanted = self._send((request,), 0)
        found: list[Data] = []
        while size := self._receive(request.text):
            found += self._messages_containing(needles, size, wanted)
            if self._is_last_part(request, size, wanted):
                return found
        raise RepeatError

    def _messages_containing(self, needles: Sequence[bytes], size: int, sequence: int) -> list[Data]:
        """Return the bodies of the messages in one part of a dump that contain a needle, each once, in their order."""
        found: dict[int, Data] = {}
        buffer = self._buffer
        for needle in needles:
            hit = buffer.find(needle, 0, size)
            while hit >= 0:
                begin, end = message_around(buffer, hit, sequence)
                if end > begin:
                    found[begin] = buffer[begin + HEADER_SIZE : end]
                hit = buffer.find(needle, max(end, hit + 1), size)
        return [found[begin] for begin in sorted(found)]

    def _is_last_part(self, request: Request, size: int, wanted: int) -> bool:
        """True if the part in the buffer ends the dump.

        The kernel flags a changed list in the first message of the part that it sends next, so two messages are enough:
        the first one and the last one.

        :raises RepeatError: the list was changed
        """
        for at in (0, size - DONE_SIZE) if size > DONE_SIZE else (0,):
            length, kind, flags, sequence, _port = HEADER.unpack_from(self._buffer, at)
            if sequence != wanted:
                continue
            if kind in (NLMSG_DONE, NLMSG_ERROR) and at + length == size:
                self._end_of_dump(request, kind, flags, at + HEADER_SIZE, at + length)
                if flags & NLM_F_DUMP_INTR:
                    raise RepeatError
                return True
            if kind > NLMSG_DONE and flags & NLM_F_DUMP_INTR and at == 0:
                raise RepeatError
        return False

    def _end_of_dump(self, request: Request, kind: int, flags: int, start: int, end: int) -> None:
        """Check the message that ends a dump.

        :raises RepeatError: the kernel asks to read again
        :raises KernelError: the dump failed
        """
        code = error_code(self._buffer, start, end)
        if code == errno.EBUSY or code == errno.EINTR:
            raise RepeatError
        if code and code not in request.tolerate:
            text = error_text if kind == NLMSG_ERROR else dump_error_text
            raise self._error(request.text, code, text(self._buffer, flags, start, end))
