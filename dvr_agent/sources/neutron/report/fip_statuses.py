"""Decides which statuses of floating IPs must be sent to the server.  ``reporter`` sends them.

The wanted status follows from the end of jobs, the server's status from its answers and from what was sent since; a
difference is sent.  ACTIVE follows from the kernel only.

A floating IP that is no longer in the document is either unassociated or on another host: the server leaves floating
IPs of other hosts out of this host's answers (neutron.db.l3_dvr_db, _skip_floating_ip_for_mismatched_agent_or_host).  A
DOWN from this host could then overwrite the ACTIVE of the other.  Only the server can tell the two apart:

- with any update for a router, an empty one too, it sets floating IPs DOWN that were this router's and are unassociated
  now (neutron.api.rpc.handlers.l3_rpc, update_floatingip_statuses);
- it does not know that of all whose port was deleted (disassociate_floatingips in neutron.db.l3_db leaves
  last_known_router_id as it was).  So it is asked whether the port exists, and DOWN is sent if not: the port is deleted
  in the same transaction, while one that was moved still has its old port.

Floating IPs of port forwardings are in documents of all hosts, and the server never sets them DOWN: the host that has
built one does, when its last port forwarding is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dvr_agent.desired import floating_ips_here
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView, make_view
from dvr_agent.errors import NotSupportedError
from dvr_agent.model.router import Router
from dvr_agent.sources.api import DataPlane, JobReport

ACTIVE, DOWN, ERROR = "ACTIVE", "DOWN", "ERROR"
"""neutron_lib.constants FLOATINGIP_STATUS_…"""


@dataclass(slots=True)
class _RouterStatuses:
    """Floating IPs of one router.

    :ivar router: the document of the last job
    :ivar in_kernel: floating IPs that the kernel has, as far as jobs say
    :ivar wanted: floating IP id → status that the server should have
    :ivar server: floating IP id → status that the server has; None before its first answer (a cached document is none)
    :ivar forwarding: floating IPs of port forwardings among those in the kernel
    :ivar freed: floating IPs that have lost their last port forwarding, until the server has them as DOWN
    :ivar ports: floating IP id → port id (None: not known) of those that this host wants as ACTIVE or ERROR
    :ivar left: those of ``ports`` that have left the document since the last update: one must be sent even if it is
        empty, see the module
    """

    router: Router | None = None
    in_kernel: frozenset[str] = frozenset()
    wanted: dict[str, str] = field(default_factory=dict)
    server: dict[str, str] | None = None
    forwarding: frozenset[str] = frozenset()
    freed: frozenset[str] = frozenset()
    ports: dict[str, str | None] = field(default_factory=dict)
    left: dict[str, str | None] = field(default_factory=dict)

    def differences(self) -> dict[str, str]:
        """Return the statuses that the server should have and has not."""
        server = self.server
        if server is None:
            return {}
        return {fip_id: status for fip_id, status in self.wanted.items() if server.get(fip_id) != status}


class FipStatuses:
    """Compares wanted statuses with the server's.

    :param newest: returns the router of the newest good document
    """

    def __init__(self, settings: HostSettings, newest: Callable[[str], Router | None]) -> None:
        self._settings, self._newest = settings, newest
        self._routers: dict[str, _RouterStatuses] = {}
        self._due: dict[str, None] = {}

    def received(self, router_id: str, statuses: Mapping[str, str]) -> None:
        """Store the statuses in an answer of the server; a job on its document may follow."""
        self._routers.setdefault(router_id, _RouterStatuses()).server = dict(statuses)

    def document_unchanged(self, router_id: str) -> None:
        """Compare now, since no job follows from the answer that :meth:`received` stored."""
        self._compare(router_id)

    def job_ended(self, report: JobReport) -> None:
        """Set the wanted statuses by the report of a job, and compare."""
        if report.data_plane is DataPlane.LEFT_ALONE:
            self._drop(report.router_id)
            return
        state = self._routers.setdefault(report.router_id, _RouterStatuses())
        if report.router is None:
            if report.data_plane is DataPlane.ABSENT:
                self._removed(report.router_id, state)
            return
        try:
            view = make_view(report.router, self._settings)
        except NotSupportedError:
            self._drop(report.router_id)
            return
        self._set_wanted(state, view, report)
        state.router = report.router
        self._compare(report.router_id)

    def due(self) -> dict[str, dict[str, str]]:
        """Return the statuses to send by router id, oldest first; may be empty, see the module."""
        return {router_id: self._routers[router_id].differences() for router_id in self._due}

    def ports_to_check(self, router_id: str) -> dict[str, str]:
        """Return floating IP id → port id of those to be sent as DOWN, beside what is due, if the port is deleted."""
        left = self._routers[router_id].left
        elsewhere = {fip_id for state in self._routers.values() for fip_id in state.ports.keys() & left.keys()}
        return {fip_id: port_id for fip_id, port_id in left.items() if port_id and fip_id not in elsewhere}

    def sent(self, router_id: str, statuses: Mapping[str, str]) -> None:
        """Note that the server has accepted these statuses."""
        self._due.pop(router_id, None)
        state = self._routers.get(router_id)
        if state is None:
            return
        state.left = {}
        said = state.freed & statuses.keys()
        state.freed -= said
        state.wanted = {fip_id: status for fip_id, status in state.wanted.items() if fip_id not in said}
        if state.server is not None:
            state.server.update(statuses)
        elif state.router is None:
            del self._routers[router_id]

    def states(self, router_id: str) -> dict[str, dict[str, str | None]]:
        """Return floating IP id → status that the server should have (``wanted``), and that it has (``server``)."""
        state = self._routers.get(router_id)
        if state is None:
            return {}
        server = state.server or {}
        return {fip_id: {"wanted": status, "server": server.get(fip_id)} for fip_id, status in state.wanted.items()}

    def waiting(self) -> int:
        """Return how many statuses are not sent yet."""
        return sum(len(statuses) or 1 for statuses in self.due().values())

    def _set_wanted(self, state: _RouterStatuses, view: HostView, report: JobReport) -> None:
        listed, data_plane = _listed_ids(view), report.data_plane
        if data_plane is DataPlane.IN_PLACE:
            here = floating_ips_here.built_here(view)
            in_kernel = frozenset(fip_id for fip_id, address in here if address not in report.held) - report.left_out
            is_partial = view.router.omitted or report.held or report.left_out
            lacking = _lacking(view, in_kernel) if is_partial else {}
            state.freed = (state.freed | state.forwarding) - listed
            state.forwarding = in_kernel & {fip.id for fip in floating_ips_here.forwarding(view)}
            state.wanted = dict.fromkeys(sorted(in_kernel), ACTIVE) | lacking | dict.fromkeys(state.freed, DOWN)
        elif data_plane is DataPlane.ABSENT:
            in_kernel = frozenset()
            state.wanted = dict.fromkeys(sorted(floating_ips_here.reported_here(view)), DOWN)
        else:
            in_kernel = state.in_kernel
            failed = dict.fromkeys(sorted(floating_ips_here.reported_here(view) - in_kernel), ERROR)
            unchanged = in_kernel & listed
            state.wanted = {fip_id: status for fip_id, status in state.wanted.items() if fip_id in unchanged} | failed
        state.in_kernel = in_kernel
        self._set_ports(state, view, listed, is_failed=data_plane is DataPlane.FAILED)

    @staticmethod
    def _set_ports(state: _RouterStatuses, view: HostView, listed: set[str], is_failed: bool) -> None:
        """Note what has left the document; after a failed job it may still be in the kernel, and counts later."""
        known = {fip.id: fip.port_id for fip in floating_ips_here.listed(view)}
        here = state.in_kernel | {fip_id for fip_id, status in state.wanted.items() if status != DOWN}
        ports = {fip_id: known.get(fip_id, state.ports.get(fip_id)) for fip_id in here}
        if is_failed:
            state.ports |= ports
            return
        left = state.left | state.ports
        state.left = {fip_id: port_id for fip_id, port_id in left.items() if fip_id not in listed}
        state.ports = ports

    def _removed(self, router_id: str, state: _RouterStatuses) -> None:
        """Forget a router that left this host; its floating IPs are unassociated, or on other hosts."""
        if self._newest(router_id) is not None:
            return  # the router is back: another job follows
        left = state.left | state.ports
        self._drop(router_id)
        if left:
            self._routers[router_id] = _RouterStatuses(left=left)
            self._due[router_id] = None

    def _drop(self, router_id: str) -> None:
        self._routers.pop(router_id, None)
        self._due.pop(router_id, None)

    def _compare(self, router_id: str) -> None:
        """Note whether statuses must be sent.

        Never while a newer document waits for its job: the wanted statuses are those of the older document.
        """
        state = self._routers.get(router_id)
        if state is None or state.router is None or self._newest(router_id) is not state.router:
            self._due.pop(router_id, None)
        elif state.left or state.differences():
            self._due[router_id] = None
        else:
            self._due.pop(router_id, None)


def _listed_ids(view: HostView) -> set[str]:
    """Return the ids of the document's floating IPs, of all hosts."""
    return {fip.id for fip in floating_ips_here.listed(view)} | {fip.id for fip in view.router.features.forwarding_ips}


def _lacking(view: HostView, in_kernel: frozenset[str]) -> dict[str, str]:
    """Return ERROR for floating IPs that are not built: values, other routers or the kernel prevent it."""
    return dict.fromkeys(sorted(floating_ips_here.reported_here(view) - in_kernel), ERROR)
