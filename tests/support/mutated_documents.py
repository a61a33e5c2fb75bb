"""Recorded documents with random changes: values of other places, values at the limits, items that go or come twice."""

from __future__ import annotations

import copy
import ipaddress
import random
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.hostile import Place, at, places
from tests.support.recorded_documents import DATA, MODES, RECORDED

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
NOT_READ = frozenset({
    "availability_zones", "availability_zone_hints", "binding:profile", "binding:vif_details",
    "binding:vif_type", "binding:vnic_type", "created_at", "description", "device_id", "dns_assignment",
    "dns_domain", "dns_name", "extra_dhcp_opts", "flavor_id", "floating_port_id", "hints", "ip_allocation",
    "name", "port_details", "project_id", "propagate_uplink_status", "revision_number", "security_groups",
    "service_type_id", "tags", "tenant_id", "trusted", "updated_at",
})  # fmt: skip
"""Keys of which nothing is built: a change there would be none."""
NUMBERS = (0, 1, 8, 24, 28, 30, 31, 32, 64, 65, 127, 128)
MTUS = (67, 1280, 1450, 1500, 9000, 65536)
"""None below 1280: a bridge that loses such a port gets IPv6 from the kernel, which only the next audit sees."""
IPV4 = (
    "0.0.0.0", "10.1.0.255", "127.0.0.1", "169.254.31.28", "169.254.169.254", "192.0.2.9", "224.0.0.1",
    "255.255.255.255",
)  # fmt: skip
IPV6 = ("::", "::1", "2001:db8::9", "fe80::1", "ff02::1")
DESTINATIONS = ["0.0.0.0/0", "10.1.0.0/25", "172.30.0.0/16", "198.51.100.0/24", "203.0.113.0/25", "2001:db8:77::/48"]
TEXTS = ("compute1", "compute2", "ACTIVE", "DOWN")
WRONG: tuple[Any, ...] = (None, "", 0, [], "x")
"""Now and then a value is of a wrong type."""

FEATURES = {path.stem: path.read_bytes() for path in sorted((DATA / "feature_documents").glob("*.json"))}
DOCUMENTS = {**RECORDED, **FEATURES}
NAMES = [name for name in DOCUMENTS if name.rpartition("-")[2] in MODES]


def mutate(document: Any, dice: random.Random, *others: Any) -> tuple[Any, str]:
    """Return a copy with one change, and what was changed; values may be those of other documents."""
    made = copy.deepcopy(document)
    values = list(_values(made))
    pool: dict[str, list[Any]] = {}
    for _, value in [*values, *_values([*others])]:
        pool.setdefault(_kind(value), []).append(value)
    place, old = dice.choice(values)
    where = ".".join(map(str, place))
    if isinstance(old, list):
        return made, f"{where}: {_change_list(old, place, pool, dice)}"
    new = dice.choice(MTUS) if place[-1] == "mtu" else _other(old, pool, dice)
    at(made, place[:-1])[place[-1]] = new
    return made, f"{where}: {old!r} → {new!r}"


def _values(document: Any) -> Iterator[tuple[Place, Any]]:
    """Yield (place, value) of each list and each single value."""
    for place in places(document):
        value = at(document, place)
        if not isinstance(value, dict) and NOT_READ.isdisjoint(place):
            yield place, value


def _kind(value: Any) -> str:
    if not isinstance(value, str):
        return type(value).__name__
    if UUID.fullmatch(value) or MAC.fullmatch(value):
        return "uuid" if "-" in value else "mac"
    for read in (ipaddress.ip_address, ipaddress.ip_interface):
        try:
            found = read(value)
        except ValueError:
            continue
        return f"{'network' if '/' in value else 'address'} {found.version}"
    return "str"


def _change_list(items: list[Any], place: Place, pool: Mapping[str, list[Any]], dice: random.Random) -> str:
    if place[-1] == "routes" and dice.random() < 0.7:
        hop = dice.choice([*pool["address 4"], *pool.get("address 6", ())])
        items.append({"destination": dice.choice(DESTINATIONS), "nexthop": hop})
        return f"also {items[-1]}"
    what = dice.choice(["one less", "one twice", "none"]) if items else "none"
    if what == "none":
        items.clear()
    elif what == "one less":
        items.pop(dice.randrange(len(items)))
    else:
        items.append(copy.deepcopy(dice.choice(items)))
        for inner, value in list(_values(items[-1])) if isinstance(items[-1], dict) else ():
            if not isinstance(value, list) and _kind(value) in {"uuid", "mac", "address 4"} and dice.random() < 0.5:
                at(items[-1], inner[:-1])[inner[-1]] = _other(value, pool, dice)
    return what


def _other(old: Any, pool: Mapping[str, list[Any]], dice: random.Random) -> Any:
    """Return another value of the same kind, mostly one that the document has elsewhere."""
    if dice.random() < 0.04:
        return dice.choice(WRONG)
    kind = _kind(old)
    known = pool.get(kind, [])
    if kind == "bool":
        return not old
    if kind == "int":
        return dice.choice([*NUMBERS, old + 1, old - 1])
    if kind == "NoneType":
        return dice.choice([None, True, "compute1", *pool["uuid"][:3]])
    if kind == "uuid":
        return dice.choice([*known, str(uuid.UUID(int=dice.getrandbits(128), version=4))])
    if kind == "mac":
        return dice.choice([*known, f"fa:16:3e:00:00:{dice.randrange(256):02x}", "01:00:5e:00:00:01"])
    if kind.startswith("network"):
        network = ipaddress.ip_interface(old).network
        wider = network.supernet(min(4, network.prefixlen))
        return dice.choice([*known, str(wider), f"{network[0]}/{network.max_prefixlen}"])
    if kind.startswith("address"):
        address = ipaddress.ip_address(old)
        near = [str(type(address)((int(address) + step) % (1 << address.max_prefixlen))) for step in (1, 16)]
        return dice.choice([*known, *near, *(IPV4 if kind.endswith("4") else IPV6)])
    return dice.choice([*known, *TEXTS])
