"""The interface to a neutron-server: calls to its L3 plugin, and its notifications, with types and without transport.

``wire`` implements it by oslo.messaging, tests by a scripted server.  Facts:
neutron/agent/l3/agent.py and neutron/api/rpc/agentnotifiers/l3_rpc_agent_api.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dvr_agent.errors import SourceError

Json = dict[str, Any]
BulkPull = Callable[[str, str, Mapping[str, object]], Sequence[Json]]
"""Asks for versioned objects by type, version and filters; returns their plain data, nested objects plain too."""


class ServerError(SourceError):
    """A call to the server failed."""


class ServerAwayError(ServerError):
    """The message bus cannot be reached, or no server answers on it.  The call may be repeated, or split."""


class ServerTimeoutError(ServerAwayError):
    """The message was sent, and no answer came in time."""


class RemoteError(ServerError):
    """The server answered with an exception of its own."""


class L3Plugin(Protocol):
    """The server's L3 plugin, for this host.  Every method blocks, is safe to call from several threads, and raises
    :class:`ServerError` only.  Answers are as they came off the bus: their content is not checked."""

    def get_service_plugin_list(self) -> list[str]:
        """Return the names of the server's service plugins."""

    def get_host_ha_router_count(self) -> int:
        """Return how many HA routers are scheduled to this host."""

    def update_all_ha_network_port_statuses(self) -> None:
        """Set the HA ports of this host DOWN; the L2 agent sets them ACTIVE again when they are wired."""

    def get_router_ids(self) -> list[str]:
        """Return the ids of all routers of this host.  The server may schedule unhosted ones here meanwhile."""

    def sync_routers(self, router_ids: Sequence[str]) -> list[Json]:
        """Return routers; those that are not of this host are left out.  The server binds ports meanwhile."""

    def get_ports_by_subnet(self, subnet_id: str) -> list[Json]:
        """Return all ports with a fixed IP in a subnet."""

    def get_agent_gateway_port(self, network_id: str) -> Json | None:
        """Return the agent gateway port of this host on an external network; the server makes it if there is none."""

    def delete_agent_gateway_port(self, network_id: str) -> None:
        """Delete the agent gateway port of this host on an external network."""

    def get_networks(self, network_ids: Sequence[str]) -> list[Json]:
        """Return ``id`` and ``mtu`` of each network."""

    def update_floatingip_statuses(self, router_id: str, statuses: Mapping[str, str]) -> None:
        """Set statuses of floating IPs.

        :param statuses: floating IP id → ACTIVE, DOWN or ERROR
        """

    def update_ha_routers_states(self, states: Mapping[str, str]) -> None:
        """Set this host's VRRP states of HA routers.

        :param states: router id → active or standby
        """

    def bulk_pull(self, resource_type: str, version: str, filters: Mapping[str, object]) -> list[Json]:
        """Return versioned objects: their plain data, nested objects plain too.

        :param filters: field → values that it may have
        """

    def report_state(self, agent_state: Mapping[str, Any]) -> str | None:
        """Report agent state; returns ``new``, ``alive`` or ``revived`` (neutron_lib.agent.constants).

        Old servers return None.
        """


@dataclass(frozen=True, slots=True)
class RoutersUpdated:
    """``routers_updated`` (version 1.0 or 1.1), ``router_added_to_agent`` (the one call that waits for an answer)."""

    router_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RouterDeleted:
    """``router_deleted``: the router exists no more; its id is never used again."""

    router_id: str


@dataclass(frozen=True, slots=True)
class RouterRemoved:
    """``router_removed_from_agent``: the router left this host; it may come back."""

    router_id: str


@dataclass(frozen=True, slots=True)
class ArpEntry:
    """``add_arp_entry`` and ``del_arp_entry``, sent to all L3 agents, also about routers of other hosts."""

    router_id: str
    subnet_id: str
    ip_address: str
    mac_address: str
    present: bool


@dataclass(frozen=True, slots=True)
class ExternalNetworkGone:
    """``fipnamespace_delete_on_ext_net``: no router has a gateway on this network any more."""

    network_id: str


@dataclass(frozen=True, slots=True)
class AgentUpdated:
    """``agent_updated``: the operator switched the agent on or off (admin_state_up)."""

    admin_state_up: bool


@dataclass(frozen=True, slots=True)
class NetworkUpdated:
    """``network_update`` on its own topic; ``mtu`` is None if the message had none."""

    network_id: str
    mtu: int | None


@dataclass(frozen=True, slots=True)
class ObjectsPushed:
    """``push``: versioned objects of one type were changed; sent to all agents, whatever router they are of.

    :ivar event: ``created``, ``updated`` or ``deleted``
    :ivar objects: their plain data
    """

    resource_type: str
    event: str
    objects: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The connection to the message bus was lost and is back: notifications may have been missed."""


Notification = (
    RoutersUpdated
    | RouterDeleted
    | RouterRemoved
    | ArpEntry
    | ExternalNetworkGone
    | AgentUpdated
    | NetworkUpdated
    | ObjectsPushed
    | Reconnected
)

Notify = Callable[[Notification], None]
"""Takes a notification; called in threads of the bus, returns at once, never raises."""


class Bus(Protocol):
    """The message bus, as the source uses it."""

    @property
    def plugin(self) -> L3Plugin:
        """Calls to the server."""

    def listen(self, notify: Notify, pushed: Iterable[tuple[str, str]] = ()) -> None:
        """Begin to consume notifications.  Returns at once; while the bus cannot be reached, connecting is retried.

        :param pushed: (type, version) of versioned objects whose changes are consumed too
        """

    def status(self) -> dict[str, Any]:
        """Return ``connected``, ``notifications`` (how many) … for the admin socket, JSON-ready, without secrets."""

    def close(self) -> None:
        """End threads and connections, within two seconds also when the bus cannot be reached."""
