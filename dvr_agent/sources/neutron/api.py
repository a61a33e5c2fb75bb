"""What passes between this host and a neutron-server: the calls we make, the notifications we get.

The wire side of both is in ``messaging``; here they have types, so that what is done with them can be read, and tested,
without a message bus.  Facts: neutron/agent/l3/agent.py and neutron/api/rpc/agentnotifiers/l3_rpc_agent_api.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dvr_agent.errors import SourceError

Json = dict[str, Any]


class ServerError(SourceError):
    """A call to the server did not work."""


class ServerAwayError(ServerError):
    """The message bus cannot be reached, or nobody answers on it.  The call may be repeated, or asked smaller."""


class ServerTimeoutError(ServerAwayError):
    """The message went out, and no answer came in time."""


class RemoteError(ServerError):
    """The server answered with an exception of its own."""


class L3Plugin(Protocol):
    """The server's L3 plugin, for this host.  Every method blocks, is safe to call from several threads, and raises
    :class:`ServerError` only.  Answers are what came off the bus: nothing in them was checked."""

    def get_service_plugin_list(self) -> list[str]: ...

    def get_host_ha_router_count(self) -> int: ...

    def get_router_ids(self) -> list[str]:
        """Ids of all routers of this host.  The server may schedule unhosted routers to us on this occasion."""

    def sync_routers(self, router_ids: Sequence[str]) -> list[Json]:
        """Router documents; one that is not (any more) of this host is left out.  The server binds ports meanwhile."""

    def get_ports_by_subnet(self, subnet_id: str) -> list[Json]: ...

    def get_agent_gateway_port(self, network_id: str) -> Json | None:
        """The agent gateway port of this host on an external network; the server makes it if there is none."""

    def delete_agent_gateway_port(self, network_id: str) -> None: ...

    def get_networks(self, network_ids: Sequence[str]) -> list[Json]:
        """``id`` and ``mtu`` of each."""

    def update_floatingip_statuses(self, router_id: str, statuses: Mapping[str, str]) -> None:
        """
        :param statuses: floating IP id → ACTIVE, DOWN or ERROR
        """

    def report_state(self, agent_state: Mapping[str, Any]) -> str | None:
        """Returns ``new``, ``alive`` or ``revived`` (neutron_lib.agent.constants); None from old servers."""


@dataclass(frozen=True, slots=True)
class RoutersUpdated:
    """``routers_updated`` (version 1.0 or 1.1), ``router_added_to_agent`` (the one call that waits for an answer)."""

    router_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RouterDeleted:
    """``router_deleted``: it exists no more; its id is never used again."""

    router_id: str


@dataclass(frozen=True, slots=True)
class RouterRemoved:
    """``router_removed_from_agent``: it is not of this host any more, for now."""

    router_id: str


@dataclass(frozen=True, slots=True)
class ArpEntry:
    """``add_arp_entry`` and ``del_arp_entry``, sent to all L3 agents, also of routers that are not here."""

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
    | Reconnected
)

Notify = Callable[[Notification], None]
"""Takes a notification; called in any thread, returns at once, never raises."""


class Bus(Protocol):
    """The message bus, as the source drives it."""

    @property
    def plugin(self) -> L3Plugin: ...

    def listen(self, notify: Notify) -> None:
        """Begin to consume notifications; returns at once, also when the bus cannot be reached: goes on trying."""

    def status(self) -> dict[str, Any]:
        """For the admin socket, JSON-ready: ``connected``, ``notifications`` (how many) …; nothing secret."""

    def close(self) -> None:
        """End threads and connections, within two seconds also when the bus is away."""
