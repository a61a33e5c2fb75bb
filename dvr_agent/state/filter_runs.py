"""Runs of packet filter rules that differ in an address, a device or a port only, and could be a set or a map.  Pure.

A run is what nf_tables looks up at once, whatever its length (``kernel/nftables``).  A set has no order: what was read
back equals what was desired when both are in one form (:func:`canonical`), by which ``state.diff`` compares them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, islice
from operator import itemgetter
from typing import Literal

from dvr_agent.state.filter import (
    CHAIN_PREFIX,
    Chain,
    CommentMatch,
    Dnat,
    DportMatch,
    Family,
    FilterRule,
    MarkMatch,
    Not,
    SaveConnmark,
    SetMark,
    Snat,
    Table,
    Target,
    Verdict,
)
from dvr_agent.state.sequences import common_ends, middles

Field = Literal["src", "dst", "iif", "oif", "dport"]
"""What the rules of a run differ in; ``dport``: destination address and port."""

ANY = ""
"""Stands in a :class:`Shape` for what differs."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the rules of a run have in common.

    :ivar field: what they match, each another value of it
    :ivar rule: one of them, with :data:`ANY` for what differs, in its target too
    :ivar counted: each counts what it matches, and its comment says what that is
    """

    field: Field
    rule: FilterRule
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Rules of one shape, one after the other; ``shape`` is None for a rule that has none."""

    shape: Shape | None
    rules: tuple[FilterRule, ...]


def make_table(family: Family, name: str, rules: dict[str, tuple[FilterRule, ...]]) -> Table:
    """Make our table.

    :param rules: built-in chain → rules of its ``dvr-`` chain; chains without rules are left out
    """
    jumps = _jumps(tuple(sorted([builtin for builtin, found in rules.items() if found])))
    if sum(map(len, rules.values())) > _SHORT:
        return _table(family, name, tuple([rules[builtin] for builtin, _ in jumps]), jumps)
    return _short_table(family, name, tuple([rules[builtin] for builtin, _ in jumps]), jumps)


_SHORT = 3
"""Rules of a table that may be the same for all routers: it has no rules for a device or an address."""


def _table(
    family: Family, name: str, rules: tuple[tuple[FilterRule, ...], ...], jumps: tuple[tuple[str, str], ...]
) -> Table:
    chains = [Chain(chain, found) for (_, chain), found in zip(jumps, rules, strict=True)]
    return Table(family, name, tuple(chains), jumps)


_short_table = lru_cache(maxsize=64)(_table)


@lru_cache(maxsize=64)
def _jumps(builtins: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the jumps of a table with these built-in chains; one value for all tables with the same ones."""
    return tuple((builtin, CHAIN_PREFIX + builtin) for builtin in builtins)


def runs(rules: Iterable[FilterRule]) -> Iterator[Run]:
    """Split the rules of a chain into runs, in the order of :func:`in_order`."""
    for shape, group in groupby(_in_order(rules), itemgetter(0)):
        found = tuple([rule for _shape, rule in group])
        if shape is None:
            yield from (Run(None, (rule,)) for rule in found)
        else:
            yield Run(shape, found)


def is_same(old: Table, new: Table) -> bool:
    """Return True if two tables are equal in one form (:func:`canonical`), which is made only where it may be so."""
    if old == new:
        return True
    if old.jumps != new.jumps or [chain.name for chain in old.chains] != [chain.name for chain in new.chains]:
        return False
    found = [_are_same(one.rules, other.rules) for one, other in zip(old.chains, new.chains, strict=True)]
    return False not in found and (None not in found or canonical(old) == canonical(new))


def _are_same(old: tuple[FilterRule, ...], new: tuple[FilterRule, ...]) -> bool | None:
    """Compare two chains by the rules that differ; None: that is not certain."""
    new = _less_seconds(old, new)
    if old == new:
        return True
    gone, come = middles(old, new)
    had, has = frozenset(gone), frozenset(come)
    for whole, found in ((new, has - had), (old, had - has)):
        if any(_counts(rule, whole) for rule in islice(found, _TRIED)):
            return False
    return None


_TRIED = 4
"""Rules of which it is asked whether they have an effect: each takes a walk over its chain."""


def less_seconds(old: Table, new: Table) -> Table:
    """Return a table without rules, of those that another lacks, that have no effect where they stand.

    A floating IP that moves has its old rule before its new one for a while.
    """
    there = {chain.name: chain.rules for chain in old.chains}
    chains = [Chain(one.name, _less_seconds(there.get(one.name, ()), one.rules)) for one in new.chains]
    return new if new.chains == tuple(chains) else replace(new, chains=tuple(chains))


def _less_seconds(old: tuple[FilterRule, ...], new: tuple[FilterRule, ...]) -> tuple[FilterRule, ...]:
    if not old or len(new) <= len(old):
        return new
    head, tail = common_ends(old, new)
    end = len(new) - tail
    return (*new[:head], *(new[at] for at in range(head, end) if not _is_second(new, at)), *new[end:])


def _is_second(rules: tuple[FilterRule, ...], at: int) -> bool:
    """Return True if a rule has no effect, since the rule right before it has the same shape and value."""
    shape = shape_of(rules[at]) if at else None
    if shape is None or shape_of(rules[at - 1]) is not shape:
        return False
    return _key(shape.field, rules[at - 1]) == _key(shape.field, rules[at])


def _counts(rule: FilterRule, rules: Iterable[FilterRule]) -> bool:
    """Return True if a rule is in its chain's canonical form, and not the second about one value."""
    if shape_of(rule) is None:
        return True
    dst, src = rule.dst, rule.src
    found = [one for one in rules if one.dst == dst and one.src == src]
    return sum((one.iif, one.oif) == (rule.iif, rule.oif) for one in found) == 1


def canonical(table: Table) -> Table:
    """Return a table with the rules of each chain in the order in which a set is read back (:func:`in_order`)."""
    return replace(table, chains=tuple(replace(chain, rules=in_order(chain.rules)) for chain in table.chains))


def in_order(rules: Iterable[FilterRule]) -> tuple[FilterRule, ...]:
    """Sort rules that follow each other and match different values of one field, by shape and value.

    No packet meets two of them, unless they match the same value: those stay in their order, and of two of one shape
    the first is kept, since the other has no effect.
    """
    return tuple([rule for _shape, rule in _in_order(rules)])


_Shaped = list[tuple[Shape | None, FilterRule]]
"""Rules with their shapes."""


def _in_order(rules: Iterable[FilterRule]) -> _Shaped:
    found: _Shaped = []
    for field, group in groupby([(shape_of(rule), rule) for rule in rules], _field):
        together = list(group)
        found += together if field is None else _sorted(field, together)
    return found


def _field(shaped: tuple[Shape | None, FilterRule]) -> Field | None:
    shape, _rule = shaped
    return shape.field if shape is not None else None


def _sorted(field: Field, rules: _Shaped) -> _Shaped:
    """Sort rules with a shape; returned as they are where rules about one value would change places."""
    shapes: dict[Shape | None, int] = {}
    by_place: dict[tuple[int, tuple[bytes, int, int]], tuple[Shape | None, FilterRule]] = {}
    last: dict[tuple[bytes, int, int], int] = {}
    number, before = 0, None
    for shape, rule in rules:
        if shape is not before:
            number, before = shapes.setdefault(shape, len(shapes)), shape
        key = _key(field, rule)
        if last.setdefault(key, number) > number:
            return rules
        last[key] = number
        by_place.setdefault((number, key), (shape, rule))
    return [by_place[place] for place in sorted(by_place)]


def shape_of(rule: FilterRule) -> Shape | None:
    """Return the shape of a rule that may be one of a run; None: it is not.  Equal shapes are one object."""
    target = rule.target
    if rule.matches or rule.protocol is not None:  # a router may have thousands that translate, which have neither
        return _shape_of(rule)
    if isinstance(target, Dnat) and target.ports is None and rule.oif is None and _host_field(rule) == "dst":
        return _translations("dst", None, rule.iif, rule.oif, rule.note)
    if isinstance(target, Snat) and _host_field(rule) == "src":
        return _translations("src", target.random_fully, rule.iif, rule.oif, rule.note)
    return _shape_of(rule)


@lru_cache(maxsize=1 << 12)
def _only(shape: Shape) -> Shape:
    return shape


@lru_cache(maxsize=1 << 14)
def _shape_of(rule: FilterRule) -> Shape | None:
    found = _new_shape(rule)
    return None if found is None else _only(found)


def _new_shape(rule: FilterRule) -> Shape | None:
    """Return the shape of a rule that is not a translation of all packets of an address."""
    target, matches = rule.target, rule.matches
    one = _host_field(rule)
    if one is None:
        return _device_shape(rule)
    if isinstance(target, Dnat):
        return _forwarding_shape(rule, target) if one == "dst" and rule.oif is None else None
    if rule.protocol is not None or isinstance(target, Snat):
        return None
    bare = with_field(rule, one, ANY)
    if target == SetMark(0, 0):
        is_named = len(matches) == 1 and isinstance(matches[0], CommentMatch)
        return Shape(one, replace(bare, matches=()), counted=True) if is_named else None
    if isinstance(target, SetMark | SaveConnmark | Verdict) and not _has_comment(rule):
        return Shape(one, bare)
    return None


@lru_cache(maxsize=1 << 10)
def _translations(
    field: Literal["src", "dst"], random: bool | None, iif: str | Not | None, oif: str | Not | None, note: str
) -> Shape:
    """Return the shape of rules that translate any address of a field to any other.

    :param random: of a :class:`Snat`; None: the target is a :class:`Dnat`
    """
    src, dst = (ANY, None) if field == "src" else (None, ANY)
    target = Dnat(ANY) if random is None else Snat(ANY, random)
    return _only(Shape(field, FilterRule(target, src, dst, iif, oif, note=note)))


def with_field(rule: FilterRule, field: Field, value: str) -> FilterRule:
    """Return a rule with another address or device."""
    src, dst, iif, oif = rule.src, rule.dst, rule.iif, rule.oif
    match field:
        case "src":
            src = value
        case "iif":
            iif = value
        case "oif":
            oif = value
        case _:
            dst = value
    return FilterRule(rule.target, src, dst, iif, oif, rule.protocol, rule.matches, rule.note)


def with_target(rule: FilterRule, target: Target) -> FilterRule:
    """Return a rule with another target."""
    return FilterRule(target, rule.src, rule.dst, rule.iif, rule.oif, rule.protocol, rule.matches, rule.note)


def _host_field(rule: FilterRule) -> Literal["src", "dst"] | None:
    """Return the field in which a rule matches one address."""
    if _is_host(rule.dst) and rule.src is None:
        return "dst"
    return "src" if _is_host(rule.src) and rule.dst is None else None


def _is_host(value: object) -> bool:
    return isinstance(value, str) and (value.endswith("/128") if ":" in value else value.endswith("/32"))


def _forwarding_shape(rule: FilterRule, target: Dnat) -> Shape | None:
    match = rule.matches[0] if len(rule.matches) == 1 else None
    if target.ports is None or not isinstance(match, DportMatch) or match.protocol != rule.protocol:
        return None
    first, last = target.ports
    if target.base is None and first != last:
        return None  # the kernel may take any of them
    if target.base is not None and (target.base != match.first or last - first != match.last - match.first):
        return None
    if target.base is not None and first == last:
        return None  # written without a base, where it is of ours
    return Shape("dport", replace(rule, dst=ANY, matches=(), target=Dnat(ANY)))


def _device_shape(rule: FilterRule) -> Shape | None:
    """Return the shape of a rule about all packets of a device."""
    if rule.src is not None or rule.dst is not None or rule.protocol is not None:
        return None
    if _is_device(rule.iif) and rule.oif is None and isinstance(rule.target, SetMark) and not rule.matches:
        return Shape("iif", replace(rule, iif=ANY))
    if _is_device(rule.oif) and rule.iif is None and isinstance(rule.target, Verdict):
        is_marked = len(rule.matches) == 1 and isinstance(rule.matches[0], MarkMatch)
        return Shape("oif", replace(rule, oif=ANY)) if is_marked else None
    return None


def _is_device(value: object) -> bool:
    return isinstance(value, str) and not value.endswith("+")


def _has_comment(rule: FilterRule) -> bool:
    return any(isinstance(match, CommentMatch) for match in rule.matches)


def _key(field: Field, rule: FilterRule) -> tuple[bytes, int, int]:
    """Return what makes a rule differ from the others of its run, in the order of addresses and ports."""
    if field in ("iif", "oif"):
        return str(getattr(rule, field)).encode(), 0, 0
    address = address_of(str(rule.src if field == "src" else rule.dst))
    if field == "dport" and isinstance(match := rule.matches[0], DportMatch):
        return address, match.first, match.last
    return address, 0, 0


def address_of(host: str) -> bytes:
    """Return the address of ``address/32`` or ``address/128`` as bytes.

    :raises ValueError: it is none
    """
    text = host.partition("/")[0]
    if ":" in text:
        return ipaddress.IPv6Address(text).packed
    try:  # many times as fast as ipaddress; rules have canonical addresses
        packed = bytes(map(_OCTETS.__getitem__, text.split(".")))
    except KeyError:
        packed = b""
    if len(packed) != _IPV4_SIZE:
        raise ValueError(f"{host} is no address of a host")
    return packed


_OCTETS = {str(number): number for number in range(256)}
_IPV4_SIZE = 4
