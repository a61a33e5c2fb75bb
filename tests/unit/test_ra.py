"""radvd's configuration: what Neutron 29 would advertise for the same subnets."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from dvr_agent.desired.router_advertisements import radvd_text
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import RaMode, Router, RouterPort, Subnet
from tests.support.recorded_documents import DOCUMENTS, load_features

ID = "7c1d0d9f-27f6-4d55-8e5b-3f1c2c1a8d10"
A, B = "aaaaaaaa-2222-3333-4444-555555555555", "bbbbbbbb-2222-3333-4444-555555555555"


def subnet(cidr: str, mode: RaMode | None, *resolvers: str) -> Subnet:
    return Subnet(ID, IPv6Network(cidr), None, mode, tuple(IPv6Address(one) for one in resolvers))


def port(*subnets: Subnet, port_id: str = A, mtu: int = 1450) -> RouterPort:
    return RouterPort(port_id, ID, "02:00:00:00:00:01", mtu, (), subnets)


def words(*ports: RouterPort) -> str | None:
    """The configuration without its layout."""
    text = radvd_text(Router(ID, interfaces=ports), 30, 100)
    return None if text is None else " ".join(text.split())


def test_recorded_legacy_router_has_a_port_of_its_own_for_ipv6() -> None:
    text = radvd_text(load_features("q4_legacy", "compute1"), 30, 100)
    assert text is not None
    assert [line for line in text.splitlines() if line.startswith("interface")] == ["interface qr-461cfc29-e7 {"]
    assert {"AdvLinkMTU 1450;", "prefix 2001:db8:1::/64 {", "AdvAutonomous on;"} <= {*map(str.strip, text.splitlines())}


@pytest.mark.parametrize("host", ["compute1", "compute2"])
def test_recorded_router_with_both_families(host: str) -> None:
    document = (DOCUMENTS / f"h_dual_stack-{host}.json").read_bytes()
    assert radvd_text(parse_document(document, "h"), 30, 100) == (
        "interface qr-12ac4b0b-be {\n"
        "    AdvSendAdvert on;\n"
        "    MinRtrAdvInterval 30;\n"
        "    MaxRtrAdvInterval 100;\n"
        "    AdvLinkMTU 1450;\n"
        "    prefix 2001:db8:1::/64 {\n"
        "        AdvOnLink on;\n"
        "        AdvAutonomous on;\n"
        "    };\n"
        "    route fe80::a9fe:a9fe/128 { };\n"
        "};\n"
    )


@pytest.mark.parametrize("path", sorted(DOCUMENTS.glob("*.json")), ids=lambda path: path.stem)
def test_only_routers_whose_subnets_ask_advertise(path: Path) -> None:
    text = radvd_text(parse_document(path.read_bytes(), path.name), 30, 100)
    assert (text is not None) == ('"ipv6_ra_mode":"slaac"' in path.read_text().replace(" ", ""))


@pytest.mark.parametrize(
    ("mode", "flags", "autonomous", "resolved"),
    [
        (RaMode.SLAAC, "", "on", True),
        (RaMode.STATELESS, "AdvOtherConfigFlag on; ", "on", False),
        (RaMode.STATEFUL, "AdvManagedFlag on; ", "off", False),
    ],
)
def test_each_mode_tells_instances_where_to_ask(mode: RaMode, flags: str, autonomous: str, resolved: bool) -> None:
    """Resolvers are advertised where DHCPv6 does not tell them."""
    resolvers = "RDNSS 2001:db8::53 { }; " if resolved else ""
    assert words(port(subnet("2001:db8:1::/64", mode, "2001:db8::53"))) == (
        "interface qr-aaaaaaaa-22 { AdvSendAdvert on; MinRtrAdvInterval 30; MaxRtrAdvInterval 100; AdvLinkMTU 1450; "
        f"{flags}{resolvers}prefix 2001:db8:1::/64 {{ AdvOnLink on; AdvAutonomous {autonomous}; }}; "
        "route fe80::a9fe:a9fe/128 { }; };"
    )


def test_subnets_of_several_modes_on_one_port_share_its_flags() -> None:
    text = words(
        port(
            subnet("2001:db8:1::/64", RaMode.STATEFUL, "2001:db8::1"),
            subnet("2001:db8:2::/64", RaMode.STATELESS, "2001:db8::2"),
            subnet("2001:db8:3::/64", RaMode.SLAAC, "2001:db8::3"),
            subnet("2001:db8:4::/64", None, "2001:db8::4"),
        )
    )
    assert text is not None
    assert "AdvManagedFlag on; AdvOtherConfigFlag on; RDNSS 2001:db8::3 { };" in text
    assert "prefix 2001:db8:1::/64 { AdvOnLink on; AdvAutonomous off; };" in text
    assert text.count("AdvAutonomous on;") == 2
    assert "2001:db8:4::" not in text


def test_at_most_three_resolvers_in_their_order() -> None:
    text = words(
        port(
            subnet("2001:db8:1::/64", RaMode.SLAAC, "2001:db8::9", "2001:db8::1"),
            subnet("2001:db8:2::/64", RaMode.SLAAC, "2001:db8::5", "2001:db8::4"),
        )
    )
    assert "RDNSS 2001:db8::9 2001:db8::1 2001:db8::5 { };" in str(text)


@pytest.mark.parametrize(("mtu", "told"), [(1279, False), (1280, True), (9000, True)])
def test_an_mtu_that_ipv6_cannot_have_is_not_told(mtu: int, told: bool) -> None:
    assert (f"AdvLinkMTU {mtu};" in str(words(port(subnet("2001:db8::/64", RaMode.SLAAC), mtu=mtu)))) is told


def test_nothing_to_advertise() -> None:
    assert words() is None
    assert words(port()) is None
    assert words(port(subnet("2001:db8::/64", None))) is None
    assert words(port(Subnet(ID, IPv4Network("10.0.0.0/24"), None))) is None
    down = replace(port(subnet("2001:db8::/64", RaMode.SLAAC)), admin_state_up=False)
    assert words(down) is None


def test_ports_are_ordered_by_device_and_those_that_advertise_nothing_are_left_out() -> None:
    first, second = (port(subnet("2001:db8::/64", RaMode.SLAAC), port_id=one) for one in (A, B))
    text = words(second, first)
    assert text == words(first, second)
    assert str(text).index("qr-aaaaaaaa-22") < str(text).index("qr-bbbbbbbb-22")
    assert "qr-bbbbbbbb-22" not in str(words(first, replace(second, subnets=())))


@pytest.mark.parametrize("address", ["::1", "::ffff:1.2.3.4", "::"])
def test_no_address_begins_with_colons_which_radvd_does_not_read(address: str) -> None:
    text = words(port(subnet("::1:0:0:0/80", RaMode.SLAAC, address)))
    assert " ::" not in str(text)
    assert f"RDNSS {IPv6Address(address).exploded} {{" in str(text)
