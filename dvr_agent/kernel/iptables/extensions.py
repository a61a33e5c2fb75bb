"""Encode and decode the matches and targets of x_tables: the types of :mod:`dvr_agent.state.filter` as extensions.

``encode_*`` returns an extension (name, revision, data) and raises ValueError for a value out of range; ``decode_*``
returns the match or target, or None where ``state.filter`` has no type for it.  Revisions and sizes are those that
iptables 1.8 writes, so that its ``iptables-legacy-save`` can print them.  Used by :mod:`.rule_codec`, and by
``kernel/nftables/rules.py`` for the extensions that iptables-nft puts into nf_tables.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from dvr_agent.kernel.ip_text import ip_text
from dvr_agent.kernel.iptables.layout import LAYOUTS, STANDARD, extension
from dvr_agent.state.filter import (
    CommentMatch,
    ConnmarkMatch,
    CtHelper,
    CtStateMatch,
    Dnat,
    DportMatch,
    Family,
    Foreign,
    Jump,
    MarkMatch,
    Match,
    NoTrack,
    Redirect,
    RestoreConnmark,
    SaveConnmark,
    SetMark,
    Snat,
    Target,
    Verdict,
)

MARK = struct.Struct("=IIB3x")
"""``struct xt_mark_mtinfo1`` and ``xt_connmark_mtinfo1``: mark, mask, invert."""
PORTS = {"tcp": struct.Struct("=4H4B"), "udp": struct.Struct("=4HB1x")}
"""``struct xt_tcp`` and ``xt_udp``: source and destination port ranges, then options and inversions."""
SCTP = struct.Struct("=4H256xI12siII")
"""``struct xt_sctp_info``: destination and source port ranges, no chunks, how they match, flags of chunks and their
number, then what is compared and inverted."""
SCTP_NO_CHUNKS = (0, b"\xff\0\0" * 4, 0)
"""No chunk is compared, as iptables writes it."""
DCCP = struct.Struct("=4HHHH1x1x")
"""``struct xt_dccp_info``: destination and source port ranges, what is compared and inverted, types, option."""
DEST_PORTS = 2
"""``XT_SCTP_DEST_PORTS`` and ``XT_DCCP_DEST_PORTS``."""
CONNTRACK = struct.Struct("=136x10xHHHH10x")
"""``struct xt_conntrack_mtinfo3``: of its 164 bytes, match flags, invert flags, state mask and status mask."""
XT_CONNTRACK_STATE = 1
STATE_BITS = {
    "INVALID": 1,
    "ESTABLISHED": 2,
    "RELATED": 4,
    "NEW": 8,
    "SNAT": 64,
    "DNAT": 128,
    "UNTRACKED": 256,
}
"""``XT_CONNTRACK_STATE_*`` of ``xt_conntrack.h``."""
COMMENT_FIELD = 256
"""``XT_MAX_COMMENT_LEN``, with the final zero."""

MAP_IPS, PROTO_SPECIFIED, RANDOM_FULLY, PROTO_OFFSET = 1, 2, 16, 32
"""``NF_NAT_RANGE_*`` of ``nf_nat.h``."""
RANGE = struct.Struct("=I16s16s2s2s")
"""``struct nf_nat_range``: flags, first and last address, first and last port (big endian)."""
RANGE2 = struct.Struct("=I16s16s2s2s2s2x")
"""``struct nf_nat_range2``: the same and a base port."""
RANGE4 = struct.Struct("=II4s4s2s2s")
"""``struct nf_nat_ipv4_multi_range_compat`` with one range."""

SET_MARK = struct.Struct("=II")
"""``struct xt_mark_tginfo2``: mark, mask."""
CONNMARK = struct.Struct("=IIIBBB1x")
"""``struct xt_connmark_tginfo2``: ctmark, ctmask, nfmask, shift direction, shift bits, mode."""
CONNMARK_SAVE, CONNMARK_RESTORE = 1, 2
CT = struct.Struct("=HHII16s32s4x8x")
"""``struct xt_ct_target_info_v1``: flags, zone, events, helper, timeout, kernel pointer (not for us)."""
XT_CT_NOTRACK = 1
HELPER_NAME_MAX = 15
"""``struct xt_ct_target_info_v1``: 16 bytes with the final zero."""

U32 = 0xFFFFFFFF
_ZERO_PORT = bytes(2)


# -- matches ------------------------------------------------------------------------------------------------------


def encode_match(match: Match | Foreign) -> bytes:
    """Encode a match as an extension.

    :raises ValueError: a value is out of range
    """
    match match:
        case MarkMatch() | ConnmarkMatch():
            name = "mark" if isinstance(match, MarkMatch) else "connmark"
            return extension(name, 1, MARK.pack(_u32(match.value), _u32(match.mask), match.invert))
        case CtStateMatch():
            return extension("conntrack", 3, _encode_states(match))
        case DportMatch():
            if not 0 <= match.first <= match.last <= 0xFFFF:
                raise ValueError("ports are 0..65535, first before last")
            return extension(match.protocol, 0, _encode_ports(match))
        case CommentMatch():
            return extension("comment", 0, _encode_comment(match.comment))
        case _:
            raise ValueError("a match that is not ours cannot be written")


def decode_match(name: str, revision: int, data: bytes) -> Match | None:
    """Decode the match of an extension; None: ``state.filter`` has no type for it."""
    decoder = _MATCHES.get((name, revision))
    return decoder(name, data) if decoder else None


def _encode_states(match: CtStateMatch) -> bytes:
    if not match.states or not match.states <= STATE_BITS.keys():
        raise ValueError("connection states are some of " + ", ".join(STATE_BITS))
    inverted = XT_CONNTRACK_STATE if match.invert else 0
    return CONNTRACK.pack(XT_CONNTRACK_STATE, inverted, sum(STATE_BITS[state] for state in match.states), 0)


def _encode_ports(match: DportMatch) -> bytes:
    ports = (match.first, match.last)
    match match.protocol:
        case "sctp":
            return SCTP.pack(*ports, 0, 0, *SCTP_NO_CHUNKS, DEST_PORTS, 0)
        case "dccp":
            return DCCP.pack(*ports, 0, 0, DEST_PORTS, 0, 0)
        case protocol:
            return PORTS[protocol].pack(0, 0xFFFF, *ports, *((0, 0, 0, 0) if protocol == "tcp" else (0,)))


def _encode_comment(comment: str) -> bytes:
    raw = comment.encode()
    if len(raw) >= COMMENT_FIELD or not comment.isprintable():
        raise ValueError("a comment has at most 255 bytes, all printable")
    return raw.ljust(COMMENT_FIELD, b"\0")


def _decode_mark(name: str, data: bytes) -> Match | None:
    value, mask, invert = MARK.unpack_from(data)
    cls = MarkMatch if name == "mark" else ConnmarkMatch
    return cls(value, mask, bool(invert))


def _decode_states(_name: str, data: bytes) -> Match | None:
    flags, inverted, states, _status = CONNTRACK.unpack_from(data)
    if flags != XT_CONNTRACK_STATE or inverted & ~XT_CONNTRACK_STATE or states & ~sum(STATE_BITS.values()):
        return None
    return CtStateMatch(frozenset(name for name, bit in STATE_BITS.items() if states & bit), bool(inverted))


def _decode_ports(name: str, data: bytes) -> Match | None:
    first_source, last_source, first, last, *rest = PORTS[name].unpack_from(data)
    if (first_source, last_source) != (0, 0xFFFF) or any(rest):
        return None
    return DportMatch("tcp" if name == "tcp" else "udp", first, last)


def _decode_sctp(_name: str, data: bytes) -> Match | None:
    first, last, _low, _high, _how, _flags, _number, compared, inverted = SCTP.unpack_from(data)
    return DportMatch("sctp", first, last) if (compared, inverted) == (DEST_PORTS, 0) else None


def _decode_dccp(_name: str, data: bytes) -> Match | None:
    first, last, _low, _high, compared, inverted, _types = DCCP.unpack_from(data)
    return DportMatch("dccp", first, last) if (compared, inverted) == (DEST_PORTS, 0) else None


def _decode_comment(_name: str, data: bytes) -> Match | None:
    try:
        return CommentMatch(data[:COMMENT_FIELD].partition(b"\0")[0].decode())
    except UnicodeDecodeError:
        return None


_MATCHES: dict[tuple[str, int], Callable[[str, bytes], Match | None]] = {
    ("mark", 1): _decode_mark,
    ("connmark", 1): _decode_mark,
    ("conntrack", 3): _decode_states,
    ("tcp", 0): _decode_ports,
    ("udp", 0): _decode_ports,
    ("sctp", 0): _decode_sctp,
    ("dccp", 0): _decode_dccp,
    ("comment", 0): _decode_comment,
}


# -- targets ------------------------------------------------------------------------------------------------------


def encode_target(target: Target, family: Family) -> bytes:
    """Encode a target as an extension.  Verdicts and jumps are passed by name, as libiptc wants them.

    :raises ValueError: a value is out of range or an address of the other family
    """
    match target:
        case Verdict():
            return extension(target.name, 0, bytes(8))
        case Jump():
            return extension(target.chain, 0, bytes(8))
        case Dnat() | Snat() | Redirect():
            return _encode_nat(target, family)
        case SetMark():
            return extension("MARK", 2, SET_MARK.pack(_u32(target.value), _u32(target.mask)))
        case SaveConnmark() | RestoreConnmark():
            mode = CONNMARK_SAVE if isinstance(target, SaveConnmark) else CONNMARK_RESTORE
            return extension("CONNMARK", 2, CONNMARK.pack(0, _u32(target.mask), target.mask, 0, 0, mode))
        case NoTrack():
            return extension("CT", 2, CT.pack(XT_CT_NOTRACK, 0, 0, 0, b"", b""))
        case CtHelper():
            return extension("CT", 2, CT.pack(0, 0, 0, 0, _helper_name(target.name), b""))
        case _:
            raise ValueError("a target that is not ours cannot be written")


def decode_target(name: str, revision: int, data: bytes, family: Family) -> Target | None:
    """Decode the target of an extension; None: the standard target, or ``state.filter`` has no type for it."""
    decoder = _TARGETS.get((name, revision, family))
    return decoder(data) if decoder and name != STANDARD else None


def _encode_nat(target: Dnat | Snat | Redirect, family: Family) -> bytes:
    match target:
        case Dnat():
            address, ports = _address(target.address, family), _ports(target.ports)
            flags = MAP_IPS | (PROTO_SPECIFIED if target.ports else 0) | (0 if target.base is None else PROTO_OFFSET)
            return extension("DNAT", 2, RANGE2.pack(flags, address, address, *ports, _base(target)))
        case Snat():
            flags = MAP_IPS | (RANDOM_FULLY if target.random_fully else 0)
            return _nat("SNAT", 1, family, flags, _address(target.address, family), None)
        case Redirect():
            return _nat("REDIRECT", 0, family, PROTO_SPECIFIED, b"", (target.port, target.port))


def _helper_name(name: str) -> bytes:
    if not 0 < len(name) <= HELPER_NAME_MAX or not name.isascii() or not name.isprintable() or " " in name:
        raise ValueError(f"names of helpers have 1 to {HELPER_NAME_MAX} printable characters without blanks: {name!r}")
    return name.encode()


def _nat(name: str, revision6: int, family: Family, flags: int, address: bytes, ports: tuple[int, int] | None) -> bytes:
    """Encode SNAT or REDIRECT: IPv4 still takes the oldest revision, IPv6 has ``struct nf_nat_range``."""
    first, last = _ports(ports)
    if family == 4:
        return extension(name, 0, RANGE4.pack(1, flags, address[:4], address[:4], first, last))
    return extension(name, revision6, RANGE.pack(flags, address, address, first, last))


def _decode_dnat(family: Family) -> Callable[[bytes], Target | None]:
    def decode(data: bytes) -> Target | None:
        flags, first, last, low, high, start = RANGE2.unpack_from(data)
        shifted = bool(flags & PROTO_OFFSET)
        if flags & ~(PROTO_SPECIFIED | PROTO_OFFSET) != MAP_IPS or first != last or shifted == (start == _ZERO_PORT):
            return None
        ports = (int.from_bytes(low, "big"), int.from_bytes(high, "big")) if flags & PROTO_SPECIFIED else None
        base = int.from_bytes(start, "big") if shifted else None
        return Dnat(ip_text(first[: LAYOUTS[family].address_size]), ports, base)

    return decode


def _snat(flags: int, first: bytes, last: bytes) -> Target | None:
    if flags & ~RANDOM_FULLY != MAP_IPS or first != last:
        return None
    return Snat(ip_text(first), bool(flags & RANDOM_FULLY))


def _redirect(flags: int, low: bytes, high: bytes) -> Target | None:
    return Redirect(int.from_bytes(low, "big")) if flags == PROTO_SPECIFIED and low == high else None


def _decode_snat4(data: bytes) -> Target | None:
    count, flags, first, last, _low, _high = RANGE4.unpack_from(data)
    return _snat(flags, first, last) if count == 1 else None


def _decode_snat6(data: bytes) -> Target | None:
    flags, first, last, _low, _high = RANGE.unpack_from(data)
    return _snat(flags, first, last)


def _decode_redirect4(data: bytes) -> Target | None:
    count, flags, _first, _last, low, high = RANGE4.unpack_from(data)
    return _redirect(flags, low, high) if count == 1 else None


def _decode_redirect6(data: bytes) -> Target | None:
    flags, _first, _last, low, high = RANGE.unpack_from(data)
    return _redirect(flags, low, high)


def _decode_set_mark(data: bytes) -> Target | None:
    return SetMark(*SET_MARK.unpack_from(data))


def _decode_connmark(data: bytes) -> Target | None:
    ctmark, ctmask, nfmask, _direction, bits, mode = CONNMARK.unpack_from(data)
    if ctmark or ctmask != nfmask or bits:
        return None
    if mode == CONNMARK_SAVE:
        return SaveConnmark(ctmask)
    return RestoreConnmark(ctmask) if mode == CONNMARK_RESTORE else None


def _decode_ct(data: bytes) -> Target | None:
    flags, *rest = CT.unpack_from(data)
    zone, events, expectations, helper, timeout = rest
    if zone or events or expectations or timeout.strip(b"\0"):
        return None
    name = helper.partition(b"\0")[0]
    if flags == XT_CT_NOTRACK and not name:
        return NoTrack()
    return CtHelper(name.decode("ascii")) if not flags and name else None


_TARGETS: dict[tuple[str, int, Family], Callable[[bytes], Target | None]] = {
    ("DNAT", 2, 4): _decode_dnat(4),
    ("DNAT", 2, 6): _decode_dnat(6),
    ("SNAT", 0, 4): _decode_snat4,
    ("SNAT", 1, 6): _decode_snat6,
    ("REDIRECT", 0, 4): _decode_redirect4,
    ("REDIRECT", 0, 6): _decode_redirect6,
    ("MARK", 2, 4): _decode_set_mark,
    ("MARK", 2, 6): _decode_set_mark,
    ("CONNMARK", 2, 4): _decode_connmark,
    ("CONNMARK", 2, 6): _decode_connmark,
    ("CT", 2, 4): _decode_ct,
    ("CT", 2, 6): _decode_ct,
}


# -- values -------------------------------------------------------------------------------------------------------


def address_bytes(text: str, family: Family) -> bytes:
    """Pack an address into 4 or 16 bytes.

    :raises ValueError: no address of this family
    """
    try:
        return socket.inet_pton(LAYOUTS[family].address_family, text)
    except OSError:
        raise ValueError(f"{text} is no IPv{family} address") from None


def _address(text: str, family: Family) -> bytes:
    """Pack an address into 16 bytes, IPv4 in the first four."""
    return address_bytes(text, family).ljust(16, b"\0")


def _ports(ports: tuple[int, int] | None) -> tuple[bytes, bytes]:
    if ports is None:
        return _ZERO_PORT, _ZERO_PORT
    first, last = ports
    if not 1 <= first <= last <= 0xFFFF:
        raise ValueError("ports to translate to are 1..65535, first before last")
    return first.to_bytes(2, "big"), last.to_bytes(2, "big")


def _base(target: Dnat) -> bytes:
    """Pack the port that becomes the first one.

    The kernel does not compare it with the packet's ports: a smaller port would become one before the range.
    """
    if target.base is None:
        return _ZERO_PORT
    if target.ports is None or not 1 <= target.base <= 0xFFFF - (target.ports[1] - target.ports[0]):
        raise ValueError("the base port needs ports to translate to, and so many ports from it on")
    return target.base.to_bytes(2, "big")


def _u32(value: int) -> int:
    if not 0 <= value <= U32:
        raise ValueError("marks and masks have 32 bits")
    return value
