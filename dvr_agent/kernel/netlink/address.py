"""Addresses on links: ``struct ifaddrmsg`` with attributes (``include/uapi/linux/if_addr.h``)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache

from dvr_agent.kernel.netlink.message import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    CREATE,
    NLM_F_DUMP,
    Data,
    Request,
    attr,
    attr_u32,
    ip_text,
    split_cidr,
)
from dvr_agent.state.address import Address

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS, IFA_PROTO = 1, 2, 4, 8, 11
IFAPROT_KERNEL_RA = 2
IFA_F_PERMANENT = 0x80
IFA_F_NODAD = 0x02
"""No duplicate address detection: Neutron gives the addresses out, and packets flow at once."""
RT_SCOPE_LINK = 253
_LINK_LOCAL = range(RT_SCOPE_LINK, 256)

_INFO = struct.Struct("=BBBBi")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""
_ATTR = struct.Struct("=HH")


def add_address(address: Address, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """``ip address add``, an IPv4 one with its broadcast address where the subnet has one."""
    family, raw, length = split_cidr(address.cidr)
    if family == AF_INET6:
        attributes = attr(IFA_ADDRESS, raw) + attr_u32(IFA_FLAGS, IFA_F_NODAD)
    else:
        attributes = attr(IFA_LOCAL, raw) + attr(IFA_ADDRESS, raw)
        if length < 31:  # RFC 3021: a /31 has none
            host = (1 << (32 - length)) - 1
            attributes += attr(IFA_BROADCAST, (int.from_bytes(raw, "big") | host).to_bytes(4, "big"))
    return Request(RTM_NEWADDR, CREATE, _INFO.pack(family, length, 0, 0, index) + attributes, address, tolerate)


def delete_address(address: Address, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    family, raw, length = split_cidr(address.cidr)
    attributes = attr(IFA_ADDRESS, raw) if family == AF_INET6 else attr(IFA_LOCAL, raw) + attr(IFA_ADDRESS, raw)
    return Request(RTM_DELADDR, 0, _INFO.pack(family, length, 0, 0, index) + attributes, address, tolerate)


@lru_cache(maxsize=64)
def dump_addresses(index: int = 0) -> Request:
    """All addresses of both families, or those of one link."""
    return Request(RTM_GETADDR, NLM_F_DUMP, _INFO.pack(AF_UNSPEC, 0, 0, 0, index), "addresses")


def decode_addresses(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterable[Address]:
    """Decode RTM_NEWADDR messages: the addresses on the given devices that somebody gave them.

    The kernel makes link-local IPv6 addresses by itself (:func:`decode_link_locals`), and others from router
    advertisements.  Link-local addresses count only if they were added without duplicate address detection, as this
    agent does.
    """
    for data in messages:
        family, length, flags, scope, index = _INFO.unpack_from(data)
        name = devices.get(index)
        if name is None:
            continue
        if family == AF_INET:
            found = _find(data, IFA_LOCAL)
        elif family == AF_INET6 and (scope not in _LINK_LOCAL or flags & IFA_F_NODAD) and not _is_learned(data, flags):
            # With a peer address IFA_LOCAL is the own one; without it there is only IFA_ADDRESS.
            found = _find(data, IFA_LOCAL) or _find(data, IFA_ADDRESS)
        else:
            continue
        if found:
            yield Address(name, f"{ip_text(found)}/{length}")


def decode_link_locals(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterable[Address]:
    """Decode RTM_NEWADDR messages: the other link-local addresses, which the kernel made, or somebody else."""
    for data in messages:
        family, length, flags, scope, index = _INFO.unpack_from(data)
        name = devices.get(index)
        if name is not None and family == AF_INET6 and scope in _LINK_LOCAL and not flags & IFA_F_NODAD:
            yield Address(name, f"{ip_text(_find(data, IFA_LOCAL) or _find(data, IFA_ADDRESS))}/{length}")


def _is_learned(data: Data, flags: int) -> bool:
    """Linux before 5.18 does not say where an address is from, but one that expires was not given by hand."""
    return not flags & IFA_F_PERMANENT or _find(data, IFA_PROTO) == bytes([IFAPROT_KERNEL_RA])


def _find(data: Data, wanted: int) -> Data:
    at, end = 8, len(data)
    unpack = _ATTR.unpack_from
    while at + 4 <= end:
        size, kind = unpack(data, at)
        if size < 4:
            break
        if kind == wanted:
            return data[at + 4 : at + size]
        at += (size + 3) & ~3
    return b""
