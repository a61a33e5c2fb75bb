"""Recognise the structure of a table by its bytes.  Pure.

The routers of a host have tables alike: the same chains with the same rules, in which addresses and devices differ.  At
a start all of them are met for the first time; finding chains and jumps in the bytes is most of decoding, and done once
for each structure.  Used by :mod:`.reader`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dvr_agent.kernel.iptables.layout import EXTENSION, LAYOUTS, OFFSETS
from dvr_agent.kernel.iptables.table_decoder import Structure, shape_of_sizes
from dvr_agent.state.filter import TableKey

LARGEST = 1 << 14
"""Bytes of the largest table that is recognised: larger ones are rarely alike."""
OF_A_SIZE = 8
"""Structures that are kept of tables of one name and size."""
SIZES = 1 << 9
"""Names and sizes of which structures are kept."""


class KnownStructure(NamedTuple):
    """A structure, and how it is recognised.

    :ivar shape: of the entries
    :ivar mask: has ones where tables of this structure are alike
    :ivar alike: the bytes there, others zero
    """

    structure: Structure
    shape: struct.Struct
    mask: int
    alike: int


class KnownStructures:
    """The structures of tables that were decoded.  Safe for several threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[TableKey, int], tuple[KnownStructure, ...]] = {}
        self._sizes: dict[TableKey, int] = {}

    def likely_size(self, key: TableKey) -> int:
        """Return the size of the table of this name that was met last, 0 before the first."""
        return self._sizes.get(key, 0)

    def find(self, key: TableKey, entries: bytes) -> KnownStructure | None:
        """Return the structure of a table, None if none is known that it has."""
        known = self._known.get((key, len(entries)))
        if known is None:
            return None
        self._sizes[key] = len(entries)
        number = int.from_bytes(entries, "little")
        return next((one for one in known if number & one.mask == one.alike), None)

    def add(self, key: TableKey, structure: Structure, entries: bytes) -> KnownStructure:
        """Make a structure known."""
        shape = shape_of_sizes(LAYOUTS[key[0]], [entry.end - entry.start for entry in structure.entries])
        if len(entries) > LARGEST:
            return KnownStructure(structure, shape, 0, 0)
        mask = _mask(structure, len(entries))
        one = KnownStructure(structure, shape, mask, int.from_bytes(entries, "little") & mask)
        place = (key, len(entries))
        self._known[place] = (one, *self._known.pop(place, ())[: OF_A_SIZE - 1])
        for oldest in list(self._known)[:-SIZES]:
            self._known.pop(oldest, None)
        self._sizes[key] = len(entries)
        return one


def _mask(structure: Structure, size: int) -> int:
    """Return the ones where tables of a structure are alike.

    Of our rules these are their sizes, the kind of their target, and a verdict or jump; of other entries all but the
    counters.
    """
    layout = LAYOUTS[structure.table.family]
    mask = bytearray(size)
    ours = {rule.entry: rule for _name, rules in structure.chains for rule in rules}
    for entry in structure.entries:
        rule, (start, target, end) = ours.get(entry), entry
        if rule is None:
            alike = [(start, start + layout.counters_at), (start + layout.header_size, end)]
        else:
            sizes = start + layout.offsets_at
            alike = [(sizes, sizes + OFFSETS.size), (target, target + EXTENSION.size if rule.aim is None else end)]
        for begin, stop in alike:
            mask[begin:stop] = b"\xff" * (stop - begin)
    return int.from_bytes(mask, "little")
