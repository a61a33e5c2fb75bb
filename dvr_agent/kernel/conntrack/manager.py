"""Delete connection tracking entries of an address, or entries that an address began without translation.

Implements :class:`dvr_agent.kernel.api.Conntrack`; the reconciler calls it when a floating IP is added, removed or
moved.

The entries are found by a dump of the namespace's table.  Each is deleted by its original tuple, zone and id, so that a
new connection with the same tuple stays.  There are two kinds of dump, and the cheaper one is taken:

* one plain dump, searched here: its cost grows with the entries of the namespace.
* dumps that the kernel filters (``CTA_FILTER``, Linux 5.8), one for each field that can have the address, since one
  filter joins its conditions by "and": each costs a walk over the hash table, which all namespaces share.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Sequence

from pyroute2.netlink import NETLINK_NETFILTER

from dvr_agent.errors import KernelError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.conntrack.condition import Condition, anywhere, to_ports, untranslated_outward
from dvr_agent.kernel.conntrack.message import (
    Connection,
    decode_connection,
    decode_count,
    delete_connection,
    dump_connections,
    dump_filtered,
    get_count,
)
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import Data
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.state.filter import Ports

FILTER_FROM = 20_000
"""Number of entries from which four filtered dumps cost no more than one plain dump; a quarter of it for each.

Measured with 262,144 buckets: 13 ms for a walk, 3 µs for an entry that is dumped.
"""
SEARCH_UP_TO = 64
"""Number of addresses up to which a plain dump is searched for each; with more, decoding every entry is cheaper."""
_NO_MODULE = frozenset({errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP})
_NO_FILTER = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
"""Answers of a kernel that knows ``CTA_FILTER``, but not in a dump or not with these flags."""


class NetlinkConntrack:
    """The connection tracking tables of named namespaces; keeps nothing between calls."""

    def delete(self, namespace: str, address: str) -> int:
        """Delete the connections with exactly this address on either side of either direction.

        :param address: IPv4 or IPv6, without prefix length
        :returns: how many were deleted; an entry that vanished by itself meanwhile does not count
        :raises KernelError: naming namespace and address
        """
        return _delete(namespace, f"connections of {address}", lambda: anywhere(address))

    def delete_to_ports(self, namespace: str, address: str, ports: Collection[Ports]) -> int:
        """Delete the connections that began to one of these ports of an IPv4 address, and no other.

        :returns: how many were deleted; an entry that vanished by itself meanwhile does not count
        :raises KernelError: naming namespace, address and ports
        """
        texts = (f"{protocol} {first}-{last}" for protocol, first, last in sorted(ports))
        what = f"connections to {address}, {', '.join(texts)}"
        return _delete(namespace, what, lambda: to_ports(address, ports))

    def drop_untranslated(self, namespace: str, addresses: Collection[str], inside: Sequence[str]) -> int:
        """Delete the connections that one of these IPv4 addresses has begun and that no NAT rule translates.

        :param inside: networks; connections to these stay
        :returns: how many were deleted; an entry that vanished by itself meanwhile does not count
        :raises KernelError: naming namespace and addresses
        """
        what = f"untranslated connections of {', '.join(sorted(addresses))}"
        return _delete(namespace, what, lambda: untranslated_outward(addresses, inside))


def _delete(namespace: str, what: str, make_condition: Callable[[], Condition]) -> int:
    try:
        condition = make_condition()
    except ValueError as exc:
        raise KernelError(namespace, what, errno.EINVAL, str(exc)) from exc
    try:
        with job_sockets.netlink(namespace, None, NETLINK_NETFILTER) as sock:
            requests = [delete_connection(condition.version, one, what) for one in _find(sock, condition, what)]
            return len(requests) - len(sock.batch(requests))
    except KernelError as exc:
        if exc.code in _NO_MODULE:
            hint = exc.hint or "is the kernel module nf_conntrack_netlink there?"
            raise KernelError(namespace, what, exc.code, hint) from exc
        raise


def _find(sock: NetlinkSocket, condition: Condition, what: str) -> Iterable[Connection]:
    """Return the connections that the condition selects, each once."""
    (answer,) = sock.get([get_count(what)])
    entries = decode_count(answer or b"")
    if entries == 0 or not condition.dumps:
        return ()
    if entries >= FILTER_FROM * condition.dumps / 4:
        try:
            return _find_filtered(sock, condition, what)
        except KernelError as exc:
            if exc.code not in _NO_FILTER:
                raise
    return _wanted(condition, _dump(sock, dump_connections(condition.version, what), condition.addresses)).values()


def _find_filtered(sock: NetlinkSocket, condition: Condition, what: str) -> Iterable[Connection]:
    found: dict[bytes, Connection] = {}
    for field in condition.fields:
        for address in condition.addresses:
            request = dump_filtered(condition.version, field, address, what)
            # Checked here too: Linux before 5.8 ignores the filter.
            found |= _wanted(condition, _dump(sock, request, {address}))
    return found.values()


def _dump(sock: NetlinkSocket, request: Request, addresses: Collection[bytes]) -> list[Data]:
    """Read the entries that may have one of the addresses."""
    if len(addresses) <= SEARCH_UP_TO:
        return sock.dump_containing(request, tuple(addresses))
    return sock.dump(request)


def _wanted(condition: Condition, entries: Iterable[Data]) -> dict[bytes, Connection]:
    """Decode entries, and return the connections that the condition selects, by id."""
    found = {}
    for data in entries:
        connection = decode_connection(data, condition.version)
        if connection is not None and condition.accepts(connection):
            found[connection.id] = connection
    return found
