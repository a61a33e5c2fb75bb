"""A neutron-server for tests of the neutron source: answers in this process, counts questions, fails as told.

Routers are copies of a recorded one with ids of their own.  ``Desk`` drives a real source against it: real threads,
and waiting for what is to happen instead of sleeping.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.model.router import Router
from dvr_agent.sources.api import Changed, DataPlane, Event, Failed, JobReport, Synced
from dvr_agent.sources.neutron.api import Json, Notification, Notify
from dvr_agent.sources.neutron.options import NeutronOptions, Timing
from dvr_agent.sources.neutron.source import NeutronSource
from tests.support.recorded_documents import DOCUMENTS

HOST = "compute1"
PATIENCE = 20.0
"""Seconds after which a test gives up; nothing takes so long."""
QUICK = Timing(again=0.02, sync_first=0.02, sync_max=0.1, retry_first=0.02, retry_max=0.1, report_first=0.02)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def recorded(name: str) -> Json:
    """A recorded document: an envelope."""
    found: Json = json.loads((DOCUMENTS / f"{name}.json").read_text())
    return found


RECORDED = recorded(f"b2_dvr_snat_node_with_vms-{HOST}")
NETWORK = RECORDED["router"]["gw_port"]["network_id"]
GATEWAY_PORT = RECORDED["router"]["_floatingip_agent_interfaces"][0]
_SHARED = set(_UUID.findall(json.dumps([RECORDED["router"]["external_gateway_info"], GATEWAY_PORT])))


def envelope(number: int) -> Json:
    """The recorded router once more, with other ids; the external network is the same."""

    def other(match: re.Match[str]) -> str:
        old = match[0]
        return old if old in _SHARED else str(uuid.uuid5(uuid.UUID(old), str(number)))

    found: Json = json.loads(_UUID.sub(other, json.dumps(RECORDED)))
    return found


class Gate:
    """Holds a call: ``entered`` tells that it came, ``open`` lets it go on."""

    def __init__(self) -> None:
        self.entered, self._open = threading.Event(), threading.Event()

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        self.entered.set()
        assert self._open.wait(PATIENCE)

    def wait(self) -> None:
        assert self.entered.wait(PATIENCE)


class Server:
    """An L3 plugin."""

    def __init__(self) -> None:
        self.routers: dict[str, Any] = {}
        self.listed: list[Any] | None = None
        """What get_router_ids says; None: all routers."""
        self.ha_routers = 0
        """What get_host_ha_router_count says."""
        self.ports: dict[str, Any] = {}
        self.gateways: dict[str, Any] = {NETWORK: GATEWAY_PORT}
        self.mtus: dict[str, int] = {}
        self.objects: dict[str, list[Json]] = {}
        """Type → versioned objects, plain; without ``Port`` all ports exist but the deleted ones."""
        self.deleted_ports: set[str] = set()
        self.heartbeat: str | None = "alive"
        self.calls: list[tuple[str, Any]] = []
        self.answers: dict[str, Callable[[Any], Any]] = {}
        """Method → what to do instead of the ordinary thing."""
        self._changed = threading.Condition()
        self._faults: dict[str, list[Exception]] = {}
        self._gates: dict[str, Gate] = {}
        self._away: Exception | None = None

    # For tests

    def add(self, number: int, **changes: Any) -> str:
        """A router with its ports; returns its id."""
        found = envelope(number)
        router = {**found["router"], **changes}
        self.routers[router["id"]] = router
        self.ports.update(found["ports_by_subnet"])
        return str(router["id"])

    def fail(self, method: str, *errors: Exception) -> None:
        """The next calls of this method fail."""
        self._faults.setdefault(method, []).extend(errors)

    def away(self, error: Exception | None) -> Counter[str]:
        """All calls fail; None: no more.  Returns how often each method was called until then."""
        with self._changed:
            self._away = error
            return Counter(name for name, _ in self.calls)

    def hold(self, method: str) -> Gate:
        """The next call of this method waits at a gate, after its answer was made."""
        gate = self._gates[method] = Gate()
        return gate

    def of(self, method: str) -> list[Any]:
        """Arguments of all calls of this method so far."""
        with self._changed:
            return [args for name, args in self.calls if name == method]

    def wait(self, met: Callable[[], bool]) -> None:
        """Wait until something holds; looked at after each call."""
        with self._changed:
            assert self._changed.wait_for(met, PATIENCE), self.calls[-20:]

    def wait_calls(self, method: str, number: int) -> list[Any]:
        """Wait until the method was called so often (calls that failed count)."""
        self.wait(lambda: len([1 for name, _ in self.calls if name == method]) >= number)
        return self.of(method)

    def _answer(self, method: str, args: Any, ordinary: Callable[[], Any]) -> Any:
        with self._changed:
            self.calls.append((method, args))
            self._changed.notify_all()
            error = self._away or (self._faults[method].pop(0) if self._faults.get(method) else None)
            gate = self._gates.pop(method, None)
            special = self.answers.get(method)
        if error is not None:
            if gate is not None:
                gate.pass_through()
            raise error
        found = json.loads(json.dumps(special(args) if special is not None else ordinary()))
        if gate is not None:
            gate.pass_through()
        return found

    # The plugin

    def get_service_plugin_list(self) -> list[str]:
        found: list[str] = self._answer("get_service_plugin_list", None, lambda: ["CORE", "L3_ROUTER_NAT"])
        return found

    def get_host_ha_router_count(self) -> int:
        found: int = self._answer("get_host_ha_router_count", None, lambda: self.ha_routers)
        return found

    def update_all_ha_network_port_statuses(self) -> None:
        self._answer("update_all_ha_network_port_statuses", None, lambda: None)

    def get_router_ids(self) -> list[str]:
        listed = self.listed
        found: list[str] = self._answer(
            "get_router_ids", None, lambda: list(self.routers) if listed is None else listed
        )
        return found

    def sync_routers(self, router_ids: Sequence[str]) -> list[Json]:
        asked = list(router_ids)
        found: list[Json] = self._answer(
            "sync_routers", asked, lambda: [self.routers[router_id] for router_id in asked if router_id in self.routers]
        )
        return found

    def get_ports_by_subnet(self, subnet_id: str) -> list[Json]:
        found: list[Json] = self._answer("get_ports_by_subnet", subnet_id, lambda: self.ports.get(subnet_id, []))
        return found

    def get_agent_gateway_port(self, network_id: str) -> Json | None:
        found: Json | None = self._answer("get_agent_gateway_port", network_id, lambda: self.gateways.get(network_id))
        return found

    def delete_agent_gateway_port(self, network_id: str) -> None:
        self._answer("delete_agent_gateway_port", network_id, lambda: None)

    def get_networks(self, network_ids: Sequence[str]) -> list[Json]:
        ids = list(network_ids)
        found: list[Json] = self._answer(
            "get_networks", ids, lambda: [{"id": net, "mtu": self.mtus[net]} for net in ids if net in self.mtus]
        )
        return found

    def update_floatingip_statuses(self, router_id: str, statuses: Mapping[str, str]) -> None:
        self._answer("update_floatingip_statuses", (router_id, dict(statuses)), lambda: None)

    def update_ha_routers_states(self, states: Mapping[str, str]) -> None:
        self._answer("update_ha_routers_states", dict(states), lambda: None)

    def bulk_pull(self, resource_type: str, version: str, filters: Mapping[str, object]) -> list[Json]:
        def answer() -> list[Json]:
            wanted = {field: value if isinstance(value, list) else [value] for field, value in filters.items()}
            if resource_type == "Port" and "Port" not in self.objects:
                return [{"id": one} for one in wanted["id"] if one not in self.deleted_ports]
            found = self.objects.get(resource_type, [])
            return [one for one in found if all(one[field] in values for field, values in wanted.items())]

        found: list[Json] = self._answer("bulk_pull", (resource_type, version, dict(filters)), answer)
        return found

    def report_state(self, agent_state: Mapping[str, Any]) -> str | None:
        found: str | None = self._answer("report_state", dict(agent_state), lambda: self.heartbeat)
        return found


class FakeBus:
    """Notifications by hand."""

    def __init__(self, server: Server) -> None:
        self.plugin = server
        self.notify: Notify = lambda notification: None
        self.listening = self.closed = False

    def listen(self, notify: Notify, pushed: Iterable[tuple[str, str]] = ()) -> None:
        self.notify, self.listening, self.pushed = notify, True, list(pushed)

    def status(self) -> dict[str, Any]:
        return {"connected": True}

    def close(self) -> None:
        self.closed = True


def neutron_options(documents: Path) -> NeutronOptions:
    """The options of a source that does nothing by itself for a long time."""
    return NeutronOptions(
        resync_interval=1800,
        fallback_after=3600,
        jitter=0,
        report_interval=3600,
        availability_zone="nova",
        log_agent_heartbeats=False,
        handle_internal_only_routers=True,
        interface_driver="openvswitch",
        documents=documents,
        max_document_size=1 << 24,
    )


class Desk:
    """A source, and what came out of it.

    :ivar events: all events so far, in order
    """

    def __init__(self, server: Server, path: Path, mode: AgentMode = AgentMode.DVR_SNAT, **changes: Any) -> None:
        self.server, self.bus = server, FakeBus(server)
        options = replace(neutron_options(path), timing=QUICK)
        host = HostSettings(HOST, mode, extensions=frozenset(changes.pop("extensions", ())))
        self.source = NeutronSource(self.bus, host, replace(options, **changes))
        self.events: list[Event] = []
        self._seen = 0

    def take(self) -> None:
        """Take in what is there."""
        self.events += self.source.poll()

    def wait(self, met: Callable[[], object]) -> None:
        """Take in events until something holds."""
        while not met():
            ready, _, _ = select.select([self.source.fileno()], [], [], PATIENCE)
            assert ready, (self.events[-5:], self.server.calls[-20:])
            self.take()

    def next(self, kind: type[Any], router_id: str | None = None) -> Any:
        """The next event of this kind (about this router) that was not given yet; others before it are skipped."""
        while True:
            while self._seen < len(self.events):
                event = self.events[self._seen]
                self._seen += 1
                if isinstance(event, kind) and router_id in (None, about(event)):
                    return event
            self.wait(lambda: self._seen < len(self.events))

    def passed(self) -> None:
        """What is there already is not given by :meth:`next`."""
        self.take()
        self._seen = len(self.events)

    def sync(self) -> Synced:
        """Have a full sync made, and wait for its end."""
        self.passed()
        assert self.source.rescan() == []
        found: Synced = self.next(Synced)
        return found

    def since(self, number: int) -> list[Event]:
        """Events from a position on, for "nothing happened" after a :meth:`sync`."""
        return self.events[number:]

    def say(self, notification: Notification) -> None:
        self.bus.notify(notification)

    def router(self, router_id: str) -> Router:
        """What the source says about a router now."""
        found = self.source.document(router_id)
        assert found is not None
        return found.router

    def settle(
        self,
        router_id: str,
        data_plane: DataPlane = DataPlane.IN_PLACE,
        router: Router | None = None,
        gone: bool = False,
    ) -> None:
        """The daemon reports the end of a job on the newest document."""
        about = None if gone else router or self.router(router_id)
        reason = "the kernel refused" if data_plane is DataPlane.FAILED else ""
        self.source.job_ended(JobReport(router_id, data_plane, about, reason))

    def statuses(self, number: int) -> list[tuple[str, dict[str, str]]]:
        """Wait for so many status updates in all."""
        return self.server.wait_calls("update_floatingip_statuses", number)


def about(event: Event) -> str | None:
    """Whose event it is."""
    if isinstance(event, Changed):
        return event.document.router.id
    if isinstance(event, Synced | Failed):
        return None
    return event.router_id


@contextlib.contextmanager
def desk(server: Server, path: Path, **changes: Any) -> Iterator[Desk]:
    """A source that is closed in the end."""
    found = Desk(server, path, **changes)
    try:
        yield found
    finally:
        found.source.close()
