"""Messages of nf_tables (nfnetlink): requests as bytes, tables, chains and rules as values.

Numbers and layouts come from pyroute2's classes.  Used by :mod:`.manager` and :mod:`.stale_chains`; the expressions
inside a rule are decoded by :mod:`.rules`.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELOBJ,
    NFT_MSG_DELRULE,
    NFT_MSG_DELSET,
    NFT_MSG_DELSETELEM,
    NFT_MSG_DELTABLE,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETGEN,
    NFT_MSG_GETRULE,
    NFT_MSG_GETTABLE,
    nft_chain_msg,
    nft_gen_msg,
    nft_rule_msg,
    nft_table_msg,
)

from dvr_agent.kernel.netlink.message import AF_UNSPEC, Request
from dvr_agent.kernel.netlink.schema import Data, Schema, attribute, attributes, payload, positions
from dvr_agent.kernel.nftables.fields import Fields, NamedAttributes, code_of

SUBSYSTEM = NFNL_SUBSYS_NFTABLES << 8
GET_CHAIN, GET_TABLE = SUBSYSTEM | NFT_MSG_GETCHAIN, SUBSYSTEM | NFT_MSG_GETTABLE
DELETIONS = frozenset(
    SUBSYSTEM | kind
    for kind in (
        NFT_MSG_DELTABLE,
        NFT_MSG_DELCHAIN,
        NFT_MSG_DELRULE,
        NFT_MSG_DELSET,
        NFT_MSG_DELSETELEM,
        NFT_MSG_DELOBJ,
    )
)
"""Kinds of the messages that delete something."""
# include/uapi/linux/netfilter/nfnetlink.h; not in pyroute2
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 0x10, 0x11
NFNL_BATCH_GENID = 1
_NFTA_HOOK_HOOKNUM, _NFTA_HOOK_PRIORITY = 1, 2
"""include/uapi/linux/netfilter/nf_tables.h"""
NFPROTO_INET = 1
"""Tables for both families (include/uapi/linux/netfilter.h; not in all versions of pyroute2)."""
NLM_F_NONREC = 0x100
"""Refuse to delete an object that contains others (include/uapi/linux/netlink.h; not in pyroute2)."""

FAMILIES = (int(socket.AF_INET), int(socket.AF_INET6))
"""The families that iptables-nft and ip6tables-nft use."""
_NAMES = dict(zip(FAMILIES, ("ip", "ip6"), strict=True))
"""Their names in nft(8)."""
MISSING = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOENT})
"""Answers of a kernel without nf_tables: nfnetlink has no such subsystem, or the kernel has no nfnetlink."""

_TABLE, _CHAIN, _RULE, _GENERATION = map(Schema, (nft_table_msg, nft_chain_msg, nft_rule_msg, nft_gen_msg))
_NAMED_TABLE, _NAMED_CHAIN, _NAMED_GENERATION = map(NamedAttributes, (_TABLE, _CHAIN, _GENERATION))
_ACCEPT = code_of(nft_rule_msg.nft_expr.nft_immediate.nfta_data.verdict.verdict_code, "NF_ACCEPT")
_head = _RULE.head("nfgen_family")
_edge_head = Schema(nfgen_msg).head("res_id")
_read_family = _RULE.read_head("nfgen_family")
BODY = len(_head(0))
"""Where the attributes of a message begin."""
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS, _RULE_USER_DATA = map(
    _RULE.number,
    ("NFTA_RULE_TABLE", "NFTA_RULE_CHAIN", "NFTA_RULE_HANDLE", "NFTA_RULE_EXPRESSIONS", "NFTA_RULE_USERDATA"),
)
_read_text, _read_handle = _RULE.reader("NFTA_RULE_TABLE"), _RULE.reader("NFTA_RULE_HANDLE")


class TableInfo(NamedTuple):
    """A table.

    :ivar use: number of chains, sets, objects and flow tables in it
    """

    family: int
    name: str
    use: int


class ChainInfo(NamedTuple):
    """A chain.

    :ivar base: a hook calls the chain
    :ivar accepts: the policy is to accept
    :ivar hook: number of the hook that calls it, -1 for none
    :ivar priority: chains of a hook with lower ones are called first
    :ivar type: ``filter``, ``nat`` or ``route``; empty for a chain that no hook calls
    """

    family: int
    table: str
    name: str
    base: bool
    accepts: bool
    hook: int = -1
    priority: int = 0
    type: str = ""


class RuleInfo(NamedTuple):
    """A rule, and the chain it stands in.

    :ivar expressions: the payload of its list of expressions, for :mod:`.rules`
    :ivar user_data: what its maker has written beside it, such as a comment
    """

    family: int
    table: str
    chain: str
    handle: int
    expressions: Data
    user_data: Data = b""


def family_head(family: int) -> bytes:
    """Return the header of messages about one family."""
    return _head(family)


def dump(kind: int, what: str, family: int = AF_UNSPEC, attributes: bytes = b"") -> Request:
    """Ask for all objects of a kind."""
    return Request(kind, NLM_F_DUMP, _head(family) + attributes, what)


def dump_rules(family: int, table: str) -> Request:
    """Ask for the rules of one table."""
    what = f"rules of {_table(family, table)}"
    return dump(SUBSYSTEM | NFT_MSG_GETRULE, what, family, _RULE.packer("NFTA_RULE_TABLE")(table))


def get_generation() -> Request:
    """Ask for the number that grows with every change of the rule set; a kernel without nf_tables has no answer."""
    return Request(SUBSYSTEM | NFT_MSG_GETGEN, 0, _head(AF_UNSPEC), "generation of nf_tables", MISSING)


def delete_rule(family: int, table: str, chain: str, handle: int | None = None) -> Request:
    """Delete one rule of a chain, or all of them."""
    body = _head(family) + _RULE.packer("NFTA_RULE_TABLE")(table) + _RULE.packer("NFTA_RULE_CHAIN")(chain)
    if handle is not None:
        body += _RULE.packer("NFTA_RULE_HANDLE")(handle)
    return Request(SUBSYSTEM | NFT_MSG_DELRULE, 0, body, f"{_table(family, table)}: rules of chain {chain}")


def delete_chain(family: int, table: str, chain: str) -> Request:
    """Delete a chain that no rule leads to."""
    body = _head(family) + _CHAIN.packer("NFTA_CHAIN_TABLE")(table) + _CHAIN.packer("NFTA_CHAIN_NAME")(chain)
    return Request(SUBSYSTEM | NFT_MSG_DELCHAIN, 0, body, f"{_table(family, table)}: chain {chain}")


def delete_table(family: int, table: str) -> Request:
    """Delete an empty table."""
    body = _head(family) + _TABLE.packer("NFTA_TABLE_NAME")(table)
    return Request(SUBSYSTEM | NFT_MSG_DELTABLE, NLM_F_NONREC, body, _table(family, table))


def _table(family: int, table: str) -> str:
    """Return a table as errors name it, e.g. ``nft table ip nat``."""
    return f"nft table {_NAMES.get(family, f'(family {family})')} {table}"


def begin_transaction(generation: int | None) -> Request:
    """Begin a transaction; the kernel refuses it (ERESTART) if the rule set has another generation by then."""
    attributes = b"" if generation is None else attribute(NFNL_BATCH_GENID, generation.to_bytes(4, "big"))
    return _edge(NFNL_MSG_BATCH_BEGIN, attributes)


def end_transaction() -> Request:
    """End a transaction: without this message the kernel makes none of its changes."""
    return _edge(NFNL_MSG_BATCH_END, b"")


def _edge(kind: int, attributes: bytes) -> Request:
    return Request(kind, 0, _edge_head(NFNL_SUBSYS_NFTABLES) + attributes, "nf_tables transaction")


def decode_generation(data: Data) -> int:
    """Decode the number in an answer to :func:`get_generation`."""
    return Fields(_NAMED_GENERATION, data).integer("NFTA_GEN_ID")


def decode_author(data: Data) -> tuple[int, str]:
    """Decode process id and program in the notification of a transaction.

    The kernel names the thread that made it, by its number outside of all containers (nf_tables_fill_gen_info in
    net/netfilter/nf_tables_api.c).
    """
    found = Fields(_NAMED_GENERATION, data)
    return found.integer("NFTA_GEN_PROC_PID"), found.text("NFTA_GEN_PROC_NAME")


def decode_table(data: Data) -> TableInfo:
    """Decode the table in a message of a dump."""
    found = Fields(_NAMED_TABLE, data)
    return TableInfo(_read_family(data, 0)[0], found.text("NFTA_TABLE_NAME"), found.integer("NFTA_TABLE_USE"))


def decode_chain(data: Data) -> ChainInfo:
    """Decode the chain in a message of a dump."""
    return _decode_chain(_read_family(data, 0)[0], bytes(data[BODY:]))  # the rest of the header is the generation


@lru_cache(maxsize=1 << 12)
def _decode_chain(family: int, attributes_: bytes) -> ChainInfo:
    """Decode the attributes of a chain, which are the same in all namespaces that were made alike."""
    found = Fields(_NAMED_CHAIN, family_head(family) + attributes_)
    base = found.has("NFTA_CHAIN_HOOK")
    accepts = base and found.integer("NFTA_CHAIN_POLICY", _ACCEPT) == _ACCEPT
    table, name = found.text("NFTA_CHAIN_TABLE"), found.text("NFTA_CHAIN_NAME")
    hook = dict(_parts(found.raw("NFTA_CHAIN_HOOK")))
    number = int.from_bytes(hook[_NFTA_HOOK_HOOKNUM], "big") if _NFTA_HOOK_HOOKNUM in hook else -1
    priority = int.from_bytes(hook.get(_NFTA_HOOK_PRIORITY, b""), "big", signed=True)
    kind = found.text("NFTA_CHAIN_TYPE") if base else ""
    return ChainInfo(family, table, name, base, accepts, number, priority, kind)


def _parts(data: Data) -> Iterator[tuple[int, Data]]:
    """Yield number and payload of each attribute."""
    for kind, begin, end in attributes(data, 0):
        yield kind, data[begin:end]


def decode_rule(data: Data) -> RuleInfo:
    """Decode the rule in a message of a dump."""
    found = positions(data, BODY)
    return RuleInfo(
        _read_family(data, 0)[0],
        _read_text(data, found[_RULE_TABLE]),
        _read_text(data, found[_RULE_CHAIN]),
        _read_handle(data, found[_RULE_HANDLE]),
        payload(data, at) if (at := found.get(_RULE_EXPRESSIONS, 0)) else b"",
        payload(data, at) if (at := found.get(_RULE_USER_DATA, 0)) else b"",
    )
