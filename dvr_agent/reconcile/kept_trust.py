"""Trusts routers by what an earlier process of this agent vouched for, and by what was heard since (ADR 25).

The earlier process left the sockets of its events, in which the kernel has collected what happened meanwhile, and for
each trusted router a digest of its desired state.  Events come before the router's document here, so they are kept
until its first job knows what is desired: equal to what the kernel had, and contradicted by none of them.

Filled by :class:`dvr_agent.reconcile.drift.DriftJudge`; asked by :class:`dvr_agent.reconcile.trust.Trust`, which it is
a part of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from dvr_agent.attach.outer_ends import bridge_name, tap_name
from dvr_agent.desired import names
from dvr_agent.desired.build import DesiredRouter
from dvr_agent.kernel.drift_events import HOST, AnyEvent, Event
from dvr_agent.reconcile.contradictions import is_drift, is_up, ports_of, states_of, stems_of
from dvr_agent.state.digest import digest_of
from dvr_agent.state.link import Link, Port
from dvr_agent.state.namespace import NamespaceState

MANY = 256
"""Events of one router or namespace; with more of them it is read."""

_Place = tuple[str, str]
"""Namespace, and stem of the router whose slice it is about; empty: all of them."""


class KeptRouter(NamedTuple):
    """What is kept of a trusted router, in JSON.

    :ivar digest: of its desired state, which the kernel had
    :ivar marks: (address scope, mark) of its connections
    """

    digest: str
    marks: tuple[tuple[str, int], ...] = ()

    @classmethod
    def from_json(cls, found: Any) -> KeptRouter:
        """Read what :func:`json.loads` has made of one.

        :raises ValueError: it is none; TypeError likewise
        """
        digest, marks = found
        return cls(str(digest), tuple((str(scope), int(mark)) for scope, mark in marks))


class KeptTrust:
    """The routers that an earlier process trusted, until their first job.

    :param is_kept: says whether a namespace was heard without a gap since then
    """

    def __init__(self, routers: Mapping[str, KeptRouter], is_kept: Callable[[str], bool]) -> None:
        self._routers, self._is_kept = dict(routers), is_kept
        self._events: dict[_Place, list[AnyEvent]] = {}

    def __len__(self) -> int:
        return len(self._routers)

    def note(self, events: Iterable[AnyEvent]) -> None:
        """Keep events until the jobs of the routers that they may be about."""
        for event in events:
            for place in _places(event):
                kept = self._events.setdefault(place, [])
                if len(kept) < MANY:
                    kept.append(event)

    def take(self, router_id: str, state: DesiredRouter) -> bool:
        """Return True if the kernel has this desired state of a router, once; False: it has to be read."""
        kept = self._routers.pop(router_id, None)
        if kept is None or not all(self._is_kept(part.name) for part in states_of(state)):
            return False
        return kept.digest == digest(state) and not self._contradicted(router_id, state)

    def forget(self, router_id: str) -> None:
        """Forget a router: something has changed, or it has been read."""
        self._routers.pop(router_id, None)

    def _contradicted(self, router_id: str, state: DesiredRouter) -> bool:
        stem = names.router_stem(router_id)
        for part in states_of(state):
            for events in (self._events.get((part.name, ""), ()), self._events.get((part.name, stem), ())):
                if len(events) >= MANY or not all(isinstance(one, Event) and not is_drift(part, one) for one in events):
                    return True
        return any(self._outer_side_has_changed(port) for port in ports_of(state))

    def _outer_side_has_changed(self, port: Port) -> bool:
        taps = self._events.get((HOST, tap_name(port.port_id)), ())
        bridges = self._events.get((HOST, bridge_name(port.network_id)), ())
        # That the bridge is there and up is what is wanted.
        return bool(taps) or not all(is_up(event) for event in bridges)


def digest(state: DesiredRouter) -> str:
    """Return the digest of what the kernel has of a router."""
    shared = _digest_of_shared(state.base) if state.base is not None else None
    return digest_of(state.qrouter, state.slice, state.snat, shared)


@lru_cache(maxsize=16)
def _digest_of_shared(base: NamespaceState) -> str:
    """Return the digest of the shared part of a fip namespace, which is one object for all routers there."""
    return digest_of(base)


def _places(event: AnyEvent) -> Iterable[_Place]:
    """Return what an event is about; a link of the host goes by its name in place of a stem."""
    if not isinstance(event, Event) or event.item is None:
        return [(event.namespace, "")]
    if event.namespace == HOST:
        return [(HOST, event.item.name)] if isinstance(event.item, Link) else []
    return [(event.namespace, stem) for stem in stems_of(event)] or [(event.namespace, "")]
