"""Which statuses of floating IPs the server must be told.

What the kernel holds comes from settled jobs, what the server believes from its own documents and from what it was
told since; a difference is sent.  ACTIVE comes from the kernel only.  Belongs to the report thread.

A floating IP that is in the document no more is either free now or on another host: the server leaves those of other
hosts out of this host's documents (neutron.db.l3_dvr_db, _skip_floating_ip_for_mismatched_agent_or_host).  A DOWN from
here could then overwrite the ACTIVE from there.  Only the server can tell the two apart, and does: with any report
for a router, an empty one too, it sets those DOWN that were this router's and are nobody's now
(neutron.api.rpc.handlers.l3_rpc, update_floatingip_statuses).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView, make_view
from dvr_agent.errors import NotSupportedError
from dvr_agent.model.router import FloatingIp, Router
from dvr_agent.sources.api import Fate, Settled

ACTIVE, DOWN, ERROR = "ACTIVE", "DOWN", "ERROR"
"""neutron_lib.constants FLOATINGIP_STATUS_…"""


@dataclass(slots=True)
class _Routed:
    """One router.

    :ivar router: what the last settled job was about
    :ivar placed: floating IPs that the kernel holds, as far as we know
    :ivar want: floating IP id → what the server should say
    :ivar told: floating IP id → what it says; None before it said anything (a kept document is nothing it says now)
    :ivar clear: some are gone from the document: have the server look after those that are nobody's
    """

    router: Router | None = None
    placed: frozenset[str] = frozenset()
    want: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] | None = None
    clear: bool = False


class Statuses:
    """
    :param current: the router's newest good document
    """

    def __init__(self, settings: HostSettings, current: Callable[[str], Router | None]) -> None:
        self._settings, self._current = settings, current
        self._routers: dict[str, _Routed] = {}
        self._due: dict[str, None] = {}

    def heard(self, router_id: str, said: Mapping[str, str]) -> None:
        """A document of the server brought these statuses; what becomes of the document is not known yet."""
        self._routers.setdefault(router_id, _Routed()).told = dict(said)

    def unchanged(self, router_id: str) -> None:
        """The document heard of last says nothing new otherwise: no job will follow from it."""
        self._look(router_id)

    def settled(self, report: Settled) -> None:
        """A job ended."""
        if report.fate is Fate.LEFT_ALONE:
            self._drop(report.router_id)
            return
        state = self._routers.setdefault(report.router_id, _Routed())
        if report.router is None:
            if report.fate is Fate.ABSENT:
                self._removed(report.router_id, state)
            return
        try:
            view = make_view(report.router, self._settings)
        except NotSupportedError:
            self._drop(report.router_id)
            return
        self._judge(state, view, report.fate)
        state.router = report.router
        self._look(report.router_id)

    def due(self) -> dict[str, dict[str, str]]:
        """Router id → statuses to send, in the order in which they fell due; may be empty, see above."""
        return {router_id: self._differences(self._routers[router_id]) for router_id in self._due}

    def sent(self, router_id: str, statuses: Mapping[str, str]) -> None:
        """The server took these."""
        self._due.pop(router_id, None)
        state = self._routers.get(router_id)
        if state is None:
            return
        state.clear = False
        if state.told is not None:
            state.told.update(statuses)
        elif state.router is None:
            del self._routers[router_id]

    def waiting(self) -> int:
        """How many statuses the server was not told yet."""
        return sum(len(statuses) or 1 for statuses in self.due().values())

    def _judge(self, state: _Routed, view: HostView, fate: Fate) -> None:
        listed = {fip.id for fip in _listed(view)}
        if fate is Fate.IN_PLACE:
            placed = frozenset(fip.id for fip in (*view.local_fips, *view.central_fips))
            state.want = dict.fromkeys(sorted(placed), ACTIVE) | self._left_out(view, placed)
        elif fate is Fate.ABSENT:
            placed = frozenset()
            state.want = dict.fromkeys(sorted(self._ours(view)), DOWN)
        else:
            placed = state.placed
            failed = dict.fromkeys(sorted(self._ours(view) - placed), ERROR)
            state.want = {fip_id: status for fip_id, status in state.want.items() if fip_id in placed & listed} | failed
        if state.placed - listed and fate is not Fate.FAILED:
            state.clear = True
        state.placed = placed

    def _ours(self, view: HostView) -> set[str]:
        """Those that nobody but this host can speak for; one that migrates to this host is still the other's."""
        return {fip.id for fip in _listed(view) if self._is_ours(view, fip)}

    def _left_out(self, view: HostView, placed: frozenset[str]) -> dict[str, str]:
        """ERROR for those that cannot be built: their own document, or that of a port they need, does not let them."""
        return dict.fromkeys(sorted(self._ours(view) - placed), ERROR) if view.router.omitted else {}

    def _is_ours(self, view: HostView, fip: FloatingIp) -> bool:
        return view.snat_here if fip.is_central else fip.host == self._settings.host

    def _removed(self, router_id: str, state: _Routed) -> None:
        """The router is not of this host any more; its floating IPs are gone, or on other hosts."""
        if self._current(router_id) is not None:
            return  # back already: another job will follow
        clear = state.clear or bool(state.placed)
        self._drop(router_id)
        if clear:
            self._routers[router_id] = _Routed(clear=True)
            self._due[router_id] = None

    def _drop(self, router_id: str) -> None:
        self._routers.pop(router_id, None)
        self._due.pop(router_id, None)

    def _look(self, router_id: str) -> None:
        """See whether there is something to tell.  Not while a newer document waits for its job: what was true of the
        old one may be wrong by then."""
        state = self._routers.get(router_id)
        if state is None or state.router is None or self._current(router_id) is not state.router:
            self._due.pop(router_id, None)
        elif state.clear or self._differences(state):
            self._due[router_id] = None
        else:
            self._due.pop(router_id, None)

    @staticmethod
    def _differences(state: _Routed) -> dict[str, str]:
        told = state.told
        return {} if told is None else {fip: status for fip, status in state.want.items() if told.get(fip) != status}


def _listed(view: HostView) -> tuple[FloatingIp, ...]:
    """Floating IPs of the document, those that are left out too."""
    return (*view.router.floating_ips, *view.router.omitted_floating_ips)
