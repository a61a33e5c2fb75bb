"""Readers of single values: UUIDs, MAC addresses, IP addresses and networks, MTUs, names.

Each takes a decoded JSON value and its place, and returns the typed, canonical value or raises ``Invalid``.
``ports`` and ``parse`` put values together.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from dvr_agent.model.reader import At, Invalid, printable
from dvr_agent.model.router import IpAddress, IpNetwork

NAME_LENGTH = 255
"""Characters of a name or a host name that are kept (neutron_lib.db.constants.NAME_FIELD_SIZE)."""

MTU_MIN, MTU_MAX = 68, 65535
"""Smallest MTU of an IPv4 link (RFC 791), and largest of a veth device (ETH_MAX_MTU)."""

_uuid = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}").fullmatch
_mac = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}").fullmatch
_cidr = re.compile(r"[0-9a-fA-F.:]+/[0-9]{1,3}").fullmatch

_OCTETS = {str(number): number for number in range(256)}

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
    if isinstance(value, str) and _uuid(value):
        return value.lower()
    raise Invalid(at, value, "a UUID (8-4-4-4-12 hexadecimal digits)")


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
    return not int(mac[1], 16) & 1 and mac != "00:00:00:00:00:00"


def any_mac(value: object, at: At) -> str:
    """Read a MAC address of six octets with colons, in lower case."""
    if isinstance(value, str) and _mac(value):
        return value.lower()
    raise Invalid(at, value, "a MAC address (six octets with colons)")


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
        return printable(value, NAME_LENGTH)
    raise Invalid(at, value, "a string")


def optional_name(value: object, at: At) -> str | None:
    """Read a name or null."""
    return None if value is None else name(value, at)


def _number4(text: str) -> int:
    """Return ``int(IPv4Address(text))``, several times as fast: there are thousands in a document.

    :raises ValueError: the text is no address
    """
    a, b, c, d = text.split(".", 4)
    try:
        return _OCTETS[a] << 24 | _OCTETS[b] << 16 | _OCTETS[c] << 8 | _OCTETS[d]
    except KeyError:
        raise ValueError(text) from None


def address(value: object, at: At) -> IpAddress:
    """Read an IPv4 or IPv6 address, without zone (``%eth0``)."""
    if isinstance(value, str):
        try:
            if ":" not in value:
                return IPv4Address(_number4(value))
            if "%" not in value:
                return IPv6Address(value)
        except ValueError:
            pass
    raise Invalid(at, value, "an IPv4 or IPv6 address")


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
    if isinstance(value, str) and _cidr(value):
        try:
            found = _network(value)
        except ValueError:
            pass
        else:
            if found.version == 6 and int(found.network_address) >> 32 == 0xFFFF:
                raise Invalid(at, value, "a network that is not IPv4-mapped")
            return found
    raise Invalid(at, value, "a network (address/prefix length)")


def link_network(value: object, at: At) -> IpNetwork:
    """Read the network of a subnet: without host bits, and not /0, which would be a default route."""
    found = network(value, at)
    if int(found.network_address) != int(address(str(value).partition("/")[0], at)):
        raise Invalid(at, value, f"a network without host bits ({found})")
    if not found.prefixlen:
        raise Invalid(at, value, "a network with a prefix length of at least 1")
    return found


def subnet_network(value: object, at: At) -> IpNetwork:
    """Read a :func:`link_network` that overlaps no network that is reserved."""
    found = link_network(value, at)
    for reserved, what in _RESERVED:
        if _overlap(found, reserved):
            raise Invalid(at, value, f"a network that does not overlap {reserved} ({what})")
    return found


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
                return _network(value)
            if ":" not in value:
                return IPv4Network((_number4(value), 32))
            if "%" not in value:
                return IPv6Network(value)
        except ValueError:
            pass
    raise Invalid(at, value, "an address or a network (address/prefix length)")


def _network(text: str) -> IpNetwork:
    return IPv6Network(text, strict=False) if ":" in text else IPv4Network(text, strict=False)


def prefixlen(value: object, at: At, ip: IpAddress) -> int:
    """Read a prefix length of the family of ``ip``; 0 is refused, since it would make a default route."""
    if type(value) is int and 1 <= value <= ip.max_prefixlen:
        return value
    raise Invalid(at, value, f"a prefix length from 1 to {ip.max_prefixlen}")
