"""Encode our rules as expressions of nf_tables, and decode them.  Pure.

What was decoded is encoded again and compared: a rule that is not exactly as it is made here becomes one with a
:class:`~dvr_agent.state.filter.Foreign` target, which equals no desired one and is replaced.  Used by
:mod:`.filter_messages`.

One difference to iptables: a mark is restored and saved as a whole, since the kernel combines two registers only from
Linux 6.13 on, and nft 1.0.6 cannot list that.  Bits of a packet's mark that are not of the mask are zero there: the way
into a namespace clears the mark, and the rules that set other bits come later.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from dvr_agent.kernel.ip_text import ip_text
from dvr_agent.kernel.iptables.layout import IFNAME_FIELD, PROTOCOLS
from dvr_agent.kernel.netlink.message import AF_OF_FAMILY
from dvr_agent.kernel.nftables import expressions as ex
from dvr_agent.kernel.nftables.rules import PROTOCOLS as TRANSPORTS
from dvr_agent.kernel.nftables.ruleset import ALL, COUNT, NftRule, device_field, helper_object, mark_bytes
from dvr_agent.state.filter import (
    CommentMatch,
    ConnmarkMatch,
    CtHelper,
    CtStateMatch,
    Dnat,
    DportMatch,
    Family,
    FilterRule,
    Foreign,
    MarkMatch,
    Match,
    Not,
    NoTrack,
    Redirect,
    RestoreConnmark,
    SaveConnmark,
    SetMark,
    Snat,
    Target,
    Transport,
    Verdict,
)
from dvr_agent.state.filter_runs import ANY, Field, with_field

_ADDRESSES: dict[Family, dict[str, tuple[int, int]]] = {
    4: {"src": (12, 4), "dst": (16, 4)},
    6: {"src": (8, 16), "dst": (24, 16)},
}
"""Offset and size of the addresses in the IP header."""
_DPORT = (2, 2)
"""Offset and size of the destination port."""
KNOWN_MAX = 1 << 10
"""Rules by which others are recognised."""
_VERDICTS: dict[str, int] = {"DROP": ex.DROP, "ACCEPT": ex.ACCEPT, "RETURN": ex.RETURN}
_STATUS = {"SNAT": 0x10, "DNAT": 0x20}
"""IPS_SRC_NAT, IPS_DST_NAT (nf_conntrack_common.h)."""
_STATES = {"INVALID": 1, "ESTABLISHED": 2, "RELATED": 4, "NEW": 8, "UNTRACKED": 64}
"""NF_CT_STATE_BIT of each state."""


def encode(family: Family, one: NftRule) -> list[bytes]:
    """Return the expressions of a rule.

    :raises ValueError: it cannot be expressed
    """
    return [*_selectors(family, one), *_matches(one.rule), *_lookup(family, one), *_target(family, one)]


def _selectors(family: Family, one: NftRule) -> Iterator[bytes]:
    rule = one.rule
    for key, device in ((ex.META_IIFNAME, rule.iif), (ex.META_OIFNAME, rule.oif)):
        if device:
            yield ex.meta(key)
            yield _compare(_device, device)
    for name, network in (("src", rule.src), ("dst", rule.dst)):
        if network:
            yield from _network(_ADDRESSES[family][name], network)
    if rule.protocol is not None:
        yield ex.meta(ex.META_L4PROTO)
        yield ex.compare(bytes([PROTOCOLS[rule.protocol]]))


def _compare(encoded: Callable[[str], bytes], value: str | Not) -> bytes:
    return ex.compare(encoded(value.value), ex.NEQ) if isinstance(value, Not) else ex.compare(encoded(value))


def _device(name: str) -> bytes:
    return name[:-1].encode() if name.endswith("+") else device_field(name)


@lru_cache(maxsize=1 << 12)
def _network(place: tuple[int, int], value: str | Not) -> tuple[bytes, ...]:
    """Compare an address, or as many whole bytes of it as a network has: nft writes the same."""
    network = ipaddress.ip_network(value.value if isinstance(value, Not) else value)
    offset, size = place
    packed, length = network.network_address.packed, network.prefixlen
    is_whole = length % 8 == 0 and length > 0
    if is_whole:
        size = length // 8
    compared = ex.compare(packed[:size], ex.NEQ if isinstance(value, Not) else ex.EQ)
    if is_whole:
        return ex.payload(ex.NETWORK, offset, size), compared
    return ex.payload(ex.NETWORK, offset, size), ex.bitwise(network.netmask.packed, bytes(size)), compared


def _matches(rule: FilterRule) -> Iterator[bytes]:
    for match in rule.matches:
        match match:
            case MarkMatch():
                yield from _mark(ex.meta(ex.META_MARK), match)
            case ConnmarkMatch():
                yield from _mark(ex.ct(ex.CT_MARK), match)
            case CtStateMatch():
                yield from _states(match)
            case DportMatch():
                yield ex.payload(ex.TRANSPORT, *_DPORT)
                first, last = match.first.to_bytes(2, "big"), match.last.to_bytes(2, "big")
                if first == last:
                    yield ex.compare(first)
                else:
                    yield from (ex.compare(first, ex.GTE), ex.compare(last, ex.LTE))
            case CommentMatch():
                raise ValueError(f"nf_tables counts in sets only: {rule.text}")
            case _:
                raise ValueError(f"this match cannot be written: {match.text}")


def _mark(load: bytes, match: MarkMatch | ConnmarkMatch) -> Iterator[bytes]:
    yield load
    if match.mask != ALL:
        yield ex.bitwise(mark_bytes(match.mask), bytes(4))
    yield ex.compare(mark_bytes(match.value), ex.NEQ if match.invert else ex.EQ)


def _states(match: CtStateMatch) -> Iterator[bytes]:
    for key, bits in ((ex.CT_STATUS, _STATUS), (ex.CT_STATE, _STATES)):
        if match.states <= bits.keys():
            yield ex.ct(key)
            yield ex.bitwise(mark_bytes(sum(bits[name] for name in match.states)), bytes(4))
            yield ex.compare(bytes(4), ex.EQ if match.invert else ex.NEQ)
            return
    raise ValueError(f"states and translations in one match: {match.text}")


def _lookup(family: Family, one: NftRule) -> Iterator[bytes]:
    if one.field is None:
        return
    match one.field:
        case "iif":
            yield ex.meta(ex.META_IIFNAME)
        case "oif":
            yield ex.meta(ex.META_OIFNAME)
        case "dport":
            offset, size = _ADDRESSES[family]["dst"]
            yield ex.payload(ex.NETWORK, offset, size)
            yield ex.payload(ex.TRANSPORT, *_DPORT, register=ex.REG32 + size // 4)
        case name:
            yield ex.payload(ex.NETWORK, *_ADDRESSES[family][name])
    yield ex.lookup(one.set, isinstance(one.rule.target, Dnat | Snat))


def _target(family: Family, one: NftRule) -> Iterator[bytes]:
    target = one.rule.target
    if target == COUNT:
        if one.field is None:
            raise ValueError(f"nf_tables counts in sets only: {one.rule.text}")
    elif isinstance(target, Dnat):
        yield from _dnat(family, one, target)
    elif isinstance(target, Snat):
        yield from _address(target.address)
        yield ex.nat(ex.SNAT, AF_OF_FAMILY[family], ex.RANDOM_FULLY if target.random_fully else 0)
    elif isinstance(target, SetMark | SaveConnmark | RestoreConnmark):
        yield from _marking(target)
    else:
        yield from _other_target(one.rule)


def _marking(target: SetMark | SaveConnmark | RestoreConnmark) -> Sequence[bytes]:
    if isinstance(target, SetMark):
        changed = ex.bitwise(mark_bytes(~target.mask & ALL), mark_bytes(target.value))
        return ex.meta(ex.META_MARK), changed, ex.set_meta(ex.META_MARK)
    masked = ex.bitwise(mark_bytes(target.mask), bytes(4))
    if isinstance(target, SaveConnmark):
        return ex.meta(ex.META_MARK), masked, ex.set_ct(ex.CT_MARK)
    return ex.ct(ex.CT_MARK), masked, ex.set_meta(ex.META_MARK)


def _other_target(rule: FilterRule) -> Sequence[bytes]:
    match rule.target:
        case Verdict(name):
            return (ex.verdict(_VERDICTS[name]),)
        case Redirect(port):
            return ex.immediate(port.to_bytes(2, "big")), ex.redirect()
        case NoTrack():
            return (ex.expression("notrack"),)
        case CtHelper(name):
            return (ex.object_of(ex.CT_HELPER, helper_object(name, str(rule.protocol))),)
    raise ValueError(f"this target cannot be written: {rule.target.text}")


def _address(address: str) -> Iterator[bytes]:
    if address != ANY:  # else the lookup has loaded it
        yield ex.immediate(ipaddress.ip_address(address).packed)


def _dnat(family: Family, one: NftRule, target: Dnat) -> Iterator[bytes]:
    af = AF_OF_FAMILY[family]
    yield from _address(target.address)
    if one.field == "dport":
        yield ex.nat(ex.DNAT, af, first_port=ex.REG32 + _ADDRESSES[family]["dst"][1] // 4)
    elif target.ports is None:
        yield ex.nat(ex.DNAT, af)
    elif target.base is not None:
        raise ValueError(f"ports are shifted by a map only: {one.rule.text}")
    else:
        first, last = target.ports
        yield ex.immediate(first.to_bytes(2, "big"), ex.REG_2)
        if last != first:
            yield ex.immediate(last.to_bytes(2, "big"), ex.REG_3)
        yield ex.nat(ex.DNAT, af, first_port=ex.REG_2, last_port=ex.REG_3 if last != first else 0)


# --- reading ---


@dataclass(slots=True)
class _Draft:
    """A rule of which some expressions have been read.

    :ivar loaded: what register 1 has: field of the rule or kind of match, or a constant
    :ivar mask: applied to it
    :ivar xor: applied to it
    :ivar ports: constants in registers 2 and 3
    """

    family: Family
    target: Target = COUNT
    selectors: dict[str, str | Not] = field(default_factory=dict)
    protocol: Transport | None = None
    matches: list[Match | Foreign] = field(default_factory=list)
    looked_up: Field | None = None
    set_name: str = ""
    is_map: bool = False
    loaded: str = ""
    constant: bytes = b""
    mask: bytes = b""
    xor: bytes = b""
    ports: dict[int, int] = field(default_factory=dict)


class _UnknownError(Exception):
    """An expression is not one of ours."""


@lru_cache(maxsize=1 << 14)
def decode(family: Family, expressions: bytes) -> NftRule:
    """Decode a rule of ours; one that is not exactly as it is made here has a ``Foreign`` target.

    :param expressions: :attr:`.message.RuleInfo.expressions`
    """
    alike = _known.find(family, expressions)
    if alike is not None:
        return alike
    found = ex.comparable(expressions)
    try:
        one = _read(family, found)
        is_same = _again(family, one) == found
    except (_UnknownError, ValueError, KeyError, IndexError, OverflowError):
        is_same = False
    if not is_same:
        return NftRule(FilterRule(Foreign(expressions)))
    _known.add(family, expressions, one)
    return one


class _KnownRules:
    """Rules that were decoded, by their bytes without the name of a device.

    At a start the same rules are met in each namespace, with other devices.
    """

    def __init__(self) -> None:
        self._rules: dict[tuple[Family, int, bytes], tuple[FilterRule, Field]] = {}
        self._places: dict[tuple[Family, int], frozenset[int]] = {}
        """Family and size of the bytes → offsets of device names."""

    def find(self, family: Family, expressions: bytes) -> NftRule | None:
        """Return the rule if one is known that differs by the device only."""
        for at in self._places.get((family, len(expressions)), ()):
            known = self._rules.get((family, at, _without(expressions, at)))
            name = _device_text(value := expressions[at : at + IFNAME_FIELD]) if known is not None else ""
            if known is not None and _names_one(name) and device_field(name) == value:
                return NftRule(with_field(known[0], known[1], name))
        return None

    def add(self, family: Family, expressions: bytes, one: NftRule) -> None:
        """Note a rule that compares one device with a name."""
        rule = one.rule
        names: list[tuple[Field, str]] = [("iif", rule.iif)] if isinstance(rule.iif, str) else []
        names += [("oif", rule.oif)] if isinstance(rule.oif, str) else []
        if one.field is not None or len(names) != 1 or not _names_one(names[0][1]):
            return
        which, name = names[0]
        value, size = device_field(name), len(expressions)
        if expressions.count(value) != 1:
            return
        if len(self._rules) >= KNOWN_MAX:
            self._rules.clear()
        at = expressions.index(value)
        self._places[family, size] = self._places.get((family, size), frozenset()) | {at}
        self._rules[family, at, _without(expressions, at)] = (rule, which)


_known = _KnownRules()


def _without(expressions: bytes, at: int) -> bytes:
    return expressions[:at] + expressions[at + IFNAME_FIELD :]


def _names_one(name: str) -> bool:
    """Return True for the name of one device; with ``+`` at the end it stands for all that begin so."""
    return bool(name) and not name.endswith("+")


def _again(family: Family, one: NftRule) -> tuple[ex.Expression, ...]:
    return ex.comparable(b"".join(map(ex.listed, encode(family, one))))


def _read(family: Family, found: Sequence[ex.Expression]) -> NftRule:
    draft = _Draft(family)
    for one in found:
        reader = _READERS.get(one.name)
        if reader is None:
            raise _UnknownError
        reader(draft, one)
    selectors = draft.selectors
    rule = FilterRule(
        draft.target,
        selectors.get("src"),
        selectors.get("dst"),
        selectors.get("iif"),
        selectors.get("oif"),
        draft.protocol,
        tuple(draft.matches),
    )
    return NftRule(rule, draft.looked_up, draft.set_name)


def _load(draft: _Draft, what: str) -> None:
    draft.loaded, draft.mask, draft.xor, draft.constant = what, b"", b"", b""


def _read_meta(draft: _Draft, one: ex.Expression) -> None:
    key = one.number(2)
    if not one.number(3):
        _load(draft, _META_LOADS[key])
    elif key == ex.META_MARK and draft.loaded == "ct mark":
        draft.target = RestoreConnmark(_mark_number(draft.mask))
    elif key == ex.META_MARK and draft.loaded == "mark":
        draft.target = SetMark(_mark_number(draft.xor or bytes(4)), ~_mark_number(draft.mask or bytes(4)) & ALL)
    else:
        raise _UnknownError


_META_LOADS = {
    ex.META_MARK: "mark",
    ex.META_IIFNAME: "iif",
    ex.META_OIFNAME: "oif",
    ex.META_L4PROTO: "protocol",
}
_CT_LOADS = {ex.CT_STATE: "ct state", ex.CT_STATUS: "ct status", ex.CT_MARK: "ct mark"}


def _read_ct(draft: _Draft, one: ex.Expression) -> None:
    if not one.number(4):
        _load(draft, _CT_LOADS[one.number(2)])
    elif one.number(2) == ex.CT_MARK and draft.loaded == "mark":
        draft.target = SaveConnmark(_mark_number(draft.mask))
    else:
        raise _UnknownError


def _read_payload(draft: _Draft, one: ex.Expression) -> None:
    place = (one.number(3), one.number(4))
    if one.number(2) == ex.TRANSPORT and place == _DPORT:
        _load(draft, "dst dport" if one.number(1) != ex.REG_1 else "dport")
        return
    offset, size = place
    for name, (its_offset, whole) in _ADDRESSES[draft.family].items():
        if one.number(2) == ex.NETWORK and offset == its_offset and size <= whole:
            _load(draft, name)
            return
    raise _UnknownError


def _read_bitwise(draft: _Draft, one: ex.Expression) -> None:
    draft.mask, draft.xor = one.data(4), one.data(5)


def _read_cmp(draft: _Draft, one: ex.Expression) -> None:
    value, invert = one.data(3), one.number(2) == ex.NEQ
    match draft.loaded:
        case "iif" | "oif":
            draft.selectors[draft.loaded] = _maybe_not(_device_text(value), invert)
        case "src" | "dst":
            length = sum(byte.bit_count() for byte in draft.mask) if draft.mask else len(value) * 8
            address = ip_text(value.ljust(_ADDRESSES[draft.family][draft.loaded][1], b"\0"))
            draft.selectors[draft.loaded] = _maybe_not(f"{address}/{length}", invert)
        case "protocol":
            draft.protocol = TRANSPORTS[value[0]]
        case "mark" | "ct mark":
            kind = MarkMatch if draft.loaded == "mark" else ConnmarkMatch
            mask = _mark_number(draft.mask) if draft.mask else ALL
            draft.matches.append(kind(_mark_number(value), mask, invert))
        case "ct status" | "ct state":
            bits = _STATUS if draft.loaded == "ct status" else _STATES
            mask = _mark_number(draft.mask)
            draft.matches.append(CtStateMatch(frozenset(name for name in bits if bits[name] & mask), not invert))
        case "dport" if draft.protocol is not None:
            _add_port(draft, draft.protocol, int.from_bytes(value, "big"), one.number(2))
        case _:
            raise _UnknownError


def _add_port(draft: _Draft, protocol: Transport, port: int, operator: int) -> None:
    """Add a port, or one end of a range: the first comes before the last."""
    if operator == ex.LTE and draft.matches and isinstance(first := draft.matches[-1], DportMatch):
        draft.matches[-1] = DportMatch(protocol, first.first, port)
    else:
        draft.matches.append(DportMatch(protocol, port, port))


_LOOKED_UP: dict[str, Field] = {"iif": "iif", "oif": "oif", "src": "src", "dst": "dst", "dst dport": "dport"}


def _read_lookup(draft: _Draft, one: ex.Expression) -> None:
    if draft.looked_up is not None:
        raise _UnknownError
    draft.looked_up, draft.set_name, draft.is_map = _LOOKED_UP[draft.loaded], one.text(1), one.number(3) != 0
    draft.selectors["dst" if draft.looked_up == "dport" else draft.looked_up] = ANY
    _load(draft, "map")


def _read_immediate(draft: _Draft, one: ex.Expression) -> None:
    register, value = one.number(1), one.data(2)
    if register == ex.REG_VERDICT:
        code = _code(one)
        draft.target = Verdict(_NAMES_OF_VERDICTS[code])
    elif register == ex.REG_1:
        _load(draft, "constant")
        draft.constant = value
    else:
        draft.ports[register] = int.from_bytes(value, "big")


_NAMES_OF_VERDICTS: dict[int, Literal["DROP", "ACCEPT", "RETURN"]] = {
    ex.DROP: "DROP",
    ex.ACCEPT: "ACCEPT",
    ex.RETURN: "RETURN",
}


def _code(one: ex.Expression) -> int:
    """Return the verdict of an immediate expression."""
    data = one.raw(2)
    return int.from_bytes(ex.inner(ex.inner(data, 2), 1), "big")


def _read_nat(draft: _Draft, one: ex.Expression) -> None:
    address = ANY if draft.loaded == "map" else ip_text(draft.constant)
    if one.number(1) == ex.SNAT:
        draft.target = Snat(address, bool(one.number(7) & ex.RANDOM_FULLY))
    elif draft.ports:
        first = draft.ports[ex.REG_2]
        draft.target = Dnat(address, (first, draft.ports.get(ex.REG_3, first)))
    else:
        draft.target = Dnat(address)


def _read_redirect(draft: _Draft, one: ex.Expression) -> None:
    draft.target = Redirect(int.from_bytes(draft.constant, "big"))


def _read_object(draft: _Draft, one: ex.Expression) -> None:
    if one.number(1) != ex.CT_HELPER or draft.protocol is None:
        raise _UnknownError
    draft.target = CtHelper(one.text(2).removesuffix(f"_{draft.protocol}"))


def _read_no_track(draft: _Draft, one: ex.Expression) -> None:
    draft.target = NoTrack()


_READERS: dict[str, Callable[[_Draft, ex.Expression], None]] = {
    "meta": _read_meta,
    "ct": _read_ct,
    "payload": _read_payload,
    "bitwise": _read_bitwise,
    "cmp": _read_cmp,
    "lookup": _read_lookup,
    "immediate": _read_immediate,
    "nat": _read_nat,
    "redir": _read_redirect,
    "objref": _read_object,
    "notrack": _read_no_track,
}


def _maybe_not(value: str, invert: bool) -> str | Not:
    return Not(value) if invert else value


def _device_text(value: bytes) -> str:
    whole = value.endswith(b"\0") or len(value) == len(device_field(""))
    return value.rstrip(b"\0").decode(errors="surrogateescape") + ("" if whole else "+")


def _mark_number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)
