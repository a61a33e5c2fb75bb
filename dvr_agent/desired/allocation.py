"""Allocate link-local /31 subnets and rule priorities from pools; each key keeps its value.  Pure.

Used by ``reconcile``, whose ``statefile`` reads and writes the files (in Neutron's format).  One allocator per host and
kind of value; a new value is the first free one from a hash of its key on, so that a lost file gives the same values
again.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Network
from typing import Generic, TypeVar, overload

from dvr_agent.errors import AllocationError
from dvr_agent.plural import count
from dvr_agent.state.ownership import FIP_PRIORITIES

PAIR_POOL = IPv4Network("169.254.64.0/18")
"""Pool of the /31 subnets (neutron.agent.l3.dvr_fip_ns, FIP_LL_SUBNET)."""


@lru_cache(maxsize=64)
def _ipv4_text(number: int) -> str:
    """Return ``str(IPv4Address(number))``, several times as fast."""
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


@dataclass(frozen=True, slots=True, order=True)
class LinkLocalPair:
    """A /31: the first address is the router's, the second the fip namespace's."""

    first: int

    @property
    def router_address(self) -> str:
        """Address of the ``rfp-`` device."""
        return _ipv4_text(self.first)

    @property
    def fip_address(self) -> str:
        """Address of the ``fpr-`` device."""
        return _ipv4_text(self.first + 1)

    def __str__(self) -> str:
        return f"{self.router_address}/31"

    @classmethod
    def parse(cls, text: str) -> LinkLocalPair | None:
        """Parse ``169.254.x.y/31`` with either side's address; None for anything that is not in the pool."""
        if not text.endswith("/31"):  # most addresses of a router
            return None
        octets = text[:-3].split(".")
        try:
            number = int.from_bytes(map(int, octets), "big")
        except ValueError:  # no number, or none of an octet
            return None
        is_address = number & ~1 in _Pairs.firsts and _ipv4_text(number) == text[:-3]
        return cls(number & ~1) if is_address else None


class _Pairs(Sequence[LinkLocalPair]):
    """All /31 subnets of the pool in order, each made when it is asked for: there are 8,192."""

    firsts = range(int(PAIR_POOL[0]), int(PAIR_POOL[-1]) + 1, 2)

    def __len__(self) -> int:
        return len(self.firsts)

    @overload
    def __getitem__(self, index: int) -> LinkLocalPair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LinkLocalPair]: ...
    def __getitem__(self, index: int | slice) -> LinkLocalPair | Sequence[LinkLocalPair]:
        found = self.firsts[index]
        return LinkLocalPair(found) if isinstance(found, int) else [LinkLocalPair(first) for first in found]

    def __contains__(self, value: object) -> bool:
        return isinstance(value, LinkLocalPair) and value.first in self.firsts


PAIRS: Sequence[LinkLocalPair] = _Pairs()
PRIORITIES: Sequence[int] = FIP_PRIORITIES

V = TypeVar("V", LinkLocalPair, int)


class Allocator(Generic[V]):
    """Allocates the values of a pool to keys, no value twice.

    :param pool: all values, in order; it tells without a search whether a value is in it
    :param entries: values that are allocated already, by key; entries outside the pool or with a value of another key
        are dropped
    """

    def __init__(self, pool: Sequence[V], entries: Mapping[str, V]) -> None:
        self._pool: Sequence[V] = pool
        self._values: dict[str, V] = {}
        self._owner: dict[V, str] = {}
        self._reserved: set[V] = set()
        self.dirty = False
        """True if :meth:`entries` differs from the entries that were given or last written."""
        for key, value in entries.items():
            if not self._take(key, value):
                self.dirty = True

    def entries(self) -> dict[str, V]:
        """Return all allocated values by key, in order of keys."""
        return dict(sorted(self._values.items()))

    def get(self, key: str) -> V | None:
        """Return the value of a key, None if it has none."""
        return self._values.get(key)

    def known(self, keys: Iterable[str]) -> list[V | None]:
        """Return :meth:`get` of each key."""
        return [self._values.get(key) for key in keys]

    def owner(self, value: V) -> str | None:
        """Return the key that has a value, None if the value is free."""
        return self._owner.get(value)

    def allocate(self, key: str) -> V:
        """Return the value of a key, a new one if it has none.

        :raises AllocationError: the pool is used up
        """
        if self.allocate_all([key]):
            raise self._none_left(key)
        return self._values[key]

    def allocate_all(self, keys: Iterable[str]) -> list[str]:
        """Give each key a value unless it has one; returns the keys for which none is left."""
        values, owner, left = self._values, self._owner, []
        for key in keys:
            if key in values:
                continue
            if len(owner) + len(self._reserved) >= len(self._pool) and self.full:
                left.append(key)
                continue
            value = values[key] = self.first(key, (owner, self._reserved))
            owner[value] = key
            self.dirty = True
        return left

    @property
    def full(self) -> bool:
        """True if each value of the pool is allocated or reserved."""
        size = len(self._pool)
        return len(self._owner) + len(self._reserved) >= size and len(self._owner.keys() | self._reserved) >= size

    def first(self, key: str, taken: Collection[Container[V]]) -> V:
        """Return the first value from a hash of the key on that is in none of the containers; nothing is allocated.

        :raises AllocationError: all are taken
        """
        pool = self._pool
        size = len(pool)
        start = int.from_bytes(sha256(key.encode()).digest()[:8]) % size
        for step in range(start, start + size):
            value = pool[step % size]
            for found in taken:
                if value in found:
                    break
            else:
                return value
        raise self._none_left(key)

    def _none_left(self, key: str) -> AllocationError:
        pool = f"all {count(len(self._pool), 'value')} from {self._pool[0]} to {self._pool[-1]}"
        return AllocationError(f"none is left for {key}: {pool} are in use")

    def reserve(self, values: Iterable[V]) -> None:
        """Reserve further values that the kernel uses for keys not known yet: only :meth:`adopt` allocates them."""
        self._reserved.update(values)

    def adopt(self, key: str, value: V) -> bool:
        """Give a key the value that the kernel has for it; False if the value is not in the pool or has another key."""
        if self._values.get(key) == value:
            return True
        if value not in self._pool or value in self._owner:
            return False
        self.release(key)
        self._take(key, value)
        self.dirty = True
        return True

    def release(self, key: str) -> None:
        """Free the value of a key."""
        value = self._values.pop(key, None)
        if value is not None:
            del self._owner[value]
            self._reserved.discard(value)
            self.dirty = True

    def _take(self, key: str, value: V) -> bool:
        """Give a key a value; False if the value is not in the pool or has a key, or the key has a value."""
        if value not in self._pool or value in self._owner or key in self._values:
            return False
        self._values[key] = value
        self._owner[value] = key
        return True


def parse_pairs(text: str) -> tuple[dict[str, LinkLocalPair], list[str]]:
    """Parse ``fip-linklocal-networks``.

    :returns: entries by router id, and the malformed lines
    """
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
    """Parse ``fip-priorities``.

    :returns: entries by floating IP, and the malformed lines
    """
    entries: dict[str, int] = {}
    bad: list[str] = []
    for key, value, line in _lines(text):
        if key and value.isascii() and value.isdigit() and len(value) < 10 and int(value) in FIP_PRIORITIES:
            entries[key] = int(value)
        else:
            bad.append(line)
    return entries, bad


def format_entries(entries: Mapping[str, LinkLocalPair] | Mapping[str, int]) -> str:
    """Write the text of a state file: ``key,value`` on each line."""
    return "".join(f"{key},{value}\n" for key, value in entries.items())


def _lines(text: str) -> Iterable[tuple[str, str, str]]:
    for line in text.splitlines():
        if line.strip():
            key, _, value = line.strip().partition(",")
            yield key, value, line
