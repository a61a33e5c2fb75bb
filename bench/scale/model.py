"""One run of the model: all hosts of a site start, and ask until each has all its routers."""

from __future__ import annotations

import random
from dataclasses import dataclass

from bench.scale.clock import Clock
from bench.scale.costs import Costs, Site
from bench.scale.hosts import Cloud, Host, ReferenceHost
from bench.scale.server import THREADS, Load, Server

OURS, REFERENCE = "dvr-agent", "neutron-l3-agent"
LONGEST = 4 * 86400.0
"""Seconds after which a run is given up."""
AGENTS: dict[str, type[Host | ReferenceHost]] = {OURS: Host, REFERENCE: ReferenceHost}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run; times in seconds after the first host started.

    :ivar complete: all hosts had all routers when time was up
    """

    cloud: Cloud
    load: Load
    complete: bool

    def when(self, times: list[float], share: float, all_: int) -> float | None:
        """Return when a share of so many was reached, None: not at all."""
        need = max(1, round(share * all_))
        return sorted(times)[need - 1] if len(times) >= need else None


def run(
    agent: str,
    site: Site,
    costs: Costs | None = None,
    threads: int = THREADS,
    prefetch: int | None = None,
    seed: int = 15,
) -> Outcome:
    """Let all hosts of a site start, and time pass until nothing is left to do.

    :param seed: of the random parts of waits
    """
    random.seed(seed)
    clock = Clock()
    server = Server(clock, site.workers, threads, prefetch)
    cloud = Cloud(clock, server, costs or Costs(), site)
    for number in range(site.hosts):
        AGENTS[agent](cloud, number).start(site.boot * number / site.hosts)
    clock.run(LONGEST)
    return Outcome(cloud, server.load, len(cloud.synced) == site.hosts)
