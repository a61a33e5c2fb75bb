"""Finds and removes the chains that neutron-l3-agent has in tables of nf_tables, where its iptables is iptables-nft.

Implements :class:`dvr_agent.kernel.api.NftablesManager`.  A look at a namespace without any is one dump of chains.
Removing is one transaction for a namespace: packets see all of the chains or none.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
from collections.abc import Sequence

from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import NamespaceManager, WriteCounters
from dvr_agent.kernel.netlink.message import HEADER, NLM_F_ACK, NLM_F_REQUEST, Request
from dvr_agent.kernel.netlink.socket import NLMSG_ERROR, NetlinkSocket
from dvr_agent.kernel.nftables.message import (
    BATCH_BEGIN,
    BATCH_END,
    GET_CHAIN,
    GET_TABLE,
    MISSING,
    NETLINK_NETFILTER,
    batch_edge,
    decode_chain,
    decode_generation,
    decode_rule,
    decode_table,
    dump,
    dump_rules,
    get_generation,
)
from dvr_agent.kernel.nftables.sweep import NftTable, as_table, deletions, places_of
from dvr_agent.state.filter import Table

TRIES = 8
"""A rule set that changes between its reading and its transaction is read again, this often."""
SEND_BUFFER = 128 * 1024
"""Bytes that a socket takes in one send with the kernel's defaults (208 KiB, which counts its overhead too)."""
SO_SNDBUFFORCE = 32
"""``asm-generic/socket.h``; Python has no name for it."""
BUFFER = 64 * 1024

_ERRNO = struct.Struct("=i")
_CHANGED = frozenset({errno.ERESTART, errno.ENOENT, errno.EAGAIN})


class NftablesTables:
    """Left-overs in nf_tables, namespace by namespace; keeps nothing but whether this kernel has nf_tables at all."""

    def __init__(self, namespaces: NamespaceManager, counters: WriteCounters) -> None:
        self._namespaces, self._counters = namespaces, counters
        self._missing = False

    def observe(self, namespace: str) -> tuple[Table, ...]:
        """The other agent's chains, by table, with their rules as far as there are words for them; () without any.

        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: they could not be read
        """
        if self._missing:
            return ()
        raw = self._open(namespace)
        if raw is None:
            return ()
        with NetlinkSocket(namespace, raw, self._counters) as sock:
            return tuple(map(as_table, self._read(sock)))

    def remove(self, namespace: str) -> int:
        """Delete them in one transaction; returns how many chains there were.

        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: nothing was changed; EBUSY: a rule of somebody else leads to one of the chains
        """
        raw = None if self._missing else self._open(namespace)
        if raw is None:
            return 0
        with NetlinkSocket(namespace, raw, self._counters) as sock:
            for tries_left in reversed(range(TRIES)):
                generation = _generation(sock)
                tables = self._read(sock)
                if not tables:
                    return 0
                refused = _commit(raw, [one for table in tables for one in deletions(table)], generation)
                if refused is None:
                    self._counters.nftables += 1
                    return sum(len(table.left_over) for table in tables)
                what, code = refused
                if code not in _CHANGED or not tries_left:
                    raise KernelError(namespace, what, code, _advice(code))
        raise AssertionError("not reached")

    def _open(self, namespace: str) -> socket.socket | None:
        """A netlink socket in the namespace; None: a kernel without nfnetlink."""
        try:
            with self._namespaces.enter(namespace):
                return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        except OSError as exc:
            if exc.errno not in MISSING:
                raise KernelError(namespace, "nf_tables", exc.errno or errno.EIO, "netlink socket") from exc
            self._missing = True
            return None

    def _read(self, sock: NetlinkSocket) -> list[NftTable]:
        """The tables in which the other agent has chains."""
        try:
            chains = [decode_chain(data) for data in sock.dump(dump(GET_CHAIN, "chains of nf_tables"))]
        except KernelError as exc:
            if exc.code not in MISSING:
                raise
            self._missing = True
            return []
        places = places_of(chains)
        if not places:
            return []
        infos = {
            (info.family, info.name): info
            for data in sock.dump(dump(GET_TABLE, "tables of nf_tables"))
            for info in (decode_table(data),)
        }
        return [
            NftTable(
                infos[place],
                tuple(chain for chain in chains if (chain.family, chain.table) == place),
                tuple(decode_rule(data) for data in sock.dump(dump_rules(*place))),
            )
            for place in places
            if place in infos
        ]


def _generation(sock: NetlinkSocket) -> int | None:
    """Number of the rule set as it is now; None: a kernel without nf_tables, or one too old to tell."""
    answer = sock.get([get_generation()._replace(tolerate=MISSING)])[0]
    return decode_generation(answer) if answer is not None else None


def _commit(raw: socket.socket, requests: Sequence[Request], generation: int | None) -> tuple[str, int] | None:
    """All of it or nothing; None: done, else what was refused and the errno.

    The kernel works inside ``send``, so all answers are there when it returns.  The end of a transaction is answered by
    newer kernels only (Linux 6.10), hence the acknowledgement is asked for on the last deletion.
    """
    messages = [batch_edge(BATCH_BEGIN, generation), *requests, batch_edge(BATCH_END)]
    first = random.randrange(1 << 28, 1 << 30)
    parts: list[bytes] = []
    for index, one in enumerate(messages):
        acknowledge = NLM_F_ACK if index == len(messages) - 2 else 0
        flags = NLM_F_REQUEST | one.flags | acknowledge
        parts += (HEADER.pack(16 + len(one.body), one.kind, flags, first + index, 0), one.body)
    data = b"".join(parts)
    if len(data) > SEND_BUFFER:
        raw.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * len(data))
    try:
        raw.send(data)
        return _refused(raw, messages, first)
    except OSError as exc:
        return "nf_tables", exc.errno or errno.EIO


def _refused(raw: socket.socket, messages: Sequence[Request], first: int) -> tuple[str, int] | None:
    acknowledged = False
    while True:
        try:
            answer = raw.recv(BUFFER, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None if acknowledged else ("nf_tables: the acknowledgement was lost", errno.ENOBUFS)
        at = 0
        while at + 20 <= len(answer):
            length, kind, _flags, sequence, _port = HEADER.unpack_from(answer, at)
            index = sequence - first
            if kind == NLMSG_ERROR and 0 <= index < len(messages):
                code = -_ERRNO.unpack_from(answer, at + 16)[0]
                if code:
                    return messages[index].text, code
                acknowledged = True
            at += (max(length, 16) + 3) & ~3


def _advice(code: int) -> str:
    if code == errno.EBUSY:
        return "a rule that is not ours leads to this chain of neutron-l3-agent; delete that rule"
    return "the rule set keeps changing" if code in _CHANGED else os.strerror(code)
