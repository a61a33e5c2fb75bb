"""Policy routing rules: ``struct fib_rule_hdr`` with attributes (``include/uapi/linux/fib_rules.h``)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache

from dvr_agent.kernel.netlink.message import (
    AF_OF_FAMILY,
    AF_UNSPEC,
    CREATE,
    FAMILY_OF_AF,
    NLM_F_DUMP,
    Data,
    Request,
    attr,
    attr_text,
    attr_u32,
    ip_text,
    positions,
    split_cidr,
    u32,
)
from dvr_agent.state.rule import KERNEL_RULES, Rule

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE = 2, 3, 6, 14, 15
FRA_PAD, FRA_PROTOCOL = 18, 21
FR_ACT_TO_TBL = 1
FIB_RULE_INVERT, FIB_RULE_FIND_SADDR = 0x2, 0x10000
NO_SUPPRESSION = 0xFFFFFFFF
"""The kernel always tells this attribute; -1 is "no suppressor"."""

_INFO = struct.Struct("=BBBBBBBBI")
"""struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved, action, flags."""
_SIZE = struct.Struct("=H").unpack_from
KERNEL_PRIORITIES = tuple({attr_u32(FRA_PRIORITY, rule.priority) for rule in KERNEL_RULES})
"""By which the kernel's own rules can be found among thousands."""
_PLAIN = frozenset({FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PAD, FRA_PROTOCOL})
"""Attributes that a rule of ours may have."""


def add_rule(rule: Rule, tolerate: frozenset[int] = frozenset()) -> Request:
    """``ip rule add``, without a protocol, as the reference agent's rules are.  EEXIST: the very same rule is there."""
    return Request(RTM_NEWRULE, CREATE, _body(rule), rule, tolerate)


def delete_rule(rule: Rule, tolerate: frozenset[int] = frozenset()) -> Request:
    return Request(RTM_DELRULE, 0, _body(rule), rule, tolerate)


@lru_cache(maxsize=64)
def dump_rules() -> Request:
    """All rules of both families."""
    return Request(RTM_GETRULE, NLM_F_DUMP, _INFO.pack(AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0), "rules")


def _body(rule: Rule) -> bytes:
    length = 0
    attributes = attr_u32(FRA_PRIORITY, rule.priority) + attr_u32(FRA_TABLE, rule.table)
    if rule.src is not None:
        _family, raw, length = split_cidr(rule.src)
        attributes += attr(FRA_SRC, raw)
    if rule.iif is not None:
        attributes += attr_text(FRA_IIFNAME, rule.iif)
    if rule.specific:
        attributes += attr_u32(FRA_SUPPRESS_PREFIXLEN, 0)
    table = rule.table if rule.table < 256 else 0
    family = AF_OF_FAMILY[rule.family]
    return _INFO.pack(family, 0, length, 0, table, 0, 0, FR_ACT_TO_TBL, 0) + attributes


def decode_rules(messages: Iterable[Data]) -> Iterable[Rule]:
    """Of RTM_NEWRULE messages those that :class:`Rule` can say; whatever has another selector is not ours."""
    for data in messages:
        rule = _decode(data)
        if rule is not None:
            yield rule


def _decode(data: Data) -> Rule | None:
    af, dst_len, src_len, tos, table, _r1, _r2, action, flags = _INFO.unpack_from(data)
    family = FAMILY_OF_AF.get(af)
    if family is None or action != FR_ACT_TO_TBL or dst_len or tos or flags & (FIB_RULE_INVERT | FIB_RULE_FIND_SADDR):
        return None
    found = positions(data, 12)
    if not found.keys() <= _PLAIN:
        return None
    suppressed = u32(data, at + 4) if (at := found.get(FRA_SUPPRESS_PREFIXLEN, 0)) else NO_SUPPRESSION
    if suppressed not in (NO_SUPPRESSION, 0):
        return None
    if at := found.get(FRA_TABLE, 0):
        table = u32(data, at + 4)
    priority = u32(data, at + 4) if (at := found.get(FRA_PRIORITY, 0)) else 0
    src = iif = None
    if at := found.get(FRA_SRC, 0):
        src = f"{ip_text(data[at + 4 : at + _SIZE(data, at)[0]])}/{src_len}"
    if at := found.get(FRA_IIFNAME, 0):
        iif = data[at + 4 : at + _SIZE(data, at)[0] - 1].decode(errors="surrogateescape")
    return Rule(family, priority, table, src, iif, suppressed == 0)
