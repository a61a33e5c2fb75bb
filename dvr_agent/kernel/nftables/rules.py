"""Rules that iptables-nft wrote, in the words of :mod:`dvr_agent.state.filter`: pure.

A rule of nf_tables is a list of small steps: load something into a register, compare it, and at last a target.  What
iptables-nft has no step for it puts in as the extension of x_tables that it is, byte by byte as in the legacy tables.
Reading need not be perfect: a step without a word is :class:`~dvr_agent.state.filter.Foreign`, and what is made of the
rules (marks of address scopes, translations) then takes no notice of that rule.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from dvr_agent.kernel.iptables.extensions import address_text, decode_match, decode_target
from dvr_agent.kernel.netlink.message import Data, attributes
from dvr_agent.kernel.nftables.message import fields, name, number
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
    Verdict,
)

EXPR_NAME, EXPR_DATA = 1, 2
IMMEDIATE_DATA, CMP_OP, CMP_DATA = 2, 2, 3
DATA_VALUE, DATA_VERDICT = 1, 2
VERDICT_CODE, VERDICT_CHAIN = 1, 2
META_KEY, META_MARK, META_IIFNAME, META_OIFNAME, META_L4PROTO = 2, 3, 6, 7, 16
PAYLOAD_BASE, PAYLOAD_OFFSET, PAYLOAD_LENGTH = 2, 3, 4
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
BITWISE_MASK, BITWISE_XOR = 4, 5
EXTENSION_NAME, EXTENSION_REVISION, EXTENSION_INFO = 1, 2, 3
CMP_EQ, CMP_NEQ = 0, 1

VERDICTS: dict[int, Literal["ACCEPT", "DROP", "RETURN"]] = {0: "DROP", 1: "ACCEPT", -5: "RETURN"}
JUMPS = (-3, -4)
"""``NFT_JUMP`` and ``NFT_GOTO``."""
ADDRESS_AT = {(4, 12): "src", (4, 16): "dst", (6, 8): "src", (6, 24): "dst"}
"""(IP version, offset into its header) → which address lies there."""
PROTOCOL_AT = {4: 9, 6: 6}
DPORT_AT = 2
PROTOCOLS: dict[int, Literal["tcp", "udp"]] = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}
NO_TARGET = Foreign(b"no target")


@dataclass(slots=True)
class _Register:
    """What was loaded last: ``meta`` key, or offset in a header, and the mask put over it."""

    meta: int | None = None
    base: int = 0
    offset: int = 0
    mask: bytes | None = None
    changed: bool = False


@dataclass(slots=True)
class _Draft:
    family: Family
    target: Target = NO_TARGET
    places: dict[str, str | Not] = field(default_factory=dict)
    protocol: Literal["tcp", "udp"] | None = None
    matches: list[Match | Foreign] = field(default_factory=list)
    register: _Register = field(default_factory=_Register)


def decode(family: Family, expressions: Data) -> FilterRule:
    """The rule, as far as there are words for it."""
    draft = _Draft(family)
    for kind, data in _steps(expressions):
        _take(draft, kind, data)
    places = draft.places
    return FilterRule(
        draft.target,
        places.get("src"),
        places.get("dst"),
        places.get("iif"),
        places.get("oif"),
        draft.protocol,
        tuple(draft.matches),
    )


def jump_of(expressions: Data) -> str | None:
    """The chain that the rule leads to, None if it leads to none."""
    for kind, data in _steps(expressions):
        if kind == "immediate":
            target = _verdict(data)
            if isinstance(target, Jump):
                return target.chain
    return None


def _steps(expressions: Data) -> Iterator[tuple[str, Data]]:
    for _, begin, end in attributes(expressions, 0):
        found = fields(expressions[begin:end])
        yield name(found.get(EXPR_NAME, b"")), found.get(EXPR_DATA, b"")


def _take(draft: _Draft, kind: str, data: Data) -> None:
    found = fields(data)
    match kind:
        case "counter":
            pass
        case "meta":
            draft.register = _Register(meta=number(found.get(META_KEY, b"\xff")))
        case "payload":
            base, offset = number(found.get(PAYLOAD_BASE, b"")), number(found.get(PAYLOAD_OFFSET, b""))
            draft.register = _Register(base=base, offset=offset)
        case "bitwise":
            draft.register.mask = bytes(fields(found.get(BITWISE_MASK, b"")).get(DATA_VALUE, b""))
            draft.register.changed = any(fields(found.get(BITWISE_XOR, b"")).get(DATA_VALUE, b""))
        case "cmp":
            _compare(draft, found)
        case "immediate":
            draft.target = _verdict(data) or draft.target
        case "match":
            draft.matches.append(decode_match(*_extension(found)) or Foreign(bytes(data)))
        case "target":
            draft.target = decode_target(*_extension(found), draft.family) or Foreign(bytes(data))
        case _:
            draft.matches.append(Foreign(kind.encode()))


def _extension(found: dict[int, Data]) -> tuple[str, int, bytes]:
    revision = number(found.get(EXTENSION_REVISION, b""))
    return name(found.get(EXTENSION_NAME, b"")), revision, bytes(found.get(EXTENSION_INFO, b""))


def _compare(draft: _Draft, found: dict[int, Data]) -> None:
    operator = number(found.get(CMP_OP, b"\xff"))
    value = bytes(fields(found.get(CMP_DATA, b"")).get(DATA_VALUE, b""))
    if operator not in (CMP_EQ, CMP_NEQ) or draft.register.changed or not _place(draft, value, operator == CMP_NEQ):
        draft.matches.append(Foreign(value))


def _place(draft: _Draft, value: bytes, invert: bool) -> bool:
    """Put what was compared where it belongs; False: there is no word for it."""
    register, family = draft.register, draft.family
    if register.meta in (META_IIFNAME, META_OIFNAME):
        device = name(value) if value.endswith(b"\0") or len(value) == 16 else name(value) + "+"
        draft.places["iif" if register.meta == META_IIFNAME else "oif"] = Not(device) if invert else device
    elif register.meta == META_MARK:
        mask = int.from_bytes(register.mask, sys.byteorder) if register.mask else 0xFFFFFFFF
        draft.matches.append(MarkMatch(int.from_bytes(value, sys.byteorder), mask, invert))
    elif register.meta == META_L4PROTO or (
        register.meta is None and (register.base, register.offset) == (NETWORK_HEADER, PROTOCOL_AT[family])
    ):
        draft.protocol = PROTOCOLS.get(number(value))
        return draft.protocol is not None and not invert
    elif register.meta is None and register.base == NETWORK_HEADER and (family, register.offset) in ADDRESS_AT:
        network = _network(family, value, register.mask)
        draft.places[ADDRESS_AT[family, register.offset]] = Not(network) if invert else network
    elif (register.meta, register.base, register.offset, register.mask) == (None, TRANSPORT_HEADER, DPORT_AT, None):
        if draft.protocol is None or invert:
            return False
        draft.matches.append(DportMatch(draft.protocol, number(value), number(value)))
    else:
        return False
    return True


def _network(family: Family, value: bytes, mask: bytes | None) -> str:
    """An address with its prefix length; iptables-nft compares only as many bytes as the prefix has, where it can."""
    length = sum(byte.bit_count() for byte in mask) if mask else len(value) * 8
    address = value.ljust(4 if family == 4 else 16, b"\0")
    return f"{address_text(address)}/{length}"


def _verdict(data: Data) -> Target | None:
    verdict = fields(fields(fields(data).get(IMMEDIATE_DATA, b"")).get(DATA_VERDICT, b""))
    if VERDICT_CODE not in verdict:
        return None
    code = int.from_bytes(verdict[VERDICT_CODE], "big", signed=True)
    if code in JUMPS:
        return Jump(name(verdict.get(VERDICT_CHAIN, b"")))
    return Verdict(VERDICTS[code]) if code in VERDICTS else Foreign(bytes(data))
