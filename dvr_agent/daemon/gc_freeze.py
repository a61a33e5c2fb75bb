"""Freezes long-lived objects, so that the garbage collector does not stop the hub.

A full collection traverses every container object while nothing else may run.  Hundreds of routers, with their
documents and remembered states, are a million objects: a tenth of a second.  They live long and have no cycles, so they
need not be traversed: now and then all live objects are collected once and then frozen, that is, excluded from later
collections.  Frozen objects are still freed when their last reference goes; only a cycle among frozen objects stays.
"""

from __future__ import annotations

import gc

EVERY = 20
"""Router changes between two freezes: few, so that collecting their objects takes some milliseconds."""
YOUNG = 10_000
"""New objects after which the youngest are looked through; by default 700.

Most of a job's objects go with it, without the collector, which took a tenth of building a router with 1,000 floating
IPs: it looked through what is made step by step again and again.
"""


class GcFreeze:
    """Freezes the heap after every :data:`EVERY` router changes."""

    def __init__(self) -> None:
        self._grown = 0
        gc.set_threshold(YOUNG, *gc.get_threshold()[1:])

    def freeze(self) -> None:
        """Collect garbage, then freeze all live objects."""
        gc.collect()
        gc.freeze()
        self._grown = 0

    def router_changed(self) -> None:
        """Count a router that was built or changed: its document and state are new objects."""
        self._grown += 1
        if self._grown >= EVERY:
            self.freeze()


def end_start() -> None:
    """Freeze what the start has made, and have the garbage collector, which was off until now, collect from now on."""
    gc.freeze()
    gc.enable()
