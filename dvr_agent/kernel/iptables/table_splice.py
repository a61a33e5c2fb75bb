"""Change a table in its bytes: rules are cut out and put in, the rest stays as it was read (:func:`splice`).  Pure.

Used by :mod:`.manager` for what most jobs change: rules of chains that stay.  libiptc would read the table once more,
take it apart, and put it together again.  Offsets move with that: of jumps, built-in chains, and their policies.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from dvr_agent.kernel.iptables.fresh_table import COMEFROM, REPLACE, ready_entry
from dvr_agent.kernel.iptables.layout import EXTENSION, HOOKS, INFO, LAYOUTS, OFFSETS
from dvr_agent.kernel.iptables.table_decoder import (
    COUNTERS,
    NAME_AT,
    STANDARD_HEAD,
    VERDICT,
    EntrySpan,
    chains_of,
    digest_of,
    shape_of_sizes,
    walk,
)
from dvr_agent.kernel.iptables.table_edit import Edit
from dvr_agent.state.filter import Jump, TableKey

_ADDED = struct.Struct("=32sI4x")
"""``struct xt_counters_info`` before the counters: name of the table, number of its entries."""
_NONE = bytes(COUNTERS.size)


class Spliced(NamedTuple):
    """A changed table.

    :ivar replacement: ``struct ipt_replace`` with the entries
    :ivar counters: the kernel writes the counters of the replaced entries here
    :ivar origins: the number that each entry had; negative: it is new
    :ivar shape: of the entries
    :ivar digest: of the entries as they will be read, unless a new rule is behind one that ends its chain
    """

    replacement: bytes
    counters: ctypes.Array[ctypes.c_char]
    origins: Sequence[int]
    shape: struct.Struct
    digest: bytes

    def kept_counters(self, name: str) -> bytes:
        """Return ``struct xt_counters_info`` with what the entries that stay had counted; empty: nothing."""
        before, size = self.counters.raw, COUNTERS.size
        if before.count(0) == len(before):
            return b""
        kept = [before[size * at : size * (at + 1)] if at >= 0 else _NONE for at in self.origins]
        return b"".join((_ADDED.pack(name.encode(), len(kept)), *kept))


def splice(key: TableKey, info: bytes, blob: bytes, edit: Edit) -> Spliced | None:
    """Change rules of our chains; None: chains or jumps come or go, or the table is not understood.

    :param info: ``struct ipt_getinfo``
    :param blob: all entries of the table
    :raises ValueError: a rule cannot be expressed
    """
    names = {chain for chain, _position in edit.deletes} | {chain for chain, _position, _rule in edit.inserts}
    leads = any(isinstance(rule.target, Jump) for _chain, _position, rule in edit.inserts)
    if leads or edit.flushes or edit.creates or not names.isdisjoint(HOOKS):
        return None
    family, name = key
    layout = LAYOUTS[family]
    spans = walk(layout, blob)
    chains = chains_of(info, blob, spans)
    _name, valid, *places, number, size = INFO.unpack(info)
    if (number, size) != (len(spans), len(blob)):
        return None
    new: list[bytes] = []
    for chain, _position, rule in edit.inserts:
        (hooks,) = COMEFROM.unpack_from(blob, chains[chain][0].start + layout.offsets_at + OFFSETS.size)
        new.append(ready_entry(rule, family, hooks))
    order, heads = _order(edit, {name: chains[name] for name in names}, spans)
    entries = [blob[spans[at].start : spans[at].end] if at >= 0 else new[-1 - at] for at in order]
    sizes = [*map(len, entries)]
    offsets = [0, *accumulate(sizes)]
    kept = [(spans[at], offset) for at, offset in zip(order, offsets, strict=False) if at >= 0]
    moved = {span.start: offset for span, offset in kept}
    moved |= {start: offsets[place] for start, place in heads.items()}
    packed = bytearray().join(entries)
    if not _move_jumps(blob, packed, kept, moved):
        return None
    places = [moved.get(place, 0) if valid >> at % len(HOOKS) & 1 else 0 for at, place in enumerate(places)]
    counters = ctypes.create_string_buffer(COUNTERS.size * number)
    address = ctypes.addressof(counters)
    head = REPLACE.pack(name.encode(), valid, len(sizes), len(packed), *places, number, address)
    content, shape = bytes(packed), shape_of_sizes(layout, sizes)
    return Spliced(head + content, counters, order, shape, digest_of(shape, key, content))


def _move_jumps(
    blob: bytes, packed: bytearray, kept: Iterable[tuple[EntrySpan, int]], moved: Mapping[int, int]
) -> bool:
    """Have jumps lead to where their chains are now; False: one leads to nowhere we know.

    :param kept: entries that stay, with their new offsets
    :param moved: old offset of an entry → new one
    """
    for (start, target, end), offset in kept:
        if not blob.startswith(STANDARD_HEAD, target + NAME_AT):
            continue
        (verdict,) = VERDICT.unpack_from(blob, target + EXTENSION.size)
        if verdict < 0:
            continue
        aim = offset + end - start if verdict == end else moved.get(verdict)  # without target: on to the next entry
        if aim is None:
            return False
        VERDICT.pack_into(packed, offset + target - start + EXTENSION.size, aim)
    return True


def _order(
    edit: Edit, chains: Mapping[str, Sequence[EntrySpan]], spans: Sequence[EntrySpan]
) -> tuple[list[int], dict[int, int]]:
    """Return the numbers of all entries in their new order, with -1, -2, … for new ones.

    :param chains: those that are edited
    :returns: that, and where in it these chains begin, by the offset at which each began
    """
    numbers = {span.start: number for number, span in enumerate(spans)}
    ranges = {name: (first := numbers[found[0].start], first + len(found) - 1) for name, found in chains.items()}
    rules = {chain: [*range(*found)] for chain, found in ranges.items()}
    for chain, position in edit.deletes:
        del rules[chain][position]
    for number, (chain, position, _rule) in enumerate(edit.inserts, 1):
        rules[chain].insert(position, -number)
    order: list[int] = []
    heads: dict[int, int] = {}
    at = 0
    for (first, end), chain in sorted((found, chain) for chain, found in ranges.items()):
        order += range(at, first)
        heads[spans[first].start] = len(order)
        order += rules[chain]
        at = end
    return [*order, *range(at, len(spans))], heads
