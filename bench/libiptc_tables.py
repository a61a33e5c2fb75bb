"""Packet filter tables as the floor once wrote them: by libiptc, entry by entry, from entries made beforehand.

Figures of earlier versions are ratios to that floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dvr_agent.kernel.iptables.libiptc import library
from dvr_agent.kernel.iptables.rule_codec import encode
from dvr_agent.state.filter import Family, FilterRule, Jump, Table


@dataclass(slots=True)
class TableEntries:
    """One table: what libiptc is told, in order."""

    family: Family
    name: bytes
    chains: list[bytes]
    entries: list[tuple[bytes, bytes]]


def entries_of(tables: Iterable[Table]) -> list[TableEntries]:
    """Return what libiptc is told of each table that has chains of ours."""
    return [_entries(table) for table in tables if table.chains]


def begin(tables: Iterable[TableEntries]) -> list[Any]:
    """Return libiptc's handle of each table; the thread is in the namespace."""
    return [library(table.family).iptc_init(table.name) for table in tables]


def fill(table: TableEntries, handle: Any) -> None:
    """Make chains and rules, and commit; from any namespace."""
    lib = library(table.family)
    append: Callable[[bytes, bytes, Any], int] = lib.iptc_append_entry
    done = (
        all(lib.iptc_create_chain(chain, handle) for chain in table.chains)
        and all(append(chain, entry, handle) for chain, entry in table.entries)
        and lib.iptc_commit(handle)
    )
    if not done:
        raise OSError(f"floor: table {table.name.decode()} was refused")
    lib.iptc_free(handle)


def _entries(table: Table) -> TableEntries:
    rules: Mapping[str, Sequence[FilterRule]] = {chain.name: chain.rules for chain in table.chains}
    entries = [(name.encode(), encode(rule, table.family)) for name, found in rules.items() for rule in found]
    jumps = [(builtin.encode(), encode(FilterRule(Jump(chain)), table.family)) for builtin, chain in table.jumps]
    return TableEntries(table.family, table.name.encode(), [name.encode() for name in rules], entries + jumps)
