"""Encode a whole table that nobody has written to yet, as the kernel takes it in one call.  Pure.

Used by :mod:`.manager` where a namespace is new: libiptc reads the table, builds a copy rule by rule and writes it,
which takes four times as long.  The bytes are those that libiptc would write; they are also those that the kernel will
hand out, so that a table of ours is known before it is read for the first time.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
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
from dvr_agent.kernel.iptables.table_decoder import (
    JumpAt,
    Snapshot,
    chains_of,
    digest_of,
    shape_of_sizes,
    verdict_of,
    walk,
)
from dvr_agent.state.filter import FilterRule, Jump, Table, TableKey, Verdict

SET_REPLACE = 64
"""``IPT_SO_SET_REPLACE``; the number of IPv6 is the same."""
_REPLACE = struct.Struct("=32sIII5I5IIQ")
"""``struct ipt_replace`` before the entries: name, valid hooks, number of entries, their size, 5 hook offsets,
5 underflow offsets, number of the old entries, and where their counters are written to."""
_COMEFROM = struct.Struct("=I")
_VERDICT = struct.Struct("=i")
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


Encode = Callable[[str, FilterRule], bytes]
"""Encodes a rule of a chain as an entry."""


def encode_table(initial: InitialTable, table: Table, encode: Encode) -> FreshTable:
    """Encode our part of a table, with nothing else in it."""
    layout = LAYOUTS[table.family]
    writer = _Writer(layout, encode)
    builtins = BUILTINS[table.name]
    for builtin, policy in zip(builtins, initial.policies, strict=True):
        aims = [FilterRule(Jump(chain)) for found, chain in table.jumps if found == builtin]
        writer.add_chain(builtin, aims, policy)
    for chain in table.chains:
        writer.add(_name(layout, chain.name))
        writer.add_chain(chain.name, chain.rules, _NUMBERS["RETURN"])
    writer.add(_name(layout, ERROR))
    valid = 0
    for builtin in builtins:
        hook = 1 << HOOKS.index(builtin)
        writer.mark(builtin, hook)
        valid |= hook
    entries = writer.packed()
    places = [writer.places.get(name) for name in HOOKS]
    offsets = (*(place.first if place else 0 for place in places), *(place.last if place else 0 for place in places))
    head = (table.name.encode(), valid, len(writer.sizes), len(entries), *offsets)
    replacement = _REPLACE.pack(*head, initial.entries, ctypes.addressof(_scratch)) + entries
    shape = shape_of_sizes(layout, writer.sizes)
    return FreshTable(replacement, shape, digest_of(shape, table.key, entries), _snapshot(initial, table))


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


class _Place(NamedTuple):
    """A chain.

    :ivar number: of its first entry
    :ivar first: offset of that
    :ivar last: offset of its policy
    """

    number: int
    rules: Sequence[FilterRule]
    first: int
    last: int


class _Writer:
    """The entries of a table, in their order.

    :ivar sizes: of the entries
    :ivar places: of the chains
    """

    def __init__(self, layout: Layout, encode: Encode) -> None:
        self._layout, self._encode = layout, encode
        self.sizes: list[int] = []
        self.places: dict[str, _Place] = {}
        self._entries: list[bytes] = []
        self._offsets: list[int] = []
        self._end = 0
        self._hooks: dict[int, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def add_chain(self, name: str, rules: Sequence[FilterRule], policy: int) -> None:
        """Add the rules and the policy of a chain."""
        number, first = len(self.sizes), self._end
        for rule in rules:
            entry, target = self._encode(name, rule), rule.target
            if isinstance(target, Verdict):  # the entry has its name
                entry = entry[:-_VERDICT_SIZE] + _standard(_NUMBERS[target.name])
            elif isinstance(target, Jump):
                entry = entry[:-_VERDICT_SIZE] + _standard(0)
                self._jumps.append((self._end + len(entry) - _VERDICT_SIZE + EXTENSION.size, target.chain))
            self.add(entry)
        self.places[name] = _Place(number, rules, first, self._end)
        self.add(_policy(self._layout, policy))

    def add(self, entry: bytes) -> None:
        """Add an entry."""
        self._entries.append(entry)
        self._offsets.append(self._end)
        self.sizes.append(len(entry))
        self._end += len(entry)

    def mark(self, chain: str, hook: int) -> None:
        """Note that a hook leads to a chain; the kernel keeps that in its entries (``mark_source_chains``)."""
        number, rules, _, _ = self.places[chain]
        hooks = self._hooks
        if hooks.get(number, 0) & hook:
            return  # it was here before, or the chains are a loop, which the kernel refuses
        for rule in rules:
            hooks[number] = hooks.get(number, 0) | hook
            number += 1
            target = rule.target
            if isinstance(target, Jump):
                self.mark(target.chain, hook)
            elif isinstance(target, Verdict) and rule == FilterRule(target):
                return  # nothing behind it is reached
        hooks[number] = hooks.get(number, 0) | hook

    def packed(self) -> bytes:
        """Return the bytes of all entries."""
        packed = bytearray().join(self._entries)
        for at, chain in self._jumps:
            _VERDICT.pack_into(packed, at, self.places[chain].first)
        place = self._layout.offsets_at + OFFSETS.size
        for number, hooks in self._hooks.items():
            _COMEFROM.pack_into(packed, self._offsets[number] + place, hooks)
        return bytes(packed)


@lru_cache
def _standard(verdict: int) -> bytes:
    return extension(STANDARD, 0, _VERDICT.pack(verdict))


_VERDICT_SIZE = len(_standard(0))


@lru_cache
def _policy(layout: Layout, verdict: int) -> bytes:
    return _bare(layout, _standard(verdict))


@lru_cache
def _name(layout: Layout, name: str) -> bytes:
    """Return the entry before a chain of ours that has its name, or the one that ends the table."""
    return _bare(layout, extension(ERROR, 0, name.encode().ljust(30, b"\0")))


def _bare(layout: Layout, target: bytes) -> bytes:
    """Return an entry that matches everything."""
    offsets = OFFSETS.pack(layout.header_size, layout.header_size + len(target))
    return (bytes(layout.offsets_at) + offsets).ljust(layout.header_size, b"\0") + target
