"""Packet marks of address scopes: which network an address scope's packets carry.

The upper 16 bits of the mark hold a number per scope, 1024 for "no scope" (neutron.agent.l3.router_info,
ADDRESS_SCOPE_MARK_ID_MIN).  The reference hands the others out in processing order, so that they may change on
restart while saved connection marks do not; here each is a hash of the scope's id, the same on every host for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

SCOPE_MASK = 0xFFFF0000
LOW_MASK = 0xFFFF
_NO_SCOPE = 1024
_IDS = range(1025, 2048)


def scope_marks(scopes: Iterable[str | None]) -> dict[str | None, int]:
    """Scope id (None: no scope) → mark, all different.

    Two scopes of one router whose hashes meet (1 in 1,023 pairs): the second, in order of ids, takes the next free one.
    """
    marks: dict[str | None, int] = {None: _NO_SCOPE << 16}
    taken: set[int] = set()
    for scope in sorted({scope for scope in scopes if scope is not None}):
        offset = int.from_bytes(sha256(scope.encode()).digest()[:8]) % len(_IDS)
        number = next(
            _IDS[(offset + step) % len(_IDS)]
            for step in range(len(_IDS))
            if _IDS[(offset + step) % len(_IDS)] not in taken
        )
        taken.add(number)
        marks[scope] = number << 16
    return marks
