"""Readers of single values: UUIDs, MAC addresses, IP addresses and networks, MTUs, names.

Each takes a decoded JSON value and its place, and returns the typed, canonical value or raises ``Invalid``.
``ports`` and ``parse`` put values together.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from dvr_agent.model.ip import CACHED, IpAddress, IpNetwork, network_of, parse_address, parse_network
from dvr_agent.model.reader import At, Invalid, printable

NAME_LENGTH = 255
"""Characters of a name or a host name that are kept (neutron_lib.db.constants.NAME_FIELD_SIZE)."""

MTU_MIN, MTU_MAX = 68, 65535
"""Smallest MTU of an IPv4 link (RFC 791), and largest of a veth device (ETH_MAX_MTU)."""

_uuid = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}").fullmatch
_mac = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}").fullmatch
_cidr = re.compile(r"[0-9a-fA-F.:]+/[0-9]{1,3}").fullmatch

_EVEN_DIGITS = frozenset("02468aceACE")

_RESERVED = (
    (IPv4Network("169.254.64.0/18"), "which the agent uses for its own links"),
    (IPv4Network("127.0.0.0/8"), "loopback"),
    (IPv4Network("224.0.0.0/4"), "multicast"),
    (IPv6Network("::/127"), "the unspecified and the loopback address"),
    (IPv6Network("ff00::/8"), "multicast"),
)
"""Networks that no subnet may overlap: its on-link route would get packets to other destinations."""

_PAIR_RANGE = int(IPv4Address("169.254.64.0")) >> 14
"""169.254.64.0/18: links between router and FIP namespaces (neutron.agent.l3.dvr_fip_ns)."""


def uuid(value: object, at: At) -> str:
    """Read a UUID of 8-4-4-4-12 hexadecimal digits, in lower case.

    Neither braces nor ``urn:`` are accepted: no server sends them, and ids become parts of names.
    """
    try:
        return _lower_uuid(value)
    except (ValueError, TypeError):
        raise Invalid(at, value, "a UUID (8-4-4-4-12 hexadecimal digits)") from None


@lru_cache(maxsize=CACHED)
def _lower_uuid(value: object) -> str:
    """Return a UUID in lower case: one text for all that are equal.  Only valid ones, which are short, are remembered.

    :raises ValueError: the value is none
    :raises TypeError: it cannot be one
    """
    if isinstance(value, str) and _uuid(value):
        lower = value.lower()
        return value if value == lower else lower  # the text that is remembered anyway
    raise ValueError


def canonical_id(value: object) -> str | None:
    """Return a UUID in lower case, None if the value is no UUID; raises nothing."""
    try:
        return uuid(value, None)
    except Invalid:
        return None


def optional_uuid(value: object, at: At) -> str | None:
    """Read a UUID or null."""
    return None if value is None else uuid(value, at)


def is_unicast(mac: str) -> bool:
    """Return True if a MAC address can be that of one station: no group bit (IEEE 802), not all zero."""
    return mac[1] in _EVEN_DIGITS and mac != "00:00:00:00:00:00"


def any_mac(value: object, at: At) -> str:
    """Read a MAC address of six octets with colons, in lower case."""
    try:
        return _lower_mac(value)
    except (ValueError, TypeError):
        raise Invalid(at, value, "a MAC address (six octets with colons)") from None


@lru_cache(maxsize=256)
def _lower_mac(value: object) -> str:
    """Return a MAC address in lower case, as :func:`_lower_uuid` does."""
    if isinstance(value, str) and _mac(value):
        lower = value.lower()
        return value if value == lower else lower
    raise ValueError


def mac(value: object, at: At) -> str:
    """Read the MAC address of a station: unicast and not all zero."""
    found = any_mac(value, at)
    if not is_unicast(found):
        raise Invalid(at, value, "a unicast MAC address that is not all zero")
    return found


def mtu(value: object, at: At) -> int:
    """Read an MTU in bytes.

    Below 1280 the kernel has no IPv6 on a device (RFC 8200); that is not checked here: Neutron does not refuse such an
    MTU on a port with IPv6 addresses, and IPv4 works on it.
    """
    if type(value) is int and MTU_MIN <= value <= MTU_MAX:
        return value
    raise Invalid(at, value, f"an MTU from {MTU_MIN} to {MTU_MAX}")


def number(value: object, at: At, least: int, largest: int) -> int:
    """Read a whole number within limits, both included."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= largest:
        raise Invalid(at, value, f"a number from {least} to {largest}")
    return value


def name(value: object, at: At) -> str:
    """Read a name: any text, unprintable characters escaped, cut to 255 characters."""
    if isinstance(value, str):
        return _name(value) if len(value) <= NAME_LENGTH else printable(value, NAME_LENGTH)
    raise Invalid(at, value, "a string")


@lru_cache(maxsize=CACHED)
def _name(text: str) -> str:
    """Return a short name as :func:`name` does; one text for all that are equal, such as the owners of devices."""
    return printable(text, NAME_LENGTH)


def optional_name(value: object, at: At) -> str | None:
    """Read a name or null."""
    return None if value is None else name(value, at)


def address(value: object, at: At) -> IpAddress:
    """Read an IPv4 or IPv6 address, without zone (``%eth0``)."""
    try:
        return parse_address(value)
    except (ValueError, TypeError):
        raise Invalid(at, value, "an IPv4 or IPv6 address") from None


def why_unusable(ip: IpAddress) -> str:
    """Return why no host on a link can have an address; empty if one can."""
    number = int(ip)
    if number == 0:
        return "the unspecified address"
    return _why_unusable4(number) if ip.version == 4 else _why_unusable6(number)


def _why_unusable4(number: int) -> str:
    if number >> 28 == 0xE:
        return "multicast"
    if number >> 24 == 127:
        return "loopback"
    if number == 0xFFFFFFFF:
        return "broadcast"
    if number >> 14 == _PAIR_RANGE:
        return "in 169.254.64.0/18, which the agent uses for its own links"
    return ""


def _why_unusable6(number: int) -> str:
    if number >> 120 == 0xFF:
        return "multicast"
    if number == 1:
        return "loopback"
    if number >> 32 == 0xFFFF:
        return "IPv4-mapped"
    return ""


def host_address(value: object, at: At) -> IpAddress:
    """Read an address that a host on a link can have, see :func:`why_unusable`."""
    found = address(value, at)
    reason = why_unusable(found)
    if reason:
        raise Invalid(at, value, f"the address of a host; this one is {reason}")
    return found


def address4(value: object, at: At) -> IPv4Address:
    """Read an IPv4 address."""
    found = address(value, at)
    if isinstance(found, IPv4Address):
        return found
    raise Invalid(at, value, "an IPv4 address")


def network(value: object, at: At) -> IpNetwork:
    """Read a network, ``address/prefix length``, not in the IPv4-mapped range.

    Host bits are dropped: Neutron keeps extra routes as the tenant wrote them.
    """
    return _network(value, at)[0]


def _network(value: object, at: At) -> tuple[IpNetwork, bool]:
    """Read such a network; also returns whether it was written with host bits."""
    if isinstance(value, str) and _cidr(value):
        try:
            found = parse_network(value)
        except ValueError:
            pass
        else:
            if found[0].version == 6 and int(found[0].network_address) >> 32 == 0xFFFF:
                raise Invalid(at, value, "a network that is not IPv4-mapped")
            return found
    raise Invalid(at, value, "a network (address/prefix length)")


def link_network(value: object, at: At) -> IpNetwork:
    """Read the network of a subnet: without host bits, and not /0, which would be a default route."""
    found, has_host_bits = _network(value, at)
    if has_host_bits:
        raise Invalid(at, value, f"a network without host bits ({found})")
    if not found.prefixlen:
        raise Invalid(at, value, "a network with a prefix length of at least 1")
    return found


def subnet_network(value: object, at: At) -> IpNetwork:
    """Read a :func:`link_network` that overlaps no network that is reserved."""
    found = link_network(value, at)
    reserved = _reserved(found)
    if reserved:
        raise Invalid(at, value, f"a network that does not overlap {reserved}")
    return found


@lru_cache(maxsize=128)
def _reserved(found: IpNetwork) -> str:
    """Return the reserved network that a network overlaps, and what it is for; empty if there is none."""
    return next((f"{network} ({what})" for network, what in _RESERVED if _overlap(found, network)), "")


def _overlap(one: IpNetwork, other: IpNetwork) -> bool:
    if one.version != other.version:
        return False
    shift = one.max_prefixlen - min(one.prefixlen, other.prefixlen)
    return int(one.network_address) >> shift == int(other.network_address) >> shift


def address_or_network(value: object, at: At) -> IpNetwork:
    """Read an address (as a network of one) or a network; host bits are dropped, since users set these."""
    if isinstance(value, str):
        try:
            if _cidr(value):
                return parse_network(value)[0]
            single = parse_address(value)
            return network_of(single, single.max_prefixlen)
        except ValueError:
            pass
    raise Invalid(at, value, "an address or a network (address/prefix length)")


def prefixlen(value: object, at: At, ip: IpAddress) -> int:
    """Read a prefix length of the family of ``ip``; 0 is refused, since it would make a default route."""
    if type(value) is int and 1 <= value <= ip.max_prefixlen:
        return value
    raise Invalid(at, value, f"a prefix length from 1 to {ip.max_prefixlen}")
