"""Messages of nf_tables over nfnetlink: requests as bytes, answers as values.

Numbers are those of ``include/uapi/linux/netfilter/nf_tables.h`` and ``nfnetlink.h``.  Integers are big-endian here,
unlike in route netlink.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

from dvr_agent.kernel.netlink.message import NLM_F_DUMP, Data, Request, attr, attributes

SUBSYSTEM = 10 << 8
"""``NFNL_SUBSYS_NFTABLES``."""
BATCH_BEGIN, BATCH_END = 0x10, 0x11
BATCH_GENID = 1
GET_TABLE, DEL_TABLE = SUBSYSTEM | 1, SUBSYSTEM | 2
GET_CHAIN, DEL_CHAIN = SUBSYSTEM | 4, SUBSYSTEM | 5
GET_RULE, DEL_RULE = SUBSYSTEM | 7, SUBSYSTEM | 8
GET_GENERATION = SUBSYSTEM | 16
NLM_F_NONREC = 0x100
"""Refuse to delete what still holds something."""

TABLE_NAME, TABLE_USE = 1, 3
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY = 1, 3, 4, 5
RULE_TABLE, RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS = 1, 2, 3, 4
GENERATION_ID = 1

PREFIX = 4
"""``struct nfgenmsg``: family, version, resource id."""
GENMSG = struct.Struct("!BBH")
FAMILIES = (int(socket.AF_INET), int(socket.AF_INET6))
"""The families that iptables-nft and ip6tables-nft use: ``ip`` and ``ip6``."""
ANY_FAMILY = 0
NF_ACCEPT = 1

MISSING = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOENT})
"""What a kernel without nf_tables answers: nfnetlink knows no such subsystem, or is not there itself."""


class TableInfo(NamedTuple):
    """A table; ``use`` counts chains, sets, objects and flow tables in it."""

    family: int
    name: str
    use: int


class ChainInfo(NamedTuple):
    """A chain; ``base``: it hangs on a hook; ``accepts``: what no rule decides about passes."""

    family: int
    table: str
    name: str
    base: bool
    accepts: bool


class RuleInfo(NamedTuple):
    """A rule and where it stands; ``expressions`` is undecoded."""

    family: int
    table: str
    chain: str
    handle: bytes
    expressions: Data


def dump(kind: int, what: str, family: int = ANY_FAMILY, attrs: bytes = b"") -> Request:
    """A request for all objects of a kind."""
    return Request(kind, NLM_F_DUMP, GENMSG.pack(family, 0, 0) + attrs, what)


def get_generation() -> Request:
    """A request for the number that grows with every change in the namespace."""
    return Request(GET_GENERATION, 0, GENMSG.pack(0, 0, 0), "generation of nf_tables")


def dump_rules(family: int, table: str) -> Request:
    """A request for the rules of one table."""
    return dump(GET_RULE, f"rules of nft table {table}", family, text(RULE_TABLE, table))


def delete_rule(family: int, table: str, chain: str, handle: bytes | None = None) -> Request:
    """Delete one rule of a chain, or all of them."""
    body = text(RULE_TABLE, table) + text(RULE_CHAIN, chain)
    if handle is not None:
        body += attr(RULE_HANDLE, handle)
    return Request(DEL_RULE, 0, GENMSG.pack(family, 0, 0) + body, f"nft table {table}: rules of chain {chain}")


def delete_chain(family: int, table: str, chain: str) -> Request:
    """Delete a chain that nothing leads to any more."""
    body = text(CHAIN_TABLE, table) + text(CHAIN_NAME, chain)
    return Request(DEL_CHAIN, 0, GENMSG.pack(family, 0, 0) + body, f"nft table {table}: chain {chain}")


def delete_table(family: int, table: str) -> Request:
    """Delete an empty table."""
    body = GENMSG.pack(family, 0, 0) + text(TABLE_NAME, table)
    return Request(DEL_TABLE, NLM_F_NONREC, body, f"nft table {table}")


def begin_transaction(generation: int | None) -> Request:
    """Begin a transaction; it is refused (ERESTART) if the generation is another by then."""
    return _edge(BATCH_BEGIN, b"" if generation is None else attr(BATCH_GENID, generation.to_bytes(4, "big")))


def end_transaction() -> Request:
    """End a transaction: without this message the kernel does nothing of it."""
    return _edge(BATCH_END)


def _edge(kind: int, attrs: bytes = b"") -> Request:
    return Request(kind, 0, GENMSG.pack(0, 0, SUBSYSTEM >> 8) + attrs, "nf_tables transaction")


def decode_generation(data: Data) -> int:
    return number(fields(data, PREFIX).get(GENERATION_ID, bytes(4)))


def decode_table(data: Data) -> TableInfo:
    found = fields(data, PREFIX)
    return TableInfo(data[0], name(found[TABLE_NAME]), number(found.get(TABLE_USE, bytes(4))))


def decode_chain(data: Data) -> ChainInfo:
    found = fields(data, PREFIX)
    base = CHAIN_HOOK in found
    accepts = base and number(found.get(CHAIN_POLICY, NF_ACCEPT.to_bytes(4, "big"))) == NF_ACCEPT
    return ChainInfo(data[0], name(found[CHAIN_TABLE]), name(found[CHAIN_NAME]), base, accepts)


def decode_rule(data: Data) -> RuleInfo:
    found = fields(data, PREFIX)
    return RuleInfo(
        data[0],
        name(found[RULE_TABLE]),
        name(found[RULE_CHAIN]),
        bytes(found[RULE_HANDLE]),
        found.get(RULE_EXPRESSIONS, b""),
    )


def fields(data: Data, start: int = 0) -> dict[int, Data]:
    """Attribute type → value."""
    return {kind: data[begin:end] for kind, begin, end in attributes(data, start)}


def text(kind: int, value: str) -> bytes:
    """Names may hold any byte: they come back as they were read."""
    return attr(kind, value.encode(errors="surrogateescape") + b"\0")


def name(raw: Data) -> str:
    return bytes(raw).rstrip(b"\0").decode(errors="surrogateescape")


def number(raw: Data) -> int:
    return int.from_bytes(raw, "big")
