"""Runs of packet filter rules that differ in an address, a device or a port only, and could be a set or a map.  Pure.

A run is what nf_tables looks up at once, whatever its length.  ``state.filter.make_table`` sorts the rules of each run,
so that a table has one form: what a set's elements are read back as equals what was desired.  No packet meets two rules
of a run, so that their order has no effect.  Also used by ``kernel/nftables`` to make sets of runs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
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
    SaveConnmark,
    SetMark,
    Snat,
    Table,
    Verdict,
)

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

    :param rules: built-in chain → rules of its ``dvr-`` chain; chains without rules are left out, and the rules of each
        run are sorted
    """
    filled = {builtin: in_order(found) for builtin, found in sorted(rules.items()) if found}
    chains = tuple(Chain(CHAIN_PREFIX + builtin, found) for builtin, found in filled.items())
    return Table(family, name, chains, tuple((builtin, CHAIN_PREFIX + builtin) for builtin in filled))


def runs(rules: Iterable[FilterRule]) -> Iterator[Run]:
    """Split the rules of a chain into runs, in their order."""
    for shape, group in groupby(rules, shape_of):
        if shape is None:
            yield from (Run(None, (rule,)) for rule in group)
        else:
            yield Run(shape, tuple(group))


def in_order(rules: Iterable[FilterRule]) -> tuple[FilterRule, ...]:
    """Sort the rules of each run; of two for the same packets the first is kept, since the other has no effect."""
    found: list[FilterRule] = []
    for run in runs(rules):
        if run.shape is None or len(run.rules) == 1:
            found += run.rules
            continue
        field = run.shape.field
        by_key: dict[tuple[bytes, int, int], FilterRule] = {}
        for rule in run.rules:
            by_key.setdefault(_key(field, rule), rule)
        found += (by_key[key] for key in sorted(by_key))
    return tuple(found)


@lru_cache(maxsize=1 << 14)
def shape_of(rule: FilterRule) -> Shape | None:
    """Return the shape of a rule that may be one of a run; None: it is not."""
    target, matches = rule.target, rule.matches
    one = _host_field(rule)
    if one is None:
        return _device_shape(rule)
    if isinstance(target, Dnat):
        return _dnat_shape(rule, target) if one == "dst" and rule.oif is None else None
    if rule.protocol is not None or (rule.src is not None and rule.dst is not None):
        return None
    bare = with_field(rule, one, ANY)
    if isinstance(target, Snat):
        return None if one != "src" or matches else Shape("src", replace(bare, target=replace(target, address=ANY)))
    if target == SetMark(0, 0):
        is_named = len(matches) == 1 and isinstance(matches[0], CommentMatch)
        return Shape(one, replace(bare, matches=()), counted=True) if is_named else None
    if isinstance(target, SetMark | SaveConnmark | Verdict) and not _has_comment(rule):
        return Shape(one, bare)
    return None


def with_field(rule: FilterRule, field: Field, value: str) -> FilterRule:
    """Return a rule with another address or device."""
    match field:
        case "src":
            return replace(rule, src=value)
        case "iif":
            return replace(rule, iif=value)
        case "oif":
            return replace(rule, oif=value)
        case _:
            return replace(rule, dst=value)


def _host_field(rule: FilterRule) -> Literal["src", "dst"] | None:
    """Return the field in which a rule matches one address."""
    if _is_host(rule.dst) and rule.src is None:
        return "dst"
    return "src" if _is_host(rule.src) and rule.dst is None else None


def _is_host(value: object) -> bool:
    return isinstance(value, str) and (value.endswith("/128") if ":" in value else value.endswith("/32"))


def _dnat_shape(rule: FilterRule, target: Dnat) -> Shape | None:
    if target.ports is None:
        bare = not rule.matches and rule.protocol is None
        return Shape("dst", replace(rule, dst=ANY, target=Dnat(ANY))) if bare else None
    match = rule.matches[0] if len(rule.matches) == 1 else None
    if not isinstance(match, DportMatch) or match.protocol != rule.protocol:
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
    """Return the address of ``address/32`` or ``address/128`` as bytes."""
    return ipaddress.ip_address(host.partition("/")[0]).packed
