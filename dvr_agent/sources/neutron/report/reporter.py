"""The thread that tells the server things: that this agent lives, and how its floating IPs are.

It is apart from the fetch thread so that a long full sync does not make the agent look dead.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from threading import Condition, Event
from typing import Any

from oslo_log import log as logging

from dvr_agent.backoff import delay
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.errors import NotSupportedError
from dvr_agent.model.router import Router
from dvr_agent.sources.api import Fate, Settled
from dvr_agent.sources.neutron.api import Json, L3Plugin, ServerAwayError, ServerError
from dvr_agent.sources.neutron.crossing.fetch_inbox import Requests
from dvr_agent.sources.neutron.crossing.gateway_port_refs import NetworkUses
from dvr_agent.sources.neutron.crossing.router_store import Store
from dvr_agent.sources.neutron.crossing.server_reachability import Contact
from dvr_agent.sources.neutron.options import NeutronOptions
from dvr_agent.sources.neutron.report.fip_statuses import Statuses
from dvr_agent.threads import make_thread

LOG = logging.getLogger(__name__)

REVIVED = "revived"
"""neutron_lib.agent.constants AGENT_REVIVED: the server had taken us for dead."""


class Reporter:
    """
    :ivar registered: set once the server has taken a report: before it does not know this agent, and lists nothing
    """

    def __init__(
        self,
        plugin: L3Plugin,
        settings: HostSettings,
        options: NeutronOptions,
        store: Store,
        requests: Requests,
        uses: NetworkUses,
        contact: Contact,
    ) -> None:
        self._plugin, self._settings, self._options = plugin, settings, options
        self._store, self._requests, self._uses, self._contact = store, requests, uses, contact
        self._statuses = Statuses(settings, store.router)
        self._changed = Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._closed = False
        self.registered = Event()
        self._report_at = 0.0
        self._report_failures = 0
        self._send_at = 0.0
        self._send_failures = 0
        self._refused: dict[str, tuple[float, int]] = {}
        """Router id → when (monotonic) its statuses may be sent again, and how often the server refused them."""
        self._status: dict[str, Any] = {"last_report": None, "statuses_not_sent": 0}
        self.thread = make_thread("neutron-report", self._main)

    # Any thread

    def settled(self, report: Settled) -> None:
        """A job ended; never blocks."""
        self._post(lambda: self._take_settled(report))

    def heard(self, router_id: str, statuses: Mapping[str, str]) -> None:
        """The server's document says this; to be called before the document is announced."""
        self._post(lambda: self._statuses.heard(router_id, statuses))

    def unchanged(self, router_id: str) -> None:
        """That document says nothing new otherwise."""
        self._post(lambda: self._statuses.unchanged(router_id))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.registered.set()

    def status(self) -> dict[str, Any]:
        """For the admin socket."""
        return self._status

    def _post(self, what: Callable[[], None]) -> None:
        with self._changed:
            self._inbox.append(what)
            self._changed.notify_all()

    # The thread

    def _main(self) -> None:
        while not self._closed:
            try:
                self._turn()
            except Exception:
                LOG.exception("reporting to neutron-server failed by an error that should not happen")
                self._report_at = self._send_at = time.monotonic() + self._options.timing.retry_first
            self._note_status()
            with self._changed:
                if not self._inbox and not self._closed:
                    self._changed.wait(max(0.0, self._next() - time.monotonic()))

    def _turn(self) -> None:
        with self._changed:
            inbox, self._inbox = self._inbox, deque()
        for what in inbox:
            what()
        if time.monotonic() >= self._report_at:
            self._report()
        if time.monotonic() >= self._send_at and self.registered.is_set():
            self._send()

    def _next(self) -> float:
        """When there is something to do without anybody saying so."""
        times = [self._report_at]
        due = self._statuses.due()
        if due and self.registered.is_set():
            first = min(self._refused.get(router_id, (0.0, 0))[0] for router_id in due)
            times.append(max(self._send_at, first))
        return min(times)

    # Heartbeats

    def _report(self) -> None:
        timing = self._options.timing
        try:
            answer = self._plugin.report_state(self._agent_state())
        except ServerError as exc:
            self._report_failures += 1
            seconds = delay(self._report_failures, timing.report_first, self._options.report_interval)
            self._report_at = time.monotonic() + seconds
            self._contact.lost(f"report_state: {exc}")
            if not self.registered.is_set():
                self._store.fail(f"neutron-server: {exc}")
            return
        self._report_at = time.monotonic() + self._options.report_interval
        failures, self._report_failures = self._report_failures, 0
        first = not self.registered.is_set()
        self.registered.set()
        self._contact.made()
        self._send_at = 0.0
        self._status = {**self._status, "last_report": round(time.time(), 3)}
        if answer == REVIVED:
            LOG.info("neutron-server had taken this agent for dead: full sync")
            self._requests.sync(self._options.jitter, back=True)
        elif failures and not first:
            self._requests.sync(self._options.jitter, back=True)

    def _agent_state(self) -> Json:
        """Keys and values as neutron-l3-agent reports them: scheduler and operators know it by these."""
        counts = self._store.counts()
        options = self._options
        state: Json = {
            "binary": "neutron-l3-agent",
            "host": self._settings.host,
            "agent_type": "L3 agent",
            "topic": "l3_agent",
            "availability_zone": options.availability_zone,
            "configurations": {
                "agent_mode": self._settings.mode.value,
                "handle_internal_only_routers": options.handle_internal_only_routers,
                "interface_driver": options.interface_driver,
                "log_agent_heartbeats": options.log_agent_heartbeats,
                "extensions": [],
                "routers": counts.routers,
                "ex_gw_ports": counts.ex_gw_ports,
                "interfaces": counts.interfaces,
                "floating_ips": counts.floating_ips,
            },
            "uuid": str(uuid.uuid4()),
        }
        if not self.registered.is_set():
            state["start_flag"] = True
        return state

    # Floating IPs

    def _take_settled(self, report: Settled) -> None:
        self._statuses.settled(report)
        if report.fate is not Fate.FAILED:
            network = self._network(report.router) if report.fate is Fate.IN_PLACE else None
            if self._uses.note(report.router_id, network):
                self._requests.release()

    def _network(self, router: Router | None) -> str | None:
        """The external network whose agent gateway port the router uses here."""
        try:
            gateway = make_view(router, self._settings).agent_gateway if router is not None else None
        except NotSupportedError:
            return None
        return gateway.network_id if gateway is not None else None

    def _send(self) -> None:
        for router_id, statuses in self._statuses.due().items():
            at, refusals = self._refused.get(router_id, (0.0, 0))
            if self._closed or at > time.monotonic():
                continue
            if time.monotonic() >= self._report_at:
                return  # a report is due first; the loop comes back at once
            try:
                self._plugin.update_floatingip_statuses(router_id, statuses)
            except ServerAwayError as exc:
                self._send_failures += 1
                self._send_at = time.monotonic() + self._delay(self._send_failures)
                self._contact.lost(f"update_floatingip_statuses: {exc}")
                return
            except ServerError as exc:
                if not refusals:
                    LOG.warning("router %s: the server refuses its floating IP statuses: %s", router_id, exc)
                self._refused[router_id] = (time.monotonic() + self._delay(refusals + 1), refusals + 1)
                continue
            self._send_failures = 0
            self._contact.made()
            self._refused.pop(router_id, None)
            self._statuses.sent(router_id, statuses)

    def _delay(self, failures: int) -> float:
        return delay(failures, self._options.timing.retry_first, self._options.timing.retry_max)

    def _note_status(self) -> None:
        """A new dictionary: other threads read the old one meanwhile."""
        self._status = {**self._status, "statuses_not_sent": self._statuses.waiting()}
