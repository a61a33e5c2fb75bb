"""A neutron-server as agents see it: answers calls and sends casts over a real message bus, by oslo.messaging.

What it answers is set by the test (:class:`Cloud`, made from recordings or by hand); what it was asked is kept, message
by message as it came off the bus.  Answers can be held back, or replaced by errors.  It does not use any code of the
agent.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging.rpc.dispatcher import ExpectedException
from oslo_messaging.rpc.server import RPCServer

TOPICS = ("q-l3-plugin", "q-reports-plugin", "q-plugin")
VERSIONS = {"PortForwarding": "1.3", "QosPolicy": "1.10", "NDPProxy": "1.0", "ConntrackHelper": "1.0", "Port": "1.7"}
"""Versions of versioned objects that the agent asks for; Neutron 29 gives them."""
PATIENCE = 30.0
Json = dict[str, Any]
Fault = Callable[[Json], Any]
"""Gets the arguments of a call; returns the answer, raises, or waits."""


@dataclass(frozen=True)
class Call:
    """One call of an agent."""

    topic: str
    method: str
    version: str
    namespace: str | None
    args: Json
    context: Json
    at: float


@dataclass
class Cloud:
    """What the server knows, as one host's agent is told it.

    :ivar routers: id → document, of the routers of this host
    :ivar ports: subnet id → ports
    :ivar objects: type → versioned objects, plain
    :ivar gateway_ports: external network id → agent gateway port of this host
    """

    routers: dict[str, Json] = field(default_factory=dict)
    ports: dict[str, list[Json]] = field(default_factory=dict)
    gateway_ports: dict[str, Json] = field(default_factory=dict)
    mtus: dict[str, int] = field(default_factory=dict)
    objects: dict[str, list[Json]] = field(default_factory=dict)
    heartbeat: str = "alive"


class NeutronServer:
    """Runs from :meth:`start` to :meth:`stop`.

    :param url: of the message bus
    :ivar host: the agent that casts go to
    """

    def __init__(self, url: str, host: str = "") -> None:
        self.url, self.host, self.cloud = url, host, Cloud()
        self.calls: list[Call] = []
        self.faults: dict[str, Fault] = {}
        self._news = threading.Condition()
        # Connections belong to the network namespace of the thread that opens them: all are opened by threads that
        # come from :meth:`start`, and none by a test's thread, which may be on a throw-away host.
        self._mouth = ThreadPoolExecutor(1)
        self._servers: list[Any] = []

    def start(self) -> NeutronServer:
        conf = cfg.ConfigOpts()
        # Its own metrics and tracing options are registered on the global configuration only.
        for module, group in (("_metrics", "oslo_messaging_metrics"), ("_tracing", "oslo_messaging_tracing")):
            with contextlib.suppress(ImportError):
                client = __import__(f"oslo_messaging.{module}.client", fromlist=["client"])
                conf.register_opts(getattr(client, group), group=group)
        oslo_messaging.set_transport_defaults("neutron")
        self._transport = oslo_messaging.get_rpc_transport(conf, url=self.url)
        conf([], default_config_files=[], default_config_dirs=[])
        for name in ("rabbit_retry_backoff", "rabbit_interval_max"):
            conf.set_override(name, 1, group="oslo_messaging_rabbit")
        self._client = oslo_messaging.get_rpc_client(self._transport, oslo_messaging.Target(), timeout=PATIENCE)
        self._mouth.submit(time.monotonic).result()
        for topic in TOPICS:
            target = oslo_messaging.Target(topic=topic, server="controller")
            server = RPCServer(self._transport, target, _Dispatcher(topic, self._answer))
            server.start()
            self._servers.append(server)
        return self

    def reset(self, host: str) -> Cloud:
        """Forget everything; the new cloud, which is empty, for the agent on this host."""
        self.host, self.cloud = host, Cloud()
        self.calls.clear()
        self.faults.clear()
        return self.cloud

    def stop(self) -> None:
        for server in self._servers:
            server.stop()
            server.wait()
        self._servers.clear()
        self._mouth.shutdown()
        self._transport.cleanup()

    # What agents asked

    def asked(self, method: str, since: int = 0) -> list[Call]:
        """All calls of this method, from the ``since``-th call of any kind on."""
        return [call for call in self.calls[since:] if call.method == method]

    def wait_asked(self, method: str, since: int = 0, number: int = 1, **args: object) -> Call:
        """Wait until the ``number``-th call of this method with these arguments came; returns it."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while True:
                found = [call for call in self.asked(method, since) if args.items() <= call.args.items()]
                if len(found) >= number:
                    return found[number - 1]
                if not self._news.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no {method} {args}; asked: {[one.method for one in self.calls[since:]]}")

    @contextlib.contextmanager
    def fault(self, method: str, fault: Fault) -> Iterator[None]:
        """Inside the block calls of this method end like that."""
        self.faults[method] = fault
        try:
            yield
        finally:
            self.faults.pop(method, None)

    # What it says by itself

    def cast(self, method: str, version: str = "1.1", **args: object) -> None:
        """To the agent on our host."""
        target = self._client.prepare(topic="l3_agent", server=self.host, version=version)
        self._mouth.submit(target.cast, {}, method, **args).result()

    def call(self, method: str, **args: object) -> Any:
        """The same, and wait for an answer."""
        target = self._client.prepare(topic="l3_agent", server=self.host, version="1.0")
        return self._mouth.submit(target.call, {}, method, **args).result()

    def fanout(self, method: str, version: str = "1.0", topic: str = "l3_agent", **args: object) -> None:
        """To all agents."""
        target = self._client.prepare(topic=topic, fanout=True, version=version)
        self._mouth.submit(target.cast, {}, method, **args).result()

    def updated(self, *router_ids: str) -> None:
        self.cast("routers_updated", routers=list(router_ids))

    def push(self, event: str, resource_type: str, *objects: Json) -> None:
        """Changes of versioned objects, to all agents."""
        wrapped = [versioned(resource_type, one) for one in objects]
        topic = f"neutron-vo-{resource_type}-{VERSIONS[resource_type]}"
        self.fanout("push", "1.1", topic, resource_list=wrapped, event_type=event)

    def replay(self, message: Json) -> None:
        """A recorded message, in the way in which the server sends such a one."""
        method, version, args = message["method"], message["version"], message["args"]
        if message["expects_reply"]:
            self.call(method, **args)
        elif message["topic"] == "l3_agent" and method not in FANOUT:
            self.cast(method, version, **args)
        else:
            self.fanout(method, version, message["topic"], **args)

    # Answers

    def _answer(self, call: Call) -> Any:
        with self._news:
            self.calls.append(call)
            self._news.notify_all()
        fault = self.faults.get(call.method)
        if fault is not None:
            return fault(call.args)
        answer = getattr(self, f"_on_{call.method}", None)
        if answer is None:
            raise oslo_messaging.NoSuchMethod(call.method)
        return copy.deepcopy(answer(**call.args))

    def _on_report_state(self, agent_state: Json, time: str) -> str:
        assert agent_state.keys() == {"agent_state"}
        assert time
        return self.cloud.heartbeat

    def _on_get_service_plugin_list(self) -> list[str]:
        return ["CORE", "L3_ROUTER_NAT"]

    def _on_get_host_ha_router_count(self, host: str) -> int:
        return sum(bool(router.get("ha")) for router in self.cloud.routers.values())

    def _on_update_all_ha_network_port_statuses(self, host: str) -> None:
        assert host

    def _on_get_router_ids(self, host: str) -> list[str]:
        return list(self.cloud.routers)

    def _on_sync_routers(self, host: str, router_ids: list[str]) -> list[Json]:
        return [self.cloud.routers[one] for one in router_ids if one in self.cloud.routers]

    def _on_get_ports_by_subnet(self, host: str, subnet_id: str) -> list[Json]:
        return self.cloud.ports.get(subnet_id, [])

    def _on_get_agent_gateway_port(self, network_id: str, host: str) -> Json | None:
        return self.cloud.gateway_ports.get(network_id)

    def _on_delete_agent_gateway_port(self, host: str, network_id: str) -> None:
        pass

    def _on_get_networks(self, filters: Json, fields: list[str]) -> list[Json]:
        return [{"id": one, "mtu": self.cloud.mtus.get(one, 1500)} for one in filters["id"]]

    def _on_bulk_pull(self, resource_type: str, version: str, filter_kwargs: Json) -> list[Json]:
        if resource_type not in VERSIONS:
            raise KeyError(f"CallbackNotFound: {resource_type}")
        assert version == VERSIONS[resource_type]
        objects = self.cloud.objects
        known = objects.get(resource_type, [])
        if resource_type == "Port" and "Port" not in objects:
            known = [{"id": one} for one in filter_kwargs["id"]]
        return [
            versioned(resource_type, one)
            for one in known
            if all(one[field] in wanted for field, wanted in filter_kwargs.items())
        ]

    def _on_update_floatingip_statuses(self, router_id: str, fip_statuses: dict[str, str]) -> None:
        pass


def versioned(resource_type: str, data: Json) -> Json:
    """An object as oslo.versionedobjects writes it."""
    return {
        "versioned_object.name": resource_type,
        "versioned_object.namespace": "versionedobjects",
        "versioned_object.version": VERSIONS[resource_type],
        "versioned_object.data": data,
    }


FANOUT = ("router_deleted", "add_arp_entry", "del_arp_entry", "fipnamespace_delete_on_ext_net")


class _Dispatcher(oslo_messaging.RPCDispatcher):  # type: ignore[misc]
    """Hands each message to one function, with its version; errors of a test's making cost no traceback in the log."""

    def __init__(self, topic: str, answer: Callable[[Call], Any]) -> None:
        super().__init__([], None)
        self._topic, self._answer = topic, answer

    def dispatch(self, incoming: Any) -> Any:
        message = incoming.message
        call = Call(
            self._topic,
            message["method"],
            message.get("version", "1.0"),
            message.get("namespace"),
            message.get("args", {}),
            dict(incoming.ctxt),
            time.monotonic(),
        )
        try:
            return self._answer(call)
        except Exception:  # noqa: BLE001 - whatever the test raises goes to the agent
            raise ExpectedException from None
