"""A corpus of broken and strange router documents, made from the recorded ones by mutation.

``corpus()`` is deterministic: the same names and bytes in every run.  What it promises to nobody is that a document
is bad; many are good ones with odd contents.  Parser, sources, reconciler and daemon are all tried on it.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.recorded_documents import RECORDED

SEED = 20240229

Json = Any
Place = tuple[str | int, ...]

UUID = "d0a7c0de-0000-4000-8000-000000000001"

USED_KEYS = frozenset(
    {
        "router",
        "ports_by_subnet",
        "id",
        "name",
        "distributed",
        "ha",
        "admin_state_up",
        "gw_port",
        "gw_port_host",
        "enable_snat",
        "_interfaces",
        "_snat_router_interfaces",
        "_floatingip_agent_interfaces",
        "_floatingips",
        "routes",
        "destination",
        "nexthop",
        "network_id",
        "mac_address",
        "mtu",
        "fixed_ips",
        "ip_address",
        "prefixlen",
        "subnet_id",
        "subnets",
        "extra_subnets",
        "cidr",
        "gateway_ip",
        "address_scopes",
        "4",
        "6",
        "floating_ip_address",
        "fixed_ip_address",
        "floating_network_id",
        "host",
        "dest_host",
        "dvr_snat_bound",
        "fixed_ip_address_scope",
        "device_owner",
        "allowed_address_pairs",
        "binding:host_id",
    }
)
"""Keys of a document that the parser reads."""

CASTS = (
    *("routers_updated", "router_deleted", "router_added_to_agent", "router_removed_from_agent", "agent_updated"),
    *("add_arp_entry", "del_arp_entry", "network_update", "fipnamespace_delete_on_ext_net", "port_update"),
)
"""What neutron-server sends by itself."""
STRANGE_VALUES: tuple[Json, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1500.5,
    -0.0,
    2**31,
    2**63,
    2**64,
    -(2**200),
    10**400,
    "",
    " ",
    "0",
    "null",
    "\x00",
    "a\x00b",
    "\x1b[2J\r\nJan 1 forged log line",
    "\u202egnol\u2028\u0085",
    "../../etc/passwd",
    "/etc/passwd",
    "$(reboot)",
    "; rm -rf / #",
    "`id`",
    "'\"\\",
    "%s%n%d{0}",
    "d0a7c0de-0000-4000-8000-00000000000g",
    "{d0a7c0de-0000-4000-8000-000000000001}",
    "urn:uuid:d0a7c0de-0000-4000-8000-000000000001",
    "d0a7c0de000040008000000000000001",
    "d0a7c0de-0000-4000-8000-000000000001\n",
    UUID.upper(),
    UUID + "x" * 300,
    "\uff41" * 36,
    "x" * 100_000,
    "10.0.0.256",
    "10.0.0.01",
    "0x0a000001",
    "10.0.0.1/24",
    "10.0.0.0/33",
    "10.0.0.0/255.255.255.0",
    "0.0.0.0",
    "0.0.0.0/0",
    "127.0.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "169.254.64.1",
    "::",
    "::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "fe80::1%eth0",
    "fe80::1%../../x",
    "2001:db8::1/129",
    "ff:ff:ff:ff:ff:ff",
    "01:00:5e:00:00:01",
    "00:00:00:00:00:00",
    "fa-16-3e-00-00-01",
    "fa:16:3e:00:00",
    [],
    [None],
    [[]],
    [0, "x", {}],
    {},
    {"id": UUID},
    {"": ""},
)

STRANGE_TEXTS: tuple[tuple[str, bytes], ...] = (
    ("empty", b""),
    ("space", b" \n\t "),
    ("null", b"null"),
    ("true", b"true"),
    ("number", b"1"),
    ("text", b'"router"'),
    ("array", b"[]"),
    ("empty-object", b"{}"),
    ("envelope-of-null", b'{"router": null}'),
    ("envelope-of-array", b'{"router": []}'),
    ("envelope-of-nothing", b'{"router": {}}'),
    ("envelope-of-envelope", b'{"router": {"router": {}}}'),
    ("ports-without-router", b'{"ports_by_subnet": {}}'),
    ("nul-bytes", b"\x00" * 100),
    ("not-utf-8", b'{"id": "\xff\xfe"}'),
    ("surrogate-bytes", b'{"id": "\xed\xa0\x80"}'),
    ("overlong-utf-8", b'{"id": "\xc0\xaf"}'),
    ("utf-16", '{"id": 1}'.encode("utf-16")),
    ("byte-order-mark", b"\xef\xbb\xbf{}"),
    ("lone-surrogate", b'{"name": "\\ud800"}'),
    ("swapped-surrogates", b'{"name": "\\udc00\\ud800"}'),
    ("raw-control-character", b'{"name": "a\x01b"}'),
    ("bad-escape", b'{"name": "\\x41"}'),
    ("nan", b'{"id": NaN}'),
    ("infinity", b'{"id": -Infinity}'),
    ("huge-exponent", b'{"id": 1e999999}'),
    ("huge-number", b'{"id": ' + b"9" * 100_000 + b"}"),
    ("python", b"{'id': 'x'}"),
    ("trailing-comma", b'{"id": "x",}'),
    ("comment", b'{"id": "x"} // router'),
    ("two-documents", b"{}\n{}"),
    ("key-twice", f'{{"id": "{UUID}", "id": 7, "distributed": true}}'.encode()),
    ("deep-arrays", b"[" * 200_000),
    ("deep-objects", b'{"router":' * 200_000),
    ("deep-and-closed", b'{"id":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    ("deep-unknown-key", f'{{"x": {"[" * 500}{"]" * 500}, "id": "{UUID}", "distributed": true}}'.encode()),
    ("open-string", b'{"id": "' + b'\\"' * 50_000),
    ("yaml", b"id: x\n"),
    ("ini", b"[router]\nid = x\n"),
    ("elf", b"\x7fELF\x02\x01\x01" + bytes(range(256))),
)


def places(value: Json, here: Place = ()) -> Iterator[Place]:
    """The places of all values in a JSON value, the outermost first."""
    yield here
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield from places(item, (*here, key))


def at(document: Json, place: Place) -> Json:
    """The value at a place."""
    for key in place:
        document = document[key]
    return document


def replaced(document: Json, place: Place, value: Json) -> Json:
    """A copy of a document with another value at a place."""
    if not place:
        return value
    changed = copy.deepcopy(document)
    at(changed, place[:-1])[place[-1]] = value
    return changed


def without(document: Json, place: Place) -> Json:
    """A copy of a document without the value at a place."""
    changed = copy.deepcopy(document)
    del at(changed, place[:-1])[place[-1]]
    return changed


def mutate(document: Json, rng: random.Random) -> tuple[str, Json]:
    """One random change of a document, mostly at a place that matters: what was done, and the result."""
    found = [place for place in places(document) if place]
    if rng.random() < 0.9:
        found = [place for place in found if USED_KEYS.issuperset(key for key in place[-2:] if isinstance(key, str))]
    place = rng.choice(found)
    old = at(document, place)
    kind = rng.choice(("delete", "strange", "swap", "double", "wrap", "empty", "key"))
    if kind == "delete":
        return kind, without(document, place)
    if kind == "strange":
        return kind, replaced(document, place, rng.choice(STRANGE_VALUES))
    if kind == "swap":
        return kind, replaced(document, place, copy.deepcopy(at(document, rng.choice(list(places(document))))))
    if kind == "double":
        return kind, replaced(document, place, [*old, *old] if isinstance(old, list) else [old, old])
    if kind == "wrap":
        return kind, replaced(document, place, rng.choice(([old], {"router": old}, json.dumps(old))))
    if kind == "empty":
        return kind, replaced(document, place, type(old)() if old is not None else {})
    return kind, _rekeyed(document, place, str(rng.choice(STRANGE_VALUES[13:40])))


def _rekeyed(document: Json, place: Place, key: str) -> Json:
    """The value at a place moved to another key, where its parent is an object."""
    changed = copy.deepcopy(document)
    parent = at(changed, place[:-1])
    if isinstance(parent, dict):
        parent[key] = parent.pop(place[-1])
    return changed


def aimed(document: Json) -> Iterator[tuple[str, Json]]:
    """Changes of the values that matter: each important field of each kind of object gets a few strange values."""
    fields: tuple[tuple[Place, tuple[Json, ...]], ...] = (
        (("router", "id"), ("../../etc", "x" * 36, UUID[:-1], 7, None, "$(reboot)", "\x00" * 36, [])),
        (("router", "name"), ("\nforged", "\x1b[31m", "x" * 5000, 7, None, "\u2028", "a\x00b")),
        (("router", "distributed"), (None, "true", 1, 0, "no")),
        (("router", "_interfaces"), (None, {}, "x", [None], [[]], [{}])),
        (("router", "_interfaces", 0, "id"), ("../../../etc/shadow", "x" * 300, "qr-0; reboot", None, 5)),
        (("router", "_interfaces", 0, "mtu"), (-1, 0, 67, 65536, 10**30, "1500", None, True, 1450.0)),
        (("router", "_interfaces", 0, "mac_address"), ("", "01:00:5e:00:00:01", "00:00:00:00:00:00", "x", 5, None)),
        (("router", "_interfaces", 0, "fixed_ips"), ([], None, [7], {"0": {}})),
        (("router", "_interfaces", 0, "fixed_ips", 0, "ip_address"), ("::", "::ffff:1.2.3.4", "224.0.0.5", 167837953)),
        (("router", "_interfaces", 0, "fixed_ips", 0, "prefixlen"), (-1, 0, 33, 129, "24", None, 24.0, True)),
        (("router", "_interfaces", 0, "subnets", 0, "cidr"), ("0.0.0.0/0", "10.1.0.7/24", "10.1.0.0", "x/24", None)),
        (("router", "_interfaces", 0, "subnets", 0, "gateway_ip"), ("::1", "fe80::1", "0.0.0.0", "", 7)),
        (("router", "_interfaces", 0, "address_scopes"), ([], {"4": 7}, {"4": "x"}, "x")),
        (("router", "gw_port"), ([], "x", {}, 0, False)),
        (("router", "gw_port", "network_id"), (UUID, None, "brq; reboot")),
        (("router", "_floatingips", 0, "floating_ip_address"), ("2001:db8::5", "169.254.64.9", "127.0.0.1", "10.1")),
        (("router", "_floatingips", 0, "fixed_ip_address"), (None, "", "2001:db8::5", 0)),
        (("router", "_floatingips", 0, "floating_network_id"), (None, UUID, "x")),
        (("router", "_floatingips", 0, "host"), ("", 7, "\x00", "../..", "h" * 5000)),
        (("router", "routes"), ([{"destination": "10.0.0.1/24", "nexthop": "10.1.0.5"}], [{}], {}, [["a", "b"]])),
        (("ports_by_subnet",), (None, [], {"x": []}, {"../..": []}, {UUID: None}, {UUID: {}})),
    )
    for place, strange in fields:
        for number, value in enumerate(strange):
            yield f"{'.'.join(map(str, place))}-{number}", replaced(document, place, value)


def duplicated(document: Json) -> Iterator[tuple[str, Json]]:
    """Documents with two of something that must be there once."""
    for key in ("_interfaces", "_snat_router_interfaces", "_floatingip_agent_interfaces", "_floatingips"):
        old = document["router"][key]
        yield f"two-{key}", replaced(document, ("router", key), [*old, *old])
    interfaces = document["router"]["_interfaces"]
    twin = {**interfaces[0], "id": interfaces[0]["id"][:11] + "ff-4000-8000-00000000f00d", "fixed_ips": []}
    yield "one-device-name", replaced(document, ("router", "_interfaces"), [*interfaces, twin])
    gateway = document["router"]["gw_port"]
    yield "gateway-as-interface", replaced(document, ("router", "_interfaces"), [*interfaces, gateway])
    for subnet, ports in document["ports_by_subnet"].items():
        yield "two-ports", replaced(document, ("ports_by_subnet", subnet), [*ports, *ports])
        both = {subnet: ports, subnet.upper(): ports}
        yield "one-subnet-in-two-spellings", replaced(document, ("ports_by_subnet",), both)


def _broken_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 20))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


_BYTE_CHANGES: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
    ("truncated", lambda data, rng: data[: rng.randrange(len(data))]),
    ("beginning-lost", lambda data, rng: data[rng.randrange(1, len(data)) :]),
    ("bytes-changed", _broken_bytes),
    ("hole", lambda data, rng: data[: (hole := rng.randrange(len(data)))] + bytes(64) + data[hole + 64 :]),
    ("repeated", lambda data, rng: data[: rng.randrange(len(data))] + data),
)


def corpus() -> list[tuple[str, bytes]]:
    """Broken and strange documents, (unique name, bytes)."""
    rng = random.Random(SEED)
    found: list[tuple[str, bytes]] = list(STRANGE_TEXTS)
    sources = RECORDED
    model = json.loads(sources["a_dvr_compute-compute2"])
    changes = [*aimed(model), *duplicated(model)]
    found += [(name, json.dumps(document).encode()) for name, document in changes]
    for source, data in sources.items():
        document = json.loads(data)
        for _ in range(6):
            kind, changed = mutate(document, rng)
            found.append((f"{source}-{kind}", json.dumps(changed).encode()))
        name, change = rng.choice(_BYTE_CHANGES)
        found.append((f"{source}-{name}", change(data, rng)))
    return [(f"{number:03}-{name}", data) for number, (name, data) in enumerate(found)]
