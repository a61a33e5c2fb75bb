"""Compiled message classes: every request has the bytes of pyroute2's ``encode()``, every type is read as packed."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import NLA_F_NESTED, nla, nlmsg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dvr_agent.kernel.netlink import address, kernel_route, link, neighbour, nsid, route, rule
from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, AF_UNSPEC
from dvr_agent.kernel.netlink.schema import ATTRIBUTE, Schema, positions
from dvr_agent.state.address import Address
from dvr_agent.state.kernel_route import KernelRoute
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.route import Hop, Route, make_route
from dvr_agent.state.rule import Rule
from tests.support.wire_values import cidrs, encoded, ipv4_addresses, ipv6_addresses, macs, mtus, names, tables

INDEXES = {"qr-1": 2, "rfp-1": 70000}


@st.composite
def routes(draw: st.DrawFn) -> Route:
    dst = draw(cidrs(network=True))
    gateways = st.none() | (ipv6_addresses if ":" in dst else ipv4_addresses)
    hops = draw(
        st.lists(st.builds(Hop, gateways, st.sampled_from(sorted(INDEXES)), st.booleans()), min_size=1, max_size=3)
    )
    return make_route(dst, draw(tables), *hops)


def family(text: str) -> int:
    return AF_INET6 if ":" in text else AF_INET


class TestBytesOfPyroute2:
    """What a request holds in the order in which we write it, encoded by pyroute2."""

    @given(routes())
    def test_route(self, wanted: Route) -> None:
        network = ipaddress.ip_network(wanted.dst)
        direct = network.version == 4 and all(hop.gateway is None for hop in wanted.hops)
        fields = {"family": family(wanted.dst), "dst_len": network.prefixlen, "type": 1, "scope": 253 if direct else 0}
        fields |= {"table": wanted.table if wanted.table < 256 else 0}
        attributes: list[tuple[str, Any]] = [("RTA_DST", str(network.network_address))] if network.prefixlen else []
        attributes.append(("RTA_TABLE", wanted.table))
        attributes += [("RTA_PRIORITY", 1024)] if network.version == 6 else []
        if len(wanted.hops) == 1:
            (hop,) = wanted.hops
            fields["flags"] = 4 if hop.onlink else 0
            attributes.append(("RTA_OIF", INDEXES[hop.device]))
            attributes += [("RTA_GATEWAY", hop.gateway)] if hop.gateway else []
        else:
            attributes.append(("RTA_MULTIPATH", [self._hop(hop) for hop in wanted.hops]))
        assert route.add_route(wanted, INDEXES).body == encoded(rtmsg, fields | {"proto": 4}, attributes)
        assert route.delete_route(wanted, INDEXES).body == encoded(rtmsg, fields | {"proto": 0}, attributes)

    @given(cidrs(), st.integers(1, 2**31 - 1), st.booleans())
    def test_kernel_route(self, cidr: str, index: int, is_local: bool) -> None:
        wanted, is_v4 = KernelRoute("x", cidr, is_local), ":" not in cidr
        dst, _, length = wanted.dst.partition("/")
        kinds = {"table": 255, "scope": 254, "type": 2} if is_local else {"table": 254, "scope": 253, "type": 1}
        fields = {"family": family(cidr), "dst_len": int(length), "proto": 2, **kinds}
        attributes: list[tuple[str, Any]] = [("RTA_DST", dst)] if int(length) else []
        attributes.append(("RTA_PREFSRC", cidr.partition("/")[0]) if is_v4 else ("RTA_PRIORITY", 256))
        attributes.append(("RTA_OIF", index))
        expected = encoded(rtmsg, fields if is_v4 else fields | {"scope": 0}, attributes)
        assert kernel_route.add_kernel_route(wanted, index).body == expected

    @staticmethod
    def _hop(hop: Hop) -> dict[str, Any]:
        via = [["RTA_GATEWAY", hop.gateway]] if hop.gateway else []
        return {"oif": INDEXES[hop.device], "flags": 4 if hop.onlink else 0, "hops": 0, "attrs": via}

    @given(cidrs(), st.integers(1, 2**32 - 1), tables, st.none() | names, st.booleans(), st.booleans())
    def test_rule(self, src: str, priority: int, table: int, iif: str | None, by_src: bool, specific: bool) -> None:
        source, _, length = src.partition("/")
        wanted = Rule(6 if ":" in src else 4, priority, table, src if by_src else None, iif, specific)
        fields = {"family": family(src), "src_len": int(length) if by_src else 0, "action": 1}
        attributes: list[tuple[str, Any]] = [("FRA_PRIORITY", priority), ("FRA_TABLE", table)]
        attributes += [("FRA_SRC", source)] if by_src else []
        attributes += [("FRA_IIFNAME", iif)] if iif else []
        attributes += [("FRA_SUPPRESS_PREFIXLEN", 0)] if specific else []
        body = encoded(fibmsg, fields | {"table": table if table < 256 else 0}, attributes)
        assert rule.add_rule(wanted).body == rule.delete_rule(wanted).body == body

    @given(cidrs(), st.integers(1, 2**31 - 1))
    def test_address(self, cidr: str, index: int) -> None:
        interface = ipaddress.ip_interface(cidr)
        ip, length = str(interface.ip), interface.network.prefixlen
        fields = {"family": family(cidr), "prefixlen": length, "index": index}
        attributes: list[tuple[str, Any]] = [("IFA_LOCAL", ip)] if interface.version == 4 else []
        attributes.append(("IFA_ADDRESS", ip))
        assert address.delete_address(Address("x", cidr), index).body == encoded(ifaddrmsg, fields, attributes)
        if interface.version == 6:
            attributes.append(("IFA_FLAGS", 2))
        elif length < 31:
            attributes.append(("IFA_BROADCAST", str(interface.network.broadcast_address)))
        assert address.add_address(Address("x", cidr), index).body == encoded(ifaddrmsg, fields, attributes)

    @given(ipv4_addresses | ipv6_addresses, macs, st.integers(1, 2**31 - 1))
    def test_neighbour(self, dst: str, mac: str, index: int) -> None:
        wanted, fields = Neighbour(dst, "x", mac), {"family": family(dst), "ifindex": index}
        attributes = [("NDA_DST", dst), ("NDA_LLADDR", mac)]
        assert neighbour.add_neighbour(wanted, index).body == encoded(ndmsg, fields | {"state": 0x80}, attributes)
        assert neighbour.delete_neighbour(wanted, index).body == encoded(ndmsg, fields, attributes[:1])

    @given(names, names, macs, macs, mtus, st.booleans(), st.integers(3, 1000))
    def test_link(self, name: str, peer: str, mac: str, peer_mac: str, mtu: int, up: bool, fd: int) -> None:
        def properties(name: str, mac: str) -> list[tuple[str, Any]]:
            return [("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac), ("IFLA_MTU", mtu)]

        fields = {"flags": int(up), "change": int(up)}
        other = {"attrs": [*map(list, properties(peer, peer_mac)), ["IFLA_NET_NS_FD", fd]]}
        info = {"attrs": [["IFLA_INFO_KIND", "veth"], ["IFLA_INFO_DATA", {"attrs": [["VETH_INFO_PEER", other]]}]]}
        body = encoded(ifinfmsg, fields, [*properties(name, mac), ("IFLA_LINKINFO", info)])
        assert link.add_veth(name, mac, mtu, up, link.PeerEnd(peer, peer_mac, mtu, fd)).body == body
        bridge = {"attrs": [["IFLA_INFO_KIND", "bridge"]]}
        body = encoded(ifinfmsg, fields, [*properties(name, mac), ("IFLA_LINKINFO", bridge)])
        assert link.add_bridge(name, mac, mtu, up).body == body

    @given(st.integers(1, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(1, 2**32 - 1), st.integers(3, 1000))
    def test_change_of_a_link(self, index: int, master: int, group: int, fd: int) -> None:
        attributes = [("IFLA_MASTER", master), ("IFLA_GROUP", group), ("IFLA_NET_NS_FD", fd)]
        body = encoded(ifinfmsg, {"index": index, "flags": 0, "change": 1}, attributes)
        assert link.set_link(index, up=False, master=master, group=group, namespace_fd=fd).body == body
        assert link.delete_link(index).body == encoded(ifinfmsg, {"index": index}, [])
        assert link.delete_group(group).body == encoded(ifinfmsg, {}, [("IFLA_GROUP", group)])
        body = encoded(ifinfmsg, {}, [("IFLA_EXT_MASK", 8), ("IFLA_MASTER", master or 1)])
        assert link.dump_links(master or 1).body == body

    @given(st.integers(1, 2**31 - 1), tables)
    def test_dump(self, index: int, table: int) -> None:
        short = table if table < 256 else 0
        attributes = [("RTA_TABLE", table), ("RTA_OIF", index)]
        assert route.dump_routes(AF_INET, table, index).body == encoded(
            rtmsg, {"family": AF_INET, "table": short, "type": 1}, attributes
        )
        assert address.dump_addresses(index).body == encoded(ifaddrmsg, {"family": AF_UNSPEC, "index": index}, [])
        assert neighbour.dump_neighbours(index).body == encoded(ndmsg, {}, [("NDA_IFINDEX", index)])
        assert rule.dump_rules().body == encoded(fibmsg, {}, [])

    @given(st.integers(1, 2**31 - 1), st.sampled_from(("NETNSA_PID", "NETNSA_FD")))
    def test_namespace_id(self, value: int, member: str) -> None:
        assert nsid.get_nsid("x", member, value).body == encoded(nsidmsg, {}, [(member, value)])
        body = encoded(nsidmsg, {}, [("NETNSA_NSID", nsid.NOT_ASSIGNED), (member, value)])
        assert nsid.new_nsid("x", member, value).body == body
        assert nsid.decode_nsid(encoded(nsidmsg, {}, [("NETNSA_NSID", value)])) == value
        assert nsid.decode_nsid(encoded(nsidmsg, {}, [])) == nsid.NOT_ASSIGNED


PLAIN = (
    *("none", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("be8", "be16", "be32", "be64", "asciiz", "string", "ip4addr", "ip6addr", "ipaddr", "l2addr", "cdata"),
)


class everything(nlmsg):  # type: ignore[misc]  # noqa: N801 - pyroute2's way of naming
    """A message with an attribute of every plain type that the compiler knows."""

    fields = (("one", "B"), ("__pad", "3x"), ("two", "I"))
    nla_map = (*((f"X_{name.upper()}", name) for name in PLAIN), ("X_INNER", "inner"), ("X_DOOR", "door"))

    class inner(nla):  # type: ignore[misc]  # noqa: N801
        nla_map = (("Y_UNSPEC", "none"), ("Y_NUMBER", "uint32"))
        nla_flags = NLA_F_NESTED

    class door(nla):  # type: ignore[misc]  # noqa: N801
        fields = (("value", "I"),)


EVERYTHING = Schema(everything)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **{f"UINT{bits}": st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"BE{bits}": st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    "ASCIIZ": st.text("abc-é", min_size=1),
    "STRING": st.text("abc-é", min_size=1),
    "IP4ADDR": ipv4_addresses,
    "IP6ADDR": ipv6_addresses,
    "IPADDR": ipv4_addresses | ipv6_addresses,
    "L2ADDR": macs,
    "CDATA": st.binary(min_size=1),
    "DOOR": st.integers(0, 2**32 - 1),
}


class TestSchema:
    @pytest.mark.parametrize("name", sorted(VALUES))
    def test_every_plain_type_is_packed_as_pyroute2_does_and_read_back(self, name: str) -> None:
        pack, read = EVERYTHING.packer(f"X_{name}"), EVERYTHING.reader(f"X_{name}")
        number = EVERYTHING.number(f"X_{name}")

        @given(VALUES[name])
        def check(value: Any) -> None:
            packed = pack(value)
            assert EVERYTHING.head()() + packed == encoded(everything, {}, [(f"X_{name}", value)])
            assert read(packed, 0) == value
            assert positions(packed, 0) == {number: 0}

        check()

    def test_named_fields_of_a_header(self) -> None:
        assert EVERYTHING.size == 8
        assert EVERYTHING.head("two")(7) == encoded(everything, {"two": 7}, [])
        assert EVERYTHING.head("one", "two")(1, 7) == encoded(everything, {"one": 1, "two": 7}, [])
        assert EVERYTHING.read_head("two")(encoded(everything, {"one": 1, "two": 7}, []), 0) == (7,)
        assert EVERYTHING.offset("two") == 4
        with pytest.raises(KeyError, match="in this order"):
            EVERYTHING.head("two", "one")
        with pytest.raises(KeyError, match="in this order"):
            EVERYTHING.head("three")

    def test_nested_attributes(self) -> None:
        inner = EVERYTHING.within("X_INNER")
        packed = EVERYTHING.nest("X_INNER")(inner.packer("Y_NUMBER")(5))
        assert EVERYTHING.head()() + packed == encoded(everything, {}, [("X_INNER", {"attrs": [["Y_NUMBER", 5]]})])
        assert ATTRIBUTE.unpack_from(packed)[1] & NLA_F_NESTED
        assert positions(packed, 0) == {EVERYTHING.number("X_INNER"): 0}

    def test_what_pyroute2_does_not_know_is_an_error_at_once(self) -> None:
        with pytest.raises(KeyError, match="pyroute2 knows no attribute X_NEW of everything"):
            EVERYTHING.packer("X_NEW")
        assert EVERYTHING.number("X_NEW", unknown=99) == 99
        with pytest.raises(KeyError, match="not a plain one"):
            EVERYTHING.packer("X_INNER")

    @given(st.binary(max_size=200))
    def test_rubbish_ends_the_search_for_attributes(self, data: bytes) -> None:
        found = positions(data[: len(data) & ~3], 0)
        assert all(0 <= at <= len(data) - 4 for at in found.values())
