"""Values of netlink messages as Hypothesis strategies, and messages as pyroute2 encodes them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

ipv4_addresses = st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n)))
# Not below 2^48: there inet_ntop, which pyroute2 uses, writes the end as an IPv4 address.
ipv6_addresses = st.one_of(st.integers(2**48, 2**128 - 1), st.integers(0xFD << 120, (0xFD << 120) + 2**40)).map(
    lambda n: str(ipaddress.IPv6Address(n))
)
macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
names = st.from_regex(r"[a-z][a-z0-9.-]{0,14}", fullmatch=True)
mtus = st.integers(68, 65535)
tables = st.one_of(st.integers(1, 255), st.integers(256, 2**32 - 1))
"""Routing tables: with and without a place in the header of the message."""


@st.composite
def cidrs(draw: st.DrawFn, network: bool = False) -> str:
    """Addresses with a prefix length; ``network``: without bits behind it."""
    family = draw(st.sampled_from((4, 6)))
    ip = draw(ipv4_addresses if family == 4 else ipv6_addresses)
    text = f"{ip}/{draw(st.integers(0, 32 if family == 4 else 128))}"
    return str(ipaddress.ip_network(text, strict=False)) if network else text


def encoded(cls: Any, fields: dict[str, Any], attributes: Sequence[Sequence[Any]]) -> bytes:
    """Body of a message that pyroute2 encodes.

    :param cls: class of pyroute2
    """
    message = cls()
    for key, value in fields.items():
        message[key] = value
    message["attrs"] = [list(pair) for pair in attributes]
    message.encode()
    return bytes(message.data[16:])
