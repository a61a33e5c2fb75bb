"""Encode one rule as an x_tables entry (``struct ipt_entry``), and decode it.

Used by :mod:`.manager` (rules to insert) and :mod:`.table_decoder` (tables that were read).  :func:`encode` checks
every value first, since kernel and libiptc accept invalid ones, and refuses a rule that would be read back
differently from how it was written, since it would be reported as drift for ever.  :func:`decode` never fails: what
``state.filter`` cannot express becomes a ``Foreign``.  Both cache their results: a host has thousands of tables with
the same few rules, and a table is read far more often than it changes.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from socket import AF_INET, inet_pton

from dvr_agent.kernel.ip_text import ip_text
from dvr_agent.kernel.iptables.extensions import (
    address_bytes,
    decode_match,
    decode_target,
    encode_match,
    encode_target,
)
from dvr_agent.kernel.iptables.layout import (
    CHAIN_NAME_MAX,
    EXTENSION,
    IFNAME_FIELD,
    IFNAME_MAX,
    INV_DST,
    INV_IIF,
    INV_OIF,
    INV_SRC,
    IP6T_F_PROTO,
    LAYOUTS,
    OFFSETS,
    PROTOCOLS,
    Layout,
)
from dvr_agent.state.filter import (
    CtHelper,
    Dnat,
    DportMatch,
    Family,
    FilterRule,
    Foreign,
    Jump,
    Match,
    Not,
    Redirect,
    Snat,
    Target,
    Verdict,
)

_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
_SIZE = struct.Struct("=H")
_COMEFROM = struct.Struct("=I")


def _netmasks(bits: int) -> dict[str, bytes]:
    return {str(length): ((1 << bits) - (1 << bits - length)).to_bytes(bits // 8, "big") for length in range(bits + 1)}


_MASKS: dict[Family, dict[str, bytes]] = {4: _netmasks(32), 6: _netmasks(128)}
"""Netmasks by prefix length."""
_LENGTHS = {mask: length for masks in _MASKS.values() for length, mask in masks.items()}
_INVERSIONS = INV_IIF | INV_OIF | INV_SRC | INV_DST


def encode(rule: FilterRule, family: Family) -> bytes:
    """Encode a rule as libiptc's append and insert take it; verdicts and jumps are passed by name.

    :raises ValueError: the rule cannot be expressed, or is not in the spelling it is read back in
    """
    return encode_reached(_only(rule), family, 0)


def encode_reached(rule: FilterRule, family: Family, hooks: int) -> bytes:
    """Encode a rule as :func:`encode` does, with the hooks from which it is reached.

    :raises ValueError: as :func:`encode`
    """
    found = _encode_translation(rule, hooks) if family == 4 else None
    return come_from(LAYOUTS[family], _encode(rule, family), hooks) if found is None else found


def come_from(layout: Layout, entry: bytes, hooks: int) -> bytes:
    """Return an entry with the hooks from which it is reached, as the kernel notes them (``mark_source_chains``)."""
    at = layout.offsets_at + OFFSETS.size
    return entry[:at] + _COMEFROM.pack(hooks) + entry[at + _COMEFROM.size :] if hooks else entry


def _encode_translation(rule: FilterRule, hooks: int) -> bytes | None:
    """Encode a translation of one IPv4 address to another by the entry of one like it; None: it is another rule.

    A router may have thousands of them, which differ in two addresses.
    """
    target, src, dst = rule.target, rule.src, rule.dst
    if isinstance(target, Snat):
        random_fully: bool | None = target.random_fully
    elif isinstance(target, Dnat) and target.ports is None and target.base is None:
        random_fully = None
    else:
        return None
    host = dst if src is None else src
    if rule.matches or rule.protocol is not None or not isinstance(host, str) or not (src is None or dst is None):
        return None
    address, _, length = host.partition("/")
    if length != "32":
        return None
    try:  # inet_pton(3) takes an IPv4 address in the one form only in which inet_ntop(3) writes it
        raw, aim = inet_pton(AF_INET, address), inet_pton(AF_INET, target.address)
    except (OSError, ValueError):
        return None
    head, rest = _around_addresses(random_fully, src is not None, rule.iif, rule.oif, hooks)
    return head + raw + aim.join(rest)


_HOST, _AIM = "203.0.113.171", "198.51.100.187"
"""Addresses of the entry after which others are made."""


@lru_cache(maxsize=1 << 6)
def _around_addresses(
    random_fully: bool | None, by_source: bool, iif: str | Not | None, oif: str | Not | None, hooks: int
) -> tuple[bytes, list[bytes]]:
    """Return what is before the host of a translation, and the parts between which the address of its target is.

    :param random_fully: of a :class:`Snat`; None: the target is a :class:`Dnat`
    """
    target = Dnat(_AIM) if random_fully is None else Snat(_AIM, random_fully)
    src, dst = (f"{_HOST}/32", None) if by_source else (None, f"{_HOST}/32")
    entry = come_from(LAYOUTS[4], _encode(FilterRule(target, src, dst, iif, oif), 4), hooks)
    head, rest = entry.split(address_bytes(_HOST, 4))
    return head, rest.split(address_bytes(_AIM, 4))


def _encode(rule: FilterRule, family: Family) -> bytes:
    """Encode a rule by that with other devices: those of each router have names of their own, of one length."""
    iif, oif = rule.iif, rule.oif
    if iif is None and oif is None:
        return _encode_checked(rule, family)
    names = b"".join([_encode_interface(one.value if isinstance(one, Not) else one)[0] for one in (iif, oif)])
    alike = FilterRule(rule.target, rule.src, rule.dst, _alike(iif), _alike(oif), rule.protocol, rule.matches)
    try:
        entry, at = _encode_checked(alike, family), 4 * LAYOUTS[family].address_size
    except ValueError:
        return _encode_checked(rule, family)  # for the words of the error
    return entry[:at] + names + entry[at + len(names) :]


def _alike(name: str | Not | None) -> str | Not | None:
    """Return the name of another interface that is encoded like this one."""
    if isinstance(name, Not):
        return Not(str(_alike(name.value)))
    return name if name is None or name.endswith("+") else "x" * len(name.encode())


@lru_cache(maxsize=1 << 11)
def _encode_checked(rule: FilterRule, family: Family) -> bytes:
    """Encode a rule, and check that it will be read back as it is."""
    layout = LAYOUTS[family]
    _check_protocol(rule)
    ip = _encode_ip(rule, layout)
    matches = b"".join(map(encode_match, rule.matches))
    target = encode_target(rule.target, family)
    read_back = decode.__wrapped__(
        family, ip, matches, rule.target if isinstance(rule.target, Verdict | Jump) else target
    )
    if read_back != rule:
        raise ValueError(f"write it as: {read_back.text}")
    start = layout.header_size + len(matches)
    header = bytearray(layout.header_size)
    header[: len(ip)] = ip
    OFFSETS.pack_into(header, layout.offsets_at, start, start + len(target))
    return bytes(header) + matches + target


@lru_cache(maxsize=1 << 12)
def decode(family: Family, ip: bytes, matches: bytes, target: bytes | Target) -> FilterRule:
    """Decode the rule of an entry.

    :param ip: the IP part
    :param matches: the extensions between header and target
    :param target: the target extension; verdicts and jumps already decoded, since they depend on the table around them
    """
    layout = LAYOUTS[family]
    found = tuple(map(decode_match_of, split_extensions(matches)))
    aim = _decode_target(target, family) if isinstance(target, bytes) else target
    try:
        src, dst, iif, oif, protocol = _decode_ip(ip, layout)
    except ValueError:
        name = target if isinstance(target, bytes) else target.text.encode()
        return FilterRule(Foreign(ip + matches + name))
    return _only(FilterRule(aim, src, dst, iif, oif, protocol, found))  # type: ignore[arg-type]


@lru_cache(maxsize=1 << 12)
def _only(rule: FilterRule) -> FilterRule:
    """Return the first of equal rules: one that is read is the one that was written, and need not be compared."""
    return rule


def check_chain_name(name: str) -> None:
    """Check a chain's name.

    :raises ValueError: it is too long, or cannot be written by iptables-save
    """
    if not 0 < len(name.encode()) <= CHAIN_NAME_MAX or not name.isprintable() or " " in name:
        raise ValueError(f"chain names have 1 to {CHAIN_NAME_MAX} printable bytes without blanks: {name!r}")


def _check_protocol(rule: FilterRule) -> None:
    """Refuse ports without their protocol; the kernel checks this only in part."""
    for match in rule.matches:
        if isinstance(match, DportMatch) and match.protocol != rule.protocol:
            raise ValueError(f"-m {match.protocol} needs -p {match.protocol}")
    target = rule.target
    ports = isinstance(target, Redirect) or (isinstance(target, Dnat) and target.ports is not None)
    if ports and rule.protocol is None:
        raise ValueError("translating ports needs -p tcp, udp, sctp or dccp")
    if isinstance(target, CtHelper) and rule.protocol is None:
        raise ValueError("a connection tracking helper needs -p tcp or -p udp")
    if isinstance(target, Jump):
        check_chain_name(target.chain)


# -- the IP part --------------------------------------------------------------------------------------------------


def _encode_ip(rule: FilterRule, layout: Layout) -> bytes:
    inverted = 0
    values: list[str | None] = []
    for value, bit in ((rule.src, INV_SRC), (rule.dst, INV_DST), (rule.iif, INV_IIF), (rule.oif, INV_OIF)):
        if isinstance(value, Not):
            inverted |= bit
            values.append(value.value)
        else:
            values.append(value)
    src, dst, iif, oif = values
    (src_at, src_mask), (dst_at, dst_mask) = _encode_network(src, layout), _encode_network(dst, layout)
    (iif_name, iif_mask), (oif_name, oif_mask) = _encode_interface(iif), _encode_interface(oif)
    protocol = 0 if rule.protocol is None else PROTOCOLS[rule.protocol]
    flags = (0, inverted) if layout.family == 4 else (0, IP6T_F_PROTO if protocol else 0, inverted)
    return layout.ip.pack(src_at, dst_at, src_mask, dst_mask, iif_name, oif_name, iif_mask, oif_mask, protocol, *flags)


def _decode_ip(ip: bytes, layout: Layout) -> tuple[str | Not | None, ...]:
    """Decode source, destination, interfaces and protocol.

    :raises ValueError: ``state.filter`` cannot express it
    """
    src, dst, src_mask, dst_mask, iif, oif, iif_mask, oif_mask, protocol, *rest = layout.ip.unpack(ip)
    inverted = rest[-1]
    expected = [0] if layout.family == 4 else [0, IP6T_F_PROTO if protocol else 0]
    if rest[:-1] != expected or inverted & ~_INVERSIONS or (protocol and protocol not in _PROTOCOL_NAMES):
        raise ValueError
    return (
        decode_network(src, src_mask, inverted & INV_SRC),
        decode_network(dst, dst_mask, inverted & INV_DST),
        decode_interface(iif, iif_mask, inverted & INV_IIF),
        decode_interface(oif, oif_mask, inverted & INV_OIF),
        _PROTOCOL_NAMES.get(protocol),
    )


def _encode_network(text: str | None, layout: Layout) -> tuple[bytes, bytes]:
    if text is None:
        return bytes(layout.address_size), bytes(layout.address_size)
    address, _, length = text.partition("/")
    raw = address_bytes(address, layout.family)
    mask = _MASKS[layout.family].get(length or str(8 * layout.address_size))
    if mask is None:
        raise ValueError(f"{text} is no IPv{layout.family} network")
    if int.from_bytes(raw, "big") & ~int.from_bytes(mask, "big"):
        raise ValueError(f"{text} has host bits set: the kernel would compare them and match nothing")
    return raw, mask


def decode_network(raw: bytes, mask: bytes, inverted: int) -> str | Not | None:
    """Decode an address with its mask; None: any.

    :raises ValueError: the mask has holes
    """
    length = _LENGTHS.get(mask)
    if length is None:
        raise ValueError  # a mask with holes
    if length == "0" and not inverted:
        return None
    text = f"{ip_text(raw)}/{length}"
    return Not(text) if inverted else text


@lru_cache(maxsize=128)
def _encode_interface(name: str | None) -> tuple[bytes, bytes]:
    """Encode a name and its mask; a final ``+`` stays in the name, as iptables has it, but is not compared."""
    if name is None:
        return bytes(IFNAME_FIELD), bytes(IFNAME_FIELD)
    raw = name.encode()
    if not 0 < len(raw) <= IFNAME_MAX or not name.isprintable() or " " in name or "/" in name:
        raise ValueError(f"interface names have 1 to {IFNAME_MAX} printable bytes without blanks and slashes: {name!r}")
    compared = len(raw) - 1 if raw.endswith(b"+") else len(raw) + 1
    return raw.ljust(IFNAME_FIELD, b"\0"), (b"\xff" * compared).ljust(IFNAME_FIELD, b"\0")


@lru_cache(maxsize=1 << 9)
def decode_interface(raw: bytes, mask: bytes, inverted: int) -> str | Not | None:
    """Decode a name with its mask; None: any.

    :raises ValueError: ``state.filter`` cannot express it
    """
    compared = mask.count(0xFF)
    if mask != (b"\xff" * compared).ljust(IFNAME_FIELD, b"\0"):
        raise ValueError
    if not compared:
        if inverted:
            raise ValueError
        return None
    name = raw[:compared]
    text = name[:-1].decode() if name.endswith(b"\0") else name.decode() + "+"
    if "\0" in text:
        raise ValueError
    return Not(text) if inverted else text


# -- extensions ---------------------------------------------------------------------------------------------------


def split_extensions(matches: bytes) -> list[bytes]:
    """Split the matches of a rule into extensions."""
    found, at = [], 0
    while at < len(matches):
        (size,) = _SIZE.unpack_from(matches, at)
        found.append(matches[at : at + size])
        at += max(size, EXTENSION.size)
    return found


def decode_match_of(raw: bytes) -> Match | Foreign:
    """Decode one extension."""
    _size, name, revision = EXTENSION.unpack_from(raw)
    try:
        match = decode_match(_text(name), revision, raw[EXTENSION.size :])
    except (ValueError, struct.error):
        match = None
    return Foreign(raw) if match is None else match


def _decode_target(raw: bytes, family: Family) -> Target:
    _size, name, revision = EXTENSION.unpack_from(raw)
    try:
        target = decode_target(_text(name), revision, raw[EXTENSION.size :], family)
    except (ValueError, struct.error):
        target = None
    return Foreign(raw) if target is None else target


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode()
