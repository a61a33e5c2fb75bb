"""Keeps the newest entries of each router in memory, compressed, within a fixed number of bytes (:class:`Ring`).

The daemon adds entries in the hub's thread; the writer's thread puts those of earlier runs before them.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

LEVEL = 1
"""Level of zlib: of a first build, some 10 KB of JSON, it leaves a seventh in 0.1 ms."""
OVERHEAD = 350
"""Bytes that an entry takes beside its text: objects, and its places in the containers."""
LOW_WATER = 0.9
"""Fraction of the bytes that is kept when they are used up: entries are dropped by many."""


class Kept(NamedTuple):
    """One entry.

    :ivar seq: its number, counted since the first entry of this host
    :ivar time: seconds since the epoch
    :ivar router: id of the router; empty: it concerns the host
    :ivar packed: its JSON text, compressed
    """

    seq: int
    time: float
    router: str
    packed: bytes

    @property
    def text(self) -> str:
        """The JSON text."""
        return zlib.decompress(self.packed).decode()

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self.packed) + OVERHEAD


def pack(entry: dict[str, Any]) -> Kept:
    """Make a kept entry of an entry's values."""
    return kept(json.dumps(entry).encode(), entry["seq"], entry["time"], entry["router"])


def kept(text: bytes, seq: int, time: float, router: str | None) -> Kept:
    """Make a kept entry of its JSON text and the values by which it is found."""
    return Kept(seq, time, router or "", zlib.compress(text, LEVEL))


class Ring:
    """The newest entries by router.

    :param per_router: maximum number of entries of one router
    :param limit: maximum number of bytes of all; beyond it the oldest entries go, whose ever they are
    :ivar last: number of the newest entry
    """

    def __init__(self, per_router: int, limit: int, last: int = 0) -> None:
        self._per_router, self._limit = per_router, limit
        self._kept: dict[int, Kept] = {}
        """By number, oldest first."""
        self._of: dict[str, list[int]] = {}
        """Router → numbers of its entries, oldest first.  An empty deque takes ten times the bytes of a list."""
        self._lock = threading.Lock()
        self._bytes = 0
        self.last = last

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes in use."""
        return self._bytes

    def add(self, entry: Kept) -> None:
        """Add the newest entry."""
        with self._lock:
            self.last = max(self.last, entry.seq)
            self._add(entry)
            self._shrink()

    def put_before(self, entries: Iterable[Kept]) -> None:
        """Put entries of an earlier run, oldest first, before those that are there."""
        with self._lock:
            newer = [*self._kept.values()]
            self._kept, self._of, self._bytes = {}, {}, 0
            begun = newer[0].seq if newer else self.last + 1
            for entry in (*(one for one in entries if one.seq < begun), *newer):
                self._add(entry)
            self._shrink()

    def select(self, router: str = "", since: float = 0.0, after: int | None = None, limit: int = 1000) -> list[Kept]:
        """Return entries, oldest first.

        :param router: of this router only; empty: of all, and of the host
        :param since: none that is older, seconds since the epoch
        :param after: the first ones whose number is greater; None: the newest ones
        """
        with self._lock:
            newest_first = self._newest_first(router)
            if after is None:
                found = [*islice((one for one in newest_first if one.time >= since), limit)]
                return found[::-1]
            wanted = []
            for one in newest_first:
                if one.seq <= after:
                    break
                if one.time >= since:
                    wanted.append(one)
            return wanted[::-1][:limit]

    def _newest_first(self, router: str) -> Iterator[Kept]:
        if not router:
            return reversed(self._kept.values())
        return (self._kept[seq] for seq in reversed(self._of.get(router, ())))

    def _add(self, entry: Kept) -> None:
        numbers = self._of.setdefault(entry.router, [])
        while len(numbers) >= self._per_router:
            self._bytes -= self._kept.pop(numbers.pop(0)).size
        numbers.append(entry.seq)
        self._kept[entry.seq] = entry
        self._bytes += entry.size

    def _shrink(self) -> None:
        if self._bytes <= self._limit:
            return
        for entry in [*self._kept.values()]:
            if self._bytes <= self._limit * LOW_WATER:
                return
            del self._kept[entry.seq]
            self._bytes -= entry.size
            numbers = self._of[entry.router]
            numbers.pop(0)
            if not numbers:
                del self._of[entry.router]
