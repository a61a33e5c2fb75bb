"""Router documents that are bad: one error that names place, value and what was expected."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest

from dvr_agent.errors import DocumentError
from dvr_agent.model.parse import MAX_SIZE, parse_document
from tests.support import hostile
from tests.support.recorded_documents import RECORDED, document

MSGSPEC = find_spec("msgspec") is not None
"""It decodes where it is installed; texts for people come from the decoder."""

UUID = hostile.UUID
FILE = "/etc/dvr-agent/routers/bad.json"

SUBNET = "e43cad5b-61b8-4db7-a484-fb535447dc5c"
EXTERNAL = "ca505ff6-115d-4464-8cb2-7883dc07e8c8"
INTERFACE = ("router", "_interfaces", 0)
FIXED = (*INTERFACE, "fixed_ips", 0)
LISTED = (*INTERFACE, "subnets", 0)
GATEWAY = ("router", "gw_port")
FIP = ("router", "_floatingips", 0)
PORT = ("ports_by_subnet", SUBNET, 0)
PORT_PATH = f'$.ports_by_subnet["{SUBNET}"][0]'


def error_of(data: bytes, **options: Any) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        parse_document(data, FILE, **options)
    error = caught.value
    assert error.document == FILE
    assert len(error.value) <= 80
    assert str(error).isprintable()
    return error


def error_at(place: hostile.Place, value: Any) -> DocumentError:
    changed = hostile.replaced(document("a_dvr_compute-compute2"), place, value)
    return error_of(json.dumps(changed).encode())


VALUES = [
    (("router",), [], "$.router", "[]", "an object"),
    (("router", "id"), "../../etc", "$.router.id", '"../../etc"', "a UUID"),
    (("router", "id"), "{" + UUID + "}", "$.router.id", '"{' + UUID + '}"', "a UUID"),
    (("router", "id"), UUID.replace("-", ""), "$.router.id", f'"{UUID.replace("-", "")}"', "a UUID"),
    (("router", "name"), 7, "$.router.name", "7", "a string"),
    (("router", "distributed"), 1, "$.router.distributed", "1", "true or false"),
    (("router", "ha"), None, "$.router.ha", "null", "true or false"),
    (("router", "enable_snat"), "no", "$.router.enable_snat", '"no"', "true or false"),
    (("router", "gw_port_host"), 7, "$.router.gw_port_host", "7", "a string"),
    (("router", "_interfaces"), None, "$.router._interfaces", "null", "an array"),
    (INTERFACE, None, "$.router._interfaces[0]", "null", "an object"),
    ((*INTERFACE, "id"), "x\ny", "$.router._interfaces[0].id", '"x\\ny"', "a UUID"),
    ((*INTERFACE, "network_id"), None, "$.router._interfaces[0].network_id", "null", "a UUID"),
    ((*INTERFACE, "mtu"), 67, "$.router._interfaces[0].mtu", "67", "an MTU from 68 to 65535"),
    ((*INTERFACE, "mtu"), 65536, "$.router._interfaces[0].mtu", "65536", "an MTU from 68 to 65535"),
    ((*INTERFACE, "mtu"), True, "$.router._interfaces[0].mtu", "true", "an MTU from 68 to 65535"),
    ((*INTERFACE, "mtu"), "1500", "$.router._interfaces[0].mtu", '"1500"', "an MTU from 68 to 65535"),
    ((*INTERFACE, "mac_address"), "fa-16-3e-00-00-01", "$.router._interfaces[0].mac_address", None, "a MAC address"),
    ((*INTERFACE, "mac_address"), "01:00:5e:00:00:01", "$.router._interfaces[0].mac_address", None, "a unicast MAC"),
    ((*INTERFACE, "mac_address"), "00:00:00:00:00:00", "$.router._interfaces[0].mac_address", None, "a unicast MAC"),
    ((*INTERFACE, "binding:host_id"), 7, '$.router._interfaces[0]["binding:host_id"]', "7", "a string"),
    ((*INTERFACE, "address_scopes", "4"), "x", '$.router._interfaces[0].address_scopes["4"]', '"x"', "a UUID"),
    ((*INTERFACE, "admin_state_up"), "up", "$.router._interfaces[0].admin_state_up", '"up"', "true or false"),
    ((*FIXED, "ip_address"), "10.0.0.256", "$.router._interfaces[0].fixed_ips[0].ip_address", None, "an IPv4 or IPv6"),
    ((*FIXED, "ip_address"), "10.0.0.01", "$.router._interfaces[0].fixed_ips[0].ip_address", None, "an IPv4 or IPv6"),
    ((*FIXED, "ip_address"), "fe80::1%x", "$.router._interfaces[0].fixed_ips[0].ip_address", None, "an IPv4 or IPv6"),
    ((*FIXED, "ip_address"), 167837953, "$.router._interfaces[0].fixed_ips[0].ip_address", None, "an IPv4 or IPv6"),
    (
        (*FIXED, "ip_address"),
        "2001:db8::1",
        "$.router._interfaces[0].fixed_ips[0].ip_address",
        None,
        "of the family of",
    ),
    ((*FIXED, "prefixlen"), 33, "$.router._interfaces[0].fixed_ips[0].prefixlen", "33", "from 1 to 32"),
    ((*FIXED, "prefixlen"), 0, "$.router._interfaces[0].fixed_ips[0].prefixlen", "0", "from 1 to 32"),
    ((*FIXED, "prefixlen"), "24", "$.router._interfaces[0].fixed_ips[0].prefixlen", '"24"', "from 1 to 32"),
    ((*FIXED, "prefixlen"), None, "$.router._interfaces[0].fixed_ips[0].prefixlen", "null", "from 1 to 32"),
    ((*FIXED, "subnet_id"), None, "$.router._interfaces[0].fixed_ips[0].subnet_id", "null", "a UUID"),
    (
        (*LISTED, "cidr"),
        "10.1.0.7/24",
        "$.router._interfaces[0].subnets[0].cidr",
        None,
        "without host bits (10.1.0.0/24)",
    ),
    ((*LISTED, "cidr"), "10.1.0.0", "$.router._interfaces[0].subnets[0].cidr", None, "a network"),
    ((*LISTED, "cidr"), "10.1.0.0/255.255.255.0", "$.router._interfaces[0].subnets[0].cidr", None, "a network"),
    ((*LISTED, "cidr"), "10.1.0.0/33", "$.router._interfaces[0].subnets[0].cidr", None, "a network"),
    ((*LISTED, "cidr"), "0.0.0.0/0", "$.router._interfaces[0].subnets[0].cidr", None, "at least 1"),
    ((*LISTED, "cidr"), "::ffff:0:0/96", "$.router._interfaces[0].subnets[0].cidr", None, "not IPv4-mapped"),
    ((*LISTED, "gateway_ip"), "2001:db8::1", "$.router._interfaces[0].subnets[0].gateway_ip", None, "of the family of"),
    (
        (*INTERFACE, "extra_subnets"),
        [{"cidr": "10.0.0.1/8"}],
        "$.router._interfaces[0].extra_subnets[0].cidr",
        None,
        "10.0.0.0/8",
    ),
    ((*GATEWAY, "mtu"), None, "$.router.gw_port.mtu", "null", "an MTU"),
    ((*GATEWAY, "fixed_ips"), {}, "$.router.gw_port.fixed_ips", "{}", "an array"),
    ((*FIP, "id"), None, "$.router._floatingips[0].id", "null", "a UUID"),
    (
        (*FIP, "floating_ip_address"),
        "2001:db8::1",
        "$.router._floatingips[0].floating_ip_address",
        None,
        "an IPv4 address",
    ),
    ((*FIP, "fixed_ip_address"), "", "$.router._floatingips[0].fixed_ip_address", '""', "an IPv4 or IPv6 address"),
    ((*FIP, "floating_network_id"), None, "$.router._floatingips[0].floating_network_id", "null", "a UUID"),
    ((*FIP, "floating_network_id"), UUID, "$.router._floatingips[0].floating_network_id", f'"{UUID}"', EXTERNAL),
    ((*FIP, "host"), 7, "$.router._floatingips[0].host", "7", "a string"),
    ((*FIP, "dvr_snat_bound"), "x", "$.router._floatingips[0].dvr_snat_bound", '"x"', "true or false"),
    ((*FIP, "fixed_ip_address_scope"), "x", "$.router._floatingips[0].fixed_ip_address_scope", '"x"', "a UUID"),
    (("ports_by_subnet",), [], "$.ports_by_subnet", "[]", "an object"),
    (("ports_by_subnet",), {"../..": []}, '$.ports_by_subnet["../.."]', '"../.."', "a UUID"),
    (("ports_by_subnet", SUBNET), None, f'$.ports_by_subnet["{SUBNET}"]', "null", "an array"),
    ((*PORT, "id"), "x", f"{PORT_PATH}.id", '"x"', "a UUID"),
    ((*PORT, "mac_address"), None, f"{PORT_PATH}.mac_address", "null", "a MAC address"),
    ((*PORT, "device_owner"), 7, f"{PORT_PATH}.device_owner", "7", "a string"),
    ((*PORT, "fixed_ips", 0, "ip_address"), "", f"{PORT_PATH}.fixed_ips[0].ip_address", '""', "an IPv4 or IPv6"),
    ((*PORT, "allowed_address_pairs"), None, f"{PORT_PATH}.allowed_address_pairs", "null", "an array"),
    (
        (*PORT, "allowed_address_pairs"),
        [{"ip_address": "10.1.0.0/99"}],
        f"{PORT_PATH}.allowed_address_pairs[0].ip_address",
        '"10.1.0.0/99"',
        "an address or a network",
    ),
    (
        (*PORT, "allowed_address_pairs"),
        [{"ip_address": "10.1.0.0", "mac_address": "x"}],
        f"{PORT_PATH}.allowed_address_pairs[0].mac_address",
        '"x"',
        "a MAC address",
    ),
]


@pytest.mark.parametrize(("place", "value", "path", "shown", "expected"), VALUES)
def test_bad_value_is_named_with_its_path(
    place: hostile.Place, value: Any, path: str, shown: str | None, expected: str
) -> None:
    error = error_at(place, value)
    assert error.path == path
    assert expected in error.expected
    if shown is not None or isinstance(value, str):
        assert error.value == (json.dumps(value) if shown is None else shown)


@pytest.mark.parametrize(
    ("key", "value", "path", "shown", "expected"),
    [
        ("ipv6_ra_mode", "SLAAC", "", '"SLAAC"', "null or one of slaac, dhcpv6-stateless, dhcpv6-stateful"),
        ("ipv6_ra_mode", [], "", "[]", "null or one of slaac"),
        ("ipv6_ra_mode", True, "", "true", "null or one of slaac"),
        ("dns_nameservers", "2001:db8::1", "", '"2001:db8::1"', "an array"),
        ("dns_nameservers", ["2001:db8::1", "fe80::1%eth0"], "[1]", '"fe80::1%eth0"', "an IPv4 or IPv6 address"),
        ("dns_nameservers", ["2001:db8::1; };"], "[0]", '"2001:db8::1; };"', "an IPv4 or IPv6 address"),
        ("dns_nameservers", [None], "[0]", "null", "an IPv4 or IPv6 address"),
    ],
)
def test_bad_value_for_router_advertisements(key: str, value: Any, path: str, shown: str, expected: str) -> None:
    subnet = ("router", "_interfaces", 0, "subnets", 0)
    changed = hostile.replaced(document("h_dual_stack-compute1"), (*subnet, key), value)
    error = error_of(json.dumps(changed).encode())
    assert error.path == f"$.router._interfaces[0].subnets[0].{key}{path}"
    assert error.value == shown
    assert expected in error.expected


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0", "unspecified"),
        ("127.8.0.1", "loopback"),
        ("239.1.2.3", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("169.254.64.0", "169.254.64.0/18"),
        ("169.254.127.255", "169.254.64.0/18"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("ff02::1", "multicast"),
        ("::ffff:10.1.0.1", "IPv4-mapped"),
    ],
)
def test_address_that_no_host_can_have(address: str, reason: str) -> None:
    error = error_at((*FIXED, "ip_address"), address)
    assert error.path == "$.router._interfaces[0].fixed_ips[0].ip_address"
    assert reason in error.expected


@pytest.mark.parametrize("address", ["169.254.63.255", "169.254.128.0", "10.1.0.0"])
def test_address_next_to_the_forbidden_ones_is_fine(address: str) -> None:
    changed = hostile.replaced(document("a_dvr_compute-compute2"), (*FIXED, "ip_address"), address)
    router = parse_document(json.dumps(changed).encode(), FILE)
    assert str(router.interfaces[0].fixed_ips[0].address) == address


REQUIRED: list[hostile.Place] = [
    ("router", "id"),
    ("router", "distributed"),
    *((*INTERFACE, key) for key in ("id", "network_id", "mac_address", "mtu", "fixed_ips")),
    *((*FIXED, key) for key in ("ip_address", "subnet_id")),
    *((*LISTED, key) for key in ("id", "cidr")),
    *((*FIP, key) for key in ("id", "floating_ip_address", "floating_network_id")),
    *((*PORT, key) for key in ("id", "mac_address", "fixed_ips")),
    ("router",),
]


@pytest.mark.parametrize("place", REQUIRED, ids=lambda place: str(place[-1]))
def test_missing_key_is_named(place: hostile.Place) -> None:
    error = error_of(json.dumps(hostile.without(document("a_dvr_compute-compute2"), place)).encode())
    assert error.path.endswith(f".{place[-1]}")
    assert error.value == "missing"


@pytest.mark.parametrize(
    ("routes", "path", "expected"),
    [
        ({}, "$.router.routes", "an array"),
        ([{"destination": "10.9.0.0/16"}], "$.router.routes[0].nexthop", "an IPv4 or IPv6 address"),
    ],
)
def test_bad_route(routes: Any, path: str, expected: str) -> None:
    error = error_at(("router", "routes"), routes)
    assert error.path == path
    assert expected in error.expected


def test_port_that_is_there_twice() -> None:
    (interface,) = document("a_dvr_compute-compute2")["router"]["_interfaces"]
    error = error_at(("router", "_interfaces"), [interface, interface])
    assert error.path == "$.router._interfaces[1].id"
    assert error.value == f'"{interface["id"]}"'
    assert "$.router._interfaces[0].id has the same" in error.expected


def test_port_of_one_kind_that_is_also_of_another() -> None:
    source = document("a_dvr_compute-compute2")["router"]
    error = error_at(("router", "_interfaces"), [*source["_interfaces"], source["gw_port"]])
    assert error.path == "$.router._interfaces[1].id"
    assert "$.router.gw_port.id has the same" in error.expected


def test_two_ports_with_one_device_name() -> None:
    (interface,) = document("a_dvr_compute-compute2")["router"]["_interfaces"]
    twin = {**interface, "id": interface["id"][:11] + "ff-4000-8000-00000000f00d"}
    error = error_at(("router", "_interfaces"), [interface, twin])
    assert error.path == "$.router._interfaces[1].id"
    assert "device name" in error.expected


def test_one_address_on_two_ports() -> None:
    (interface,) = document("a_dvr_compute-compute2")["router"]["_interfaces"]
    error = error_at(("router", "_interfaces"), [interface, {**interface, "id": UUID}])
    assert error.path == "$.router._interfaces[1].fixed_ips[0].ip_address"
    assert "$.router._interfaces[0].fixed_ips[0].ip_address has the same" in error.expected


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({}, "$.router._floatingips[1].id"),
        ({"id": UUID}, "$.router._floatingips[1].floating_ip_address"),
    ],
    ids=["id", "address"],
)
def test_floating_ip_that_is_not_alone(change: dict[str, str], path: str) -> None:
    (fip,) = document("a_dvr_compute-compute2")["router"]["_floatingips"]
    assert error_at(("router", "_floatingips"), [fip, {**fip, **change}]).path == path


def test_floating_ip_of_a_router_without_gateway() -> None:
    error = error_at(GATEWAY, None)
    assert error.path == "$.router._floatingips[0]"
    assert error.value == "203.0.113.124"
    assert "without gateway port" in error.expected


def test_subnet_that_is_listed_twice() -> None:
    (subnet,) = document("a_dvr_compute-compute2")["router"]["_interfaces"][0]["subnets"]
    assert error_at((*INTERFACE, "subnets"), [subnet, subnet]).path == "$.router._interfaces[0].subnets[1].id"


def test_list_of_neighbour_ports_that_is_there_twice() -> None:
    error = error_at(("ports_by_subnet",), {SUBNET: [], SUBNET.upper(): []})
    assert error.path == f'$.ports_by_subnet["{SUBNET.upper()}"]'


def test_path_of_a_document_without_envelope() -> None:
    router = document("a_dvr_compute-compute2")["router"]
    router["_interfaces"][0]["mtu"] = -5
    error = error_of(json.dumps(router).encode())
    assert str(error) == f"{FILE}: $._interfaces[0].mtu is -5: expected an MTU from 68 to 65535"


@pytest.mark.parametrize(
    ("data", "value", "expected"),
    [
        (b"", '""', "JSON (Input data was truncated)"),
        (b"[]", "[]", "an object"),
        (b"null", "null", "an object"),
        (b'"x"', '"x"', "an object"),
        (b'{"id": @}', '"@}"', f"JSON ({'invalid character' if MSGSPEC else 'Expecting value'} (byte 7))"),
        (b'{"id": "\xff"}', "0xff at byte 8", "UTF-8 text"),
        (b'{"id": "\xed\xa0\x80"}', "0xed at byte 8", "UTF-8 text"),
        (b"\xef\xbb\xbf{}", '"\\ufeff{}"', "JSON without a byte order mark"),
        (
            (b'{"mtu": NaN}', '"NaN}"', "JSON (invalid character (byte 8))")
            if MSGSPEC
            else (b'{"mtu": NaN}', '"{\\"mtu\\": NaN}"', "JSON (NaN is no number of JSON)")
        ),
        (b'{"mtu": 1e999}', '"{\\"mtu\\": 1e999}"', "JSON (Number out of range)"),
        (b"[" * 100_000, None, "JSON that is not nested this deep"),
        (b'{"router":' * 100_000, None, "JSON that is not nested this deep"),
    ],
)
def test_bytes_that_are_no_json_object(data: bytes, value: str | None, expected: str) -> None:
    error = error_of(data)
    assert error.path == "$"
    assert error.expected == expected
    assert value is None or error.value == value


def test_half_written_document_shows_where_it_ends() -> None:
    data = RECORDED["a_dvr_compute-compute2"][:1000]
    error = error_of(data)
    assert "truncated" in error.expected
    assert data[-40:] == b'id":"lab"},{"admin_state_up":true,"allow'
    assert json.loads(error.value) == '…":"…"},{"admin_state_up":true,"…"'


@pytest.mark.parametrize(
    "data",
    [
        b'{"router": {"x_password": "S3cr3t", "id": @}}',
        b'{"router": {"x_password": "S3cr3t\x01", "id": 1}}',
        b'{"router": {"x_password": "S3c\\"r3t\\x", "id": 1}}',
        b'{"router": {"id": 1, "x_password": "S3cr3t',
        b'{"router": {"id": 1, "x_passwords": ["S3cr3t", "S3cr3t',
        b'{"router": @, "x_password": "S3cr3t", "y": ["S3cr3t"]}',
        b'\xef\xbb\xbf{"x_password": "S3cr3t"}',
        b'{"x_password": "S3cr3t"}',
        b'[{"x_password": "S3cr3t"}]',
        b'{"router": {"id": {"x_password": "S3cr3t"}}}',
        b'{"router": {"id": [[{"x_password": {"y": "S3cr3t"}}]]}}',
        b'{"router": {"id": "' + UUID.encode() + b'", "gw_port": [{"S": "S3cr3t"}], "_interfaces": {"S": "S3cr3t"}}}',
    ],
)
def test_what_is_in_unknown_keys_of_a_bad_document_is_not_shown(data: bytes) -> None:
    """It may be a password of somebody."""
    for number in range(0, len(data), 7):  # also half of it
        with pytest.raises(DocumentError) as caught:
            parse_document(data if not number else data[:number], FILE)
        assert not {"S3c", "r3t"} & {str(caught.value)[at : at + 3] for at in range(len(str(caught.value)))}, (
            caught.value
        )


def test_a_text_without_quotation_marks_is_not_shown() -> None:
    assert "S3cr3t" not in str(error_of(b'{"router": {"id": 1, "x_password": S3cr3t-of-nobody}}'))


def test_document_over_the_size_limit_is_not_decoded() -> None:
    data = RECORDED["a_dvr_compute-compute2"]
    error = error_of(data, max_size=len(data) - 1)
    assert error.path == "$"
    assert error.value == f"{len(data)} bytes long"
    assert error.expected == f"at most {len(data) - 1} bytes"
    assert parse_document(data, FILE, max_size=len(data))
    assert error_of(b" " * (MAX_SIZE + 1)).expected == "at most 16777216 bytes"


@pytest.mark.parametrize(
    "value",
    ["x" * 10_000_000, list(range(10**6)), {"x" * 10**6: 1}, [[[["\n" * 10**6]]]], 10**4000, "é\u202e" * 100],
    ids=["string", "array", "object", "nested", "number", "unprintable"],
)
def test_value_is_cut_to_80_printable_characters(value: Any) -> None:
    error = error_of(json.dumps({"id": value}).encode())
    assert error.path == "$.id"
    assert len(error.value) == 80
    assert error.value.isprintable()


def test_long_and_strange_keys_are_cut_in_the_path() -> None:
    error = error_at(("ports_by_subnet",), {"\n" * 1000: []})
    assert len(error.path) < 110
    assert error.path.isprintable()


def test_name_of_the_document_cannot_forge_log_lines() -> None:
    with pytest.raises(DocumentError) as caught:
        parse_document(b"", "a\nroot: all is well\udcff.json")
    assert str(caught.value).startswith("a\\nroot: all is well\\udcff.json: $ is")
