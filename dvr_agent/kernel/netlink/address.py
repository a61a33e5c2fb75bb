"""Addresses on links: RTM_…ADDR messages (pyroute2's ``ifaddrmsg``, ``include/uapi/linux/if_addr.h``)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR, rt_scope
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, IFA_F_PERMANENT, ifaddrmsg

from dvr_agent.kernel.netlink.handler import EXISTS, GONE, Handler, Instead, SliceReader, WriteContext
from dvr_agent.kernel.netlink.link import keep_secondaries
from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, AF_UNSPEC, CREATE, REPLACE, Request, split_cidr
from dvr_agent.kernel.netlink.schema import Data, Schema, positions
from dvr_agent.state.address import ADDRESS_KIND, Address

ADDRESS = Schema(ifaddrmsg)
IFAPROT_KERNEL_RA = 2
"""Value of IFA_PROTO: the address comes from a router advertisement (include/uapi/linux/if_addr.h; not in pyroute2)."""
_LINK_LOCAL = range(rt_scope["link"], 256)

_BODY = ADDRESS.size
"""Where the attributes begin."""
_head = ADDRESS.head("family", "prefixlen", "index")
_read_head = ADDRESS.read_head("family", "prefixlen", "flags", "scope", "index")
_address, _local, _broadcast = map(ADDRESS.raw, ("IFA_ADDRESS", "IFA_LOCAL", "IFA_BROADCAST"))
_no_dad = ADDRESS.packer("IFA_FLAGS")(IFA_F_NODAD)
"""No duplicate address detection: Neutron allocates the addresses, and packets flow at once."""
_ADDRESS, _LOCAL = ADDRESS.number("IFA_ADDRESS"), ADDRESS.number("IFA_LOCAL")
IFA_PROTO = ADDRESS.number("IFA_PROTO", unknown=11)
"""Linux 5.18 (include/uapi/linux/if_addr.h); not in pyroute2 0.7."""
_read_address = ADDRESS.reader("IFA_ADDRESS")


def add_address(address: Address, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request of ``ip address add``, IPv4 with the broadcast address where the subnet has one."""
    family, ip, length = split_cidr(address.cidr)
    raw = socket.inet_pton(family, ip)
    if family == AF_INET6:
        attributes = _address(raw) + _no_dad
    else:
        attributes = _local(raw) + _address(raw)
        if length < 31:  # RFC 3021: a /31 has none
            host = (1 << (32 - length)) - 1
            attributes += _broadcast((int.from_bytes(raw, "big") | host).to_bytes(4, "big"))
    return Request(RTM_NEWADDR, CREATE, _head(family, length, index) + attributes, address, tolerate)


def delete_address(address: Address, index: int, tolerate: frozenset[int] = frozenset()) -> Request:
    """Return the request of ``ip address delete``."""
    family, ip, length = split_cidr(address.cidr)
    raw = socket.inet_pton(family, ip)
    attributes = _address(raw) if family == AF_INET6 else _local(raw) + _address(raw)
    return Request(RTM_DELADDR, 0, _head(family, length, index) + attributes, address, tolerate)


@lru_cache(maxsize=64)
def dump_addresses(index: int = 0) -> Request:
    """Return the request for all addresses of both families, or for those of one link."""
    return Request(RTM_GETADDR, NLM_F_DUMP, _head(AF_UNSPEC, 0, index), "addresses")


def decode_addresses(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterable[Address]:
    """Yield the addresses on the given devices that a process has added, from RTM_NEWADDR messages.

    The kernel makes link-local IPv6 addresses by itself (:func:`decode_link_locals`), and others from router
    advertisements.  Link-local addresses count only if they were added without duplicate address detection, as this
    agent does.
    """
    for data in messages:
        family, length, flags, scope, index = _read_head(data, 0)
        name = devices.get(index)
        if name is None:
            continue
        if family == AF_INET:
            found = positions(data, _BODY, _LOCAL)
            at = found.get(_LOCAL, 0)
        elif family == AF_INET6 and (scope not in _LINK_LOCAL or flags & IFA_F_NODAD):
            found = positions(data, _BODY)
            if _is_learned(data, flags, found):
                continue
            # With a peer address IFA_LOCAL is the own one; without it there is only IFA_ADDRESS.
            at = found.get(_LOCAL) or found.get(_ADDRESS, 0)
        else:
            continue
        if at:
            yield Address(name, f"{_read_address(data, at)}/{length}")


def decode_link_locals(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterable[Address]:
    """Yield the link-local IPv6 addresses that the kernel or another program made, from RTM_NEWADDR messages."""
    for data in messages:
        family, length, flags, scope, index = _read_head(data, 0)
        name = devices.get(index)
        if name is not None and family == AF_INET6 and scope in _LINK_LOCAL and not flags & IFA_F_NODAD:
            found = positions(data, _BODY)
            yield Address(name, f"{_read_address(data, found.get(_LOCAL) or found[_ADDRESS])}/{length}")


def _is_learned(data: Data, flags: int, found: Mapping[int, int]) -> bool:
    """True for an address from a router advertisement.

    Linux before 5.18 reports no origin; but an address that expires was not added by a process.
    """
    at = found.get(IFA_PROTO, 0)
    return not flags & IFA_F_PERMANENT or bool(at and data[at + 4] == IFAPROT_KERNEL_RA)


_NO_IPV4 = GONE | {errno.EAFNOSUPPORT}


def _read(reader: SliceReader) -> Iterable[Address]:
    return decode_addresses(reader.on_devices(dump_addresses), reader.owned)


def read_link_locals(reader: SliceReader) -> Iterable[Address]:
    """Yield the link-local addresses of owned devices that the kernel or another program made."""
    return decode_link_locals(reader.on_devices(dump_addresses), reader.owned)


def _add(addresses: Sequence[Address], context: WriteContext) -> list[Request]:
    indexes = context.indexes
    return [add_address(address, indexes[address.device], EXISTS) for address in addresses]


def _remove(address: Address, context: WriteContext) -> list[Request]:
    index = context.indexes[address.device]
    request = delete_address(address, index, GONE)
    if ":" in address.cidr or not context.first_time((keep_secondaries, address.device)):
        return [request]
    return [keep_secondaries(index, f"promote_secondaries of {address.device}", _NO_IPV4), request]


def _dump_device(address: Address, context: WriteContext) -> Request:
    return dump_addresses(context.indexes[address.device])


def _decode_all(messages: Iterable[Data], devices: Mapping[int, str]) -> Iterable[Address]:
    messages = list(messages)
    yield from decode_addresses(messages, devices)
    yield from decode_link_locals(messages, devices)


def _instead(address: Address, refused: Request, found: Sequence[Data], context: WriteContext) -> Instead:
    """Replace the kernel's link-local address of a device that was just raised, where the prefix length differs.

    An IPv6 address that expires, or counts as learned from a router advertisement, becomes ours for good in its place.
    """
    index = context.indexes[address.device]
    old = next((one for one in decode_link_locals(found, {index: address.device}) if one.ip == address.ip), None)
    if old is not None:
        return Instead([delete_address(old, index, GONE), refused])
    old = next((one for one in _decode_learned(found, index, address.device) if one.ip == address.ip), None)
    if old is None:
        return Instead()
    requests = [refused._replace(flags=REPLACE)] if old == address else [delete_address(old, index, GONE), refused]
    return Instead(requests, f"address {old.cidr}, which would expire")


def _decode_learned(messages: Iterable[Data], index: int, device: str) -> Iterable[Address]:
    """Yield the IPv6 addresses of a device that :func:`decode_addresses` leaves out, from RTM_NEWADDR messages."""
    for data in messages:
        family, length, flags, _scope, found_index = _read_head(data, 0)
        if family == AF_INET6 and found_index == index:
            found = positions(data, _BODY)
            if _is_learned(data, flags, found):
                yield Address(device, f"{_read_address(data, found.get(_LOCAL) or found[_ADDRESS])}/{length}")


HANDLER = Handler(
    ADDRESS_KIND,
    read=_read,
    add=_add,
    remove=_remove,
    reads_owned_only=True,
    dump_place=_dump_device,
    decode_place=_decode_all,
    instead=_instead,
)
