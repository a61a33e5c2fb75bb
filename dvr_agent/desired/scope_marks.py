"""Packet marks of address scopes (``docs/dataplane.md``, "Address scopes").

The upper 16 bits of the mark hold a number per scope, 1024 for "no scope" (neutron.agent.l3.router_info,
ADDRESS_SCOPE_MARK_ID_MIN).  neutron-l3-agent numbers the others in processing order, so that they may change on restart
while saved connection marks do not; here each is a hash of the scope's id, the same on every host for ever.  Where a
router was taken over from neutron-l3-agent, its numbers stay, since tracked connections carry them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

SCOPE_MASK = 0xFFFF0000
LOW_MASK = 0xFFFF
_NO_SCOPE = 1024
_IDS = range(1025, 2048)


def known_marks(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Select the valid (scope id, mark) pairs of those found in the kernel; the first mark of a scope counts.

    Excludes marks that two scopes have, and marks that are no mark of a scope.

    :returns: scope id → mark
    """
    found: dict[str, int] = {}
    owners: dict[int, set[str]] = {}
    for scope, mark in pairs:
        found.setdefault(scope, mark)
        owners.setdefault(mark, set()).add(scope)
    return {
        scope: mark
        for scope, mark in found.items()
        if len(owners[mark]) == 1 and mark & ~SCOPE_MASK == 0 and mark >> 16 in _IDS
    }


def scope_marks(scopes: Iterable[str | None], known: Mapping[str, int] | None = None) -> dict[str | None, int]:
    """Compute a mark for each address scope, all different.

    Of two scopes of one router with the same hash (1 in 1,023 pairs) the second, in order of ids, gets the next free
    mark.

    :param known: marks that connections carry, and that are kept
    :returns: scope id (None: no scope) → mark
    """
    marks: dict[str | None, int] = {None: _NO_SCOPE << 16}
    taken: set[int] = {mark >> 16 for mark in (known or {}).values()}
    for scope in sorted({scope for scope in scopes if scope is not None}):
        if known and scope in known:
            marks[scope] = known[scope]
            continue
        offset = int.from_bytes(sha256(scope.encode()).digest()[:8]) % len(_IDS)
        number = next(
            _IDS[(offset + step) % len(_IDS)]
            for step in range(len(_IDS))
            if _IDS[(offset + step) % len(_IDS)] not in taken
        )
        taken.add(number)
        marks[scope] = number << 16
    return marks
