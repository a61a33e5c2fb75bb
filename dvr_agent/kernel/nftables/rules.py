"""Decode rules that iptables-nft wrote to the types of :mod:`dvr_agent.state.filter`.  Pure.

Used by :mod:`.stale_chains`: it needs the chain that a rule leads to, and whole rules for plans and for the scope marks
that takeover adopts.

A rule of nf_tables is a list of expressions: load a value into a register, compare the register, and last a target.
Where nf_tables has no expression iptables-nft uses the extension of x_tables, with the same bytes as in legacy tables.
Decoding need not be complete: an expression that ``state.filter`` cannot express becomes a
:class:`~dvr_agent.state.filter.Foreign`, and rules with one are ignored where marks and translations are read.

Names of attributes and values are pyroute2's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from pyroute2.netlink.nfnetlink.nftsocket import nft_rule_msg

from dvr_agent.kernel.ip_text import ip_text
from dvr_agent.kernel.iptables.extensions import decode_match, decode_target
from dvr_agent.kernel.iptables.layout import IFNAME_FIELD
from dvr_agent.kernel.iptables.layout import PROTOCOLS as PROTOCOL_NUMBERS
from dvr_agent.kernel.netlink.message import AF_OF_FAMILY
from dvr_agent.kernel.netlink.schema import Data, Schema, attributes
from dvr_agent.kernel.nftables.fields import Fields, NamedAttributes, code_of
from dvr_agent.state.filter import (
    DportMatch,
    Family,
    FilterRule,
    Foreign,
    Jump,
    MarkMatch,
    Match,
    Not,
    Target,
    Transport,
    Verdict,
)

_CLASS = nft_rule_msg.nft_expr
_EXPRESSION, _META, _PAYLOAD, _BITWISE, _CMP, _RANGE, _IMMEDIATE, _MATCH, _TARGET = (
    NamedAttributes(Schema(cls))
    for cls in (
        _CLASS,
        _CLASS.nft_meta,
        _CLASS.nft_payload,
        _CLASS.nft_bitwise,
        _CLASS.nft_cmp,
        _CLASS.nft_range,
        _CLASS.nft_immediate,
        _CLASS.nft_match,
        _CLASS.nft_target,
    )
)

META_KEYS: dict[int, str] = _CLASS.nft_meta.meta_key.ops
NETWORK_HEADER = code_of(_CLASS.nft_payload.base_type, "NFT_PAYLOAD_NETWORK_HEADER")
TRANSPORT_HEADER = code_of(_CLASS.nft_payload.base_type, "NFT_PAYLOAD_TRANSPORT_HEADER")
CMP_OPERATORS: dict[int, str] = _CLASS.nft_cmp.ops.ops
VERDICT_CODES: dict[int, str] = _CLASS.nft_immediate.nfta_data.verdict.verdict_code.ops
VERDICTS: dict[str, Literal["ACCEPT", "DROP", "RETURN"]] = {
    "NF_DROP": "DROP",
    "NF_ACCEPT": "ACCEPT",
    "NFT_RETURN": "RETURN",
}
RANGE_EQ = code_of(_CLASS.nft_range.range_op, "NFT_RANGE_EQ")
RANGE_ENDS = ("NFT_CMP_GTE", "NFT_CMP_LTE")
MAX_PORT = 0xFFFF
JUMPS = ("NFT_JUMP", "NFT_GOTO")
# Offsets into packet headers (RFC 791, RFC 8200, RFC 9293, RFC 768); no layouts of netlink.
ADDRESS_AT = {(4, 12): "src", (4, 16): "dst", (6, 8): "src", (6, 24): "dst"}
"""(IP version, offset into its header) → the address there."""
PROTOCOL_AT = {4: 9, 6: 6}
"""IP version → offset of the protocol."""
DPORT_AT = 2
"""Offset of the destination port, of all :data:`PROTOCOLS`."""
PROTOCOLS: dict[int, Transport] = {number: name for name, number in PROTOCOL_NUMBERS.items()}
_UNCONDITIONAL = frozenset({"counter", "log", "immediate", "reject"})
"""Expressions that apply to every packet."""
NO_TARGET = Foreign(b"no target")
OTHER_PROTOCOL = b"protocol "
"""Begins what stands for a protocol of which ``state.filter`` has no name, or for any but one."""
OTHER_FAMILY = Foreign(b"other family")
"""Stands for a match that no packet of the family fulfils, in a table of family ``inet``."""
META_SET = Foreign(b"meta set")
"""Stands for an expression that sets a ``meta`` key, such as the packet's mark."""


@dataclass(slots=True)
class _Register:
    """The source of the value that was loaded last.

    :ivar meta: name of the ``meta`` key, empty for bytes of the packet
    :ivar base: header of the packet
    :ivar offset: of the bytes in that header
    :ivar mask: applied to the value
    :ivar changed: an expression changed the value in another way than by a mask
    """

    meta: str = ""
    base: int = -1
    offset: int = 0
    mask: bytes | None = None
    changed: bool = False


@dataclass(slots=True)
class _Draft:
    """A rule of which some expressions have been read.

    :ivar selectors: source, destination and interfaces, by field of :class:`FilterRule`
    """

    family: Family
    target: Target = NO_TARGET
    selectors: dict[str, str | Not] = field(default_factory=dict)
    protocol: Transport | None = None
    matches: list[Match | Foreign] = field(default_factory=list)
    register: _Register = field(default_factory=_Register)


def decode(family: Family, expressions: Data) -> FilterRule:
    """Decode a rule, as far as ``state.filter`` can express it.

    :param expressions: :attr:`.message.RuleInfo.expressions`
    """
    draft = _Draft(family)
    for name, data in _expressions(expressions):
        reader = _READERS.get(name)
        if reader is None:
            draft.matches.append(Foreign(name.encode()))
        else:
            reader(draft, data)
    selectors = draft.selectors
    return FilterRule(
        draft.target,
        selectors.get("src"),
        selectors.get("dst"),
        selectors.get("iif"),
        selectors.get("oif"),
        draft.protocol,
        tuple(draft.matches),
    )


def jump_of(expressions: Data) -> str | None:
    """Return the chain that the rule leads to, None if it leads to none."""
    for name, data in _expressions(expressions):
        if name == "immediate":
            target = _verdict(data)
            if isinstance(target, Jump):
                return target.chain
    return None


def drops_all(expressions: Data) -> bool:
    """True if the rule drops or rejects every packet: it has no match."""
    verdicts = 0
    for name, data in _expressions(expressions):
        if name not in _UNCONDITIONAL:
            return False
        if name == "immediate" and _verdict(data) != Verdict("DROP"):
            return False
        verdicts += name in ("immediate", "reject")
    return verdicts > 0


def _expressions(data: Data) -> Iterator[tuple[str, Data]]:
    """Yield (name, payload) of each expression of a rule."""
    for _, begin, end in attributes(bytes(data), 0):
        found = Fields(_EXPRESSION, data[begin:end])
        yield found.text("NFTA_EXPR_NAME"), found.raw("NFTA_EXPR_DATA")


def _read_meta(draft: _Draft, data: Data) -> None:
    if Fields(_META, data).has("NFTA_META_SREG"):
        draft.matches.append(META_SET)
        return
    draft.register = _Register(meta=META_KEYS.get(Fields(_META, data).integer("NFTA_META_KEY", -1), "unknown"))


def _read_payload(draft: _Draft, data: Data) -> None:
    found = Fields(_PAYLOAD, data)
    draft.register = _Register(base=found.integer("NFTA_PAYLOAD_BASE"), offset=found.integer("NFTA_PAYLOAD_OFFSET"))


def _read_bitwise(draft: _Draft, data: Data) -> None:
    found = Fields(_BITWISE, data)
    draft.register.mask = bytes(found.within("NFTA_BITWISE_MASK").raw("NFTA_DATA_VALUE"))
    draft.register.changed = any(found.within("NFTA_BITWISE_XOR").raw("NFTA_DATA_VALUE"))


def _read_cmp(draft: _Draft, data: Data) -> None:
    found = Fields(_CMP, data)
    operator = CMP_OPERATORS.get(found.integer("NFTA_CMP_OP", -1))
    value = bytes(found.within("NFTA_CMP_DATA").raw("NFTA_DATA_VALUE"))
    if operator in RANGE_ENDS and _add_range_end(draft, value, operator):
        return
    comparable = operator in ("NFT_CMP_EQ", "NFT_CMP_NEQ") and not draft.register.changed
    if not comparable or not _add_comparison(draft, value, operator == "NFT_CMP_NEQ"):
        draft.matches.append(Foreign(value))


def _read_range(draft: _Draft, data: Data) -> None:
    found = Fields(_RANGE, data)
    ends = [bytes(found.within(f"NFTA_RANGE_{end}_DATA").raw("NFTA_DATA_VALUE")) for end in ("FROM", "TO")]
    inside = found.integer("NFTA_RANGE_OP", -1) == RANGE_EQ
    for end, operator in zip(ends, RANGE_ENDS, strict=True):
        if not inside or not _add_range_end(draft, end, operator):
            draft.matches.append(Foreign(bytes(data)))
            return


def _read_immediate(draft: _Draft, data: Data) -> None:
    draft.target = _verdict(data) or draft.target


def _read_match(draft: _Draft, data: Data) -> None:
    found = Fields(_MATCH, data)
    name, revision = found.text("NFTA_MATCH_NAME"), found.integer("NFTA_MATCH_REV")
    match = decode_match(name, revision, bytes(found.raw("NFTA_MATCH_INFO")))
    draft.matches.append(match or Foreign(bytes(data)))


def _read_target(draft: _Draft, data: Data) -> None:
    found = Fields(_TARGET, data)
    name, revision = found.text("NFTA_TARGET_NAME"), found.integer("NFTA_TARGET_REV")
    target = decode_target(name, revision, bytes(found.raw("NFTA_TARGET_INFO")), draft.family)
    draft.target = target or Foreign(bytes(data))


_READERS: dict[str, Callable[[_Draft, Data], None]] = {
    "counter": lambda draft, data: None,
    "meta": _read_meta,
    "payload": _read_payload,
    "bitwise": _read_bitwise,
    "cmp": _read_cmp,
    "range": _read_range,
    "immediate": _read_immediate,
    "match": _read_match,
    "target": _read_target,
}
"""Name of an expression → what it adds to the draft."""


def _add_comparison(draft: _Draft, value: bytes, invert: bool) -> bool:
    """Add a comparison of the register to the draft; False: ``state.filter`` cannot express it."""
    if draft.register.meta:
        return _add_meta_comparison(draft, value, invert)
    register, family = draft.register, draft.family
    if register.base == NETWORK_HEADER and register.offset == PROTOCOL_AT[family]:
        return _add_protocol(draft, value, invert)
    if register.base == NETWORK_HEADER and (family, register.offset) in ADDRESS_AT:
        network = _network(family, value, register.mask)
        draft.selectors[ADDRESS_AT[family, register.offset]] = Not(network) if invert else network
        return True
    if not _is_dport(register) or draft.protocol is None or invert:
        return False
    port = int.from_bytes(value, "big")
    draft.matches.append(DportMatch(draft.protocol, port, port))
    return True


def _add_range_end(draft: _Draft, value: bytes, operator: str) -> bool:
    """Add one end of a range of destination ports, which two comparisons make; False: it is of something else."""
    if not _is_dport(draft.register) or draft.register.changed or draft.protocol is None:
        return False
    port, last = int.from_bytes(value, "big"), draft.matches[-1] if draft.matches else None
    known = last if isinstance(last, DportMatch) else None
    if known is not None:
        draft.matches.pop()
    low, high = (known.first, known.last) if known is not None else (0, MAX_PORT)
    ends = (port, high) if operator == "NFT_CMP_GTE" else (low, port)
    draft.matches.append(DportMatch(draft.protocol, *ends))
    return True


def _is_dport(register: _Register) -> bool:
    return (register.base, register.offset, register.mask) == (TRANSPORT_HEADER, DPORT_AT, None)


def _add_meta_comparison(draft: _Draft, value: bytes, invert: bool) -> bool:
    """Add a comparison of a ``meta`` key; False: ``state.filter`` cannot express it."""
    meta, mask = draft.register.meta, draft.register.mask
    if meta in ("NFT_META_IIFNAME", "NFT_META_OIFNAME"):
        whole = value.endswith(b"\0") or len(value) == IFNAME_FIELD
        device = value.rstrip(b"\0").decode(errors="surrogateescape") + ("" if whole else "+")
        draft.selectors["iif" if meta == "NFT_META_IIFNAME" else "oif"] = Not(device) if invert else device
    elif meta == "NFT_META_MARK":
        bits = int.from_bytes(mask, sys.byteorder) if mask else 0xFFFFFFFF
        draft.matches.append(MarkMatch(int.from_bytes(value, sys.byteorder), bits, invert))
    elif meta == "NFT_META_L4PROTO":
        return _add_protocol(draft, value, invert)
    elif meta == "NFT_META_NFPROTO":
        if (value[0] == AF_OF_FAMILY[draft.family]) == invert:
            draft.matches.append(OTHER_FAMILY)
    else:
        return False
    return True


def _add_protocol(draft: _Draft, value: bytes, invert: bool) -> bool:
    """Add the protocol; one that ``state.filter`` cannot express becomes a match that names its number."""
    number = int.from_bytes(value, "big")
    if invert or number not in PROTOCOLS:
        draft.matches.append(Foreign(b"%b%d" % (OTHER_PROTOCOL + (b"! " if invert else b""), number)))
    else:
        draft.protocol = PROTOCOLS[number]
    return True


def _network(family: Family, value: bytes, mask: bytes | None) -> str:
    """Return an address with its prefix length; for whole bytes iptables-nft compares fewer bytes, without a mask."""
    length = sum(byte.bit_count() for byte in mask) if mask else len(value) * 8
    address = value.ljust(4 if family == 4 else 16, b"\0")
    return f"{ip_text(address)}/{length}"


def _verdict(data: Data) -> Target | None:
    """Decode an ``immediate`` expression; None if it loads a value instead of a verdict."""
    found = Fields(_IMMEDIATE, data).within("NFTA_IMMEDIATE_DATA").within("NFTA_DATA_VERDICT")
    if not found.has("NFTA_VERDICT_CODE"):
        return None
    code = VERDICT_CODES.get(found.integer("NFTA_VERDICT_CODE"), "unknown")
    if code in JUMPS:
        return Jump(found.text("NFTA_VERDICT_CHAIN"))
    return Verdict(VERDICTS[code]) if code in VERDICTS else Foreign(bytes(data))
