"""The thread that reports to the server: agent state at intervals, statuses and VRRP states when they differ.

Start reading at :meth:`Reporter.run`.
"""

from __future__ import annotations

import time

from oslo_log import log as logging

from dvr_agent.backoff import delay
from dvr_agent.desired.host_view import make_view
from dvr_agent.errors import NotSupportedError
from dvr_agent.model.router import Router
from dvr_agent.sources.api import DataPlane, JobReport
from dvr_agent.sources.neutron.api import ServerAwayError, ServerError
from dvr_agent.sources.neutron.crossing.report_inbox import Message, StatusesReceived
from dvr_agent.sources.neutron.crossing.shared import SharedParts
from dvr_agent.sources.neutron.report.agent_state import agent_state
from dvr_agent.sources.neutron.report.deleted_ports import with_deleted_port
from dvr_agent.sources.neutron.report.fip_statuses import DOWN, FipStatuses
from dvr_agent.sources.neutron.report.ha_states import HaStates

LOG = logging.getLogger(__name__)

REVIVED = "revived"
"""neutron_lib.agent.constants AGENT_REVIVED: the server had taken this agent for dead."""


class Reporter:
    """The thread's main loop and its work.  Other threads only construct it."""

    def __init__(self, shared: SharedParts) -> None:
        self._shared, self._options = shared, shared.options
        self._plugin, self._inbox, self._server = shared.plugin, shared.report_inbox, shared.server
        self._statuses = FipStatuses(shared.host, self._newest)
        self._ha_states = HaStates(shared.host.vrrp.interval)
        self._ha_at = 0.0
        self._ha_failures = 0
        self._report_at = 0.0
        self._report_failures = 0
        self._send_at = 0.0
        self._send_failures = 0
        self._refused: dict[str, tuple[float, int]] = {}
        """Router id → when (monotonic) its statuses may be sent again, and how often the server refused them."""

    def run(self) -> None:
        """Report until the inbox is closed."""
        while not self._inbox.closed:
            try:
                self._do_due_work()
            except Exception:
                LOG.exception("reporting to neutron-server failed by an unexpected exception: this is a bug")
                self._report_at = self._send_at = time.monotonic() + self._options.timing.retry_first
            self._shared.server.publish(statuses_not_sent=self._statuses.waiting())
            self._inbox.wait(self._next_time() - time.monotonic())

    def _do_due_work(self) -> None:
        for message in self._inbox.take():
            self._take(message)
        if time.monotonic() >= self._report_at:
            self._report()
        if time.monotonic() >= self._send_at and self._inbox.registered.is_set():
            self._send()
        if time.monotonic() >= self._ha_at and self._inbox.registered.is_set():
            self._send_ha_states()

    def _take(self, message: Message) -> None:
        if isinstance(message, JobReport):
            self._statuses.job_ended(message)
            self._ha_states.job_ended(message, time.monotonic())
            self._set_gateway_port_ref(message)
        elif isinstance(message, StatusesReceived):
            self._statuses.received(message.router_id, message.statuses)
        else:
            self._statuses.document_unchanged(message.router_id)
        self._publish(message.router_id)

    def _publish(self, router_id: str) -> None:
        self._shared.fip_states.publish(router_id, self._statuses.states(router_id))

    def _next_time(self) -> float:
        """Return when work is due even if no message comes."""
        times = [self._report_at]
        due = self._statuses.due()
        if due and self._inbox.registered.is_set():
            first = min(self._refused.get(router_id, (0.0, 0))[0] for router_id in due)
            times.append(max(self._send_at, first))
        due_at = self._ha_states.next_time()
        if due_at is not None and self._inbox.registered.is_set():
            times.append(max(self._ha_at, due_at))
        return min(times)

    # Agent state

    def _report(self) -> None:
        registered = self._inbox.registered
        routers = self._shared.routers.all().values()
        state = agent_state(self._shared.host, self._options, routers, start=not registered.is_set())
        try:
            answer = self._plugin.report_state(state)
        except ServerError as exc:
            self._report_failed(exc)
            return
        self._report_at = time.monotonic() + self._options.report_interval
        failures, self._report_failures = self._report_failures, 0
        is_first = not registered.is_set()
        registered.set()
        self._server.call_answered()
        self._send_at = 0.0
        self._shared.server.publish(last_report=round(time.time(), 3))
        if answer == REVIVED:
            LOG.info("neutron-server had taken this agent for dead: full sync")
            self._shared.fetch_inbox.sync(self._options.jitter, recovered=True)
        elif failures and not is_first:
            self._shared.fetch_inbox.sync(self._options.jitter, recovered=True)

    def _report_failed(self, exc: ServerError) -> None:
        self._report_failures += 1
        seconds = delay(self._report_failures, self._options.timing.report_first, self._options.report_interval)
        self._report_at = time.monotonic() + seconds
        self._server.call_failed(f"report_state: {exc}")
        if not self._inbox.registered.is_set():
            self._shared.routers.fail(f"neutron-server: {exc}")

    # Floating IPs

    def _newest(self, router_id: str) -> Router | None:
        """Return the router of the newest good document."""
        stored = self._shared.routers.get(router_id)
        return stored.router if stored is not None else None

    def _set_gateway_port_ref(self, report: JobReport) -> None:
        if report.data_plane is DataPlane.FAILED:
            return
        network = self._gateway_network(report.router) if report.data_plane is DataPlane.IN_PLACE else None
        if self._shared.gateway_ports.set_network(report.router_id, network):
            self._shared.fetch_inbox.release()

    def _gateway_network(self, router: Router | None) -> str | None:
        """Return the external network whose agent gateway port the router uses on this host."""
        try:
            gateway = make_view(router, self._shared.host).agent_gateway if router is not None else None
        except NotSupportedError:
            return None
        return gateway.network_id if gateway is not None else None

    def _send(self) -> None:
        for router_id, statuses in self._statuses.due().items():
            at, refusals = self._refused.get(router_id, (0.0, 0))
            if self._inbox.closed or at > time.monotonic():
                continue
            if time.monotonic() >= self._report_at:
                return  # a report is due first; the loop comes back at once
            try:
                statuses |= self._down_without_port(router_id)
                self._plugin.update_floatingip_statuses(router_id, statuses)
            except ServerAwayError as exc:
                self._send_failures += 1
                self._send_at = time.monotonic() + self._delay(self._send_failures)
                self._server.call_failed(f"update_floatingip_statuses: {exc}")
                return
            except ServerError as exc:
                if not refusals:
                    LOG.warning("router %s: the server refuses its floating IP statuses: %s", router_id, exc)
                self._refused[router_id] = (time.monotonic() + self._delay(refusals + 1), refusals + 1)
                continue
            self._send_failures = 0
            self._server.call_answered()
            self._refused.pop(router_id, None)
            self._statuses.sent(router_id, statuses)
            self._publish(router_id)

    def _down_without_port(self, router_id: str) -> dict[str, str]:
        """Return DOWN for floating IPs that the server may not know to be this router's; none if it cannot be asked.

        :raises ServerAwayError: nobody answers
        """
        try:
            found = with_deleted_port(self._statuses.ports_to_check(router_id), self._plugin.bulk_pull)
        except ServerAwayError:
            raise
        except ServerError as exc:
            LOG.warning("router %s: floating IPs of deleted ports may stay ACTIVE at the server: %s", router_id, exc)
            return {}
        return dict.fromkeys(found, DOWN)

    # HA routers

    def _send_ha_states(self) -> None:
        """Send all states that are due at once, and further ones after an advertisement interval."""
        states = self._ha_states.due(time.monotonic())
        if not states:
            return
        try:
            self._plugin.update_ha_routers_states(states)
        except ServerError as exc:
            self._ha_failures += 1
            self._ha_at = time.monotonic() + self._delay(self._ha_failures)
            self._server.call_failed(f"update_ha_routers_states: {exc}")
            return
        self._ha_failures = 0
        self._ha_at = time.monotonic() + self._shared.host.vrrp.interval
        self._server.call_answered()
        self._ha_states.sent(states)

    def _delay(self, failures: int) -> float:
        return delay(failures, self._options.timing.retry_first, self._options.timing.retry_max)
