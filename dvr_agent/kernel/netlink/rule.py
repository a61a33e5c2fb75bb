"""Policy routing rules: RTM_…RULE messages (pyroute2's ``fibmsg``, ``include/uapi/linux/fib_rules.h``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE
from pyroute2.netlink.rtnl.fibmsg import FR_ACT_TO_TBL, FR_ACT_VALUES, fibmsg

from dvr_agent.kernel.netlink.handler import EXISTS, GONE, Handler, Rivals, SliceReader, WriteContext
from dvr_agent.kernel.netlink.message import AF_OF_FAMILY, AF_UNSPEC, CREATE, FAMILY_OF_AF, Request, split_cidr
from dvr_agent.kernel.netlink.protocol import protocol_name
from dvr_agent.kernel.netlink.schema import Data, Schema, positions
from dvr_agent.state.ownership import RuleOwner
from dvr_agent.state.rule import KERNEL_RULES, RULE_KIND, Rule

RULE = Schema(fibmsg)
FIB_RULE_INVERT, FIB_RULE_FIND_SADDR = 0x2, 0x10000
"""Flags of the header (include/uapi/linux/fib_rules.h; not in pyroute2)."""
NO_SUPPRESSION = 0xFFFFFFFF
"""-1: no suppressor; the kernel reports FRA_SUPPRESS_PREFIXLEN with every rule (net/core/fib_rules.c)."""

_BODY = RULE.size
"""Where the attributes begin."""
_head = RULE.head("family", "src_len", "table", "action")
_read_head = RULE.read_head("family", "dst_len", "src_len", "tos", "table", "action", "flags")
_src, _iif, _priority, _table, _suppress = map(
    RULE.packer, ("FRA_SRC", "FRA_IIFNAME", "FRA_PRIORITY", "FRA_TABLE", "FRA_SUPPRESS_PREFIXLEN")
)
_SRC, _IIF, _PRIORITY, _SUPPRESS, _TABLE, _PAD, _PROTOCOL = map(
    RULE.number,
    ("FRA_SRC", "FRA_IIFNAME", "FRA_PRIORITY", "FRA_SUPPRESS_PREFIXLEN", "FRA_TABLE", "FRA_PAD", "FRA_PROTOCOL"),
)
_read_src, _read_iif, _read_number = map(RULE.reader, ("FRA_SRC", "FRA_IIFNAME", "FRA_PRIORITY"))
_read_protocol = RULE.reader("FRA_PROTOCOL")
_priority_and_table = Struct("=HHIHHI").pack
"""Two attributes at once, which each rule has: a router may have thousands."""
KERNEL_TABLES = tuple({_table(rule.table) for rule in KERNEL_RULES})
"""Packed FRA_TABLE attributes of the kernel's own rules, by which they are found in a dump of thousands.

Not FRA_PRIORITY, which the kernel does not report where it is 0.
"""
_PLAIN = frozenset({_SRC, _IIF, _PRIORITY, _SUPPRESS, _TABLE, _PAD, _PROTOCOL})
"""Attributes that a rule of ours may have."""


def add_rule(rule: Rule, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request of ``ip rule add`` without a protocol, as neutron-l3-agent's rules are.

    EEXIST: the very same rule is there.
    """
    return Request(RTM_NEWRULE, CREATE, _body(rule), rule, tolerate)


def delete_rule(rule: Rule, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request of ``ip rule delete``."""
    return Request(RTM_DELRULE, 0, _body(rule), rule, tolerate)


@lru_cache(maxsize=64)
def dump_rules() -> Request:
    """Return the request for all rules of both families."""
    return Request(RTM_GETRULE, NLM_F_DUMP, _head(AF_UNSPEC, 0, 0, 0), "rules")


def decode_rules(messages: Iterable[Data]) -> Iterable[Rule]:
    """Yield the rules that :class:`Rule` can describe, from RTM_NEWRULE messages; others are not ours."""
    for data in messages:
        rule = _decode(bytes(data))
        if rule is not None:
            yield rule


def decode_protocol(data: Data) -> str:
    """Return the protocol of a rule, see :func:`protocol_name`; empty for one without."""
    at = positions(data, _BODY).get(_PROTOCOL, 0)
    return protocol_name(_read_protocol(data, at)) if at else ""


def _body(rule: Rule) -> bytes:
    family, priority, table, src, iif, suppress_default = rule
    length = 0
    attributes = _priority_and_table(8, _PRIORITY, priority, 8, _TABLE, table)
    if src is not None:
        _family, ip, length = split_cidr(src)
        attributes += _src(ip)
    if iif is not None:
        attributes += _iif(iif)
    if suppress_default:
        attributes += _suppress(0)
    return _head(AF_OF_FAMILY[family], length, table if table < 256 else 0, FR_ACT_TO_TBL) + attributes


@lru_cache(maxsize=128)
def _decode(data: bytes) -> Rule | None:
    """Decode a rule; those of the kernel are the same in all namespaces."""
    af, dst_len, src_len, tos, table, action, flags = _read_head(data, 0)
    family = FAMILY_OF_AF.get(af)
    if family is None or action != FR_ACT_TO_TBL or dst_len or tos or flags & (FIB_RULE_INVERT | FIB_RULE_FIND_SADDR):
        return None
    found = positions(data, _BODY)
    if not found.keys() <= _PLAIN:
        return None
    suppressed = _read_number(data, at) if (at := found.get(_SUPPRESS, 0)) else NO_SUPPRESSION
    if suppressed not in (NO_SUPPRESSION, 0):
        return None
    if at := found.get(_TABLE, 0):
        table = _read_number(data, at)
    priority = _read_number(data, at) if (at := found.get(_PRIORITY, 0)) else 0
    src = f"{_read_src(data, at)}/{src_len}" if (at := found.get(_SRC, 0)) else None
    iif = _read_iif(data, at) if (at := found.get(_IIF, 0)) else None
    return Rule(family, priority, table, src, iif, suppressed == 0)


def _read(reader: SliceReader) -> Iterable[Rule]:
    """Read the rules: all of them, or those that a slice of a shared namespace can own."""
    sock, ownership = reader.sock, reader.ownership
    if ownership.rules is RuleOwner.NONE:
        return decode_rules(sock.dump_containing(dump_rules(), KERNEL_TABLES)) if ownership.kernel_rules else ()
    if ownership.rules is RuleOwner.BY_IIF and not reader.whole:
        return decode_rules(sock.dump_containing(dump_rules(), [name.encode() + b"\0" for name in ownership.devices]))
    return decode_rules(sock.dump(dump_rules()))


def _add(rules: Sequence[Rule], _context: WriteContext) -> list[Request]:
    return [add_rule(rule, EXISTS) for rule in rules]


def _remove(rule: Rule, _context: WriteContext) -> list[Request]:
    return [delete_rule(rule, GONE)]


def _find_rivals(rule: Rule, messages: Iterable[Data]) -> Iterable[tuple[Request, str]]:
    """Yield what removes the rules with priority and selector of ``rule`` that the kernel looks up before it.

    A rule comes after those of its priority that are there already.  Only what has the very same selector is a rival.
    """
    for data in messages:
        if _decode(bytes(data)) == rule:
            return
        if _place(data) == (AF_OF_FAMILY[rule.family], rule.priority, rule.src, rule.iif):
            action = _read_head(data, 0)[5]
            what = "a rule to another table" if action == FR_ACT_TO_TBL else f"a {_action_name(action)} rule"
            yield Request(RTM_DELRULE, 0, bytes(data), rule, GONE), what


def _action_name(action: int) -> str:
    return str(FR_ACT_VALUES.get(action, action)).removeprefix("FR_ACT_").lower()


def _place(data: Data) -> tuple[int, int, str | None, str | None] | None:
    """Return family, priority, source and input device of a rule that matches on nothing else."""
    af, dst_len, src_len, tos, _table, _action, flags = _read_head(data, 0)
    found = positions(data, _BODY)
    if dst_len or tos or flags & FIB_RULE_INVERT or not found.keys() <= _PLAIN:
        return None
    priority = _read_number(data, at) if (at := found.get(_PRIORITY, 0)) else 0
    src = f"{_read_src(data, at)}/{src_len}" if (at := found.get(_SRC, 0)) else None
    return af, priority, src, _read_iif(data, at) if (at := found.get(_IIF, 0)) else None


HANDLER = Handler(
    RULE_KIND,
    read=_read,
    add=_add,
    remove=_remove,
    by_index=False,
    rivals=Rivals(dump_rules, lambda rule: _priority(rule.priority), _find_rivals),
)
