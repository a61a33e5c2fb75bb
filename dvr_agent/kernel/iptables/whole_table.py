"""Decode the bytes of a whole table, of all programs (:func:`decode_whole`), with the counters of its rules.  Pure.

:mod:`.table_decoder` decodes our part; this module is for ``kernel/survey``, which follows packets through the rules of
everybody.  A match or target for which ``state.filter`` has no type is named.
"""

from __future__ import annotations

from collections.abc import Mapping

from dvr_agent.kernel.ip_text import ip_text
from dvr_agent.kernel.iptables.extensions import CT, MAP_IPS, PORTS, PROTO_SPECIFIED, RANGE, RANGE4
from dvr_agent.kernel.iptables.layout import (
    EXTENSION,
    HOOKS,
    INV_DST,
    INV_IIF,
    INV_OIF,
    INV_SRC,
    LAYOUTS,
    PROTOCOLS,
    VERDICTS,
    Layout,
)
from dvr_agent.kernel.iptables.rule_codec import (
    decode,
    decode_interface,
    decode_match_of,
    decode_network,
    split_extensions,
)
from dvr_agent.kernel.iptables.table_decoder import (
    COUNTERS,
    STANDARD_HEAD,
    EntrySpan,
    chains_of,
    target_is,
    verdict_of,
    walk,
)
from dvr_agent.state.filter import Family, Foreign, Jump, Match, Not, TableKey, Target, Verdict
from dvr_agent.trace.filter_values import (
    EFFECTS,
    OtherTarget,
    SourceRange,
    SportMatch,
    UnknownMatch,
    WholeChain,
    WholeRule,
    WholeTable,
    WholeTarget,
    legacy_bases,
    selectors_text,
    whole_rule,
)

INV_PROTO = 0x40
"""``XT_INV_PROTO``."""
_GOTO = {4: 0x02, 6: 0x04}
"""``IPT_F_GOTO`` and ``IP6T_F_GOTO``."""
_FRAGMENTS = 0x01
"""``IPT_F_FRAG``."""
Counters = dict[tuple[str, int], int]
"""(Chain, number of the rule from 0; -1: policy) → packets."""


def decode_whole(key: TableKey, info: bytes, blob: bytes) -> WholeTable:
    """Decode a table.

    :param info: ``struct ipt_getinfo``
    :param blob: all entries of the table
    """
    family, name = key
    layout = LAYOUTS[family]
    spans = chains_of(info, blob, walk(layout, blob))
    heads = {found[0].start: chain for chain, found in spans.items()}
    chains = {
        chain: WholeChain(
            chain,
            tuple(_rule(family, layout, blob, entry, heads) for entry in found[:-1]),
            VERDICTS.get(verdict_of(blob, found[-1])) if chain in HOOKS else None,
        )
        for chain, found in spans.items()
    }
    return WholeTable((family,), name, chains, legacy_bases(name, [chain for chain in chains if chain in HOOKS]))


def decode_counters(family: Family, info: bytes, blob: bytes) -> Counters:
    """Decode how many packets each rule of a table has matched."""
    layout = LAYOUTS[family]
    found: Counters = {}
    for chain, entries in chains_of(info, blob, walk(layout, blob)).items():
        for number, entry in enumerate(entries):
            place = (chain, -1 if number == len(entries) - 1 else number)
            found[place] = int(COUNTERS.unpack_from(blob, entry.start + layout.counters_at)[0])
    return found


def _rule(family: Family, layout: Layout, blob: bytes, entry: EntrySpan, heads: Mapping[int, str]) -> WholeRule:
    ip = blob[entry.start : entry.start + layout.ip_size]
    matches = blob[entry.start + layout.header_size : entry.target]
    target: bytes | Target = blob[entry.target : entry.end]
    if target_is(blob, entry, STANDARD_HEAD):
        target = _standard(blob, entry, heads)
    rule = decode(family, ip, matches, target)
    if not isinstance(rule.target, Foreign) and not any(isinstance(one, Foreign) for one in rule.matches):
        return whole_rule(rule)
    return _strange_rule(layout, ip, matches, target)


def _standard(blob: bytes, entry: EntrySpan, heads: Mapping[int, str]) -> Target:
    verdict = verdict_of(blob, entry)
    if verdict in VERDICTS:
        return Verdict(VERDICTS[verdict])
    return Jump(heads[verdict]) if verdict in heads else Foreign(b"")


def _strange_rule(layout: Layout, ip: bytes, matches: bytes, target: bytes | Target) -> WholeRule:
    """Decode a rule that ``state.filter`` cannot express, as far as it is understood."""
    protocol, flags, inverted = _tail(layout, ip)
    found: list[Match | UnknownMatch | SportMatch] = [_match(raw) for raw in split_extensions(matches)]
    if layout.family == 4 and flags & _FRAGMENTS:
        found.append(UnknownMatch("fragment"))
    src, dst, iif, oif = _selectors(layout, ip, inverted, found)
    aim = _target(layout.family, target, bool(flags & _GOTO[layout.family]))
    rule = WholeRule(aim, "", src, dst, iif, oif, protocol, bool(inverted & INV_PROTO), tuple(found))
    return _with_text(rule)


def _tail(layout: Layout, ip: bytes) -> tuple[int, int, int]:
    """Return protocol, flags and inversions; between them IPv6 has the traffic class."""
    protocol, *_traffic_class, flags, inverted = layout.ip.unpack(ip)[8:]
    return protocol, flags, inverted


def _selectors(
    layout: Layout, ip: bytes, inverted: int, found: list[Match | UnknownMatch | SportMatch]
) -> tuple[str | Not | None, str | Not | None, str | Not | None, str | Not | None]:
    src, dst, src_mask, dst_mask, iif, oif, iif_mask, oif_mask = layout.ip.unpack(ip)[:8]
    values: list[str | Not | None] = []
    for read, value, mask, bit, name in (
        (decode_network, src, src_mask, INV_SRC, "source"),
        (decode_network, dst, dst_mask, INV_DST, "destination"),
        (decode_interface, iif, iif_mask, INV_IIF, "in-interface"),
        (decode_interface, oif, oif_mask, INV_OIF, "out-interface"),
    ):
        try:
            values.append(read(value, mask, inverted & bit))
        except ValueError:
            values.append(None)
            found.append(UnknownMatch(name))
    return values[0], values[1], values[2], values[3]


def _match(raw: bytes) -> Match | UnknownMatch | SportMatch:
    known = decode_match_of(raw)
    if not isinstance(known, Foreign):
        return known
    name, data = _name(raw), raw[EXTENSION.size :]
    if name in PORTS and len(data) >= PORTS[name].size:
        first_source, last_source, first, last, *rest = PORTS[name].unpack_from(data)
        if not any(rest):
            return SportMatch(name, (first_source, last_source), (first, last))
    return UnknownMatch(name)


def _name(raw: bytes) -> str:
    name: bytes = EXTENSION.unpack_from(raw)[1]
    return name.partition(b"\0")[0].decode(errors="replace")


def _target(family: Family, target: bytes | Target, goto: bool) -> WholeTarget:
    if isinstance(target, Jump):
        return OtherTarget(target.chain, "goto") if goto else target
    if isinstance(target, Foreign):  # a standard target that leads nowhere: the next rule
        return OtherTarget("", "none")
    if isinstance(target, bytes):
        known = decode(family, bytes(LAYOUTS[family].ip.size), b"", target).target
        if not isinstance(known, Foreign):
            return known
        return _strange_target(family, target)
    return target


def _strange_target(family: Family, target: bytes) -> WholeTarget:
    name, revision = _name(target), EXTENSION.unpack_from(target)[2]
    data = target[EXTENSION.size :]
    if (name, revision, family) in (("SNAT", 0, 4), ("SNAT", 1, 6)):
        count, flags, first, last, low, high = (
            RANGE4.unpack_from(data) if family == 4 else (1, *RANGE.unpack_from(data))
        )
        if count == 1 and flags & MAP_IPS:
            ports = (int.from_bytes(low, "big"), int.from_bytes(high, "big")) if flags & PROTO_SPECIFIED else None
            return SourceRange(ip_text(first), ip_text(last), ports)
    if name == "CT" and len(data) >= CT.size and (zone := CT.unpack_from(data)[1]):
        name = f"CT --zone {zone}"
    return OtherTarget(name, EFFECTS.get(name, "unknown"))


def _with_text(rule: WholeRule) -> WholeRule:
    """Return the rule with its text."""
    plain = selectors_text(rule.src, rule.dst, rule.iif, rule.oif)
    protocol = (
        f"{'! ' if rule.not_protocol else ''}-p {_NAMES.get(rule.protocol, rule.protocol)}" if rule.protocol else ""
    )
    parts = [plain, protocol, *(match.text for match in rule.matches), rule.target.text]
    text = " ".join(part for part in parts if part)
    return WholeRule(
        rule.target, text, rule.src, rule.dst, rule.iif, rule.oif, rule.protocol, rule.not_protocol, rule.matches
    )


_NAMES = {1: "icmp", 58: "ipv6-icmp", 47: "gre", 50: "esp", 112: "vrrp", **{n: name for name, n in PROTOCOLS.items()}}
