"""RPC client: calls to neutron-server, bounded in time whatever the message bus does, with this project's errors.

oslo.messaging waits without end for an unreachable broker when it declares its reply queue.  So each call runs in a
thread ``rpc-<method>`` of its own, and the caller waits for its result at a queue, for a bounded time.  A thread costs
0.1 ms, a call 5 ms or more.

Methods, versions and argument names: neutron/agent/l3/agent.py (L3PluginApi), neutron/agent/rpc.py
(PluginReportStateAPI); the server's side is neutron/api/rpc/handlers/l3_rpc.py.
"""

from __future__ import annotations

import datetime
import logging
import queue
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import oslo_messaging

from dvr_agent.sources.neutron.api import Json, L3Plugin, RemoteError, ServerAwayError, ServerError, ServerTimeoutError
from dvr_agent.sources.neutron.wire.oslo_options import hide
from dvr_agent.sources.neutron.wire.readiness import BusReadiness
from dvr_agent.sources.neutron.wire.versioned_objects import plain
from dvr_agent.threads import start_thread

LOG = logging.getLogger(__name__)

AT_ONCE = 16
"""Limit of concurrent calls; the server has its own limit (rpc_workers), more would only wait there."""
SEND_SECONDS = 15.0
"""Grace for sending: two tries to connect, of 5 s each at most (kombu), and the pause between them."""
RETRIES = 1
FIELDS = ["id", "mtu"]
"""Fields of a network."""
DELIVERED = oslo_messaging.TransportOptions(at_least_once=True)
"""A message for which the broker has no queue is an error at once.  Until the server reconnects to a restarted broker
there is no queue, and without this option each call would wait for its time-out."""
TRACEBACK = "Traceback (most recent call last)"
ISO8601 = "%Y-%m-%dT%H:%M:%S.%f"
"""Neutron's format of times (neutron_lib.constants.ISO8601_TIME_FORMAT)."""


class Timeouts:
    """Seconds to wait for an answer, by method: doubled by a time-out, at least twice what the last answer took.

    Neutron doubles, too (neutron_lib.rpc), since a busy server must not get the same heavy question again and again: it
    works on what nobody waits for any more.  Answers in good time lower the time-out again, by half each.
    """

    def __init__(self, normal: float, maximum: float) -> None:
        self._normal, self._maximum = float(normal), float(max(normal, maximum))
        self._grown: dict[str, float] = {}

    def of(self, method: str) -> float:
        """Return the time-out of a method."""
        return self._grown.get(method, self._normal)

    def timed_out(self, method: str, waited: float) -> None:
        """Double the time-out that a call has waited for."""
        self._grown[method] = max(self.of(method), min(2 * waited, self._maximum))

    def answered(self, method: str, seconds: float) -> None:
        """Fit the time-out to an answer that took so long."""
        fitting = min(max(2 * seconds, self.of(method) / 2), self._maximum)
        if fitting > self._normal:
            self._grown[method] = fitting
        else:
            self._grown.pop(method, None)


CallResult = tuple[bool, Any]
"""True and the answer, or False and the exception."""


@dataclass(slots=True)
class CallTimes:
    """Response times of one method: number of answers, seconds of all, of the last, of the slowest."""

    number: int = 0
    seconds: float = 0.0
    last: float = 0.0
    slowest: float = 0.0

    def add(self, seconds: float) -> None:
        """Count an answer."""
        self.number += 1
        self.seconds += seconds
        self.last = seconds
        self.slowest = max(self.slowest, seconds)

    def status(self) -> dict[str, float]:
        """Return the numbers for the admin socket."""
        mean = self.seconds / self.number
        times = {"last": self.last, "mean": mean, "slowest": self.slowest, "total": self.seconds}
        return {"answers": self.number, **{name: round(seconds, 3) for name, seconds in times.items()}}


@dataclass
class RpcCaller:
    """Calls on one topic.  Any thread may call; it meets the ``rpc-`` thread at a SimpleQueue of the call's own.

    :ivar secrets: texts that must not appear in errors
    :ivar readiness: waited for before a call
    :ivar brokers: ``host:port`` of each, for messages
    """

    transport: Any
    topic: str
    timeouts: Timeouts
    secrets: tuple[str, ...]
    readiness: BusReadiness
    brokers: str
    _pending: set[queue.SimpleQueue[CallResult]] = field(default_factory=set)
    _slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_ONCE))
    _made: int = 0
    _failed: int = 0
    _failures: dict[str, int] = field(default_factory=dict)
    _last_error: str = ""
    _answered: dict[str, CallTimes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        target = oslo_messaging.Target(topic=self.topic, version="1.0")
        self._client = oslo_messaging.get_rpc_client(self.transport, target, retry=RETRIES)

    def call(self, method: str, target_version: str, /, **args: object) -> Any:
        """Call a method and wait for the answer.

        :raises ServerTimeoutError: the message was sent, and no answer came in time
        :raises ServerAwayError: the message could not be sent
        :raises RemoteError: the server answered with an exception
        """
        self._made += 1
        timeout = self.timeouts.of(method)
        began = time.monotonic()
        try:
            answer = self._bounded(method, target_version, timeout, args)
        except ServerError as exc:
            self._failed += 1
            self._failures[method] = self._failures.get(method, 0) + 1
            self._last_error = f"{method}: {exc}"
            if isinstance(exc, ServerTimeoutError):
                self.timeouts.timed_out(method, timeout)
            raise
        seconds = time.monotonic() - began
        self.timeouts.answered(method, seconds)
        self._answered.setdefault(method, CallTimes()).add(seconds)
        LOG.debug("%s: answered after %.1f ms", method, seconds * 1e3)
        return answer

    def status(self) -> dict[str, object]:
        """Return numbers of calls and response times by method."""
        times = {method: answered.status() for method, answered in list(self._answered.items())}
        failures = dict(self._failures)
        return {
            "made": self._made,
            "failed": self._failed,
            "failures": failures,
            "last_error": self._last_error,
            "seconds": times,
        }

    def close(self) -> None:
        """Raise ServerAwayError in all threads that wait for an answer."""
        for box in list(self._pending):
            box.put((False, ServerAwayError("the agent stops")))

    def _bounded(self, method: str, version: str, timeout: float, args: Mapping[str, object]) -> Any:
        deadline = time.monotonic() + timeout
        if not self.readiness.wait(timeout):
            raise ServerAwayError(f"the message bus at {self.brokers} cannot be reached")
        if not self._slots.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise ServerAwayError(f"{AT_ONCE} calls wait for the message bus at {self.brokers} already")
        box: queue.SimpleQueue[CallResult] = queue.SimpleQueue()
        self._pending.add(box)
        try:
            start_thread(f"rpc-{method}", self._run, box, method, version, timeout, args)
            worked, result = box.get(timeout=timeout + SEND_SECONDS)
        except queue.Empty:
            raise ServerAwayError(f"the message bus at {self.brokers} cannot be reached: the call is stuck") from None
        finally:
            self._pending.discard(box)
        if worked:
            return result
        raise self._translate(result) from None

    def _run(
        self, box: queue.SimpleQueue[CallResult], method: str, version: str, timeout: float, args: Mapping[str, object]
    ) -> None:
        try:
            client = self._client.prepare(version=version, timeout=timeout, transport_options=DELIVERED)
            box.put((True, client.call(_context(), method, **args)))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the caller raises it
            box.put((False, exc))
        finally:
            self._slots.release()

    def _translate(self, exc: Exception) -> ServerError:
        """Return this project's error for an exception of oslo.messaging; one of the server may be of any type."""
        if isinstance(exc, ServerError):
            return exc
        whole = hide(str(exc), self.secrets)
        if isinstance(exc, oslo_messaging.RemoteError):
            LOG.debug("remote exception: %s", whole)
            return RemoteError(hide(f"{exc.exc_type}: {_one_line(str(exc.value))}", self.secrets))
        first = hide(str(exc.args[0] if exc.args else ""), self.secrets)
        if TRACEBACK in first or type(exc).__name__.endswith("_Remote"):
            # Exceptions of Python and of oslo.messaging are rebuilt here; their first argument has the whole text.
            LOG.debug("remote exception: %s", first)
            text = first.partition(TRACEBACK)[0]
            return RemoteError(f"{type(exc).__name__.removesuffix('_Remote')}: {_one_line(text)}")
        if isinstance(exc, oslo_messaging.MessagingTimeout):
            return ServerTimeoutError(f"no answer came in time by the message bus at {self.brokers}")
        if isinstance(exc, oslo_messaging.MessageUndeliverable):
            return ServerAwayError(f"no server listens on {self.topic} of the message bus at {self.brokers}")
        LOG.debug("not sent: %s", whole)
        why = _one_line(whole) or type(exc).__name__
        where = "" if self.brokers in why else f" at {self.brokers}"
        return ServerAwayError(f"the message bus{where} cannot be used: {why}")


class L3PluginClient(L3Plugin):
    """Implements the interface by RPC.

    :param host: this host as Neutron knows it
    """

    def __init__(self, calls: RpcCaller, reports: RpcCaller, objects: RpcCaller, host: str) -> None:
        self._calls, self._reports, self._objects, self._host = calls, reports, objects, host

    def get_service_plugin_list(self) -> list[str]:
        """Call ``get_service_plugin_list``, version 1.3."""
        answer: list[str] = self._calls.call("get_service_plugin_list", "1.3")
        return answer

    def get_host_ha_router_count(self) -> int:
        """Call ``get_host_ha_router_count``, version 1.11."""
        count: int = self._calls.call("get_host_ha_router_count", "1.11", host=self._host)
        return count

    def update_all_ha_network_port_statuses(self) -> None:
        """Call ``update_all_ha_network_port_statuses``, version 1.10."""
        self._calls.call("update_all_ha_network_port_statuses", "1.10", host=self._host)

    def get_router_ids(self) -> list[str]:
        """Call ``get_router_ids``, version 1.9."""
        answer: list[str] = self._calls.call("get_router_ids", "1.9", host=self._host)
        return answer

    def sync_routers(self, router_ids: Sequence[str]) -> list[Json]:
        """Call ``sync_routers``, version 1.0."""
        answer: list[Json] = self._calls.call("sync_routers", "1.0", host=self._host, router_ids=list(router_ids))
        return answer

    def get_ports_by_subnet(self, subnet_id: str) -> list[Json]:
        """Call ``get_ports_by_subnet``, version 1.2."""
        answer: list[Json] = self._calls.call("get_ports_by_subnet", "1.2", host=self._host, subnet_id=subnet_id)
        return answer

    def get_agent_gateway_port(self, network_id: str) -> Json | None:
        """Call ``get_agent_gateway_port``, version 1.2."""
        port: Json | None = self._calls.call("get_agent_gateway_port", "1.2", network_id=network_id, host=self._host)
        return port

    def delete_agent_gateway_port(self, network_id: str) -> None:
        """Call ``delete_agent_gateway_port``, version 1.7."""
        self._calls.call("delete_agent_gateway_port", "1.7", host=self._host, network_id=network_id)

    def get_networks(self, network_ids: Sequence[str]) -> list[Json]:
        """Call ``get_networks``, version 1.12."""
        answer: list[Json] = self._calls.call("get_networks", "1.12", filters={"id": list(network_ids)}, fields=FIELDS)
        return answer

    def update_floatingip_statuses(self, router_id: str, statuses: Mapping[str, str]) -> None:
        """Call ``update_floatingip_statuses``, version 1.1."""
        self._calls.call("update_floatingip_statuses", "1.1", router_id=router_id, fip_statuses=dict(statuses))

    def update_ha_routers_states(self, states: Mapping[str, str]) -> None:
        """Call ``update_ha_routers_states``, version 1.5; neutron-l3-agent casts it, and learns of no failure."""
        self._calls.call("update_ha_routers_states", "1.5", host=self._host, states=dict(states))

    def bulk_pull(self, resource_type: str, version: str, filters: Mapping[str, object]) -> list[Json]:
        """Call ``bulk_pull`` of the resources' interface, version 1.1 (neutron/api/rpc/handlers/resources_rpc.py)."""
        args = {"resource_type": resource_type, "version": version, "filter_kwargs": dict(filters)}
        answer: list[Json] = plain(self._objects.call("bulk_pull", "1.1", **args))
        return answer

    def report_state(self, agent_state: Mapping[str, Any]) -> str | None:
        """Call ``report_state``, version 1.0."""
        now = datetime.datetime.now(datetime.UTC).strftime(ISO8601)
        state = {"agent_state": dict(agent_state)}
        answer: str | None = self._reports.call("report_state", "1.0", agent_state=state, time=now)
        return answer


def _context() -> dict[str, object]:
    """Return an administrator's request context, as the server's serializer reads it (neutron_lib.rpc)."""
    return {
        "is_admin": True,
        "user_id": None,
        "project_id": None,
        "roles": ["admin", "member", "reader"],
        "read_only": False,
        "show_deleted": False,
        "request_id": f"req-{uuid.uuid4()}",
        "timestamp": str(datetime.datetime.now(datetime.UTC).replace(tzinfo=None)),
    }


def _one_line(text: str) -> str:
    """Return the beginning of a text in one line: database errors come with pages of SQL."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 300 else flat[:299] + "…"
