"""Keeps the garbage collector from stopping the hub.

A full collection looks at every container object while nothing else may run.  Hundreds of routers, with their documents
and remembered states, are a million objects: a tenth of a second.  They live long and have no cycles, so they need
not be looked at: now and then what is alive is collected once and then frozen, that is, left out from then on.  Frozen
objects are still freed when their last reference goes; only a cycle among them would stay.
"""

from __future__ import annotations

import gc

EVERY = 20
"""Routers whose objects are frozen together: so few that a collection of them takes some milliseconds."""


class Heap:
    """Counts what makes the heap grow."""

    def __init__(self) -> None:
        self._grown = 0

    def freeze(self) -> None:
        """Everything that is alive now is expected to live long."""
        gc.collect()
        gc.freeze()
        self._grown = 0

    def router_changed(self) -> None:
        """A router was built or changed: its document and state are new objects."""
        self._grown += 1
        if self._grown >= EVERY:
            self.freeze()
