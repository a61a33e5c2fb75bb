"""The ports of each subnet that routers of this host are in: pulled once per full sync, patched by ARP notifications.

Ports are kept as the server sent them, less the keys that nobody reads, and go into documents as they are.  A
notification names an address and a MAC address but no port; the cache is changed so that ``dvr_agent.desired`` makes
the right neighbour of it (every port of the list gives one, whatever its ``device_owner``).  Belongs to the fetch
thread.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from dvr_agent.model import values
from dvr_agent.model.reader import Invalid, show
from dvr_agent.sources.neutron.api import ArpEntry, Json, RemoteError
from dvr_agent.sources.neutron.documents import encode

_KEYS = ("id", "mac_address", "device_owner", "fixed_ips", "allowed_address_pairs")
_PAIR_KEYS = ("status", "admin_state_up")
"""Keys that decide between ports with the same allowed address pair.

Ports without pairs are kept without them: a status that changes should not make another document of the router.
"""
_NAMESPACE = uuid.UUID("3f6a3bd9-86ee-4b0a-9f3e-5a1c1a3a5d10")
"""Of the ids of ports that we know nothing of but an address: any, as long as it stays the same."""


@dataclass(slots=True)
class _Subnet:
    ports: list[Any]
    text: bytes


class Neighbours:
    """Subnet id → ports."""

    def __init__(self) -> None:
        self._subnets: dict[str, _Subnet] = {}

    def __contains__(self, subnet_id: str) -> bool:
        return subnet_id in self._subnets

    def __len__(self) -> int:
        return len(self._subnets)

    def text(self, subnet_id: str) -> bytes:
        """The ports of a subnet that is in the cache, as JSON."""
        return self._subnets[subnet_id].text

    def put(self, subnet_id: str, answer: object) -> None:
        """Take over an answer of ``get_ports_by_subnet``.

        :raises RemoteError: it is no list
        :raises DocumentError: it cannot be written as JSON
        """
        if not isinstance(answer, list):
            raise RemoteError(f"get_ports_by_subnet of {subnet_id}: the answer is no list")
        self._set(subnet_id, [_trimmed(port) for port in answer])

    def retain(self, subnet_ids: Collection[str]) -> None:
        """Forget all other subnets."""
        for subnet_id in self._subnets.keys() - set(subnet_ids):
            del self._subnets[subnet_id]

    def patch(self, entry: ArpEntry) -> bool:
        """Make the subnet agree with a notification; False if nothing changes or the subnet is not here.

        :raises ValueError: the notification names no address or no MAC address
        """
        subnet = self._subnets.get(entry.subnet_id)
        if subnet is None:
            return False
        try:
            address = str(values.host_address(entry.ip_address, None))
            mac = values.mac(entry.mac_address, None) if entry.present else None
        except Invalid as exc:
            raise ValueError(f"{show(exc.value)} is not {exc.expected}") from None
        ports = _patched(subnet.ports, entry.subnet_id, address, mac)
        if ports == subnet.ports:
            return False
        self._set(entry.subnet_id, ports)
        return True

    def _set(self, subnet_id: str, ports: list[Any]) -> None:
        self._subnets[subnet_id] = _Subnet(ports, encode(ports, f"neutron:subnet {subnet_id}"))


def _trimmed(port: object) -> object:
    if not isinstance(port, dict):
        return port
    keys = (*_KEYS, *_PAIR_KEYS) if port.get("allowed_address_pairs") else _KEYS
    return {key: port[key] for key in keys if key in port}


def _patched(ports: list[Any], subnet_id: str, address: str, mac: str | None) -> list[Any]:
    """The ports, of which only those with this MAC address have the address; None: nobody has it."""
    found: list[Any] = []
    claimed = mac is None
    for port in ports:
        if not isinstance(port, dict):
            found.append(port)
            continue
        kept, claims = _without(port, subnet_id, address, mac)
        claimed = claimed or claims
        if kept.get("fixed_ips") or kept.get("allowed_address_pairs"):
            found.append(kept)
    if not claimed:
        port_id = str(uuid.uuid5(_NAMESPACE, f"{subnet_id} {address}"))
        fixed = [{"ip_address": address, "subnet_id": subnet_id}]
        found.append({"id": port_id, "mac_address": mac, "fixed_ips": fixed})
    return found


def _without(port: Json, subnet_id: str, address: str, mac: str | None) -> tuple[Json, bool]:
    """The port without its claim to the address unless it has the right MAC address, and whether it claims it then."""
    own = _lower(port.get("mac_address"))
    kept, claims = dict(port), False
    for key in ("fixed_ips", "allowed_address_pairs"):
        items = port.get(key)
        if not isinstance(items, list):
            continue
        left = []
        for item in items:
            if not _is_claim(item, key, subnet_id, address):
                left.append(item)
            elif mac is not None and mac == (_lower(item.get("mac_address")) or own):
                left.append(item)
                claims = True
        kept[key] = left
    return kept, claims


def _is_claim(item: object, key: str, subnet_id: str, address: str) -> bool:
    if not isinstance(item, dict):
        return False
    text = str(item.get("ip_address")).lower()
    if key == "fixed_ips":
        return text == address and item.get("subnet_id") == subnet_id
    return text in (address, f"{address}/32", f"{address}/128")


def _lower(value: object) -> str | None:
    return value.lower() if isinstance(value, str) else None
