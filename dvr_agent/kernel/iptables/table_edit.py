"""Compute the steps that turn a table as it was read into the desired one (:func:`edit_script`).  Pure.

Only rules that differ are deleted and inserted, since a rule that stays keeps its counters: old and new rules are
matched by a longest common subsequence.  :mod:`.manager` carries the steps out, in the order of the fields of
:class:`Edit`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

from dvr_agent.kernel.iptables.table_decoder import JumpAt, Snapshot
from dvr_agent.state.filter import FilterRule, Jump, Table
from dvr_agent.state.sequences import common_ends

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edit:
    """Steps, to be taken in this order.

    :ivar deletes: (chain, position): each counts after those before it were done
    :ivar flushes: chains to be emptied, since they go
    :ivar creates: new chains
    :ivar inserts: (chain, position, rule): each counts after those before it were done
    :ivar drops: chains to be deleted; the same as ``flushes``, once no rule leads to them any more
    """

    deletes: tuple[tuple[str, int], ...] = ()
    flushes: tuple[str, ...] = ()
    creates: tuple[str, ...] = ()
    inserts: tuple[tuple[str, int, FilterRule], ...] = ()

    @property
    def drops(self) -> tuple[str, ...]:
        """Chains to be deleted."""
        return self.flushes

    def __bool__(self) -> bool:
        return bool(self.deletes or self.flushes or self.creates or self.inserts)


def edit_script(snapshot: Snapshot, desired: Table) -> Edit:
    """Compute the steps from the table as it was read to the desired one."""
    now = {chain.name: chain.rules for chain in snapshot.table.chains}
    want = {chain.name: chain.rules for chain in desired.chains}
    deletes: list[tuple[str, int]] = []
    inserts: list[tuple[str, int, FilterRule]] = []
    for name, rules in want.items():
        gone, new = edit_list(now.get(name, ()), rules)
        deletes += [(name, position) for position in gone]
        inserts += [(name, position, rule) for position, rule in new]
    for builtin in sorted({jump.builtin for jump in snapshot.jumps} | {builtin for builtin, _chain in desired.jumps}):
        aims = tuple(chain for found, chain in desired.jumps if found == builtin)
        gone, jumps = _edit_jumps([jump for jump in snapshot.jumps if jump.builtin == builtin], aims, want.keys())
        deletes += [(builtin, position) for position in gone]
        inserts += [(builtin, position, FilterRule(Jump(chain))) for position, chain in jumps]
    return Edit(
        tuple(deletes),
        tuple(name for name in now if name not in want),
        tuple(name for name in want if name not in now),
        tuple(inserts),
    )


def edit_list(old: Sequence[T], new: Sequence[T]) -> tuple[list[int], list[tuple[int, T]]]:
    """Compute deletions (last position first), then insertions (first position first), from ``old`` to ``new``.

    Items that stay are a longest common subsequence of both lists.
    """
    if len(old) == len(new) and old == new:
        return [], []
    head, tail = common_ends(old, new)
    pairs = _common(old[head : len(old) - tail], new[head : len(new) - tail])
    kept_old = {head + position for position, _ in pairs}
    kept_new = {head + position for _, position in pairs}
    gone = [at for at in range(len(old) - tail - 1, head - 1, -1) if at not in kept_old]
    added = [(at, new[at]) for at in range(head, len(new) - tail) if at not in kept_new]
    return gone, added


def _common(old: Sequence[T], new: Sequence[T]) -> list[tuple[int, int]]:
    """Find a longest common subsequence, as pairs of positions (Hunt and Szymanski 1977).

    Takes (r + n) log n steps for r pairs of equal items; rules are nearly all different, so r is about n.
    """
    if not old or not new:
        return []
    places: dict[T, list[int]] = {}
    for position in range(len(new) - 1, -1, -1):  # last first, so that one old item is used once
        places.setdefault(new[position], []).append(position)
    ends: list[int] = []  # ends[k]: the smallest last position of a common subsequence of length k + 1
    chains: list[tuple[int, int, object]] = []  # the pairs of that subsequence, linked backwards
    for at, item in enumerate(old):
        for position in places.get(item, ()):
            length = bisect_left(ends, position)
            link = (at, position, chains[length - 1] if length else None)
            if length == len(ends):
                ends.append(position)
                chains.append(link)
            else:
                ends[length] = position
                chains[length] = link
    pairs: list[tuple[int, int]] = []
    link_at: object = chains[-1] if chains else None
    while isinstance(link_at, tuple):
        at, position, link_at = link_at
        pairs.append((at, position))
    return pairs[::-1]


def _edit_jumps(
    jumps: Sequence[JumpAt], aims: Sequence[str], chains: Set[str]
) -> tuple[list[int], list[tuple[int, str]]]:
    """Compute the steps for the jumps of one built-in chain: each wanted jump once, none to a chain that is deleted.

    An existing jump stays where it is, even behind a rule that another program put before it; a missing jump is
    inserted right behind the wanted jump before it, or at the head.  Another program's rule that leads to a chain we
    keep stays.
    """
    kept: dict[str, int] = {}
    gone: list[int] = []
    for jump in jumps:
        if jump.plain and jump.chain in aims and jump.chain not in kept:
            kept[jump.chain] = jump.position
        elif jump.plain or jump.chain not in chains:
            gone.append(jump.position)
    inserts: list[tuple[int, str]] = []
    head = 0
    for chain in aims:
        if chain in kept:
            shift = len(inserts) - sum(position < kept[chain] for position in gone)
            head = max(head, kept[chain] + shift + 1)
        else:
            inserts.append((head, chain))
            head += 1
    return gone[::-1], inserts
