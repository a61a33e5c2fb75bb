"""Decodes the messages that neutron-server sends by itself (casts, and one call) to the notifications of ``api``.

Topics, methods and arguments: neutron/api/rpc/agentnotifiers/l3_rpc_agent_api.py; ``network_update`` comes from
neutron/plugins/ml2/rpc.py.  Runs in threads of oslo.messaging, one per topic: notifications stay in order.
"""

from __future__ import annotations

import logging
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
    ObjectsPushed,
    RouterDeleted,
    RouterRemoved,
    RoutersUpdated,
)
from dvr_agent.sources.neutron.wire.versioned_objects import NAME, plain

LOG = logging.getLogger(__name__)

VERSION = "1.4"
"""Version of this agent's interface; the server calls 1.0 to 1.4 (neutron.agent.l3.agent.L3NATAgent)."""
COMPLAINTS = 100
"""Limit of warnings about bad messages; further ones are logged at DEBUG."""


class MalformedError(Exception):
    """A message without the arguments that its method has."""


class Endpoint:
    """The object that oslo.messaging calls: one method per kind of message.  Each returns at once.

    Unknown arguments are ignored: other versions of the server may have more.

    :ivar count: number of notifications passed on
    """

    target = oslo_messaging.Target(version=VERSION)

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._complaints: set[str] = set()
        self.count = 0

    def __getattr__(self, method: str) -> Callable[..., None]:
        """Return a method for any public name: an unknown one answers NoSuchMethod, without a traceback in the log."""
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
                self.count += 1
                self._notify(notification)

        return dispatch  # type: ignore[no-any-return]

    def _complain(self, method: str, what: str) -> None:
        known = method in self._complaints or len(self._complaints) >= COMPLAINTS
        self._complaints.add(method) if not known else None
        LOG.log(logging.DEBUG if known else logging.WARNING, "the server sent a message %s %s", method[:80], what[:200])


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{'an empty text' if value == '' else type(value).__name__} where a text is expected")
    return value


def _routers(ids: object) -> RoutersUpdated | None:
    """Decode router ids; very old servers sent the routers themselves."""
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


def _push(args: dict[str, Any]) -> ObjectsPushed | None:
    """Decode a push; all objects of one message are of one type."""
    resources, event = args["resource_list"], _text(args["event_type"])
    if not isinstance(resources, list | tuple):
        raise TypeError("resource_list is no list")
    types = {_text(one[NAME]) for one in resources}
    if len(types) > 1:
        raise ValueError("objects of several types")
    return ObjectsPushed(types.pop(), event, tuple(plain(one) for one in resources)) if types else None


HANDLERS: dict[str, Callable[[dict[str, Any]], Notification | None]] = {
    "routers_updated": lambda args: _routers(args["routers"]),
    "router_added_to_agent": lambda args: _routers(args["payload"]),
    "router_deleted": lambda args: RouterDeleted(_text(args["router_id"])),
    "router_removed_from_agent": lambda args: RouterRemoved(_text(args["payload"]["router_id"])),
    "add_arp_entry": lambda args: _arp(args["payload"], True),
    "del_arp_entry": lambda args: _arp(args["payload"], False),
    "fipnamespace_delete_on_ext_net": lambda args: ExternalNetworkGone(_text(args["ext_net_id"])),
    "agent_updated": lambda args: _agent(args["payload"]),
    "push": _push,
    "network_update": lambda args: _network(args["network"]),
}
