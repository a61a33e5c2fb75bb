"""One fail-over, measured by an instance's pings to the outside world and by a look at both nodes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.failover.causes import CAUSES
from tests.support.background import Background
from tests.support.cloud.ha import active, keepalived, other
from tests.support.cloud.host import Host
from tests.support.cloud.site import Instance, Site
from tests.support.probes import INTERVAL, Pinger
from tests.support.waiting import wait_for

LOOK = 0.1
"""Seconds between two looks at who holds the router."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What one fail-over cost.

    :ivar lost: pings without an answer, of 50 a second, until all was well again
    :ivar gap: seconds of the longest row of them
    :ivar taken: seconds until the other node held the router; None: it never did, the node went on
    :ivar masters: seconds in which both nodes held it
    :ivar known: seconds until the server knew the only active node
    """

    lost: int
    gap: float
    taken: float | None
    masters: float
    known: float


class Watch(Background):
    """Looks again and again at who holds a router."""

    def __init__(self, nodes: Sequence[Host], router: str) -> None:
        super().__init__()
        self._nodes, self._router = nodes, router
        self.seen: list[tuple[float, list[bool]]] = []

    def work(self) -> None:
        while not self.stop.wait(LOOK):
            self.seen.append((time.monotonic(), [node.holds(self._router) for node in self._nodes]))

    def first(self, node: Host) -> float | None:
        """When that node was first seen to hold it."""
        index = list(self._nodes).index(node)
        return next((at for at, holding in self.seen if holding[index]), None)

    def both(self) -> float:
        """Seconds in which both held it, by the time between looks."""
        pairs = zip(self.seen, self.seen[1:], strict=False)
        return sum(later[0] - earlier[0] for earlier, later in pairs if all(earlier[1]) and all(later[1]))


def fail_over(site: Site, nodes: Sequence[Host], instance: Instance, cause: str) -> Loss:
    """Inflict it on the active node; returns when one node is active again and everything runs."""
    serving = active(site, nodes)
    peer = other(serving, nodes)
    for node in nodes:  # the reference agent may take ten seconds for its first HA router
        wait_for(lambda node=node: keepalived(node, site.router), f"keepalived runs on {node.name}")
    instance.reaches(site.outside)
    with Pinger(instance.netns, site.outside) as pinger, Watch(nodes, site.router) as watch:
        pinger.run_for(50)
        began = time.monotonic()
        with CAUSES[cause](serving, site.router):
            if cause != "SIGKILL":
                # A killed keepalived may be back before its peer has missed it.
                wait_for(lambda: peer.holds(site.router), f"{peer.name} is active")
                pinger.run_for(100)
        active(site, nodes)
        known = time.monotonic() - began
        instance.reaches(site.outside)
        pinger.run_for(100)
    taken = watch.first(peer)
    return Loss(len(pinger.lost), longest(pinger.lost) * INTERVAL, taken and taken - began, watch.both(), known)


def longest(lost: Sequence[int]) -> int:
    """The longest row of consecutive numbers."""
    rows = groupby(enumerate(lost), key=lambda pair: pair[1] - pair[0])
    return max((len(list(row)) for _, row in rows), default=0)
