"""One router as the server sent it: what can be read off it, and the text of its document.

Nothing here trusts the shape of an answer: what is not as expected is passed on as it is, and parsing names the place.
Pure; used by ``fetcher``, ``supplements`` and ``store``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import DocumentError
from dvr_agent.model import values
from dvr_agent.model.reader import Invalid, printable
from dvr_agent.model.router import IpNetwork
from dvr_agent.sources.neutron.api import Json

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
class Draft:
    """A router without its neighbours.

    :ivar text: the router as JSON, keys sorted
    :ivar subnets: ids of the subnets of its interfaces, those that give neighbours
    :ivar statuses: floating IP id → status, as the server knows it
    :ivar cidrs: subnet id → addresses of the subnet, as far as the router tells
    :ivar interfaces: subnet id → ids of the router's interfaces in it
    :ivar own_ports: subnet id → ids of all ports of the router in it; None: the server does not tell
    """

    router_id: str
    text: bytes
    subnets: tuple[str, ...]
    statuses: Mapping[str, str]
    cidrs: Mapping[str, IpNetwork]
    interfaces: PortIds
    own_ports: PortIds | None


def document_name(router_id: str) -> str:
    """What the document is called in messages."""
    return f"neutron:{router_id}"


def canonical_id(value: object) -> str | None:
    """A UUID in lower case, None if it is none."""
    try:
        return values.uuid(value, None)
    except Invalid:
        return None


def unanswered(router_id: str, reason: object) -> DocumentError:
    """The error of a router of which the server could not tell us.

    :param reason: what it said instead
    """
    return DocumentError(document_name(router_id), "$", printable(str(reason), 200), "a document from the server")


def encode(value: object, name: str) -> bytes:
    """JSON with sorted keys, so that the same content gives the same bytes.

    :raises DocumentError: it cannot be written as JSON
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise DocumentError(name, "$", printable(str(exc), 80), "something that can be written as JSON") from None


def make_draft(raw: Json, router_id: str) -> Draft:
    """
    :param raw: the router, an item of the answer of ``sync_routers``
    :raises DocumentError: it cannot be written as JSON
    """
    text = encode(raw, document_name(router_id))
    ours = _ours(raw)
    interfaces = _port_ids(raw, "_interfaces") if ours else {}
    return Draft(
        router_id,
        text,
        tuple(sorted(interfaces)),
        _statuses(raw),
        _cidrs(raw) if ours else {},
        interfaces,
        _port_ids(raw, "_interfaces", "_snat_router_interfaces") if ours and _tells_own_ports(raw) else None,
    )


def assemble(draft: Draft, ports: Mapping[str, bytes]) -> bytes:
    """The document as ``dvr_agent.model.parse`` reads it.

    :param ports: subnet id → its ports as JSON text; all subnets of the draft
    """
    lists = b",".join(b'"%s":%s' % (subnet_id.encode(), ports[subnet_id]) for subnet_id in draft.subnets)
    return b'{"ports_by_subnet":{%s},"router":%s}' % (lists, draft.text)


def digest(document: bytes) -> bytes:
    """Equal digests are equal documents."""
    return hashlib.blake2b(document, digest_size=16).digest()


def external_network(raw: Json) -> str | None:
    """Network of the router's gateway port."""
    gateway = raw.get("gw_port")
    return canonical_id(gateway.get("network_id")) if isinstance(gateway, dict) else None


def lacks_agent_gateway(raw: Json, settings: HostSettings) -> str | None:
    """The external network whose agent gateway port must be asked for, since the document does not bring it."""
    network = external_network(raw)
    if network is None or settings.mode is AgentMode.DVR_NO_EXTERNAL or not _ours(raw):
        return None
    there = any(
        port.get("network_id") == network and port.get("binding:host_id") in (None, "", settings.host)
        for port in _dicts(raw.get("_floatingip_agent_interfaces"))
    )
    return None if there else network


def with_agent_gateway(raw: Json, port: Json) -> Json:
    """The router with one more agent gateway port; the argument stays as it is."""
    return {**raw, "_floatingip_agent_interfaces": [*_dicts(raw.get("_floatingip_agent_interfaces")), port]}


def networks_without_mtu(raw: Json) -> set[str]:
    """Networks of those ports of the router that lack their MTU."""
    found = {canonical_id(port.get("network_id")) for port in _ports(raw) if port.get("mtu") is None}
    return {network for network in found if network is not None}


def set_mtus(raw: Json, mtus: Mapping[str, int]) -> None:
    """Give ports without MTU that of their network, in place."""
    for port in _ports(raw):
        network = canonical_id(port.get("network_id"))
        if port.get("mtu") is None and network is not None and network in mtus:
            port["mtu"] = mtus[network]


def _ours(raw: Json) -> bool:
    """False for the kinds of routers that this agent leaves alone."""
    return raw.get("distributed") is True and raw.get("ha") is not True


def _port_ids(raw: Json, *keys: str) -> PortIds:
    """The router's ports of these lists, by the subnets that they have fixed IPs in."""
    found: dict[str, set[str]] = {}
    for key in keys:
        for port in _dicts(raw.get(key)):
            for fixed in _dicts(port.get("fixed_ips")):
                subnet_id = canonical_id(fixed.get("subnet_id"))
                if subnet_id is not None:
                    found.setdefault(subnet_id, set()).add(canonical_id(port.get("id")) or "")
    return {subnet_id: frozenset(ids) for subnet_id, ids in found.items()}


def _tells_own_ports(raw: Json) -> bool:
    """False if the router has csnat ports, since it has a gateway, but the answer does not list them."""
    return isinstance(raw.get("_snat_router_interfaces"), list) or raw.get("gw_port") is None


def _cidrs(raw: Json) -> dict[str, IpNetwork]:
    """Addresses of the subnets of the router's interfaces."""
    found = {}
    for port in _dicts(raw.get("_interfaces")):
        for subnet in _dicts(port.get("subnets")):
            subnet_id = canonical_id(subnet.get("id"))
            with contextlib.suppress(Invalid):
                if subnet_id is not None:
                    found[subnet_id] = values.link_network(subnet.get("cidr"), None)
    return found


def _statuses(raw: Json) -> dict[str, str]:
    found = {}
    for fip in _dicts(raw.get("_floatingips")):
        fip_id, status = canonical_id(fip.get("id")), fip.get("status")
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
    """The objects of what should be a list of objects."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
