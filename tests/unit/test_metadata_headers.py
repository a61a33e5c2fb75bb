"""Headers that go on through the metadata proxy: nothing an instance says about who it is gets through."""

from __future__ import annotations

import pytest

from dvr_agent.metadata_proxy.headers import client_address, ip_version, towards_agent, towards_instance

OURS = [(b"X-Neutron-Router-ID", b"r"), (b"X-Forwarded-For", b"10.0.0.5"), (b"Connection", b"close")]


def sent(*headers: tuple[bytes, bytes], body: int = 0) -> list[tuple[bytes, bytes]]:
    """What goes on beside our own headers."""
    out = towards_agent([(b"Host", b"h"), *headers], "r", "10.0.0.5", body)
    assert out[-3:] == OURS
    assert out[0] == (b"Host", b"h")
    return out[1:-3]


@pytest.mark.parametrize(
    "name",
    [
        b"X-Neutron-Router-ID",
        b"x-neutron-router-id",
        b"X_Neutron_Router_ID",
        b"X-NEUTRON_router-Id",
        b"X.Neutron.Router.Id",
        b"X-Neutron-Network-ID",
        b"X_NEUTRON_NETWORK_ID",
        b"X-Forwarded-For",
        b"X_Forwarded-For",
        b"X-Instance-ID",
        b"x_instance_id",
        b"X-Instance-ID-Signature",
        b"X-Instance_ID-Signature",
        b"X-Tenant-ID",
        b"X~Tenant!ID",
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authorization",
        b"proxy_whatever",
        b"TE",
        b"Trailer",
        b"Transfer_Encoding",
        b"Content_Length",
        b"Upgrade",
        b"Expect",
    ],
)
def test_what_is_not_the_instances_to_say_is_dropped(name: bytes) -> None:
    assert sent((b"Accept", b"*/*"), (name, b"forged")) == [(b"Accept", b"*/*")]


def test_other_headers_go_on_as_they_are() -> None:
    headers = [(b"User-Agent", b"curl"), (b"X-aws-ec2-metadata-token", b"t"), (b"X-Custom", b"1"), (b"X-Custom", b"2")]
    assert sent(*headers) == headers


def test_headers_named_by_connection_are_dropped_but_never_the_host() -> None:
    assert sent((b"Connection", b"close, X-Secret ,host"), (b"X_Secret", b"1"), (b"x-secret", b"2")) == []


def test_a_second_host_in_disguise_is_dropped() -> None:
    assert towards_agent([(b"Host", b"h")], "r", "10.0.0.5", 0) == [(b"Host", b"h"), *OURS]
    assert towards_agent([], "r", "10.0.0.5", 0) == [(b"Host", b"169.254.169.254"), *OURS]


def test_the_length_is_what_arrived_whatever_the_framing_was() -> None:
    assert sent((b"Transfer-Encoding", b"chunked"), body=5) == [(b"Content-Length", b"5")]
    assert sent((b"Content-Length", b"5"), body=5) == [(b"Content-Length", b"5")]
    assert sent((b"Content-Length", b"0")) == [(b"Content-Length", b"0")]
    assert sent() == []


def test_answers_lose_their_hop_by_hop_headers() -> None:
    given = [
        (b"Content-Length", b"2"),
        (b"Connection", b"X-Hop, content-length"),
        (b"X-Hop", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Authenticate", b"x"),
        (b"Upgrade", b"h2c"),
        (b"ETag", b"e"),
    ]
    assert towards_instance(given, 200) == [(b"Content-Length", b"2"), (b"ETag", b"e")]


def test_no_length_beside_chunks_or_in_a_204() -> None:
    assert towards_instance([(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"2")], 200) == []
    assert towards_instance([(b"Content-Length", b"0")], 204) == []
    assert towards_instance([(b"Content-Length", b"7")], 304) == [(b"Content-Length", b"7")]


@pytest.mark.parametrize(
    ("address", "plain", "version"),
    [
        (("10.0.0.5", 1234), "10.0.0.5", 4),
        (("2001:db8::5", 1234, 0, 0), "2001:db8::5", 6),
        (("fe80::f816:3eff:fe00:1%qr-abc", 1234, 0, 7), "fe80::f816:3eff:fe00:1", 6),
        (("fe80::1%7", 1234, 0, 7), "fe80::1", 6),
        (("::ffff:10.0.0.5", 1234, 0, 0), "10.0.0.5", 4),
        ("", "", 0),
        (b"\0abstract", "", 0),
    ],
)
def test_client_addresses(address: object, plain: str, version: int) -> None:
    assert client_address(address) == plain
    assert ip_version(plain) == version
