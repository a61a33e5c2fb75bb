"""Notices fights: something else changes an object of ours again as often as it is repaired, or the repair is refused.

Plain data structure without eventlet and clock; belongs to the hub's thread.  A router in a fight is repaired after
growing waits, so that two programs that disagree do not keep the host busy, and traffic does not flap twice a second.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dvr_agent import backoff
from dvr_agent.kernel.port_owner import ENDED

WINDOW = 600.0
"""Seconds in which repairs of one object are counted."""
REPAIRS = 3
"""Repairs of one object in that time that make a fight."""
FIRST_WAIT, LONGEST_WAIT = 30.0, 600.0
"""Seconds between repairs of a router in a fight."""


class Repair(NamedTuple):
    """One object that was repaired, or could not be.

    :ivar thing: its identity on this host
    :ivar text: namespace and object, for people
    :ivar author: who had changed it, empty if that is not known
    :ivar refused: the kernel refused the repair
    :ivar details: texts of its parts, such as rules of a table
    """

    thing: Hashable
    text: str
    author: str = ""
    refused: bool = False
    details: tuple[str, ...] = ()

    @property
    def is_author_known(self) -> bool:
        """True if the program that changed it could be read, which a short-lived one may prevent by its end."""
        return bool(self.author) and ENDED not in self.author

    @property
    def by(self) -> str:
        """``, changed by …`` for a log line; empty if the author is not known."""
        return f", changed by {self.author}" if self.author else ""


@dataclass(slots=True)
class Fight:
    """A router in a fight.

    :ivar repair: the newest repair of a disputed object
    :ivar repairs: number of repairs of that object in :data:`WINDOW`
    :ivar until: clock reading at which the router's drift is repaired again
    """

    repair: Repair
    repairs: int
    until: float
    rounds: int = 1


@dataclass(slots=True)
class Fights:
    """All repairs of the last ten minutes, and the fights that they show."""

    _times: dict[str, dict[Hashable, list[float]]] = field(default_factory=dict)
    _fights: dict[str, Fight] = field(default_factory=dict)

    def repaired(self, router_id: str, repairs: Iterable[Repair], now: float) -> Fight | None:
        """Count repairs of a router, refused ones too; returns its fight if this began it, None otherwise."""
        self._clean_up(now)
        times = self._times.setdefault(router_id, {})
        worst: tuple[int, Repair] | None = None
        for repair in repairs:
            recent = [when for when in times.get(repair.thing, ()) if when > now - WINDOW]
            times[repair.thing] = [*recent, now]
            if len(recent) + 1 >= REPAIRS and (worst is None or len(recent) + 1 > worst[0]):
                worst = (len(recent) + 1, repair)
        if worst is None:
            return None
        fight = self._fights.get(router_id)
        begins = fight is None
        if fight is None:
            fight = self._fights[router_id] = Fight(worst[1], worst[0], now)
        else:
            fight.rounds += 1
        before, (fight.repairs, fight.repair) = fight.repair, worst
        if before.thing == fight.repair.thing and before.is_author_known and not fight.repair.is_author_known:
            fight.repair = fight.repair._replace(author=before.author)
        fight.until = now + backoff.delay(fight.rounds, FIRST_WAIT, LONGEST_WAIT)
        return fight if begins else None

    def wait(self, router_id: str, now: float) -> float:
        """Return the seconds until drift of a router is repaired again, 0 where it is repaired at once."""
        fight = self._fights.get(router_id)
        return 0.0 if fight is None else max(fight.until - now, 0.0)

    def _clean_up(self, now: float) -> None:
        """Forget repairs, and fights without a repair, of more than ten minutes ago."""
        for router_id, times in list(self._times.items()):
            fresh = {thing: when for thing, when in times.items() if when[-1] > now - WINDOW}
            if fresh:
                self._times[router_id] = fresh
            else:
                del self._times[router_id]
                self._fights.pop(router_id, None)

    def number(self, now: float) -> int:
        """Return the number of routers with a fight."""
        self._clean_up(now)
        return len(self._fights)

    def to_json(self, now: float) -> list[dict[str, object]]:
        """Return the fights for the status; ``next_repair`` counts seconds from now."""
        self._clean_up(now)
        return [
            {
                "router": router_id,
                "object": fight.repair.text,
                "repairs": fight.repairs,
                "refused": fight.repair.refused,
                "changed_by": fight.repair.author,
                "next_repair": round(max(fight.until - now, 0.0), 1),
            }
            for router_id, fight in sorted(self._fights.items())
        ]
