"""Our part of the packet filter of one namespace and family, as nf_tables has it: base chains, and sets for runs. Pure.

The way from the reconciler's tables to nf_tables and back, without a message: :func:`with_tables` makes a
:class:`Ruleset` of tables, :func:`tables_of` the tables of a ruleset.  A run of rules that differ in an address, a
device or a port (``state.filter_runs``) is one rule that looks up a set or a map: a floating IP is an element, never a
rule.  Elements are bytes, as the kernel has them.  :mod:`.rule_codec` makes and reads the messages of rules,
:mod:`.filter_messages` those of the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dvr_agent.kernel.ip_text import ip_text
from dvr_agent.kernel.iptables.layout import BUILTINS, HOOKS, IFNAME_FIELD
from dvr_agent.state.filter import (
    CHAIN_PREFIX,
    Chain,
    CommentMatch,
    CtHelper,
    Dnat,
    DportMatch,
    Family,
    FilterRule,
    Foreign,
    SaveConnmark,
    SetMark,
    Snat,
    Table,
    TableKey,
    Transport,
)
from dvr_agent.state.filter_runs import Field, Shape, address_of, runs, with_field

TABLE = "dvr"
"""Name of our tables: ``ip dvr`` and ``ip6 dvr``."""
BEFORE_OTHERS = -5
"""Added to the usual priorities: of two NAT chains the first counts, and at equal priorities the newest is first."""
ALL = 0xFFFFFFFF
"""The mask of all bits of a mark."""
COUNT = SetMark(0, 0)
"""The target of a rule that only counts."""
SMALLEST_DEVICE_SET = 3
"""Fewer devices are a rule each: comparing two names costs a packet less than a set."""


def family_text(family: Family) -> str:
    """Return nft's name of a family."""
    return "ip" if family == 4 else "ip6"


def helper_object(name: str, protocol: str) -> str:
    """Return the name of the object of a connection tracking helper."""
    return f"{name}_{protocol}"


class ChainPlace(NamedTuple):
    """Where a base chain hangs.

    :ivar table: what legacy tables call its place
    :ivar hook: number of the hook
    """

    table: str
    builtin: str
    hook: int
    priority: int
    type: str


_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0}
_HELPERS = "helpers_prerouting"
"""nf_tables gives a helper to a connection: this comes after connection tracking (-200), not where ``raw`` is."""


def _places() -> Iterator[tuple[str, ChainPlace]]:
    for table, builtins in BUILTINS.items():
        for builtin in builtins:
            usual = _PRIORITIES.get(table, -100 if builtin in ("PREROUTING", "OUTPUT") else 100)
            kind = "nat" if table == "nat" else "route" if (table, builtin) == ("mangle", "OUTPUT") else "filter"
            place = ChainPlace(table, builtin, HOOKS.index(builtin), usual + BEFORE_OTHERS, kind)
            yield f"{table}_{builtin.lower()}", place
    yield _HELPERS, ChainPlace("raw", "PREROUTING", HOOKS.index("PREROUTING"), -150 + BEFORE_OTHERS, "filter")


PLACES = dict(_places())
"""Name → place of each base chain that can be ours."""
_CHAIN_OF = {(place.table, place.builtin): name for name, place in PLACES.items() if name != _HELPERS}


def chain_of(table: str, chain: str) -> str:
    """Return the name of the base chain that has the rules of one of our chains, but those with helpers."""
    return _CHAIN_OF[table, chain.removeprefix(CHAIN_PREFIX)]


class Element(NamedTuple):
    """What a set has beside a key: the value that a map leads to, and a comment."""

    value: bytes = b""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class NftSet:
    """A set or a map.

    :ivar keys: nft's names of the types of its keys' parts
    :ivar values: of its values' parts, empty for a set
    :ivar counted: each element counts
    """

    name: str
    keys: tuple[str, ...]
    values: tuple[str, ...] = ()
    counted: bool = False
    elements: Mapping[bytes, Element] = field(default_factory=dict)

    def has_form_of(self, other: NftSet) -> bool:
        """True if both have elements of the same types."""
        return (self.keys, self.values, self.counted) == (other.keys, other.values, other.counted)


class NftRule(NamedTuple):
    """A rule, or the lookup of a set in place of a run of rules.

    :ivar rule: the rule; for a lookup the rule of the run's shape
    :ivar field: what is looked up; empty for a rule
    :ivar set: name of the set that is looked up
    """

    rule: FilterRule
    field: Field | None = None
    set: str = ""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Everything in a table of ours.

    :ivar chains: name → rules; every chain hangs where :data:`PLACES` says
    :ivar sets: name → set
    :ivar helpers: (name, protocol) of the connection tracking helpers in use
    :ivar strange: what is there and cannot be ours; the table has to be made anew
    """

    family: Family
    chains: Mapping[str, tuple[NftRule, ...]] = field(default_factory=dict)
    sets: Mapping[str, NftSet] = field(default_factory=dict)
    helpers: frozenset[tuple[str, Transport]] = frozenset()
    strange: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.chains or self.sets or self.helpers or self.strange)


# --- tables to nf_tables ---


def with_tables(old: Ruleset, tables: Collection[Table]) -> Ruleset:
    """Return a ruleset with these tables instead of its own of the same names; the others stay as they are."""
    replaced = {table.name for table in tables}
    kept = {name: rules for name, rules in old.chains.items() if PLACES[name].table not in replaced}
    if old.strange:  # all of it is written anew
        kept = {name: tuple(one for one in rules if not is_foreign(one)) for name, rules in kept.items()}
    used = {one.set for rules in kept.values() for one in rules}
    chains = {name: list(rules) for name, rules in kept.items()}
    sets = {name: one for name, one in old.sets.items() if name in used}
    for table in tables:
        for chain in table.chains:
            for run in runs(chain.rules):
                usual = chain_of(table.name, chain.name)
                name = _HELPERS if isinstance(run.rules[0].target, CtHelper) else usual
                found = chains.setdefault(name, [])
                is_plain = run.shape is None or (
                    run.shape.field in ("iif", "oif") and len(run.rules) < SMALLEST_DEVICE_SET
                )
                if run.shape is None or is_plain:
                    found += map(NftRule, run.rules)
                else:
                    looked_up = _add_set(sets, table.name, run.shape, run.rules)
                    note, shown = run.rules[0].note, run.shape.rule
                    shown = shown if shown.note == note else replace(shown, note=note)
                    found.append(NftRule(shown, run.shape.field, looked_up))
    return Ruleset(old.family, {name: tuple(found) for name, found in chains.items()}, sets, _helpers(chains.values()))


def is_foreign(one: NftRule) -> bool:
    """True for a rule that is not as ours are made."""
    return isinstance(one.rule.target, Foreign)


def _helpers(chains: Iterable[Iterable[NftRule]]) -> frozenset[tuple[str, Transport]]:
    rules = [one.rule for chain in chains for one in chain]
    return frozenset(
        (rule.target.name, rule.protocol) for rule in rules if isinstance(rule.target, CtHelper) and rule.protocol
    )


def _add_set(sets: dict[str, NftSet], table: str, shape: Shape, rules: Sequence[FilterRule]) -> str:
    """Add the set of a run, unless the same one is there; returns its name."""
    wanted = _set_of(shape, rules)
    base = _set_name(table, shape)
    for number in range(1, len(sets) + 2):
        name = base if number == 1 else f"{base}_{number}"
        found = sets.get(name)
        if found is None:
            sets[name] = replace(wanted, name=name)
            return name
        if found.has_form_of(wanted) and found.elements == wanted.elements:
            return name
    raise AssertionError("not reached")


def _set_name(table: str, shape: Shape) -> str:
    """Return the first choice of a name; nft cannot read words of its own grammar back as names."""
    target = shape.rule.target
    if shape.field == "dport":
        return f"forwarded_{shape.rule.protocol}"
    if isinstance(target, Dnat):
        return "fip_in"
    if isinstance(target, Snat):
        return "fip_out"
    if shape.counted:
        return "bytes_to" if shape.field == "dst" else "bytes_from"
    if shape.field in ("iif", "oif"):
        return "devices_in" if shape.field == "iif" else "devices_out"
    if isinstance(target, SetMark | SaveConnmark):
        return "marked_to" if shape.field == "dst" else "marked_from"
    return f"{table}_{'to' if shape.field == 'dst' else 'from'}"


def _set_of(shape: Shape, rules: Sequence[FilterRule]) -> NftSet:
    elements: dict[bytes, Element] = {}
    for key, element in elements_of(shape, rules):
        elements.setdefault(key, element)
    return NftSet("", _key_types(shape, rules[0]), _value_types(shape, rules[0]), shape.counted, elements)


def _address_type(rule: FilterRule) -> str:
    return "ipv6_addr" if ":" in f"{rule.src}{rule.dst}" else "ipv4_addr"


def _key_types(shape: Shape, rule: FilterRule) -> tuple[str, ...]:
    if shape.field in ("iif", "oif"):
        return ("ifname",)
    return (_address_type(rule), "inet_service") if shape.field == "dport" else (_address_type(rule),)


def _value_types(shape: Shape, rule: FilterRule) -> tuple[str, ...]:
    if shape.field == "dport":
        return (_address_type(rule), "inet_service")
    return (_address_type(rule),) if isinstance(shape.rule.target, Dnat | Snat) else ()


def elements_of(shape: Shape, rules: Iterable[FilterRule]) -> Iterator[tuple[bytes, Element]]:
    """Yield the elements for which rules of a run stand."""
    at = shape.field
    if at in ("iif", "oif"):
        yield from ((device_field(str(rule.iif if at == "iif" else rule.oif)), Element()) for rule in rules)
        return
    for rule in rules:
        address = address_of(str(rule.src if at == "src" else rule.dst))
        target, match = rule.target, rule.matches[0] if rule.matches else None
        if at == "dport" and isinstance(target, Dnat) and target.ports and isinstance(match, DportMatch):
            yield from _forwarded(address, target, target.ports, match)
        elif isinstance(target, Dnat | Snat):
            yield address, Element(address_of(target.address))
        else:
            yield address, Element(comment=match.comment if shape.counted and isinstance(match, CommentMatch) else "")


def _forwarded(
    address: bytes, target: Dnat, ports: tuple[int, int], match: DportMatch
) -> Iterator[tuple[bytes, Element]]:
    """Yield an element for each port; those of a range name it, so that the rule can be read back."""
    inside = address_of(target.address)
    comment = "" if match.first == match.last else f"{match.first}-{match.last}"
    for port in range(match.first, match.last + 1):
        to = ports[0] + (port - match.first if target.base is not None else 0)
        yield address + _port(port), Element(inside + _port(to), comment)


def _port(port: int) -> bytes:
    """Return a port as a part of a concatenation: two bytes, padded to a register."""
    return port.to_bytes(2, "big") + b"\0\0"


def device_field(name: str) -> bytes:
    """Return a device name as it is compared."""
    return name.encode(errors="surrogateescape").ljust(IFNAME_FIELD, b"\0")


# --- nf_tables to tables ---


def tables_of(ruleset: Ruleset) -> dict[TableKey, Table]:
    """Return the tables that a ruleset has, by key.

    What is strange is a chain of its own in each table, so that none of them is as desired.
    """
    chains: dict[str, dict[str, list[FilterRule]]] = {}
    for name in sorted(ruleset.chains, key=lambda name: name == _HELPERS):
        place = PLACES[name]
        found = chains.setdefault(place.table, {}).setdefault(place.builtin, [])
        for one in ruleset.chains[name]:
            found += rules_of(one, ruleset.sets)
    strange = tuple(Chain(f"{CHAIN_PREFIX}{text}") for text in ruleset.strange)
    keys = {*chains, *(("filter", "mangle", "nat", "raw") if strange else ())}
    return {(ruleset.family, name): _table(ruleset.family, name, chains.get(name, {}), strange) for name in keys}


def _table(family: Family, name: str, chains: Mapping[str, list[FilterRule]], strange: tuple[Chain, ...]) -> Table:
    ours = tuple(Chain(CHAIN_PREFIX + builtin, tuple(chains[builtin])) for builtin in sorted(chains))
    jumps = tuple((builtin, CHAIN_PREFIX + builtin) for builtin in sorted(chains))
    return Table(family, name, (*ours, *strange), jumps, nft=f"{family_text(family)} {TABLE}")


def rules_of(one: NftRule, sets: Mapping[str, NftSet]) -> Iterator[FilterRule]:
    """Yield the rules for which a rule or a lookup stands, those of a lookup in the order of its keys."""
    if one.field is None:
        yield one.rule
        return
    found = sets.get(one.set)
    if found is None:
        yield one.rule  # equals no desired one
    elif one.field == "dport":
        yield from _forwardings(one.rule, found)
    else:
        yield from (_rule_of(one, key, found.elements[key]) for key in sorted(found.elements))


def _rule_of(one: NftRule, key: bytes, element: Element) -> FilterRule:
    rule, at = one.rule, one.field
    if at is None:
        return rule
    if at in ("iif", "oif"):
        return with_field(rule, at, key.rstrip(b"\0").decode(errors="surrogateescape"))
    found = with_field(rule, at, f"{ip_text(key)}/{8 * len(key)}")
    if isinstance(rule.target, Dnat | Snat):
        return replace(found, target=replace(rule.target, address=ip_text(element.value)))
    return replace(found, matches=(CommentMatch(element.comment),)) if rule.target == COUNT else found


def counted_rules(ruleset: Ruleset, table: str) -> list[tuple[str, bytes, FilterRule]]:
    """Return (set, key, rule) of each rule of a table that counts."""
    found = []
    for name, rules in ruleset.chains.items():
        for one in rules if PLACES[name].table == table else ():
            looked_up = ruleset.sets.get(one.set)
            if looked_up is not None and looked_up.counted:
                found += [
                    (one.set, key, _rule_of(one, key, looked_up.elements[key])) for key in sorted(looked_up.elements)
                ]
    return found


def _forwardings(rule: FilterRule, found: NftSet) -> Iterator[FilterRule]:
    """Yield the rules of a map of ports: elements that name the same range are one rule, if they are all there."""
    groups: dict[tuple[bytes, str], list[tuple[int, bytes, int]]] = {}
    for key in sorted(found.elements):
        value, comment = found.elements[key]
        address, port = key[:-4], int.from_bytes(key[-4:-2], "big")
        group = groups.setdefault((address, comment or str(port)), [])
        group.append((port, value[:-4], int.from_bytes(value[-4:-2], "big")))
    protocol = rule.protocol
    if protocol is None:
        return
    for (address, _), ports in groups.items():
        host = f"{ip_text(address)}/{8 * len(address)}"
        for first, last, target in _ranges(ports):
            yield replace(rule, dst=host, matches=(DportMatch(protocol, first, last),), target=target)


def _ranges(ports: Sequence[tuple[int, bytes, int]]) -> Iterator[tuple[int, int, Dnat]]:
    """Yield first and last port and target of the elements of a range; one by one, if they are no range."""
    (first, inside, base), (last, _, top) = ports[0], ports[-1]
    is_whole = last - first + 1 == len(ports) and all(one[1] == inside for one in ports)
    shifts = {one[2] - one[0] for one in ports}
    if is_whole and len(ports) > 1 and shifts == {base - first}:
        yield first, last, Dnat(ip_text(inside), (base, top), first)
    elif is_whole and {one[2] for one in ports} == {base}:
        yield first, last, Dnat(ip_text(inside), (base, base))
    else:
        yield from ((port, port, Dnat(ip_text(to), (inner, inner))) for port, to, inner in ports)


def mark_bytes(value: int) -> bytes:
    """Return a mark as the kernel compares it."""
    return value.to_bytes(4, sys.byteorder)
