"""What neutron-server says by itself: casts and one call, turned into the notifications of ``api``.

Topics, methods and arguments: neutron/api/rpc/agentnotifiers/l3_rpc_agent_api.py; ``network_update`` comes from
neutron/plugins/ml2/rpc.py.  As Neutron's own agent does, this listens on two topics, each with three queues: the
topic's, this host's, and one for fan-out.

oslo.messaging connects again by itself and makes its queues anew, but tells nobody: what was cast while there were no
queues is lost.  :class:`Listener` watches for that moment and says :class:`Reconnected`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import oslo_messaging

from dvr_agent.sources.neutron.api import (
    AgentUpdated,
    ArpEntry,
    ExternalNetworkGone,
    NetworkUpdated,
    Notification,
    Notify,
    Reconnected,
    RouterDeleted,
    RouterRemoved,
    RoutersUpdated,
)
from dvr_agent.sources.neutron.wire.oslo_options import hide

LOG = logging.getLogger(__name__)

AGENT_TOPIC = "l3_agent"
NETWORK_TOPIC = "q-agent-notifier-network-update"
VERSION = "1.4"
"""Of the interface that we offer; the server asks for 1.0 to 1.4 (neutron.agent.l3.agent.L3NATAgent)."""
COMPLAINTS = 100
"""So many kinds of bad messages are logged as warnings."""
RETRY_SECONDS = (1.0, 2.0, 4.0)
STOP_CHECK_SECONDS = 0.5


class MalformedError(Exception):
    """A message without the arguments that its method has."""


class Endpoint:
    """What oslo.messaging calls: one method per kind of message.  Returns at once; nothing is done here.

    Arguments that we do not know are ignored: other versions of the server may have more.
    """

    target = oslo_messaging.Target(version=VERSION)

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._complaints: set[str] = set()
        self._count = 0

    def __getattr__(self, method: str) -> Callable[..., None]:
        """Any public name is a method: unknown ones are answered with NoSuchMethod, and make no traceback here."""
        if method.startswith(("_", "oslo_")):  # the library looks for names of its own
            raise AttributeError(method)
        handler = HANDLERS.get(method)

        @oslo_messaging.expected_exceptions(oslo_messaging.NoSuchMethod, MalformedError)  # type: ignore[untyped-decorator]
        def dispatch(_context: object, **args: Any) -> None:
            if handler is None:
                self._complain(method, "which this agent does not know")
                raise oslo_messaging.NoSuchMethod(method)
            try:
                notification = handler(args)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as exc:
                self._complain(method, f"that cannot be used: {type(exc).__name__}: {exc}")
                raise MalformedError(f"{method}: {type(exc).__name__}: {exc}") from None
            if notification is not None:
                self._count += 1
                self._notify(notification)

        return dispatch  # type: ignore[no-any-return]

    def _complain(self, method: str, what: str) -> None:
        known = method in self._complaints or len(self._complaints) >= COMPLAINTS
        self._complaints.add(method) if not known else None
        LOG.log(logging.DEBUG if known else logging.WARNING, "the server sent a message %s %s", method[:80], what[:200])


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r:.80} is no text")
    return value


def _routers(ids: object) -> RoutersUpdated | None:
    """Ids; very old servers sent the routers themselves."""
    if not isinstance(ids, list | tuple):
        raise TypeError("router ids are no list")
    found = tuple(_text(one["id"] if isinstance(one, dict) else one) for one in ids)
    return RoutersUpdated(found) if found else None


def _arp(payload: dict[str, Any], present: bool) -> ArpEntry | None:
    entry = payload["arp_table"]
    fields = (payload["router_id"], entry["subnet_id"], entry["ip_address"], entry["mac_address"])
    router_id, subnet_id, address, mac = map(_text, fields)
    return ArpEntry(router_id, subnet_id, address, mac, present)


def _agent(payload: dict[str, Any]) -> AgentUpdated:
    up = payload["admin_state_up"]
    if not isinstance(up, bool):
        raise TypeError("admin_state_up is no boolean")
    return AgentUpdated(up)


def _network(network: dict[str, Any]) -> NetworkUpdated:
    mtu = network.get("mtu")
    return NetworkUpdated(_text(network["id"]), mtu if isinstance(mtu, int) and mtu > 0 else None)


HANDLERS: dict[str, Callable[[dict[str, Any]], Notification | None]] = {
    "routers_updated": lambda args: _routers(args["routers"]),
    "router_added_to_agent": lambda args: _routers(args["payload"]),
    "router_deleted": lambda args: RouterDeleted(_text(args["router_id"])),
    "router_removed_from_agent": lambda args: RouterRemoved(_text(args["payload"]["router_id"])),
    "add_arp_entry": lambda args: _arp(args["payload"], True),
    "del_arp_entry": lambda args: _arp(args["payload"], False),
    "fipnamespace_delete_on_ext_net": lambda args: ExternalNetworkGone(_text(args["ext_net_id"])),
    "agent_updated": lambda args: _agent(args["payload"]),
    "network_update": lambda args: _network(args["network"]),
}


class Listener:
    """Consumes from start to close.

    :param ready: called once, when all queues exist for the first time
    """

    def __init__(
        self, transport: Any, host: str, notify: Notify, ready: Callable[[], None], secrets: tuple[str, ...] = ()
    ) -> None:
        self._transport, self._host, self._notify, self._ready = transport, host, notify, ready
        self._secrets = secrets
        self._endpoint = Endpoint(notify)
        self._servers: list[Any] = []
        self._connections: list[Any] = []
        self._incomplete: set[Any] = set()
        self._lock = threading.Lock()
        self._watched, self._closing = threading.Event(), threading.Event()
        self._reconnects = 0

    def start(self) -> None:
        """Returns at once; connecting goes on in the background until it works."""
        start_thread("neutron-listen", self._run)

    @property
    def connected(self) -> bool:
        """All queues exist, as far as anybody has noticed."""
        if not self._watched.is_set():
            return False
        return not self._incomplete and all(map(_is_alive, self._connections))

    def status(self) -> dict[str, Any]:
        return {
            "connected": self.connected,
            "notifications": self._endpoint._count,
            "reconnects": self._reconnects,
        }

    def close(self) -> list[threading.Thread]:
        """Begin to stop; gives the threads that do it.  They may hang while the broker is away."""
        self._closing.set()
        return [start_thread("neutron-stop", self._stop, server) for server in list(self._servers)]

    def _run(self) -> None:
        for topic in (AGENT_TOPIC, NETWORK_TOPIC):
            failures = 0
            while not self._closing.is_set() and not self._open(topic):
                self._closing.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
        if self._closing.is_set():
            return
        self._watched.set()
        LOG.info("listening to the message bus for host %s", self._host)
        self._ready()

    def _open(self, topic: str) -> bool:
        """Blocks while the broker is away.  One worker: notifications are told in the order in which they came."""
        target = oslo_messaging.Target(topic=topic, server=self._host)
        server = oslo_messaging.get_rpc_server(self._transport, target, [self._endpoint])
        try:
            server.start(override_pool_size=1)
        except Exception as exc:  # noqa: BLE001 - a refused login, a queue of other properties: many libraries' errors
            LOG.error("cannot listen on topic %s: %s", topic, hide(str(exc), self._secrets))
            return False
        self._servers.append(server)
        self._watch(server)
        return True

    def _watch(self, server: Any) -> None:
        """Have each new channel of this server's connection tell us; oslo.messaging has no public way to know of it.

        It makes the queues anew inside ``_set_current_channel``, so after that call they are there.
        """
        try:
            connection = server.listener._poll_style_listener.conn.connection
            renew, _alive = connection._set_current_channel, connection.channel.connection.connected
            # A stop is noticed between two polls; ten seconds is too late for a service manager.
            connection._poll_timeout = min(connection._poll_timeout, STOP_CHECK_SECONDS)
        except AttributeError:
            LOG.warning(
                "this version of oslo.messaging does not tell of reconnections: changes that are missed meanwhile are "
                "found by the next full sync only"
            )
            return

        def set_channel(channel: Any) -> None:
            if channel is None or channel is connection.channel:
                renew(channel)
                return
            self._incomplete.add(connection)
            renew(channel)
            self._complete(connection)

        connection._set_current_channel = set_channel
        self._connections.append(connection)

    def _complete(self, connection: Any) -> None:
        """The queues of a connection exist again.  Said once for all: when those of the last one do."""
        with self._lock:
            self._incomplete.discard(connection)
            if not self.connected or self._closing.is_set():
                return
            self._reconnects += 1
        LOG.info("connected to the message bus again")
        self._notify(Reconnected())

    def _stop(self, server: Any) -> None:
        try:
            server.stop()
            server.wait()
        except Exception as exc:  # noqa: BLE001 - the broker may be away: its queues expire by themselves
            LOG.debug("listener not closed: %s", hide(str(exc), self._secrets))


def _is_alive(connection: Any) -> bool:
    """The channel on which its queues were made is usable; a new one comes only with new queues."""
    channel = connection.channel
    inner = channel.connection if channel is not None else None
    return inner is not None and bool(inner.connected)


def start_thread(name: str, work: Callable[..., None], *args: object) -> threading.Thread:
    """A thread that does not keep the process alive."""
    thread = threading.Thread(target=work, args=args, name=name, daemon=True)
    thread.start()
    return thread
