"""Decode the bytes of a whole table into our part of it (:class:`Snapshot`).  Pure.

Input comes from :mod:`.reader`; the result goes to :mod:`.manager` and :mod:`.table_edit`.  :func:`digest_of` leaves
the counters out, so that a table in which only counters changed has the same digest; :class:`Snapshots` is the cache
of decoded tables by digest.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from dvr_agent.kernel.api import RuleCount
from dvr_agent.kernel.iptables.layout import (
    ERROR,
    EXTENSION,
    HOOKS,
    INFO,
    LAYOUTS,
    NAME_SIZE,
    OFFSETS,
    VERDICTS,
    Layout,
)
from dvr_agent.kernel.iptables.rule_codec import decode
from dvr_agent.kernel.l3_agent_chains import stale_chains
from dvr_agent.state.filter import (
    CHAIN_PREFIX,
    Chain,
    Family,
    FilterRule,
    Foreign,
    Jump,
    Table,
    TableKey,
    Target,
    Verdict,
)

COUNTERS = struct.Struct("=QQ")
"""``struct xt_counters``: packets, bytes."""
_VERDICT = struct.Struct("=i")
STANDARD_HEAD = b"\0"
_ERROR_HEAD = ERROR.encode() + b"\0"


@dataclass(frozen=True, slots=True)
class JumpAt:
    """A rule in a built-in chain that leads to a chain which the agent manages.

    These are its own, and stale chains of neutron-l3-agent, which it removes.

    :ivar position: from 0, among the rules of the built-in chain
    :ivar plain: the rule has no match, as the agent writes it; another program wrote a rule with matches
    """

    builtin: str
    position: int
    chain: str
    plain: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table as it was read.

    :ivar table: our part
    :ivar jumps: jumps to our chains, with their positions among the rules of other programs
    """

    table: Table
    jumps: tuple[JumpAt, ...] = ()


def shape_of_sizes(layout: Layout, sizes: Iterable[int]) -> struct.Struct:
    """Make the struct that cuts a table with entries of these sizes into the parts between the counters."""
    return _shape(layout.counters_at, layout.header_size, tuple(sizes))


@lru_cache(maxsize=1 << 12)
def _shape(counters_at: int, header_size: int, sizes: tuple[int, ...]) -> struct.Struct:
    gap = header_size - counters_at
    return struct.Struct("=" + "".join(f"{counters_at}s{gap}x{size - header_size}s" for size in sizes))


def digest_of(shape: struct.Struct, key: TableKey, entries: bytes) -> bytes:
    """Compute the digest of a table's content without counters.

    The shape may be an earlier one of the table.  If the digest equals one that was made with the right shape, then
    this shape is right too: the sizes of the entries, which lie between the counters, are the same from the first on.
    """
    return hashlib.sha256(b"".join((*shape.unpack(entries), b"%d%b" % (key[0], key[1].encode())))).digest()


class Snapshots:
    """Cache of decoded tables by digest.  Safe for several threads.

    The digest need not cover the offsets of the built-in chains, which the kernel reports apart from the entries: every
    entry names the hooks that lead to it (``comefrom``), so other offsets make other entries.

    :param size: number of tables; one takes a few hundred bytes, the rules in them are shared
    """

    def __init__(self, size: int = 1 << 14) -> None:
        self._size = size
        self._found: dict[bytes, Snapshot] = {}
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> Snapshot | None:
        """Return the decoded table with this digest, None if it is not in the cache."""
        with self._lock:
            snapshot = self._found.pop(digest, None)
            if snapshot is not None:
                self._found[digest] = snapshot  # the youngest again
            return snapshot

    def put(self, digest: bytes, snapshot: Snapshot) -> None:
        """Add a decoded table; the least recently used one is dropped when the cache is full."""
        with self._lock:
            self._found[digest] = snapshot
            while len(self._found) > self._size:
                del self._found[next(iter(self._found))]


class EntrySpan(NamedTuple):
    """Offsets of one x_tables entry in the bytes: its begin, its target, its end."""

    start: int
    target: int
    end: int


class RuleSpan(NamedTuple):
    """A rule of a chain of ours in the bytes of a table.

    :ivar aim: its verdict or jump; None: another target, whose bytes are in the entry
    """

    entry: EntrySpan
    aim: Target | None


class Structure(NamedTuple):
    """What does not differ between tables in which only addresses, devices, ports and marks of our rules differ.

    :ivar table: our part without the rules of its chains
    :ivar jumps: as in :class:`Snapshot`
    :ivar chains: our chains, sorted, with their rules
    :ivar entries: of the whole table
    """

    table: Table
    jumps: tuple[JumpAt, ...]
    chains: tuple[tuple[str, tuple[RuleSpan, ...]], ...]
    entries: Sequence[EntrySpan]

    def decode(self, blob: bytes) -> Snapshot:
        """Decode our part of a table that has this structure.

        :param blob: all entries of the table
        """
        family = self.table.family
        ip_size, header_size = LAYOUTS[family].ip_size, LAYOUTS[family].header_size
        chains = []
        for name, rules in self.chains:
            decoded = []
            for (start, target, end), aim in rules:
                ip, matches = blob[start : start + ip_size], blob[start + header_size : target]
                decoded.append(decode(family, ip, matches, blob[target:end] if aim is None else aim))
            chains.append(Chain(name, tuple(decoded)))
        bare = self.table
        return Snapshot(Table(family, bare.name, tuple(chains), bare.jumps, bare.dropping), self.jumps)


def structure_of(key: TableKey, info: bytes, blob: bytes) -> Structure:
    """Return the structure of a table.

    :param info: ``struct ipt_getinfo``, which has the offsets of the built-in chains
    :param blob: all entries of the table
    """
    family, name = key
    layout = LAYOUTS[family]
    entries = walk(layout, blob)
    chains = chains_of(info, blob, entries)
    heads = {found[0].start: chain for chain, found in chains.items()}
    managed = stale_chains(chains) | {chain for chain in chains if chain.startswith(CHAIN_PREFIX)}
    aims = {start: chain for start, chain in heads.items() if chain in managed}
    jumps: list[JumpAt] = []
    ours: list[tuple[str, tuple[RuleSpan, ...]]] = []
    for chain, found in chains.items():
        rules = found[:-1]  # the last entry is the policy
        if chain in HOOKS:
            jumps += _jumps(layout, blob, chain, rules, aims)
        elif chain in managed:
            ours.append((chain, tuple(RuleSpan(entry, _standard(blob, entry, heads)) for entry in rules)))
    plain = tuple(sorted((jump.builtin, jump.chain) for jump in jumps if jump.plain))
    policies = {chain: verdict_of(blob, found[-1]) for chain, found in chains.items() if chain in HOOKS}
    dropping = tuple(sorted(chain for chain, verdict in policies.items() if VERDICTS.get(verdict) == "DROP"))
    table = Table(family, name, (), plain, dropping)
    return Structure(table, tuple(jumps), tuple(sorted(ours, key=lambda one: one[0])), entries)


def decode_counts(key: TableKey, info: bytes, blob: bytes) -> Iterator[RuleCount]:
    """Yield the rules of our chains with their counters, chain by chain.

    :param info: ``struct ipt_getinfo``
    :param blob: all entries of the table
    """
    family, _name = key
    layout = LAYOUTS[family]
    chains = chains_of(info, blob, walk(layout, blob))
    heads = {found[0].start: chain for chain, found in chains.items()}
    for chain, found in chains.items():
        if chain.startswith(CHAIN_PREFIX):
            for entry in found[:-1]:  # the last entry is the policy
                packets, size = COUNTERS.unpack_from(blob, entry.start + layout.counters_at)
                yield RuleCount(_rule(family, layout, blob, entry, heads), packets, size)


def walk(layout: Layout, blob: bytes) -> list[EntrySpan]:
    """Return where each entry is."""
    found, at, offsets_at = [], 0, layout.offsets_at
    while at < len(blob):
        target, size = OFFSETS.unpack_from(blob, at + offsets_at)
        found.append(EntrySpan(at, at + target, at + size))
        at += size or len(blob)
    return found


def chains_of(info: bytes, blob: bytes, entries: list[EntrySpan]) -> dict[str, list[EntrySpan]]:
    """Return the entries of each chain, its policy last.

    A built-in chain begins at the offset of its hook, another one after the entry with its name.
    """
    _name, valid, *numbers = INFO.unpack(info)
    hooks = {numbers[hook]: HOOKS[hook] for hook in range(len(HOOKS)) if valid & 1 << hook}
    chains: dict[str, list[EntrySpan]] = {}
    current: list[EntrySpan] = []
    for entry in entries:
        if target_is(blob, entry, _ERROR_HEAD):
            current = chains.setdefault(_error_name(blob, entry), [])
            continue
        if entry.start in hooks:
            current = chains.setdefault(hooks[entry.start], [])
        current.append(entry)
    return {chain: found for chain, found in chains.items() if found}


def target_is(blob: bytes, entry: EntrySpan, head: bytes) -> bool:
    """True if the name of the entry's target begins with these bytes."""
    return blob.startswith(head, entry.target + 2)


def _error_name(blob: bytes, entry: EntrySpan) -> str:
    """Return the name of the chain that begins here (``struct xt_error_target``); ``ERROR`` at the end of the table."""
    at = entry.target + EXTENSION.size
    return blob[at : at + NAME_SIZE + 1].partition(b"\0")[0].decode(errors="replace")


def _jump_target(blob: bytes, entry: EntrySpan, heads: dict[int, str]) -> str | None:
    """Return the chain to which a standard target jumps or goes; a verdict has none."""
    if not target_is(blob, entry, STANDARD_HEAD):
        return None
    return heads.get(verdict_of(blob, entry))


def verdict_of(blob: bytes, entry: EntrySpan) -> int:
    """Return the number of a standard target: a verdict, or the offset that it jumps to."""
    return int(_VERDICT.unpack_from(blob, entry.target + EXTENSION.size)[0])


def _jumps(layout: Layout, blob: bytes, builtin: str, rules: list[EntrySpan], aims: dict[int, str]) -> list[JumpAt]:
    """Return the jumps to chains that the agent manages.

    :param aims: offset of the first entry → name of these chains
    """
    found = []
    for position, entry in enumerate(rules):
        chain = _jump_target(blob, entry, aims)
        if chain is not None:
            plain = _rule(layout.family, layout, blob, entry, aims) == FilterRule(Jump(chain))
            found.append(JumpAt(builtin, position, chain, plain))
    return found


def _rule(family: Family, layout: Layout, blob: bytes, entry: EntrySpan, heads: dict[int, str]) -> FilterRule:
    ip = blob[entry.start : entry.start + layout.ip_size]
    matches = blob[entry.start + layout.header_size : entry.target]
    return decode(family, ip, matches, _standard(blob, entry, heads) or blob[entry.target : entry.end])


def _standard(blob: bytes, entry: EntrySpan, heads: dict[int, str]) -> Target | None:
    """Return the verdict or jump of an entry; None: it has another target."""
    if not target_is(blob, entry, STANDARD_HEAD):
        return None
    verdict = verdict_of(blob, entry)
    if verdict in VERDICTS:
        return Verdict(VERDICTS[verdict])
    if verdict in heads:
        return Jump(heads[verdict])
    return Foreign(b"no target" if verdict == entry.end else b"verdict %d" % verdict)
