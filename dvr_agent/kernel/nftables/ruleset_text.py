"""Print our part of the packet filter as ``nft list ruleset`` does: nft reads it again.  Pure.

Used for ``dvrctl show rules`` (:meth:`.filter_manager.NftablesFilter.save`), and line by line for plans.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from dvr_agent.kernel.ip_text import ip_text
from dvr_agent.kernel.nftables.ruleset import (
    ALL,
    BEFORE_OTHERS,
    COUNT,
    PLACES,
    TABLE,
    Element,
    NftRule,
    NftSet,
    Ruleset,
    family_text,
    helper_object,
)
from dvr_agent.state.filter import (
    CT_STATES,
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
    Verdict,
)

_PRIORITIES = {-300: "raw", -150: "mangle", -100: "dstnat", 0: "filter", 100: "srcnat"}
_STATUS = {"SNAT", "DNAT"}


def ruleset_text(ruleset: Ruleset) -> str:
    """Return a family's table as text, with a line for each element."""
    return "\n".join([f"table {family_text(ruleset.family)} {TABLE} {{", *_blocks(ruleset), "}", ""])


def _blocks(ruleset: Ruleset) -> Iterator[str]:
    blocks = [
        *(_helper_lines(ruleset.family, *one) for one in sorted(ruleset.helpers)),
        *(_set_lines(one) for one in ruleset.sets.values()),
        *(_chain_lines(ruleset.family, name, rules) for name, rules in ruleset.chains.items()),
    ]
    for number, lines in enumerate(blocks):
        if number:
            yield ""
        yield from (f"\t{line}" for line in lines)


def _helper_lines(family: Family, name: str, protocol: str) -> Iterator[str]:
    yield f"ct helper {helper_object(name, protocol)} {{"
    yield f'\ttype "{name}" protocol {protocol}'
    yield f"\tl3proto {family_text(family)}"
    yield "}"


def _set_lines(one: NftSet) -> Iterator[str]:
    types = " . ".join(one.keys) + (f" : {' . '.join(one.values)}" if one.values else "")
    yield f"{'map' if one.values else 'set'} {one.name} {{"
    yield f"\ttype {types}"
    if one.counted:
        yield "\tcounter"
    keys = sorted(one.elements)
    for number, key in enumerate(keys):
        begin, end = ("elements = { " if number == 0 else "\t     "), ("," if number + 1 < len(keys) else " }")
        yield f"\t{begin}{element_text(one, key, one.elements[key])}{end}"
    yield "}"


def element_text(one: NftSet, key: bytes, element: Element) -> str:
    """Return an element as text."""
    comment = f' comment "{element.comment}"' if element.comment else ""
    counter = " counter packets 0 bytes 0" if one.counted else ""
    value = f" : {_parts(one.values, element.value)}" if one.values else ""
    return f"{_parts(one.keys, key)}{counter}{comment}{value}"


def _parts(types: tuple[str, ...], data: bytes) -> str:
    if types == ("ifname",):
        return f'"{data.rstrip(bytes(1)).decode(errors="surrogateescape")}"'
    address = ip_text(data[:4] if types[0] == "ipv4_addr" else data[:16])
    return address if len(types) == 1 else f"{address} . {int.from_bytes(data[-4:-2], 'big')}"


def _chain_lines(family: Family, name: str, rules: tuple[NftRule, ...]) -> Iterator[str]:
    place = PLACES[name]
    usual = place.priority - BEFORE_OTHERS
    priority = f"{_PRIORITIES[usual]} {'-' if BEFORE_OTHERS < 0 else '+'} {abs(BEFORE_OTHERS)}"
    yield f"chain {name} {{"
    yield f"\ttype {place.type} hook {place.builtin.lower()} priority {priority}; policy accept;"
    yield from (f"\t{rule_text(family, one)}" for one in rules)
    yield "}"


def rule_text(family: Family, one: NftRule) -> str:
    """Return a rule as text; one that is not as ours are made begins with ``#``."""
    rule = one.rule
    if isinstance(rule.target, Foreign):
        return f"# {rule.target.text}"
    comment = f'comment "{rule.note}"' if rule.note else ""
    parts = [*_selectors(family, one), *map(_match, rule.matches), *_lookup(family, one), _target(family, one), comment]
    return " ".join(part for part in parts if part)


def _selectors(family: Family, one: NftRule) -> Iterator[str]:
    rule, ip = one.rule, family_text(family)
    for name, device in (("iifname", rule.iif), ("oifname", rule.oif)):
        if device:
            value, sign = _value(device)
            yield f'{name} {sign}"{value[:-1] + "*" if value.endswith("+") else value}"'
    for name, network in (("saddr", rule.src), ("daddr", rule.dst)):
        if network:
            value, sign = _value(network)
            yield f"{ip} {name} {sign}{_network(value)}"
    has_port = one.field == "dport" or any(isinstance(match, DportMatch) for match in rule.matches)
    if rule.protocol is not None and not has_port:
        yield f"meta l4proto {rule.protocol}"


def _value(value: str | Not) -> tuple[str, str]:
    return (value.value, "!= ") if isinstance(value, Not) else (value, "")


def _network(value: str) -> str:
    network = ipaddress.ip_network(value)
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _match(match: Match | Foreign) -> str:
    match match:
        case MarkMatch() | ConnmarkMatch():
            name = "meta mark" if isinstance(match, MarkMatch) else "ct mark"
            return _mark(name, match.value, match.mask, match.invert)
        case CtStateMatch():
            name = "ct status" if match.states <= _STATUS else "ct state"
            states = ",".join(one.lower() for one in CT_STATES if one in match.states)
            return f"{name} {'! ' if match.invert else ''}{states}"
        case DportMatch():
            return (
                f"{match.protocol} dport {match.first if match.first == match.last else f'{match.first}-{match.last}'}"
            )
        case _:
            return match.text


def _mark(name: str, value: int, mask: int, invert: bool) -> str:
    """Return a comparison of a mark; nft writes a mask of upper bits as the length of a prefix."""
    sign = "!= " if invert else ""
    if mask == ALL:
        return f"{name} {sign}0x{value:08x}"
    length = mask.bit_count()
    if mask == ALL << (32 - length) & ALL:
        return f"{name} {sign}0x{value:08x}/{length}"
    return f"{name} & 0x{mask:08x} {sign or '== '}0x{value:08x}"


def _lookup(family: Family, one: NftRule) -> Iterator[str]:
    if one.field is None or isinstance(one.rule.target, Dnat | Snat):
        return
    names = {
        "src": f"{family_text(family)} saddr",
        "dst": f"{family_text(family)} daddr",
        "iif": "iifname",
        "oif": "oifname",
    }
    yield f"{names[one.field]} @{one.set}"


def _target(family: Family, one: NftRule) -> str:
    target = one.rule.target
    ip = family_text(family)
    match target:
        case Dnat() if one.field == "dport":
            return f"dnat {ip} to {ip} daddr . {one.rule.protocol} dport map @{one.set}"
        case Dnat() | Snat() if one.field is not None:
            kind, address = ("dnat", "daddr") if isinstance(target, Dnat) else ("snat", "saddr")
            return f"{kind} to {ip} {address} map @{one.set}{_random(target)}"
        case _:
            return _plain_target(target, one.rule)


def _random(target: Target) -> str:
    return " fully-random" if isinstance(target, Snat) and target.random_fully else ""


def _plain_target(target: Target, rule: FilterRule) -> str:
    if isinstance(target, SetMark | SaveConnmark | RestoreConnmark):
        return _marking(target)
    match target:
        case Verdict(name):
            return name.lower()
        case Redirect(port):
            return f"redirect to :{port}"
        case NoTrack():
            return "notrack"
        case CtHelper(name):
            return f'ct helper set "{helper_object(name, str(rule.protocol))}"'
        case Snat(address):
            return f"snat to {address}{_random(target)}"
        case Dnat():
            return f"dnat to {_endpoint(target)}"
    return f"# {target.text}"


def _marking(target: SetMark | SaveConnmark | RestoreConnmark) -> str:
    if isinstance(target, RestoreConnmark):
        return f"meta mark set ct mark & 0x{target.mask:08x}"
    if isinstance(target, SaveConnmark):
        return f"ct mark set meta mark & 0x{target.mask:08x}"
    if target == COUNT:
        return ""
    kept = ~target.mask & ALL | target.value  # nft keeps the bits that it sets
    value = f" | 0x{target.value:08x}" if target.value else ""
    return f"meta mark set meta mark & 0x{kept:08x}{value}"


def _endpoint(target: Dnat) -> str:
    if target.ports is None:
        return target.address
    host = f"[{target.address}]" if ":" in target.address else target.address
    first, last = target.ports
    return f"{host}:{first}" if first == last else f"{host}:{first}-{last}"
