"""Keeps the ports of each subnet that routers of this host have interfaces in: these become neighbours.

``fetch.enrichment`` asks for them once per full sync, ARP notifications patch them, ``document_builder`` uses them.

The list of a subnet holds the addresses that its ports have in that subnet and no others: a port with addresses in
several subnets is in the list of each, and each list is patched by itself, since a notification is about one subnet.
Of a port the keys that the parser reads are kept, addresses in canonical form; their values go into documents as the
server sent them.  A notification names an address and a MAC address but no port; the list is changed so that
``dvr_agent.desired`` makes the right neighbour (every port of the list gives one, whatever its ``device_owner``).  The
newest message of the server about an address counts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dvr_agent.model import values
from dvr_agent.model.reader import Invalid, show
from dvr_agent.model.router import IpNetwork
from dvr_agent.sources.neutron.api import ArpEntry, Json, RemoteError
from dvr_agent.sources.neutron.documents import ROUTER_OWNERS, encode

_KEYS = ("id", "mac_address", "device_owner", "fixed_ips", "allowed_address_pairs")
_PAIR_KEYS = ("status", "admin_state_up")
"""Keys that decide between ports with the same allowed address pair.

Ports without pairs are kept without them: a status that changes should not make another document of the router.
"""
_ADDRESS_KEYS = ("fixed_ips", "allowed_address_pairs")
_NAMESPACE = uuid.UUID("3f6a3bd9-86ee-4b0a-9f3e-5a1c1a3a5d10")
"""Namespace of the ids of ports of which only an address is known: any UUID, as long as it stays the same."""


@dataclass(slots=True)
class _Subnet:
    """The list of one subnet.

    :ivar query: number of the query that the list answers, see ``RouterStore.begin_query``
    :ivar routers: ids of the routers that have interfaces or csnat ports in the list
    """

    ports: list[Any]
    text: bytes
    query: int
    routers: frozenset[str]


class SubnetPorts:
    """Ports by subnet id."""

    def __init__(self) -> None:
        self._subnets: dict[str, _Subnet] = {}

    def __contains__(self, subnet_id: str) -> bool:
        return subnet_id in self._subnets

    def __len__(self) -> int:
        return len(self._subnets)

    def text(self, subnet_id: str) -> bytes:
        """Return the ports of a known subnet as JSON."""
        return self._subnets[subnet_id].text

    def put(self, subnet_id: str, answer: object, cidr: IpNetwork | None = None, query: int = 0) -> None:
        """Replace the list of a subnet by an answer of ``get_ports_by_subnet``.

        :param cidr: the subnet's addresses, None if they are not known
        :param query: number of the query
        :raises RemoteError: it is no list
        :raises DocumentError: it cannot be written as JSON
        """
        if not isinstance(answer, list):
            raise RemoteError(f"get_ports_by_subnet of {subnet_id}: the answer is no list")
        self._set(subnet_id, [_part_in_subnet(port, subnet_id, cidr) for port in answer], query)

    def retain(self, subnet_ids: Collection[str]) -> None:
        """Forget all subnets but these."""
        for subnet_id in self._subnets.keys() - set(subnet_ids):
            del self._subnets[subnet_id]

    def patch(self, entry: ArpEntry) -> bool:
        """Apply a notification to its subnet; returns False if nothing changes or the subnet is not known.

        :raises ValueError: the notification has no usable address, or a new one without a MAC address
        """
        subnet_id = entry.subnet_id
        subnet = self._subnets.get(subnet_id)
        if subnet is None:
            return False
        try:
            address = str(values.host_address(entry.ip_address, None))
            mac = values.any_mac(entry.mac_address, None) if entry.present else _lower_case(entry.mac_address)
        except Invalid as exc:
            raise ValueError(f"{show(exc.value)} is not {exc.expected}") from None
        change = _with_address if entry.present else _without_address
        return self._replace(subnet_id, change(subnet.ports, subnet_id, address, mac))

    def retain_ports(
        self, router_id: str, present: Mapping[str, Collection[str]], query: int | None = None
    ) -> set[str]:
        """Remove the ports of a router that exist no more; returns the subnets whose lists have changed.

        The server sends no notification about them: with its interface the router has left the subnet, and the server
        notifies routers of a subnet only.

        :param present: subnet id → ids of the ports that the router has in it
        :param query: number of the query whose answer has these ports; lists of later queries are newer
        """
        changed = set()
        for subnet_id, subnet in self._subnets.items():
            if router_id not in subnet.routers or (query is not None and subnet.query > query):
                continue
            existing = present.get(subnet_id, ())
            ports = [port for port in subnet.ports if _router_of(port) != router_id or port["id"] in existing]
            if self._replace(subnet_id, ports):
                changed.add(subnet_id)
        return changed

    def _replace(self, subnet_id: str, ports: list[Any]) -> bool:
        """Replace the list of a subnet; returns False if it is equal."""
        subnet = self._subnets[subnet_id]
        if ports == subnet.ports:
            return False
        self._set(subnet_id, ports, subnet.query)
        return True

    def _set(self, subnet_id: str, ports: list[Any], query: int) -> None:
        text = encode(ports, f"neutron:subnet {subnet_id}")
        routers = frozenset(router_id for port in ports if (router_id := _router_of(port)) is not None)
        self._subnets[subnet_id] = _Subnet(ports, text, query, routers)


def _router_of(port: object) -> str | None:
    """Return the router that has this interface or csnat port; None for any other port."""
    if not isinstance(port, dict) or port.get("device_owner") not in ROUTER_OWNERS:
        return None
    if not isinstance(port.get("id"), str):
        return None  # the document with it is refused
    return values.canonical_id(port.get("device_id"))


# A port as it is in the list of a subnet


def _trimmed(port: object) -> object:
    if not isinstance(port, dict):
        return port
    keys = (*_KEYS, *_PAIR_KEYS) if port.get("allowed_address_pairs") else _KEYS
    return {key: port[key] for key in keys if key in port}


def _part_in_subnet(port: object, subnet_id: str, cidr: IpNetwork | None) -> object:
    """Return the port with its addresses in this subnet, in canonical form; malformed values stay for the parser."""
    found = _trimmed(port)
    if not isinstance(port, dict) or not isinstance(found, dict):
        return found
    if port.get("device_owner") in ROUTER_OWNERS and "device_id" in port:
        found["device_id"] = port["device_id"]
    if (port_id := values.canonical_id(port.get("id"))) is not None:
        found["id"] = port_id
    fixed_ips, pairs = port.get("fixed_ips"), port.get("allowed_address_pairs")
    if isinstance(fixed_ips, list):
        found["fixed_ips"] = [_canonical(item) for item in fixed_ips if _is_in(item, subnet_id)]
    if isinstance(pairs, list):
        found["allowed_address_pairs"] = [_canonical(item) for item in pairs if _may_be_in(item, cidr)]
    return found


def _canonical(item: object) -> object:
    """Return a fixed IP or allowed address pair with its address in canonical form, without a /32 or /128."""
    if not isinstance(item, dict):
        return item
    text = item.get("ip_address")
    try:
        return {**item, "ip_address": str(values.address(_without_prefix_length(text), None))}
    except Invalid:
        return item


def _without_prefix_length(text: object) -> object:
    if not isinstance(text, str):
        return text
    return text.removesuffix("/128" if ":" in text else "/32")


def _is_in(fixed_ip: object, subnet_id: str) -> bool:
    """Return False for a fixed IP in another subnet."""
    if not isinstance(fixed_ip, dict):
        return True
    other = values.canonical_id(fixed_ip.get("subnet_id"))
    return other is None or other == subnet_id


def _may_be_in(pair: object, cidr: IpNetwork | None) -> bool:
    """Return False for an allowed address pair that gives no neighbour in the subnet."""
    try:
        network = values.address_or_network(pair.get("ip_address") if isinstance(pair, dict) else None, None)
    except Invalid:
        return True
    if network.prefixlen != network.max_prefixlen:
        return False
    return cidr is None or (network.version == cidr.version and network.network_address in cidr)


# ARP notifications


def _with_address(ports: list[Any], subnet_id: str, address: str, mac: str | None) -> list[Any]:
    """Return the ports, where only ports with this MAC address have the address; one is added if there is none."""
    found = _filtered(ports, address, lambda own, of_pair: (of_pair or own) == mac)
    if mac is None or not values.is_unicast(mac):  # no neighbour; the port that had the address has lost it
        return found
    if not any(_has_address(port, address) for port in found):
        port_id = str(uuid.uuid5(_NAMESPACE, f"{subnet_id} {address}"))
        fixed = [{"ip_address": address, "subnet_id": subnet_id}]
        found.append({"id": port_id, "mac_address": mac, "fixed_ips": fixed})
    return found


def _without_address(ports: list[Any], _subnet_id: str, address: str, mac: str | None) -> list[Any]:
    """Return the ports, where no port with this MAC address has the address (None: no port at all).

    A port with another MAC address keeps it: of the two notifications about a port that gets another MAC address, the
    one about the old MAC address may come last.  Of an allowed address pair servers name the pair's MAC address or the
    port's.
    """
    return _filtered(ports, address, lambda own, of_pair: mac is not None and mac not in (own, of_pair))


def _filtered(ports: list[Any], address: str, may_keep: Callable[[str | None, str | None], bool]) -> list[Any]:
    """Return the ports without the entries of an address that must go; a port without any address left goes too.

    :param may_keep: decides about one entry, by the MAC addresses of its port and of the allowed address pair
    """
    found = []
    for port in ports:
        if not _has_address(port, address):
            found.append(port)
            continue
        own = _lower_case(port.get("mac_address"))
        kept = dict(port)
        for key in _ADDRESS_KEYS:
            items = port.get(key)
            if isinstance(items, list):
                kept[key] = [item for item in items if not _is_of(item, address) or may_keep(own, _mac(item))]
        if kept.get("fixed_ips") or kept.get("allowed_address_pairs"):
            found.append(kept)
    return found


def _has_address(port: object, address: str) -> bool:
    """Return True for a port that has the address as a fixed IP or an allowed address pair."""
    if not isinstance(port, dict):
        return False
    lists = (port.get(key) for key in _ADDRESS_KEYS)
    return any(_is_of(item, address) for items in lists if isinstance(items, list) for item in items)


def _is_of(item: object, address: str) -> bool:
    return isinstance(item, dict) and item.get("ip_address") == address


def _mac(item: Json) -> str | None:
    return _lower_case(item.get("mac_address"))


def _lower_case(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and value else None
