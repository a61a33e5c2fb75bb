"""See which rules of nf_tables one packet meets (:class:`NftTrace`), by ``meta nftrace``.

For that the packet has to be chosen by a rule.  It stands in a table that belongs to a process (``flags owner``): the
kernel removes the table with the process, however that ends.  The process is ``nft``; legacy tables need none of this.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple

from pyroute2.netlink import NETLINK_ADD_MEMBERSHIP, NETLINK_NETFILTER, SOL_NETLINK
from pyroute2.netlink.nfnetlink import NFNLGRP_NFTRACE

from dvr_agent.errors import KernelError
from dvr_agent.kernel.netlink.endpoint import open_raw
from dvr_agent.kernel.netlink.message import HEADER
from dvr_agent.kernel.netlink.schema import attributes
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import entered, path_of
from dvr_agent.kernel.nftables.message import NFPROTO_INET, decode_rule, dump_rules
from dvr_agent.trace.packet import WITH_PORTS, Tuple

TABLE = "dvr_trace"
_TRACE_TABLE, _TRACE_CHAIN, _TRACE_RULE_HANDLE = 1, 2, 3
"""``enum nft_trace_attributes`` (include/uapi/linux/netfilter/nf_tables.h)."""
_HEAD = HEADER.size + 4
"""Bytes before the attributes: struct nlmsghdr and struct nfgenmsg."""
_MADE_WITHIN = 10.0
"""Seconds in which ``nft`` must have made the table."""


class Met(NamedTuple):
    """A rule that the packet met.

    :ivar handle: 0: the policy of the chain
    """

    namespace: str
    table: str
    chain: str
    handle: int


class NftTrace:
    """A context manager; inside the block rules of nf_tables that packets of one connection meet are heard of.

    :param heads: namespace → addresses and ports with which the packet comes into it
    :raises KernelError: the table could not be made
    """

    def __init__(self, heads: Mapping[str, Tuple]) -> None:
        self._heads = heads
        self._processes: list[subprocess.Popen[str]] = []
        self._sockets: dict[str, socket.socket] = {}

    def __enter__(self) -> NftTrace:
        try:
            for namespace, head in self._heads.items():
                self._begin(namespace, head)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def met(self, expected: set[Met], seconds: float) -> set[Met]:
        """Return the rules that the packet met; waits for the expected ones, for that time at most."""
        found: set[Met] = set()
        end = time.monotonic() + seconds
        while True:
            found |= self._heard()
            if expected <= found or time.monotonic() > end:
                return found
            time.sleep(0.01)

    def _heard(self) -> set[Met]:
        """Take in what has been reported."""
        found = set()
        for namespace, sock in self._sockets.items():
            with contextlib.suppress(BlockingIOError):
                while True:
                    found |= _rules_of(namespace, sock.recv(1 << 16))
        return found

    def _begin(self, namespace: str, head: Tuple) -> None:
        if shutil.which("nft") is None:
            raise KernelError(namespace, f"nft table {TABLE}", errno.ENOENT, "install nft (Debian package nftables)")
        with entered(namespace):
            sock = open_raw(namespace, NETLINK_NETFILTER)
        self._sockets[namespace] = sock
        sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTRACE)
        sock.setblocking(False)
        inside = ["nsenter", f"--net={path_of(namespace)}"] if namespace else []
        process = subprocess.Popen(
            [*inside, "nft", "-i"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._processes.append(process)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("".join(f"{line}\n" for line in commands(head)))
            process.stdin.flush()
        _wait_until_made(namespace, process)

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for sock in self._sockets.values():
            sock.close()


def commands(head: Tuple) -> list[str]:
    """Return the commands for nft that make the table: it has packets of the connection traced."""
    family = "ip6" if ":" in head.src else "ip"
    ports = f" th sport {head.sport} th dport {head.dport}" if head.protocol in WITH_PORTS else ""
    match = f"{family} saddr {head.src} {family} daddr {head.dst} meta l4proto {head.protocol}{ports}"
    made = [f"add table inet {TABLE} {{ flags owner; }}"]
    for hook in ("prerouting", "output"):
        made.append(f"add chain inet {TABLE} {hook} {{ type filter hook {hook} priority -450; }}")
        made.append(f"add rule inet {TABLE} {hook} {match} meta nftrace set 1")
    return made


def _wait_until_made(namespace: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + _MADE_WITHIN
    with NetlinkSocket.open(namespace, None, NETLINK_NETFILTER) as sock:
        while time.monotonic() < end and process.poll() is None:
            request = dump_rules(NFPROTO_INET, TABLE)._replace(tolerate=frozenset({errno.ENOENT}))
            if len([decode_rule(data) for data in sock.dump(request)]) == len(("prerouting", "output")):
                return
            time.sleep(0.01)
    raise KernelError(namespace, f"nft table {TABLE}", errno.EIO, "nft has not made it")


def _rules_of(namespace: str, data: bytes) -> set[Met]:
    """Decode the messages about rules in what a socket has received."""
    found, at = set(), 0
    while at + _HEAD <= len(data):
        length = max(HEADER.unpack_from(data, at)[0], _HEAD)
        parts = {kind: data[begin:end] for kind, begin, end in attributes(data, at + _HEAD, at + length)}
        if _TRACE_TABLE in parts and _TRACE_CHAIN in parts:
            table, chain = (parts[kind].rstrip(b"\0").decode() for kind in (_TRACE_TABLE, _TRACE_CHAIN))
            found.add(Met(namespace, table, chain, int.from_bytes(parts.get(_TRACE_RULE_HANDLE, b""), "big")))
        at += (length + 3) & ~3
    return found
