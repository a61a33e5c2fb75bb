"""Addresses and networks of :mod:`ipaddress` that keep their text, and are made once for a text that comes again.

A document names an address several times (a port, the lists of its subnets' ports, a gateway, a floating IP), and
desired states are made of texts.  :mod:`ipaddress` takes longer for these texts than all checks of a document together.
So a text is parsed once, and an address or network writes its text once.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, TypeAlias

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network

CACHED = 1024
"""Texts of each kind that are remembered: those of a document, and those that many documents share."""

_OCTETS = {str(number): number for number in range(256)}


class _KeepsText:
    """Keeps text and hash of an address or a network; comes before its class in the bases."""

    __slots__ = ()

    if TYPE_CHECKING:
        _text: str
        _hash: int

        def __setattr__(self, name: str, value: object) -> None: ...

    def __str__(self) -> str:
        try:
            return self._text
        except AttributeError:
            self._text = super().__str__()
            return self._text

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if spec else str(self)

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash = super().__hash__()
            return self._hash


class _Address4(_KeepsText, IPv4Address):
    __slots__ = ("_hash", "_text")


class _Address6(_KeepsText, IPv6Address):
    __slots__ = ("_hash", "_text")


class _Network4(_KeepsText, IPv4Network):
    pass


class _Network6(_KeepsText, IPv6Network):
    pass


def _number4(text: str) -> int:
    """Return ``int(IPv4Address(text))``, several times as fast.

    :raises ValueError: the text is no address
    """
    a, b, c, d = text.split(".", 4)
    try:
        return _OCTETS[a] << 24 | _OCTETS[b] << 16 | _OCTETS[c] << 8 | _OCTETS[d]
    except KeyError:
        raise ValueError(text) from None


@lru_cache(maxsize=CACHED)
def parse_address(text: object) -> IpAddress:
    """Return the address that a text writes, without zone (``%eth0``).

    :raises ValueError: the text is no address
    :raises TypeError: it is no text
    """
    if not isinstance(text, str) or "%" in text:
        raise ValueError
    if ":" in text:
        return _Address6(text)
    found = _Address4(_number4(text))
    found._text = text  # noqa: SLF001 - there is one way to write it that is accepted
    return found


@lru_cache(maxsize=128)
def parse_network(text: str) -> tuple[IpNetwork, bool]:
    """Return the network of ``address/prefix length``, and whether the address has host bits, which are dropped.

    :raises ValueError: the text is no network
    """
    address, _, length = text.partition("/")
    if ":" in text:
        network6 = _Network6(text, strict=False)
        return network6, int(network6.network_address) != int(IPv6Address(address))
    number, host_bits = _number4(address), 32 - int(length)
    if host_bits < 0:
        raise ValueError(text)
    first = number >> host_bits << host_bits
    return _network(4, first, 32 - host_bits), first != number


def network_of(address: IpAddress, prefixlen: int) -> IpNetwork:
    """Return the network of an address on a link with that prefix length."""
    host_bits = address.max_prefixlen - prefixlen
    return _network(address.version, int(address) >> host_bits << host_bits, prefixlen)


@lru_cache(maxsize=128)
def _network(version: int, first: int, prefixlen: int) -> IpNetwork:
    return _Network4((first, prefixlen)) if version == 4 else _Network6((first, prefixlen))
