"""The compiled netlink codec against pyroute2's own: the same bytes as ``encode()``, the same values as ``decode()``.

Runs with whatever pyroute2 is installed; CI does so with both ends of the range that ``pyproject.toml`` allows.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_PERMANENT, ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dvr_agent.kernel.ip_text import ip_text
from dvr_agent.kernel.netlink import address, link, message, neighbour, proxy_neighbour, route, rule
from dvr_agent.kernel.netlink.explain import explain
from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, Request
from dvr_agent.kernel.netlink.schema import attribute, attributes, positions
from dvr_agent.state.address import Address
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.proxy_neighbour import ProxyNeighbour
from dvr_agent.state.route import Hop, Route, make_route
from dvr_agent.state.rule import Rule
from tests.support.wire_values import cidrs, encoded, macs, mtus, names, tables
from tests.support.wire_values import ipv4_addresses as v4
from tests.support.wire_values import ipv6_addresses as v6

DEVICES = {2: "qr-7fb6853b-e0", 3: "rfp-7fb6853b-e0", 70000: "qg-1"}
INDEXES = {name: index for index, name in DEVICES.items()}

devices = st.sampled_from(sorted(DEVICES.values()))


@st.composite
def routes(draw: st.DrawFn) -> Route:
    dst = draw(cidrs(network=True))
    gateway = st.none() | (v6 if ":" in dst else v4)
    hops = draw(st.lists(st.builds(Hop, gateway, devices, st.booleans()), min_size=1, max_size=4))
    return make_route(dst, draw(tables), *hops)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    src = draw(st.none() | cidrs())
    family = draw(st.sampled_from((4, 6))) if src is None else 6 if ":" in src else 4
    iif = draw(st.none() | names)
    return Rule(family, draw(st.integers(1, 2**32 - 1)), draw(tables), src, iif)


def theirs(kind: type, request: Request) -> Any:
    """What pyroute2 makes of our message."""
    found = kind(message.HEADER.pack(16 + len(request.body), request.kind, request.flags, 1, 0) + request.body)
    found.decode()
    return found


class TestLink:
    @given(names, names, macs, macs, mtus, st.booleans())
    def test_veth_pairs(self, name: str, peer_name: str, mac: str, peer_mac: str, mtu: int, up: bool) -> None:
        peer = link.PeerEnd(peer_name, peer_mac, mtu, 11)
        found = theirs(ifinfmsg, link.add_veth(name, mac, mtu, up, peer))
        assert (found["flags"], found["change"]) == (int(up), int(up))
        assert (found.get_attr("IFLA_IFNAME"), found.get_attr("IFLA_ADDRESS"), found.get_attr("IFLA_MTU")) == (
            name,
            mac,
            mtu,
        )
        assert found.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_KIND") == "veth"
        other = found.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
        assert (other.get_attr("IFLA_IFNAME"), other.get_attr("IFLA_ADDRESS"), other.get_attr("IFLA_MTU")) == (
            peer_name,
            peer_mac,
            mtu,
        )
        assert other.get_attr("IFLA_NET_NS_FD") == 11

    @given(
        st.one_of(st.integers(1, 2**31 - 1), names),
        st.none() | st.booleans(),
        st.none() | macs,
        st.none() | mtus,
        st.none() | st.integers(0, 2**31 - 1),
        st.none() | st.text("abc:-/ 09", max_size=60),
        st.none() | st.integers(0, 2**32 - 1),
    )
    def test_changes(self, which: int | str, up: Any, mac: Any, mtu: Any, master: Any, alias: Any, group: Any) -> None:
        request = link.set_link(which, up=up, mac=mac, mtu=mtu, master=master, alias=alias, group=group)
        found = theirs(ifinfmsg, request)
        assert found["index"] == (which if isinstance(which, int) else 0)
        assert found.get_attr("IFLA_IFNAME") == (which if isinstance(which, str) else None)
        assert (found["flags"], found["change"]) == (int(bool(up)), int(up is not None))
        assert (found.get_attr("IFLA_ADDRESS"), found.get_attr("IFLA_MTU")) == (mac, mtu)
        assert (found.get_attr("IFLA_MASTER"), found.get_attr("IFLA_GROUP")) == (master, group)
        assert (found.get_attr("IFLA_IFALIAS") or "") == (alias or "")

    def test_bridges_and_deletion(self) -> None:
        bridge = theirs(ifinfmsg, link.add_bridge("brq1", up=True))
        assert (
            bridge.get_attr("IFLA_IFNAME"),
            bridge.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_KIND"),
            bridge["flags"],
        ) == ("brq1", "bridge", 1)
        assert theirs(ifinfmsg, link.delete_group(77)).get_attr("IFLA_GROUP") == 77
        assert theirs(ifinfmsg, link.delete_link("x")).get_attr("IFLA_IFNAME") == "x"

    @given(st.integers(1, 2**31 - 1), names, macs, mtus, st.integers(0, 9), st.booleans(), st.booleans())
    def test_decoding(self, index: int, name: str, mac: str, mtu: int, master: int, up: bool, pad: bool) -> None:
        attributes: list[tuple[str, Any]] = [("IFLA_TXQLEN", 1000)] if pad else []
        attributes += [("IFLA_MTU", mtu), ("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac), ("IFLA_IFALIAS", "an alias")]
        attributes += [("IFLA_MASTER", master)] if master else []
        attributes += [("IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "veth"]]})]
        data = encoded(ifinfmsg, {"index": index, "flags": 0x1002 | up}, attributes)
        expected = link.LinkInfo(index, name, mac, mtu, 0x1002 | up, master, "an alias", "veth")
        assert link.decode_link(data) == expected
        assert link.decode_link(data).up is up
        assert link.decode_brief(data) == expected._replace(master=0, alias="", kind="")
        assert link.index_and_name(data) == (index, name)


class TestAddress:
    @given(cidrs(), st.integers(1, 2**31 - 1))
    def test_encoding(self, cidr: str, index: int) -> None:
        interface = ipaddress.ip_interface(cidr)
        found = theirs(ifaddrmsg, address.add_address(Address("x", cidr), index))
        assert (found["index"], found["prefixlen"]) == (index, interface.network.prefixlen)
        assert found.get_attr("IFA_ADDRESS") == str(interface.ip)
        if interface.version == 4:
            assert found.get_attr("IFA_LOCAL") == str(interface.ip)
            has_broadcast = interface.network.prefixlen < 31
            assert found.get_attr("IFA_BROADCAST") == (
                str(interface.network.broadcast_address) if has_broadcast else None
            )
        else:
            assert found.get_attr("IFA_FLAGS") == 2

    @given(
        cidrs(),
        st.sampled_from(sorted(DEVICES)),
        st.sampled_from((0, 253)),
        st.sampled_from(("", "expires", "learned")),
    )
    def test_decoding(self, cidr: str, index: int, scope: int, how: str) -> None:
        """IPv6 addresses that were learned from a router, for ever or for a while, are nobody's."""
        interface = ipaddress.ip_interface(cidr)
        six = interface.version == 6
        attributes = [("IFA_ADDRESS", str(interface.ip))]
        if not six:
            attributes += [("IFA_LOCAL", str(interface.ip)), ("IFA_LABEL", "qr-1")]
        flags = 0 if how == "expires" else IFA_F_PERMANENT
        fields = {"family": AF_INET6 if six else AF_INET, "prefixlen": interface.network.prefixlen, "flags": flags}
        data = encoded(ifaddrmsg, {**fields, "index": index, "scope": scope}, attributes)
        if how == "learned":
            data += struct.pack("=HHBxxx", 5, address.IFA_PROTO, address.IFAPROT_KERNEL_RA)
        expected = [] if six and (scope == 253 or how) else [Address(DEVICES[index], str(interface))]
        assert list(address.decode_addresses([data], DEVICES)) == expected
        assert not list(address.decode_addresses([data], {}))


class TestRoute:
    @given(routes())
    def test_what_we_write_we_read(self, wanted: Route) -> None:
        assert list(route.decode_routes([route.add_route(wanted, INDEXES).body], DEVICES)) == [wanted]

    @given(routes())
    def test_encoding(self, wanted: Route) -> None:
        found = theirs(rtmsg, route.replace_route(wanted, INDEXES))
        network = ipaddress.ip_network(wanted.dst)
        assert found["dst_len"] == network.prefixlen
        assert (found["type"], found["proto"]) == (1, 4)
        assert found.get_attr("RTA_DST") == (str(network.network_address) if network.prefixlen else None)
        assert found.get_attr("RTA_TABLE") == wanted.table
        if len(wanted.hops) == 1:
            hop = wanted.hops[0]
            assert (found.get_attr("RTA_GATEWAY"), found.get_attr("RTA_OIF")) == (hop.gateway, INDEXES[hop.device])
            assert bool(found["flags"] & 4) == hop.onlink
            assert (found["scope"] == 253) == (network.version == 4 and hop.gateway is None)
        else:
            hops = [
                (h.get_attr("RTA_GATEWAY"), h["oif"], bool(h["flags"] & 4)) for h in found.get_attr("RTA_MULTIPATH")
            ]
            assert hops == [(hop.gateway, INDEXES[hop.device], hop.onlink) for hop in wanted.hops]

    @given(routes(), st.sampled_from((3, 4)))
    def test_decoding(self, wanted: Route, protocol: int) -> None:
        assert list(route.decode_routes([self._message(wanted, {"proto": protocol})], DEVICES)) == [wanted]

    @given(routes(), st.sampled_from([("proto", 2), ("proto", 9), ("proto", 16), ("type", 6), ("tos", 16)]))
    def test_foreign_ones_are_left_out(self, wanted: Route, foreign: tuple[str, int]) -> None:
        assert not list(route.decode_routes([self._message(wanted, dict([foreign]))], DEVICES))
        assert not list(route.decode_routes([self._message(wanted, {}, 77)], DEVICES))
        assert not list(route.decode_routes([self._message(wanted, {})], {}))

    @staticmethod
    def _message(wanted: Route, fields: dict[str, int], priority: int | None = None) -> bytes:
        network = ipaddress.ip_network(wanted.dst)
        attributes: list[tuple[str, Any]] = [("RTA_TABLE", wanted.table)]
        if network.prefixlen:
            attributes.append(("RTA_DST", str(network.network_address)))
        metric = priority if priority is not None else 1024 if network.version == 6 else 0
        attributes += [("RTA_PRIORITY", metric)] if metric else []
        base = {"family": AF_INET6 if network.version == 6 else AF_INET, "dst_len": network.prefixlen}
        base |= {"proto": 4, "type": 1, "table": wanted.table if wanted.table < 256 else 252}
        if len(wanted.hops) == 1:
            hop = wanted.hops[0]
            attributes += [("RTA_GATEWAY", hop.gateway)] if hop.gateway else []
            attributes.append(("RTA_OIF", INDEXES[hop.device]))
            base["flags"] = 4 if hop.onlink else 0
        body = encoded(rtmsg, base | fields, attributes)
        if len(wanted.hops) > 1:
            packed = b""
            for hop in wanted.hops:
                via = attribute(5, ipaddress.ip_address(hop.gateway).packed) if hop.gateway else b""
                packed += struct.pack("=HBBi", 8 + len(via), 4 * hop.onlink, 0, INDEXES[hop.device]) + via
            body += attribute(9, packed)
        return body

    @given(routes())
    def test_devices_of_a_message(self, wanted: Route) -> None:
        found = route.hop_indexes(route.add_route(wanted, INDEXES).body)
        assert {DEVICES[index] for index in found} == {hop.device for hop in wanted.hops}


class TestRule:
    @given(rules())
    def test_what_we_write_we_read(self, wanted: Rule) -> None:
        body = rule.add_rule(wanted).body
        assert list(rule.decode_rules([body])) == [wanted]

    @given(rules())
    def test_encoding(self, wanted: Rule) -> None:
        found = theirs(fibmsg, rule.add_rule(wanted))
        assert found["family"] == (AF_INET if wanted.family == 4 else AF_INET6)
        assert (found["action"], found.get_attr("FRA_PRIORITY"), found.get_attr("FRA_TABLE")) == (
            1,
            wanted.priority,
            wanted.table,
        )
        assert found.get_attr("FRA_IIFNAME") == wanted.iif
        source, _, length = (wanted.src or "/0").partition("/")
        assert (found.get_attr("FRA_SRC") or "", found["src_len"]) == (source, int(length))

    @given(
        rules(),
        st.sampled_from(
            [
                ("FRA_FWMARK", 7),
                ("FRA_OIFNAME", "eth0"),
                ("FRA_SUPPRESS_PREFIXLEN", 8),
                ("FRA_GOTO", 5),
                ("FRA_IP_PROTO", 6),
                ("FRA_L3MDEV", 1),
            ]
        ),
    )
    def test_other_selectors_are_left_out(self, wanted: Rule, foreign: tuple[str, Any]) -> None:
        fields = {"family": AF_INET if wanted.family == 4 else AF_INET6, "action": 1, "table": 16}
        plain = encoded(fibmsg, fields, [("FRA_PRIORITY", 40000), ("FRA_SUPPRESS_PREFIXLEN", 0xFFFFFFFF)])
        assert list(rule.decode_rules([plain])) == [Rule(wanted.family, 40000, 16)]
        assert not list(rule.decode_rules([encoded(fibmsg, fields, [("FRA_PRIORITY", 40000), foreign])]))

    @pytest.mark.parametrize("fields", [{"flags": 2}, {"tos": 16}, {"dst_len": 8}, {"action": 6}, {"family": 128}])
    def test_other_headers_are_left_out(self, fields: dict[str, int]) -> None:
        base = {"family": AF_INET, "action": 1, "table": 16}
        assert not list(rule.decode_rules([encoded(fibmsg, base | fields, [("FRA_PRIORITY", 40000)])]))


class TestNeighbour:
    @given(v4 | v6, macs, st.sampled_from(sorted(DEVICES)))
    def test_both_ways(self, dst: str, mac: str, index: int) -> None:
        wanted = Neighbour(dst, DEVICES[index], mac)
        found = theirs(ndmsg, neighbour.add_neighbour(wanted, index))
        assert (found["ifindex"], found["state"]) == (index, 0x80)
        assert (found.get_attr("NDA_DST"), found.get_attr("NDA_LLADDR")) == (dst, mac)
        fields = {"family": AF_INET6 if ":" in dst else AF_INET, "ifindex": index, "state": 0x80}
        attributes = [("NDA_DST", dst), ("NDA_PROBES", 0), ("NDA_LLADDR", mac)]
        data = encoded(ndmsg, fields, attributes)
        assert list(neighbour.decode_neighbours([data], DEVICES)) == [wanted]

    @pytest.mark.parametrize("fields", [{"state": 0x40}, {"state": 2}, {"flags": 8}, {"ifindex": 9}, {"family": 7}])
    def test_learned_and_proxy_entries_are_left_out(self, fields: dict[str, int]) -> None:
        base = {"family": AF_INET, "ifindex": 2, "state": 0x80}
        attributes = [("NDA_DST", "10.0.0.1"), ("NDA_LLADDR", "fa:16:3e:00:00:01")]
        assert not list(neighbour.decode_neighbours([encoded(ndmsg, base | fields, attributes)], DEVICES))


class TestProxyNeighbour:
    @given(v6, st.sampled_from(sorted(DEVICES)))
    def test_both_ways(self, dst: str, index: int) -> None:
        wanted = ProxyNeighbour(dst, DEVICES[index])
        found = theirs(ndmsg, proxy_neighbour.add_proxy_neighbour(wanted, index))
        assert (found["family"], found["ifindex"], found["flags"]) == (AF_INET6, index, 8)
        assert found.get_attr("NDA_DST") == dst
        fields = {"family": AF_INET6, "ifindex": index, "flags": 8}
        data = encoded(ndmsg, fields, [("NDA_DST", dst)])
        assert list(proxy_neighbour.decode_proxy_neighbours([data], DEVICES)) == [wanted]

    @pytest.mark.parametrize("fields", [{"flags": 0}, {"ifindex": 9}, {"family": AF_INET}])
    def test_other_entries_are_left_out(self, fields: dict[str, int]) -> None:
        base = {"family": AF_INET6, "ifindex": 2, "flags": 8}
        data = encoded(ndmsg, base | fields, [("NDA_DST", "2001:db8::5")])
        assert not list(proxy_neighbour.decode_proxy_neighbours([data], DEVICES))


class TestMessage:
    @given(st.integers(0, 2**128 - 1) | st.integers(0, 2**48))
    def test_addresses_are_written_as_ipaddress_writes_them(self, number: int) -> None:
        one = ipaddress.IPv6Address(number)
        assert ip_text(one.packed) == str(one)

    @given(st.binary(max_size=200))
    def test_rubbish_ends_the_reading_of_attributes(self, data: bytes) -> None:
        found = positions(data[: len(data) & ~3], 0)
        assert all(0 <= at <= len(data) - 4 for at in found.values())
        assert len(list(attributes(data, 0))) <= len(data) // 4


class TestExplanation:
    def test_a_refused_message_is_told_with_all_its_attributes(self) -> None:
        request = rule.add_rule(Rule(4, 40000, 16, "10.1.0.5/32"))
        text = explain(request.kind, request.body)
        assert text.startswith("fibmsg {")
        assert "'FRA_PRIORITY': 40000" in text
        assert "'FRA_SRC': '10.1.0.5'" in text

    @given(st.integers(0, 200), st.binary(max_size=64))
    def test_it_never_raises(self, kind: int, body: bytes) -> None:
        assert explain(kind, body)
