"""Link-local pairs and rule priorities: pools of which each key keeps its value (Neutron's state files).

Pure: reading and writing the files is ``dvr_agent.reconcile.statefile``'s work.  One allocator per host and kind; a new
value is the first free one from a hash of its key on, so that a lost file gives the same values again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network
from typing import Generic, TypeVar

from dvr_agent.errors import AllocationError
from dvr_agent.state.ownership import FIP_PRIORITIES

PAIR_POOL = IPv4Network("169.254.64.0/18")
"""Source of the /31 pairs (neutron.agent.l3.dvr_fip_ns, FIP_LL_SUBNET)."""


@dataclass(frozen=True, slots=True, order=True)
class LinkLocalPair:
    """A /31: its first address is the router's side, its second the fip namespace's."""

    first: int

    @property
    def router_address(self) -> str:
        return str(IPv4Address(self.first))

    @property
    def fip_address(self) -> str:
        return str(IPv4Address(self.first + 1))

    def __str__(self) -> str:
        return f"{self.router_address}/31"

    @classmethod
    def parse(cls, text: str) -> LinkLocalPair | None:
        """From ``169.254.x.y/31``, either side's address; None for anything that is not a pair of the pool."""
        address, _, length = text.partition("/")
        try:
            ip = IPv4Address(address)
        except ValueError:
            return None
        return cls(int(ip) & ~1) if length == "31" and ip in PAIR_POOL else None


PAIRS: Sequence[LinkLocalPair] = [LinkLocalPair(first) for first in range(int(PAIR_POOL[0]), int(PAIR_POOL[-1]) + 1, 2)]
PRIORITIES: Sequence[int] = FIP_PRIORITIES

V = TypeVar("V", LinkLocalPair, int)


class Allocator(Generic[V]):
    """Hands out the values of a pool, one to a key, never one twice.

    :param pool: all values, in order
    :param entries: what is allocated already, by key; values outside the pool and second users of one are dropped
    """

    def __init__(self, pool: Sequence[V], entries: Mapping[str, V]) -> None:
        self._pool: Sequence[V] = pool
        self._members: frozenset[V] = frozenset(pool)
        self._values: dict[str, V] = {}
        self._owner: dict[V, str] = {}
        self._reserved: set[V] = set()
        self.dirty = False
        """True if :meth:`entries` differs from what was given or last marked clean."""
        for key, value in entries.items():
            if not self._take(key, value):
                self.dirty = True

    def entries(self) -> dict[str, V]:
        """Everything allocated, in order of keys."""
        return dict(sorted(self._values.items()))

    def get(self, key: str) -> V | None:
        return self._values.get(key)

    def owner(self, value: V) -> str | None:
        return self._owner.get(value)

    def allocate(self, key: str) -> V:
        """The key's value, a new one if it has none.

        :raises AllocationError: the pool is used up
        """
        if key in self._values:
            return self._values[key]
        size = len(self._pool)
        start = int.from_bytes(sha256(key.encode()).digest()[:8]) % size
        for step in range(size):
            value = self._pool[(start + step) % size]
            if value not in self._owner and value not in self._reserved:
                self._take(key, value)
                self.dirty = True
                return value
        raise AllocationError(f"all {size} values from {self._pool[0]} to {self._pool[-1]} are in use")

    def reserve(self, values: Iterable[V]) -> None:
        """These are in use in the kernel, by nobody knows which key yet: only :meth:`adopt` gives them out."""
        self._reserved = set(values)

    def adopt(self, key: str, value: V) -> bool:
        """The kernel has ``value`` for ``key``, so be it; False if it is not of the pool or belongs to another key."""
        if self._values.get(key) == value:
            return True
        if value not in self._members or value in self._owner:
            return False
        self.release(key)
        self._take(key, value)
        self.dirty = True
        return True

    def release(self, key: str) -> None:
        """The key is gone; its value is free again."""
        value = self._values.pop(key, None)
        if value is not None:
            del self._owner[value]
            self._reserved.discard(value)
            self.dirty = True

    def _take(self, key: str, value: V) -> bool:
        if value not in self._members or value in self._owner or key in self._values:
            return False
        self._values[key] = value
        self._owner[value] = key
        return True


def parse_pairs(text: str) -> tuple[dict[str, LinkLocalPair], list[str]]:
    """``fip-linklocal-networks``: entries by router id, and the lines that make no sense."""
    entries: dict[str, LinkLocalPair] = {}
    bad: list[str] = []
    for key, value, line in _lines(text):
        pair = LinkLocalPair.parse(value)
        if pair is None or not key:
            bad.append(line)
        else:
            entries[key] = pair
    return entries, bad


def parse_priorities(text: str) -> tuple[dict[str, int], list[str]]:
    """``fip-priorities``: entries by floating IP, and the lines that make no sense."""
    entries: dict[str, int] = {}
    bad: list[str] = []
    for key, value, line in _lines(text):
        if key and value.isascii() and value.isdigit() and len(value) < 10 and int(value) in FIP_PRIORITIES:
            entries[key] = int(value)
        else:
            bad.append(line)
    return entries, bad


def format_entries(entries: Mapping[str, LinkLocalPair] | Mapping[str, int]) -> str:
    """A state file's text: one ``key,value`` a line."""
    return "".join(f"{key},{value}\n" for key, value in entries.items())


def _lines(text: str) -> Iterable[tuple[str, str, str]]:
    for line in text.splitlines():
        if line.strip():
            key, _, value = line.strip().partition(",")
            yield key, value, line
