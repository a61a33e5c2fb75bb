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
from typing import NamedTuple

from dvr_agent.kernel.iptables.layout import (
    BUILTINS,
    ERROR,
    HOOKS,
    LAYOUTS,
    OFFSETS,
    STANDARD,
    VERDICTS,
    Layout,
    extension,
)
from dvr_agent.kernel.iptables.table_decoder import JumpAt, Snapshot, chains_of, digest_of, shape_of, verdict_of, walk
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
    hooks = [HOOKS.index(builtin) for builtin in BUILTINS[table.name]]
    for builtin, policy in zip(BUILTINS[table.name], initial.policies, strict=True):
        aims = [FilterRule(Jump(chain)) for found, chain in table.jumps if found == builtin]
        writer.add_chain(builtin, aims, policy)
    for chain in table.chains:
        writer.add_name(chain.name)
        writer.add_chain(chain.name, chain.rules, _NUMBERS["RETURN"])
    writer.add_name(ERROR)
    for hook in hooks:
        writer.mark(HOOKS[hook], 1 << hook)
    entries = writer.packed()
    valid = sum(1 << hook for hook in hooks)
    begins = [writer.begins.get(name, (0, 0)) for name in HOOKS]
    offsets = (*(first for first, _ in begins), *(last for _, last in begins))
    head = (table.name.encode(), valid, len(writer.entries), len(entries), *offsets)
    replacement = _REPLACE.pack(*head, initial.entries, ctypes.addressof(_scratch)) + entries
    shape = shape_of(layout, entries)
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


class _Writer:
    """The entries of a table, in their order.

    :ivar entries: of which those with a jump lack its offset
    :ivar begins: chain → offsets of its first entry and of its last, the policy
    """

    def __init__(self, layout: Layout, encode: Encode) -> None:
        self._layout, self._encode = layout, encode
        self.entries: list[bytes] = []
        self.begins: dict[str, tuple[int, int]] = {}
        self._size = 0
        self._chains: dict[str, tuple[int, Sequence[FilterRule]]] = {}
        self._hooks: dict[int, int] = {}

    def add_name(self, name: str) -> None:
        """Add the entry before a chain of ours that has its name, or the one that ends the table."""
        self._add(_bare(self._layout, extension(ERROR, 0, name.encode().ljust(30, b"\0"))))

    def add_chain(self, name: str, rules: Sequence[FilterRule], policy: int) -> None:
        """Add the rules and the policy of a chain."""
        first = self._size
        self._chains[name] = (len(self.entries), rules)
        for rule in rules:
            self._add(self._encode(name, rule))
        self.begins[name] = (first, self._size)
        self._add(_bare(self._layout, _standard(policy)))

    def _add(self, entry: bytes) -> None:
        self.entries.append(entry)
        self._size += len(entry)

    def mark(self, chain: str, hook: int) -> None:
        """Note that a hook leads to a chain; the kernel keeps that in its entries (``mark_source_chains``)."""
        at, rules = self._chains[chain]
        if self._hooks.get(at, 0) & hook:
            return  # it was here before, or the chains are a loop, which the kernel refuses
        for number, rule in enumerate(rules, at):
            self._hooks[number] = self._hooks.get(number, 0) | hook
            if isinstance(rule.target, Jump):
                self.mark(rule.target.chain, hook)
            elif rule == FilterRule(rule.target) and isinstance(rule.target, Verdict):
                return  # nothing behind it is reached
        self._hooks[at + len(rules)] = self._hooks.get(at + len(rules), 0) | hook

    def packed(self) -> bytes:
        """Return the bytes of all entries."""
        for at, rules in self._chains.values():
            for number, rule in enumerate(rules, at):
                if isinstance(rule.target, Jump):
                    self._set_verdict(number, self.begins[rule.target.chain][0])
                elif isinstance(rule.target, Verdict):
                    self._set_verdict(number, _NUMBERS[rule.target.name])
        place = self._layout.offsets_at + OFFSETS.size
        for number, hooks in self._hooks.items():
            entry = self.entries[number]
            self.entries[number] = entry[:place] + _COMEFROM.pack(hooks) + entry[place + _COMEFROM.size :]
        return b"".join(self.entries)

    def _set_verdict(self, number: int, verdict: int) -> None:
        """Give an entry that names its target the number of a verdict, or the offset of a chain."""
        target = _standard(verdict)
        self.entries[number] = self.entries[number][: -len(target)] + target


def _standard(verdict: int) -> bytes:
    return extension(STANDARD, 0, _VERDICT.pack(verdict))


def _bare(layout: Layout, target: bytes) -> bytes:
    """Return an entry that matches everything."""
    offsets = OFFSETS.pack(layout.header_size, layout.header_size + len(target))
    return (bytes(layout.offsets_at) + offsets).ljust(layout.header_size, b"\0") + target
