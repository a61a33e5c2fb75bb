"""Stops jobs at every write on the real kernel, and opens new connections through every address after each stop."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.reliability.api import Figure, Options
from bench.reliability.gate import StoppedError
from bench.reliability.ways import GATEWAYS, SCENARIOS, Site, Ways
from dvr_agent.model.router import Router

QUICK_SCENARIOS, QUICK_STRIDE = ("first floating IP", "local to central"), 4


class Trials:
    """The stops of one change.

    :ivar stops: how many there were
    :ivar connections: how many were opened after them
    :ivar half_way: those out through floating IPs that change sides, which had the gateway's address meanwhile
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.stops = self.connections = self.half_way = 0

    def run(self, name: str, stride: int) -> Iterator[str]:
        """Stop at each write, or at each so many; yields what went wrong."""
        site = self._site
        before, after = site.routers(SCENARIOS[name])
        old, new, writes = site.ends(before, after)
        with site.undisturbed(before, after):
            for number in range(1, writes + 1, stride):
                site.gate.close(stop_at=number)
                try:
                    site.make(after)
                except StoppedError:
                    yield from self._check(f"{name}, stopped before {site.gate.met}", old, new)
                site.restart()
                yield from self._heal(f"{name}, stopped before write {number}", after, new)
                site.make(before)
        site.make(None)

    def _check(self, what: str, old: Ways, new: Ways) -> Iterator[str]:
        self.stops += 1
        found = self._site.ways(old, new)
        self.connections += len(found)
        sides = old.changing_sides(new)
        for name, fault in found.faults(old, new):
            if name in sides and found.out.get(name) in GATEWAYS:
                self.half_way += 1
            else:
                yield f"{what}: {fault}"

    def _heal(self, what: str, after: Router | None, new: Ways) -> Iterator[str]:
        self._site.make(after)
        found = self._site.ways(new, new)
        yield from (f"{what}, then repeated: {fault}" for _, fault in found.faults(new, new))
        if after is not None and self._site.reconciler.planner.plan(after):
            yield f"{what}: the next try does not heal it"


def measure(options: Options) -> Figure:
    """Stop the jobs of each change."""
    wrong = list[str]()
    with tempfile.TemporaryDirectory(prefix="dvr-stopped-") as base, Site(Path(base)) as site:
        trials = Trials(site)
        names = QUICK_SCENARIOS if options.quick else tuple(SCENARIOS)
        for name in names:
            wrong += trials.run(name, QUICK_STRIDE if options.quick else 1)
    text = (
        f"{trials.stops:,} stops in {len(names)} kinds of changes: {len(wrong)} of {trials.connections:,} new "
        f"connections neither on the old path nor on the new one; {trials.half_way} out with the gateway's address "
        f"while their floating IP changed sides; {site.lost} of {site.sent:,} pings of others lost"
    )
    return Figure(text, not wrong and not site.lost and trials.stops > 0, (*wrong[:40], *site.losses))
