"""Reads the few fields of a router that the source needs itself, and makes the JSON text of the router's document.

Nothing here trusts the shape of an answer: a value of another type is passed on as it is, and parsing reports its path.
Pure functions, for any thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import DocumentError
from dvr_agent.model import values
from dvr_agent.model.reader import Invalid, printable
from dvr_agent.model.router import IpNetwork
from dvr_agent.sources.neutron.api import Json
from dvr_agent.sources.neutron.objects import groups_by_key

ROUTER_OWNERS = (
    "network:router_interface",
    "network:router_interface_distributed",
    "network:router_centralized_snat",
)
"""``device_owner`` of interfaces and csnat ports (neutron_lib.constants.DEVICE_OWNER_ROUTER_INTF, …_DVR_INTERFACE,
…_ROUTER_SNAT)."""

_PORT_LISTS = ("_interfaces", "_snat_router_interfaces", "_floatingip_agent_interfaces")


PortIds = Mapping[str, frozenset[str]]
"""Subnet id → ids of ports."""


@dataclass(frozen=True, slots=True)
class RouterDraft:
    """A router document without its neighbours.

    :ivar text: the router as JSON, keys sorted
    :ivar subnets: ids of the subnets of its interfaces, whose ports become neighbours
    :ivar statuses: floating IP id → status that the server has
    :ivar cidrs: subnet id → addresses of the subnet, where the router's answer has them
    :ivar interfaces: subnet id → ids of the router's interfaces in it
    :ivar groups: groups of versioned objects that it needs, by key of the document (``sources.neutron.objects``)
    :ivar own_ports: subnet id → ids of all ports of the router in it; None: the answer does not list them
    """

    router_id: str
    text: bytes
    subnets: tuple[str, ...]
    statuses: Mapping[str, str]
    cidrs: Mapping[str, IpNetwork]
    interfaces: PortIds
    own_ports: PortIds | None
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)


def document_name(router_id: str) -> str:
    """Return the name of a router's document in messages."""
    return f"neutron:{router_id}"


def unanswered(router_id: str, reason: object) -> DocumentError:
    """Return the error of a router for which the server has no usable answer.

    :param reason: the server's error
    """
    return DocumentError(document_name(router_id), "$", printable(str(reason), 200), "a document from the server")


def encode(value: object, name: str) -> bytes:
    """Encode as JSON with sorted keys, so that equal content gives equal bytes.

    :raises DocumentError: it cannot be written as JSON
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise DocumentError(name, "$", printable(str(exc), 80), "something that can be written as JSON") from None


def make_draft(raw: Json, router_id: str) -> RouterDraft:
    """Make the draft of a router.

    :param raw: an item of the answer of ``sync_routers``
    :raises DocumentError: it cannot be written as JSON
    """
    text = encode(raw, document_name(router_id))
    # A legacy router has no permanent neighbours: it asks by ARP, as any router does.
    distributed = _is_distributed(raw)
    interfaces = _port_ids(raw, "_interfaces") if distributed else {}
    return RouterDraft(
        router_id,
        text,
        tuple(sorted(interfaces)),
        _statuses(raw),
        _cidrs(raw) if distributed else {},
        interfaces,
        _port_ids(raw, "_interfaces", "_snat_router_interfaces") if distributed and _lists_own_ports(raw) else None,
        groups_by_key(raw),
    )


def assemble(draft: RouterDraft, ports: Mapping[str, bytes], objects: Mapping[str, bytes] | None = None) -> bytes:
    """Return the document as ``dvr_agent.model.parse`` reads it.

    :param ports: subnet id → its ports as JSON text; all subnets of the draft
    :param objects: lists of versioned objects as JSON text, by key
    """
    lists = b",".join(b'"%s":%s' % (subnet_id.encode(), ports[subnet_id]) for subnet_id in draft.subnets)
    parts = {"ports_by_subnet": b"{%s}" % lists, "router": draft.text, **(objects or {})}
    return b"{%s}" % b",".join(b'"%s":%s' % (key.encode(), text) for key, text in sorted(parts.items()))


def digest(document: bytes) -> bytes:
    """Return a hash of a document; equal digests are equal documents."""
    return hashlib.blake2b(document, digest_size=16).digest()


def external_network(raw: Json) -> str | None:
    """Return the network of the router's gateway port, None if there is none."""
    gateway = raw.get("gw_port")
    return values.canonical_id(gateway.get("network_id")) if isinstance(gateway, dict) else None


def network_without_agent_gateway(raw: Json, settings: HostSettings) -> str | None:
    """Return the external network whose agent gateway port the answer lacks; None if nothing is lacking."""
    network = external_network(raw)
    if network is None or settings.mode is AgentMode.DVR_NO_EXTERNAL or not _is_distributed(raw):
        return None
    is_listed = any(
        port.get("network_id") == network and port.get("binding:host_id") in (None, "", settings.host)
        for port in _dicts(raw.get("_floatingip_agent_interfaces"))
    )
    return None if is_listed else network


def with_agent_gateway(raw: Json, port: Json) -> Json:
    """Return the router with one more agent gateway port; the argument is unchanged."""
    return {**raw, "_floatingip_agent_interfaces": [*_dicts(raw.get("_floatingip_agent_interfaces")), port]}


def networks_without_mtu(raw: Json) -> set[str]:
    """Return the networks of those ports of the router that lack their MTU."""
    found = {values.canonical_id(port.get("network_id")) for port in _ports(raw) if port.get("mtu") is None}
    return {network for network in found if network is not None}


def set_mtus(raw: Json, mtus: Mapping[str, int]) -> None:
    """Set the MTU of ports that lack it to that of their network, in place."""
    for port in _ports(raw):
        network = values.canonical_id(port.get("network_id"))
        if port.get("mtu") is None and network is not None and network in mtus:
            port["mtu"] = mtus[network]


def _is_distributed(raw: Json) -> bool:
    """Return True for a distributed router, HA or not."""
    return raw.get("distributed") is True


def _port_ids(raw: Json, *keys: str) -> PortIds:
    """Return the ids of the ports in these lists by the subnets that they have fixed IPs in."""
    found: dict[str, set[str]] = {}
    for key in keys:
        for port in _dicts(raw.get(key)):
            for fixed in _dicts(port.get("fixed_ips")):
                subnet_id = values.canonical_id(fixed.get("subnet_id"))
                if subnet_id is not None:
                    found.setdefault(subnet_id, set()).add(values.canonical_id(port.get("id")) or "")
    return {subnet_id: frozenset(ids) for subnet_id, ids in found.items()}


def _lists_own_ports(raw: Json) -> bool:
    """Return False if the router has a gateway, and so csnat ports, but the answer does not list these."""
    return isinstance(raw.get("_snat_router_interfaces"), list) or raw.get("gw_port") is None


def _cidrs(raw: Json) -> dict[str, IpNetwork]:
    """Return the addresses of the subnets of the router's interfaces."""
    found = {}
    for port in _dicts(raw.get("_interfaces")):
        for subnet in _dicts(port.get("subnets")):
            subnet_id = values.canonical_id(subnet.get("id"))
            with contextlib.suppress(Invalid):
                if subnet_id is not None:
                    found[subnet_id] = values.link_network(subnet.get("cidr"), None)
    return found


def _statuses(raw: Json) -> dict[str, str]:
    found = {}
    for fip in (*_dicts(raw.get("_floatingips")), *_dicts(raw.get("_pf_floatingips"))):
        fip_id, status = values.canonical_id(fip.get("id")), fip.get("status")
        if fip_id is not None and isinstance(status, str):
            found[fip_id] = status
    return found


def _ports(raw: Json) -> Iterator[Json]:
    gateway = raw.get("gw_port")
    if isinstance(gateway, dict):
        yield gateway
    for key in _PORT_LISTS:
        yield from _dicts(raw.get(key))


def _dicts(value: Any) -> Sequence[Json]:
    """Return the objects of a list; none if the value is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
