"""Encode a whole table that nobody has written to yet, as the kernel takes it in one call.  Pure.

Used by :mod:`.manager` where a namespace is new: libiptc reads the table, builds a copy rule by rule and writes it,
which takes four times as long.  The bytes are those that libiptc would write; they are also those that the kernel will
hand out, so that a table of ours is known before it is read for the first time.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

from dvr_agent.kernel.iptables.layout import (
    BUILTINS,
    ERROR,
    EXTENSION,
    HOOKS,
    LAYOUTS,
    OFFSETS,
    STANDARD,
    VERDICTS,
    Layout,
    extension,
)
from dvr_agent.kernel.iptables.rule_codec import encode
from dvr_agent.kernel.iptables.table_decoder import (
    JumpAt,
    Snapshot,
    chains_of,
    digest_of,
    shape_of_sizes,
    verdict_of,
    walk,
)
from dvr_agent.state.filter import Family, FilterRule, Jump, Table, TableKey, Verdict
from dvr_agent.state.itemwise import itemwise

SET_REPLACE = 64
"""``IPT_SO_SET_REPLACE``; the number of IPv6 is the same."""
_REPLACE = struct.Struct("=32sIII5I5IIQ")
"""``struct ipt_replace`` before the entries: name, valid hooks, number of entries, their size, 5 hook offsets,
5 underflow offsets, number of the old entries, and where their counters are written to."""
_COMEFROM = struct.Struct("=I")
_VERDICT = struct.Struct("=i")
_HOOK = {name: 1 << number for number, name in enumerate(HOOKS)}
"""Bit of each hook."""
_NUMBERS = {name: number for number, name in VERDICTS.items()}
_scratch = ctypes.create_string_buffer(16 * (len(HOOKS) + 1))
"""The kernel writes the counters of the replaced table here, all of them zero; nobody reads them."""


class InitialTable(NamedTuple):
    """A table as the kernel makes it: a policy for each built-in chain and the end.

    :ivar policies: verdicts of the built-in chains, in the order of the hooks; a module's parameter may say DROP
    """

    policies: tuple[int, ...]

    @property
    def entries(self) -> int:
        """Number of entries."""
        return len(self.policies) + 1


def initial_table(key: TableKey, info: bytes, blob: bytes) -> InitialTable | None:
    """Decode a table as the kernel makes it; None: somebody has written to it.

    :param info: ``struct ipt_getinfo``
    :param blob: all entries of the table
    """
    family, name = key
    spans = walk(LAYOUTS[family], blob)
    found = chains_of(info, blob, spans)
    if tuple(found) != BUILTINS[name] or len(spans) != len(found) + 1:
        return None
    return InitialTable(tuple(verdict_of(blob, policies[0]) for policies in found.values()))


def as_made(snapshot: Snapshot, desired: Table) -> InitialTable | None:
    """Return how the kernel made the table of a snapshot; None: there is, or will be, something else in it.

    :param desired: our part as it was made of the snapshot
    """
    at: dict[str, int] = {}
    for jump in snapshot.jumps:
        if (
            not jump.plain
            or jump.position != at.get(jump.builtin, 0)
            or (jump.builtin, jump.chain) not in desired.jumps
        ):
            return None
        at[jump.builtin] = jump.position + 1
    dropping = snapshot.table.dropping
    return InitialTable(tuple(_NUMBERS["DROP" if name in dropping else "ACCEPT"] for name in BUILTINS[desired.name]))


@dataclass(frozen=True, slots=True)
class FreshTable:
    """A table, encoded.

    :ivar replacement: ``struct ipt_replace`` with the entries
    :ivar shape: of the entries
    :ivar digest: of the entries, as they will be read
    :ivar snapshot: what will be read
    """

    replacement: bytes
    shape: struct.Struct
    digest: bytes
    snapshot: Snapshot


def encode_table(initial: InitialTable, table: Table, owner: str = "") -> FreshTable:
    """Encode our part of a table, with nothing else in it.

    :param owner: whose table it is: what it shares with the owner's last one is not encoded again
    :raises ValueError: a rule cannot be expressed
    """
    layout = LAYOUTS[table.family]
    builtins = BUILTINS[table.name]
    policies = dict(zip(builtins, initial.policies, strict=True))
    chains = {
        builtin: tuple([_jump(chain) for found, chain in table.jumps if found == builtin]) for builtin in builtins
    }
    chains |= {chain.name: chain.rules for chain in table.chains}
    reached = _reached(chains, builtins)
    entries: list[bytes] = []
    heads: dict[str, int] = {}
    for name, rules in chains.items():
        if name not in policies:
            entries.append(_name(layout, name))
        heads[name] = len(entries)
        for first, last, hooks in _portions(reached[name], len(rules)):
            entries += _entry.each(f"{owner} {name}", rules[first:last], table.family, hooks)
        hooks = sum(hook for hook, end in reached[name].items() if end > len(rules))
        entries.append(_policy(layout, policies.get(name, _NUMBERS["RETURN"]), hooks))
    entries.append(_name(layout, ERROR))
    sizes = [*map(len, entries)]
    offsets = [0, *accumulate(sizes)]
    packed = bytearray().join(entries)
    for name, rules in chains.items():
        for number, rule in _turns(rules):
            if isinstance(rule.target, Jump):
                end = offsets[heads[name] + number + 1]
                _VERDICT.pack_into(packed, end - _VERDICT_SIZE + EXTENSION.size, offsets[heads[rule.target.chain]])
    ours = [name if name in policies else None for name in HOOKS]
    places = [offsets[heads[name]] if name else 0 for name in ours]
    places += [offsets[heads[name] + len(chains[name])] if name else 0 for name in ours]
    valid = sum(_HOOK[builtin] for builtin in builtins)
    head = _REPLACE.pack(
        table.name.encode(), valid, len(sizes), len(packed), *places, initial.entries, ctypes.addressof(_scratch)
    )
    content, shape = bytes(packed), shape_of_sizes(layout, sizes)
    return FreshTable(head + content, shape, digest_of(shape, table.key, content), _snapshot(initial, table))


def _snapshot(initial: InitialTable, table: Table) -> Snapshot:
    """Return what will be read."""
    builtins = BUILTINS[table.name]
    jumps = [
        JumpAt(builtin, position, chain, True)
        for builtin in builtins
        for position, chain in enumerate(chain for found, chain in table.jumps if found == builtin)
    ]
    policies = zip(builtins, initial.policies, strict=True)
    dropping = tuple(sorted(builtin for builtin, policy in policies if VERDICTS.get(policy) == "DROP"))
    return Snapshot(replace(table, dropping=dropping) if dropping or table.nft else table, tuple(jumps))


@itemwise
def _entry(rule: FilterRule, family: Family, hooks: int) -> bytes:
    """Encode a rule as the kernel has it; jumps lead nowhere yet.

    :param hooks: from which it is reached
    """
    entry, target = encode(rule, family), rule.target
    if isinstance(target, Verdict | Jump):  # the entry has its name
        number = _NUMBERS[target.name] if isinstance(target, Verdict) else 0
        entry = entry[:-_VERDICT_SIZE] + _standard(number)
    return _come_from(LAYOUTS[family], entry, hooks)


def _come_from(layout: Layout, entry: bytes, hooks: int) -> bytes:
    """Return an entry with the hooks from which it is reached, as the kernel notes them (``mark_source_chains``)."""
    at = layout.offsets_at + OFFSETS.size
    return entry[:at] + _COMEFROM.pack(hooks) + entry[at + _COMEFROM.size :] if hooks else entry


def _reached(chains: Mapping[str, tuple[FilterRule, ...]], builtins: Iterable[str]) -> dict[str, dict[int, int]]:
    """Return for each chain how many of its entries are reached from each hook; its policy is the last entry."""
    found: dict[str, dict[int, int]] = {name: {} for name in chains}

    def walk_chain(name: str, hook: int) -> None:
        if hook in found[name]:
            return  # it was here before, or the chains are a loop, which the kernel refuses
        rules = chains[name]
        found[name][hook] = len(rules) + 1
        for number, rule in _turns(rules):
            if isinstance(rule.target, Jump):
                walk_chain(rule.target.chain, hook)
            elif rule == FilterRule(rule.target):  # nothing behind it is reached
                found[name][hook] = number + 1
                return

    for builtin in builtins:
        walk_chain(builtin, _HOOK[builtin])
    return found


def _turns(rules: Iterable[FilterRule]) -> list[tuple[int, FilterRule]]:
    """Return the rules, with their numbers, by which packets leave a chain, or go to another one for a while."""
    return [(number, rule) for number, rule in enumerate(rules) if rule.target.__class__ in (Jump, Verdict)]


def _portions(reached: Mapping[int, int], size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first, end, hooks) of the rules of a chain that are reached from the same hooks."""
    ends = sorted({*(min(end, size) for end in reached.values()), size})
    for first, last in pairwise([0, *ends]):
        yield first, last, sum(hook for hook, end in reached.items() if end >= last)


@lru_cache
def _standard(verdict: int) -> bytes:
    return extension(STANDARD, 0, _VERDICT.pack(verdict))


_VERDICT_SIZE = len(_standard(0))


@lru_cache
def _policy(layout: Layout, verdict: int, hooks: int) -> bytes:
    return _come_from(layout, _bare(layout, _standard(verdict)), hooks)


@lru_cache
def _jump(chain: str) -> FilterRule:
    return FilterRule(Jump(chain))


@lru_cache
def _name(layout: Layout, name: str) -> bytes:
    """Return the entry before a chain of ours that has its name, or the one that ends the table."""
    return _bare(layout, extension(ERROR, 0, name.encode().ljust(30, b"\0")))


def _bare(layout: Layout, target: bytes) -> bytes:
    """Return an entry that matches everything."""
    offsets = OFFSETS.pack(layout.header_size, layout.header_size + len(target))
    return (bytes(layout.offsets_at) + offsets).ljust(layout.header_size, b"\0") + target
