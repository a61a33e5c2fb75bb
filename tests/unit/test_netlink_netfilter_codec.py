"""Messages of connection tracking and nf_tables against pyroute2's classes: the same bytes, the same values back."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nfctsocket import IPS_NAT_MASK, nfct_msg, nfct_stats
from pyroute2.netlink.nfnetlink.nftsocket import nft_chain_msg, nft_gen_msg, nft_rule_msg, nft_table_msg

from dvr_agent.kernel.conntrack import message as conntrack
from dvr_agent.kernel.conntrack.message import AddressField
from dvr_agent.kernel.nftables import message as nftables
from dvr_agent.kernel.nftables.rules import decode, jump_of
from dvr_agent.state.filter import DportMatch, FilterRule, Jump, MarkMatch, Not, Verdict
from tests.support.wire_values import encoded

AF = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
Attributes = list[list[Any]]

v4 = st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
v6 = st.integers(0, 2**128 - 1).map(lambda n: str(ipaddress.IPv6Address(n)))
u16, u32, u64 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
versions = st.sampled_from((4, 6))
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=31)
afs = st.sampled_from((int(socket.AF_INET), int(socket.AF_INET6)))


def decoded(kind: type, body: bytes) -> Any:
    """A message as pyroute2 reads it."""
    found = kind(struct.pack("=IHHII", 16 + len(body), 0, 0, 0, 0) + body)
    found.decode()
    return found


def nested(*attributes: list[Any]) -> dict[str, Any]:
    return {"attrs": list(attributes)}


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def tuple_of(version: int, source: str, destination: str, port: int) -> dict[str, Any]:
    """One direction of a connection, as pyroute2 takes it."""
    ip = nested([f"CTA_IP_V{version}_SRC", source], [f"CTA_IP_V{version}_DST", destination])
    proto = nested(["CTA_PROTO_NUM", 17], ["CTA_PROTO_SRC_PORT", port], ["CTA_PROTO_DST_PORT", 53])
    return nested(["CTA_TUPLE_IP", ip], ["CTA_TUPLE_PROTO", proto])


def addresses(version: int) -> st.SearchStrategy[str]:
    return v4 if version == 4 else v6


# Connection tracking


@given(st.data(), versions, st.sampled_from(AddressField))
def test_a_filtered_dump_has_pyroute2s_bytes(data: st.DataObject, version: int, place: AddressField) -> None:
    address = data.draw(addresses(version))
    direction = "ORIG" if place < AddressField.REPLY_SOURCE else "REPLY"
    side = "SRC" if place in (AddressField.ORIGINAL_SOURCE, AddressField.REPLY_SOURCE) else "DST"
    flag = 1 if side == "SRC" else 2
    flags = [
        ["CTA_FILTER_ORIG_FLAGS", flag if direction == "ORIG" else 0],
        ["CTA_FILTER_REPLY_FLAGS", flag if direction == "REPLY" else 0],
    ]
    expected = encoded(
        nfct_msg,
        {"nfgen_family": AF[version]},
        [
            [f"CTA_TUPLE_{direction}", nested(["CTA_TUPLE_IP", nested([f"CTA_IP_V{version}_{side}", address])])],
            ["CTA_FILTER", nested(*flags)],
        ],
    )
    assert conntrack.dump_filtered(version, place, packed(address), "").body == expected


@given(versions)
def test_plain_requests_have_pyroute2s_bytes(version: int) -> None:
    assert conntrack.dump_connections(version, "").body == encoded(nfct_msg, {"nfgen_family": AF[version]}, [])
    assert conntrack.get_count("").body == encoded(nfct_msg, {}, [])


@given(st.data(), versions, u32, u32, u16, st.none() | u16)
def test_an_entry_is_read_as_pyroute2_wrote_it_and_deleted_by_its_bytes(
    data: st.DataObject, version: int, number: int, status: int, port: int, zone: int | None
) -> None:
    stands = [data.draw(addresses(version)) for _ in AddressField]
    original = tuple_of(version, stands[0], stands[1], port)
    attributes: Attributes = [
        ["CTA_TUPLE_ORIG", original],
        ["CTA_TUPLE_REPLY", tuple_of(version, stands[2], stands[3], port)],
        ["CTA_STATUS", status],
        ["CTA_TIMEOUT", 30],
        ["CTA_ID", number],
    ]
    zoned: Attributes = [["CTA_ZONE", zone]] if zone is not None else []
    body = encoded(nfct_msg, {"nfgen_family": AF[version]}, attributes[:2] + zoned + attributes[2:])
    found = conntrack.decode_connection(body, version)
    assert found is not None
    assert found.addresses == tuple(map(packed, stands))
    assert (found.id, found.is_translated) == (number.to_bytes(4, "big"), bool(status & IPS_NAT_MASK))
    key: Attributes = [["CTA_TUPLE_ORIG", original], ["CTA_ID", number], *zoned]
    request = conntrack.delete_connection(version, found, "")
    assert request.body == encoded(nfct_msg, {"nfgen_family": AF[version]}, key)
    assert decoded(nfct_msg, request.body).get_attr("CTA_ID") == number


@pytest.mark.parametrize("missing", ["CTA_TUPLE_ORIG", "CTA_ID"])
def test_an_entry_that_could_not_be_deleted_alone_is_none(missing: str) -> None:
    attributes: Attributes = [["CTA_TUPLE_ORIG", tuple_of(4, "10.0.0.1", "10.0.0.2", 1)], ["CTA_ID", 1]]
    body = encoded(nfct_msg, {"nfgen_family": AF[4]}, [pair for pair in attributes if pair[0] != missing])
    assert conntrack.decode_connection(body, 4) is None


def test_an_entry_of_the_other_ip_version_has_no_addresses() -> None:
    attributes: Attributes = [["CTA_TUPLE_ORIG", tuple_of(6, "fd00::1", "fd00::2", 1)], ["CTA_ID", 1]]
    found = conntrack.decode_connection(encoded(nfct_msg, {"nfgen_family": AF[6]}, attributes), 4)
    assert found is not None
    assert found.addresses == (None, None, None, None)


@given(u32)
def test_the_count_is_read_as_pyroute2_wrote_it(count: int) -> None:
    attributes: Attributes = [["CTA_STATS_GLOBAL_ENTRIES", count], ["CTA_STATS_GLOBAL_MAX_ENTRIES", 1]]
    assert conntrack.decode_count(encoded(nfct_stats, {}, attributes)) == count


# nf_tables: requests


@given(st.none() | u32)
def test_the_edges_of_a_transaction_have_pyroute2s_bytes(generation: int | None) -> None:
    edge = encoded(nfgen_msg, {"res_id": 10}, [])
    assert nftables.end_transaction().body == edge
    # pyroute2 has no class with NFNL_BATCH_GENID; it has the number and the form of NFTA_GEN_ID.
    with_generation = encoded(nft_gen_msg, {"res_id": 10}, [["NFTA_GEN_ID", generation]] if generation else [])
    if generation or generation is None:
        assert nftables.begin_transaction(generation).body == with_generation


@given(afs, names, names, st.none() | u64)
def test_deletions_have_pyroute2s_bytes(family: int, table: str, chain: str, handle: int | None) -> None:
    fields = {"nfgen_family": family}
    rule: Attributes = [["NFTA_RULE_TABLE", table], ["NFTA_RULE_CHAIN", chain]]
    if handle is not None:
        rule.append(["NFTA_RULE_HANDLE", handle])
    assert nftables.delete_rule(family, table, chain, handle).body == encoded(nft_rule_msg, fields, rule)
    of_chain: Attributes = [["NFTA_CHAIN_TABLE", table], ["NFTA_CHAIN_NAME", chain]]
    assert nftables.delete_chain(family, table, chain).body == encoded(nft_chain_msg, fields, of_chain)
    of_table: Attributes = [["NFTA_TABLE_NAME", table]]
    assert nftables.delete_table(family, table).body == encoded(nft_table_msg, fields, of_table)
    rules_of: Attributes = [["NFTA_RULE_TABLE", table]]
    assert nftables.dump_rules(family, table).body == encoded(nft_rule_msg, fields, rules_of)


# nf_tables: objects


@given(u32)
def test_the_generation_is_read_as_pyroute2_wrote_it(generation: int) -> None:
    assert nftables.decode_generation(encoded(nft_gen_msg, {}, [["NFTA_GEN_ID", generation]])) == generation


@given(afs, names, u32)
def test_tables_are_read_as_pyroute2_wrote_them(family: int, name: str, use: int) -> None:
    attributes: Attributes = [["NFTA_TABLE_NAME", name], ["NFTA_TABLE_FLAGS", 0], ["NFTA_TABLE_USE", use]]
    body = encoded(nft_table_msg, {"nfgen_family": family}, attributes)
    assert nftables.decode_table(body) == nftables.TableInfo(family, name, use)


@given(afs, names, names, st.booleans(), st.none() | st.integers(0, 1))
def test_chains_are_read_as_pyroute2_wrote_them(
    family: int, table: str, name: str, base: bool, policy: int | None
) -> None:
    attributes: Attributes = [["NFTA_CHAIN_TABLE", table], ["NFTA_CHAIN_NAME", name]]
    if base:
        attributes.append(["NFTA_CHAIN_HOOK", nested(["NFTA_HOOK_HOOKNUM", 1], ["NFTA_HOOK_PRIORITY", -100])])
        attributes.append(["NFTA_CHAIN_TYPE", "nat"])
    if policy is not None:
        attributes.append(["NFTA_CHAIN_POLICY", policy])
    body = encoded(nft_chain_msg, {"nfgen_family": family}, attributes)
    accepts = base and policy != 0
    hook = (1, -100, "nat") if base else (-1, 0, "")
    assert nftables.decode_chain(body) == nftables.ChainInfo(family, table, name, base, accepts, *hook)


def expression(name: str, *attributes: list[Any]) -> dict[str, Any]:
    return nested(["NFTA_EXPR_NAME", name], ["NFTA_EXPR_DATA", nested(*attributes)])


def meta(key: int) -> dict[str, Any]:
    return expression("meta", ["NFTA_META_DREG", 1], ["NFTA_META_KEY", key])


def payload(base: int, offset: int, length: int) -> dict[str, Any]:
    where: Attributes = [["NFTA_PAYLOAD_BASE", base], ["NFTA_PAYLOAD_OFFSET", offset], ["NFTA_PAYLOAD_LEN", length]]
    return expression("payload", ["NFTA_PAYLOAD_DREG", 1], *where)


def compare(value: bytes, invert: bool = False) -> dict[str, Any]:
    data = nested(["NFTA_DATA_VALUE", value])
    return expression("cmp", ["NFTA_CMP_SREG", 1], ["NFTA_CMP_OP", int(invert)], ["NFTA_CMP_DATA", data])


def verdict(code: int, chain: str | None = None) -> dict[str, Any]:
    words: Attributes = [["NFTA_VERDICT_CODE", code]]
    if chain is not None:
        words.append(["NFTA_VERDICT_CHAIN", chain])
    data = nested(["NFTA_DATA_VERDICT", nested(*words)])
    return expression("immediate", ["NFTA_IMMEDIATE_DREG", 0], ["NFTA_IMMEDIATE_DATA", data])


def rule(*expressions: dict[str, Any], handle: int = 7) -> nftables.RuleInfo:
    """A rule that pyroute2 wrote, as we read it."""
    attributes: Attributes = [
        ["NFTA_RULE_TABLE", "nat"],
        ["NFTA_RULE_CHAIN", "POSTROUTING"],
        ["NFTA_RULE_HANDLE", handle],
        ["NFTA_RULE_EXPRESSIONS", list(expressions)],
    ]
    return nftables.decode_rule(encoded(nft_rule_msg, {"nfgen_family": AF[4]}, attributes))


@given(u64, names, st.sampled_from((-3, -4)))
def test_rules_are_read_as_pyroute2_wrote_them(handle: int, chain: str, code: int) -> None:
    found = rule(verdict(code, chain), handle=handle)
    assert (found.family, found.table, found.chain, found.handle) == (AF[4], "nat", "POSTROUTING", handle)
    assert jump_of(found.expressions) == chain
    assert decode(4, found.expressions) == FilterRule(Jump(chain))


@given(names.filter(lambda name: len(name) < 16), st.booleans(), st.sampled_from([(6, "iif"), (7, "oif")]))
def test_devices_are_read(name: str, invert: bool, key: tuple[int, str]) -> None:
    found = decode(4, rule(meta(key[0]), compare(name.encode() + b"\0", invert), verdict(1)).expressions)
    assert getattr(found, key[1]) == (Not(name) if invert else name)
    assert found.target == Verdict("ACCEPT")


@given(v4, st.booleans(), st.sampled_from([(12, "src"), (16, "dst")]))
def test_addresses_are_read(address: str, invert: bool, place: tuple[int, str]) -> None:
    found = decode(4, rule(payload(1, place[0], 4), compare(packed(address), invert), verdict(0)).expressions)
    assert getattr(found, place[1]) == (Not(f"{address}/32") if invert else f"{address}/32")
    assert found.target == Verdict("DROP")


@given(v6, st.sampled_from([(8, "src"), (24, "dst")]))
def test_ipv6_addresses_are_read(address: str, place: tuple[int, str]) -> None:
    found = decode(6, rule(payload(1, place[0], 16), compare(packed(address)), verdict(-5)).expressions)
    assert getattr(found, place[1]) == f"{address}/128"
    assert found.target == Verdict("RETURN")


@given(v4, st.integers(1, 32))
def test_prefixes_are_read(address: str, length: int) -> None:
    network = ipaddress.IPv4Network((address, length), strict=False)
    mask = nested(["NFTA_DATA_VALUE", network.netmask.packed])
    masked = expression(
        "bitwise",
        ["NFTA_BITWISE_SREG", 1],
        ["NFTA_BITWISE_DREG", 1],
        ["NFTA_BITWISE_LEN", 4],
        ["NFTA_BITWISE_MASK", mask],
        ["NFTA_BITWISE_XOR", nested(["NFTA_DATA_VALUE", bytes(4)])],
    )
    found = decode(4, rule(payload(1, 12, 4), masked, compare(network.network_address.packed), verdict(1)).expressions)
    assert found.src == str(network)


@given(u32, st.booleans())
def test_marks_are_read(mark: int, invert: bool) -> None:
    found = decode(4, rule(meta(3), compare(struct.pack("=I", mark), invert), verdict(1)).expressions)
    assert found.matches == (MarkMatch(mark, 0xFFFFFFFF, invert),)


@given(st.sampled_from((("tcp", 6), ("udp", 17))), u16)
def test_ports_are_read(protocol: Any, port: int) -> None:
    name, number = protocol
    steps = (meta(16), compare(bytes((number,))), payload(2, 2, 2), compare(port.to_bytes(2, "big")), verdict(1))
    found = decode(4, rule(*steps).expressions)
    assert (found.protocol, found.matches) == (name, (DportMatch(name, port, port),))
