"""Which addresses a router has in the kernel, as its jobs have left them.

A floating IP that goes from one router to another must not be given up before it is taken, and not at all while it
cannot be taken.  Part of the register of claims.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dvr_agent.desired.claims import ADDRESS, claims_here, kind_of
from dvr_agent.desired.host_view import HostView
from dvr_agent.reconcile.holdings import KernelHoldings


class Possessions:
    """The keys (``desired.claims``) of addresses that routers have."""

    def __init__(self, holdings: KernelHoldings) -> None:
        self._holdings = holdings
        self._views: dict[str, HostView] = {}
        """Router → what its last job has built: all of it."""
        self._keys: dict[str, frozenset[str]] = {}
        """Router whose last job was refused something → what it has."""

    def note(self, view: HostView, held: Collection[str] = ()) -> None:
        """Note what a job has built.

        :param held: addresses that were refused something: the router has them as before
        """
        router_id = view.router.id
        if not held:
            self._views[router_id] = replace(view)  # without the parts that it has computed, hardly ever needed
            self._keys.pop(router_id, None)
            return
        keys = _keys(view)
        refused = frozenset(key for key in keys if key.rpartition(" ")[2] in held)
        before = frozenset(key for key in refused if self.has(router_id, key, unless_noted=False))
        self._keys[router_id] = keys - refused | before
        self._views.pop(router_id, None)

    def has(self, router_id: str, key: str, unless_noted: bool) -> bool:
        """Return True if the router has an address.

        :param unless_noted: ask the kernel where no job of the router has ended yet; False: then it has none
        """
        if router_id in self._views:
            return key in _keys(self._views[router_id])
        if router_id in self._keys:
            return key in self._keys[router_id]
        return unless_noted and self._holdings.of(router_id).has(key, None)

    def forget(self, router_id: str) -> None:
        """Forget a router that has left the host."""
        self._views.pop(router_id, None)
        self._keys.pop(router_id, None)


def _keys(view: HostView) -> frozenset[str]:
    return frozenset(claim.key for claim in claims_here(view) if kind_of(claim.key) == ADDRESS)
