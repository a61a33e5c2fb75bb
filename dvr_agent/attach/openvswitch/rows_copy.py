"""The copy of the database's rows, and what an update of the server changes in it; used by ``connection``.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from dvr_agent.attach.openvswitch.schema import TABLES, Kind, decode


class Event(Enum):
    """What happened to a row."""

    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"


@dataclass(slots=True, eq=False)
class Row:
    """One row.

    :ivar values: by column (``schema``)
    """

    table: str
    uuid: str
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The row's name, which never changes."""
        return str(self.values["name"])


class RowChange(NamedTuple):
    """A change of a row.

    :ivar columns: of a changed row: the columns that changed, with what the server says of it: the new value, of a
        map the keys that differ, of references the UUIDs that came or went
    """

    event: Event
    row: Row
    columns: Mapping[str, Any]


class Rows:
    """The rows of all tables.

    :ivar tables: table → UUID → row
    """

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Row]] = {table: {} for table in TABLES}

    def clear(self) -> None:
        """Forget all rows."""
        for rows in self.tables.values():
            rows.clear()

    def update(self, updates: Mapping[str, Any]) -> list[RowChange]:
        """Take over ``<table-updates2>`` (ovsdb-server(7)); returns the changes.

        :raises ValueError: it is malformed; TypeError, LookupError, AttributeError as well
        """
        return [
            change
            for table, rows in updates.items()
            for uuid, update in rows.items()
            for change in self._changes(table, uuid, update)
        ]

    def _changes(self, table: str, uuid: str, update: Mapping[str, Any]) -> Iterator[RowChange]:
        rows, kinds = self.tables[table], TABLES[table]
        for how, given in update.items():
            values = {column: decode(kinds[column], value) for column, value in (given or {}).items()}
            if how == "delete":
                yield RowChange(Event.DELETED, rows.pop(uuid), {})
            elif how == "modify":
                _modify(rows[uuid].values, kinds, values)
                yield RowChange(Event.CHANGED, rows[uuid], values)
            else:  # insert, initial
                rows[uuid] = Row(table, uuid, {column: kind.empty() for column, kind in kinds.items()} | values)
                yield RowChange(Event.CREATED, rows[uuid], {})


def _modify(values: dict[str, Any], kinds: Mapping[str, Kind], differences: Mapping[str, Any]) -> None:
    """Apply differences in place: a bridge may have thousands of ports."""
    for column, difference in differences.items():
        if kinds[column] is Kind.REFERENCES:
            values[column] ^= difference
        elif kinds[column] is Kind.MAP:
            there = values[column]
            gone = {key for key, value in difference.items() if there.get(key) == value}
            values[column] = {key: value for key, value in (there | difference).items() if key not in gone}
        else:
            values[column] = difference
