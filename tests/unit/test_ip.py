"""Addresses and networks that keep their text are those of :mod:`ipaddress` in every other way."""

from __future__ import annotations

import copy
import pickle
from ipaddress import IPv6Address, ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.desired.allocation import PAIRS
from dvr_agent.model.ip import network_of, parse_address, parse_network
from dvr_agent.state.address import link_local

ADDRESSES = st.ip_addresses()
ALMOST = st.text("0123456789abcdefABCDEF.:/%", max_size=20)
MACS = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))


@given(ADDRESSES.map(str) | ADDRESSES.map(lambda ip: ip.exploded.upper()) | ALMOST)
def test_texts_are_the_same_addresses_as_of_ipaddress(text: str) -> None:
    try:
        expected = ip_address(text) if "%" not in text else None
    except ValueError:
        expected = None
    if expected is None:
        with pytest.raises(ValueError):  # noqa: PT011 - its text is nobody's
            parse_address(text)
        return
    first = parse_address(text)
    for found in (first, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert found == expected
        assert hash(found) == hash(expected)
        assert str(found) == f"{found}" == str(expected)
        assert f"{found:x}" == f"{expected:x}"
        assert {found: 1}[expected] == {expected: 1}[found] == 1


@pytest.mark.parametrize("value", [None, 1, True, ["10.0.0.1"], b"10.0.0.1", "10.0.0.1 ", "10.0.0.01", "１0.0.0.1"])
def test_what_is_no_text_of_an_address_is_refused(value: object) -> None:
    for _ in range(2):
        with pytest.raises((ValueError, TypeError)):
            parse_address(value)


@given(ADDRESSES, st.data())
def test_networks_are_the_same_as_of_ipaddress(address: object, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, ip_address(str(address)).max_prefixlen))
    text = f"{address}/{length}"
    expected = ip_network(text, strict=False)
    found, has_host_bits = parse_network(text)
    assert has_host_bits == (ip_interface(text).ip != expected.network_address)
    for one in (found, network_of(parse_address(str(address)), length), copy.deepcopy(found)):
        assert one == expected
        assert hash(one) == hash(expected)
        assert str(one) == f"{one}" == str(expected)
        assert (one.prefixlen, one.num_addresses, one[0]) == (expected.prefixlen, expected.num_addresses, expected[0])
        assert ip_address(str(address)) in one


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "::/129", "10.0.0.256/8"])
def test_what_is_no_network_is_refused(text: str) -> None:
    for _ in range(2):
        with pytest.raises(ValueError):  # noqa: PT011 - its text is nobody's
            parse_network(text)


def test_a_text_that_comes_again_is_the_same_object() -> None:
    assert parse_address("10.0.0.1") is parse_address("10.0.0." + str(1))
    assert parse_network("10.0.0.0/24")[0] is network_of(parse_address("10.0.0.7"), 24)
    assert parse_address("10.0.0.1") + 1 == ip_address("10.0.0.2")


@given(MACS | st.sampled_from(["02:00:00:00:00:00", "00:00:00:ff:fe:01", "fe:16:3e:00:00:00"]))
def test_the_link_local_address_of_a_mac_address_is_canonical(mac: str) -> None:
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((octets[0] ^ 0x02, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    assert link_local(mac) == str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


@given(st.sampled_from(PAIRS))
def test_both_addresses_of_a_pair_are_those_of_its_network(pair: object) -> None:
    net = ip_network(str(pair))
    assert [str(one) for one in net] == [pair.router_address, pair.fip_address]  # type: ignore[attr-defined]
    assert pair in PAIRS


def test_the_pool_of_pairs_has_each_31_of_its_network_once() -> None:
    assert [str(pair) for pair in PAIRS] == [str(net) for net in ip_network("169.254.64.0/18").subnets(new_prefix=31)]
    assert PAIRS[3:5] == [PAIRS[3], PAIRS[4]]
    assert "169.254.64.0/31" not in PAIRS
