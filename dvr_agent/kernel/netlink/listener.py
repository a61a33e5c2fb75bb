"""A netlink socket that only listens: notifications of rtnetlink(7) (links, addresses, routes …), or of nf_tables.

:class:`Listener` hears its own namespace or, with ``everywhere``, all namespaces that have a number (NSID) in it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pyroute2.netlink import NETLINK_LISTEN_ALL_NSID, NETLINK_ROUTE, SOL_NETLINK
from pyroute2.netlink.nfnetlink import NFNLGRP_NFTABLES
from pyroute2.netlink.rtnl import (
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV4_RULE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_IPV6_RULE,
    RTMGRP_LINK,
    RTMGRP_NEIGH,
    RTNLGRP_IPV4_NETCONF,
    RTNLGRP_IPV6_NETCONF,
    RTNLGRP_NSID,
)

from dvr_agent.errors import KernelError
from dvr_agent.kernel.netlink.message import HEADER
from dvr_agent.kernel.netlink.notification_filter import nftables_program, route_program
from dvr_agent.libc import attach_filter

# include/uapi/asm-generic/socket.h: not in Python.
SO_RCVBUFFORCE = 33
LINKS = RTMGRP_LINK
ALL_GROUPS = (
    RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE
    | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE | RTMGRP_IPV6_RULE
    | 1 << RTNLGRP_NSID - 1 | 1 << RTNLGRP_IPV4_NETCONF - 1 | 1 << RTNLGRP_IPV6_NETCONF - 1
)  # fmt: skip
"""Masks; those of the last three groups are not in pyroute2: bit n - 1 for number n."""
NFTABLES = 1 << NFNLGRP_NFTABLES - 1
"""Mask of the group of nf_tables; of the family ``NETLINK_NETFILTER``."""
OWN = -1
"""In place of a number: the namespace of the socket itself."""
BUFFER, MAX_BUFFER = 2 << 20, 64 << 20
"""Bytes of the receive buffer at first, and at most; a notification takes 1 to 4 KiB of it."""
MESSAGE = 32 * 1024
"""Bytes; the kernel's longest notification is that of a link, with some 2 KiB."""

_NUMBER = struct.Struct("=i")


class Notification(NamedTuple):
    """One message.

    :ivar namespace: number of the namespace that it is about, or :data:`OWN`
    :ivar flags: ``NLM_F_…`` of the request that caused the change
    :ivar port: port id of the socket that asked for the change, 0: the kernel, or not known
    """

    namespace: int
    kind: int
    flags: int
    port: int
    body: bytes


class OverflowedError(Exception):
    """The kernel has dropped notifications, since the receive buffer was full."""


class Listener:
    """One listening socket, made in the namespace in which the thread is.

    :param groups: mask of multicast groups
    :param everywhere: hear all namespaces that have a number here
    :param protocol: family of the groups: ``NETLINK_ROUTE``, or ``NETLINK_NETFILTER`` for :data:`NFTABLES`
    :param kept: such a socket that an earlier process has left, with what it has heard since
    :raises KernelError: no descriptor is left
    """

    def __init__(
        self, groups: int, everywhere: bool = False, protocol: int = NETLINK_ROUTE, kept: socket.socket | None = None
    ) -> None:
        self._buffer, self._size = bytearray(MESSAGE), BUFFER
        try:
            self._raw = kept or socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as exc:
            raise _error(exc, "heard") from exc
        try:
            # Of a kept socket, too: its filter drops what the sockets of the earlier process have asked for.
            attach_filter(self._raw.fileno(), route_program() if protocol == NETLINK_ROUTE else nftables_program())
            if kept is not None:
                self._size = self._raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles it
                return
            self._set_buffer()
            if everywhere:
                self._raw.setsockopt(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1)
            self._raw.bind((0, groups))
        except OSError as exc:
            self._raw.close()
            raise _error(exc, "heard") from exc

    def fileno(self) -> int:
        """Return the descriptor, readable when there are notifications."""
        return self._raw.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._raw.close()

    def read(self, limit: int) -> Iterator[Notification]:
        """Yield at most ``limit`` of the waiting notifications.

        :raises OverflowedError: some were dropped; the receive buffer is larger from now on
        """
        receive, buffers, space = self._raw.recvmsg_into, [self._buffer], socket.CMSG_SPACE(4)
        for _ in range(limit):
            try:
                size, ancillary, _flags, _sender = receive(buffers, space, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise _error(exc, "read") from exc
                self._enlarge()
                raise OverflowedError from exc
            if size >= HEADER.size:
                length, kind, flags, _sequence, port = HEADER.unpack_from(self._buffer)
                number = _NUMBER.unpack(ancillary[0][2])[0] if ancillary else OWN
                yield Notification(number, kind, flags, port, bytes(self._buffer[HEADER.size : length]))

    @property
    def buffer_size(self) -> int:
        """Size of the receive buffer in bytes."""
        return self._size

    def discard(self) -> None:
        """Throw away all waiting notifications."""
        while True:
            try:
                self._raw.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise _error(exc, "read") from exc

    def _enlarge(self) -> None:
        self._size = min(2 * self._size, MAX_BUFFER)
        with contextlib.suppress(OSError):
            self._set_buffer()

    def _set_buffer(self) -> None:
        self._raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, self._size)


def _error(exc: OSError, done: str) -> KernelError:
    return KernelError("", "netlink socket", exc.errno or errno.EIO, f"events cannot be {done}")
