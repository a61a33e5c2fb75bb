"""Remembers which routers the kernel has as desired, vouched for by its events: what nobody has changed is not read.

A router is trusted while all of this holds: its namespaces were heard (:mod:`dvr_agent.kernel.drift_events`) since
before its last job read them or found them trusted; that job left nothing undone; and no event since then contradicts
its desired state.  Its next job then compares the new desired state with the last one, and reads nothing.

Events do not tell of everything.  Legacy tables are compared by table checks, which come often; parameters without
events, and the rest, by audits, which trust nothing.  HA routers are never trusted, since VRRP changes their addresses.

At a restart the trusted routers are handed to the next process (:mod:`.kept_trust`), which needs no job that reads.

Filled by the reconciler and by :class:`dvr_agent.reconcile.drift.DriftJudge`; without events it stays empty.  Part of
the host memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from dvr_agent.desired.build import DesiredRouter
from dvr_agent.reconcile.kept_trust import KeptTrust
from dvr_agent.state.address import has_ethernet_address, kernel_link_local
from dvr_agent.state.namespace import NamespaceState


class Vouched(NamedTuple):
    """What the kernel has of a router.

    :ivar state: equal to what would be read, but for what a comparison ignores
    :ivar hindrances: what stopped its traffic when its namespaces were last read
    """

    state: DesiredRouter
    hindrances: tuple[str, ...]


@dataclass(slots=True)
class _Entry:
    """What is known of one router.

    :ivar heard: its namespaces whose events are heard
    """

    heard: frozenset[str] = frozenset()
    vouched: Vouched | None = None


class Trust:
    """The trusted routers of one host.

    :ivar behind: events wait that were not looked at: nothing is trusted
    :ivar kept: what an earlier process trusted; None: nothing
    :ivar recognised: number of routers that were trusted for its sake
    :ivar hears_whole: says whether a namespace is heard since it is there
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self.behind = True
        self.kept: KeptTrust | None = None
        self.recognised = 0
        self.hears_whole: Callable[[str], bool] = lambda name: False

    def of(self, router_id: str) -> Vouched | None:
        """Return what the kernel has of a router, None if it has to be read."""
        entry = self._entries.get(router_id)
        return entry.vouched if entry is not None and not self.behind else None

    def recognise(self, router_id: str, state: DesiredRouter) -> Vouched | None:
        """Return what the kernel has of a router if an earlier process has vouched for this desired state."""
        entry = self._entries.get(router_id)
        if self.kept is None or self.behind or entry is None or not entry.heard.issuperset(names_of(state)):
            return None
        if not self.kept.take(router_id, state):
            return None
        self.recognised += 1
        return Vouched(state, ())  # a router with hindrances is not kept

    def all(self) -> Iterator[tuple[str, Vouched]]:
        """Yield the ids of all trusted routers, with what the kernel has of them."""
        for router_id, entry in self._entries.items():
            if entry.vouched is not None and not self.behind:
                yield router_id, entry.vouched

    def withdraw(self, router_id: str) -> None:
        """Trust a router no more until a job has read it: something has changed, or is about to."""
        entry = self._entries.get(router_id)
        if entry is not None:
            entry.vouched = None
        if self.kept is not None:
            self.kept.forget(router_id)
            if not len(self.kept):
                self.kept = None

    def withdraw_all(self) -> None:
        """Trust no router: events were lost."""
        for entry in self._entries.values():
            entry.vouched = None
        self.kept = None

    def vouch(self, router_id: str, vouched: Vouched, new: Collection[str] = ()) -> None:
        """Trust a router after a job that has made it, has read it or could trust it, if it was heard meanwhile.

        :param new: its namespaces that the job has made
        """
        state = vouched.state
        if state.shared_by_hosts is None and all(
            self.hears_whole(name) if name in new else self.hears(router_id, name) for name in names_of(state)
        ):
            self._entries.setdefault(router_id, _Entry()).vouched = vouched

    def hear(self, router_id: str, namespaces: Iterable[str]) -> None:
        """Note that events of these namespaces of a router are heard from now on, and no others; none: it has gone."""
        heard = frozenset(namespaces)
        if not heard:
            self.forget(router_id)
            return
        entry = self._entries.setdefault(router_id, _Entry())
        entry.heard = heard
        if entry.vouched is not None and not heard.issuperset(names_of(entry.vouched.state)):
            entry.vouched = None

    def hears(self, router_id: str, namespace: str) -> bool:
        """Return True if the events of a namespace of a router were heard before its present job began.

        Or before the namespace was there, which the job may have made.
        """
        entry = self._entries.get(router_id)
        return self.hears_whole(namespace) or (entry is not None and namespace in entry.heard)

    def forget(self, router_id: str) -> None:
        """Forget a router that has left the host."""
        self.withdraw(router_id)
        self._entries.pop(router_id, None)


def names_of(state: DesiredRouter) -> list[str]:
    """Return the names of a router's namespaces."""
    return [part.name for part in (state.qrouter, state.slice, state.snat) if part is not None]


def as_observed(desired: NamespaceState, has_ipv6: bool) -> NamespaceState:
    """Return a desired state that the kernel has as what an observation of it would return.

    :param has_ipv6: the kernel makes a link-local address for each device
    """
    if not has_ipv6:
        return desired
    places = {(one.device, one.ip) for one in desired.addresses}  # the kernel has an IPv6 address once on a device
    own = (kernel_link_local(link.name, link.mac) for link in desired.links if has_ethernet_address(link.mac))
    return replace(desired, link_locals=frozenset(one for one in own if (one.device, one.ip) not in places))
