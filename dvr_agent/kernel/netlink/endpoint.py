"""One netlink socket in one namespace: open, send, receive, close.  Base class of :class:`.transport.NetlinkSocket`.

Kernel-side handlers of both families (route, netfilter) work inside ``send`` and prepare the next part of a dump inside
``recv``: an answer is always there already, and no call here ever waits for one.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import random
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from pyroute2.netlink import NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK, NETLINK_ROUTE, SOL_NETLINK

from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.explain import explain
from dvr_agent.kernel.netlink.framing import pack
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.own_port import bind_own
from dvr_agent.kernel.netns import cookie_of, entered

NETLINK_CAP_ACK = 10
"""``include/uapi/linux/netlink.h``; pyroute2 has no name for it."""

SIOCGIFINDEX = 0x8933
"""``include/uapi/linux/sockios.h``; Python has no name for it."""
_INTERFACE = struct.Struct("=16si20x")
"""``struct ifreq``: name and index."""

BUFFER = 64 * 1024
"""Bytes; the kernel fills at most 32 KiB at a time (netlink_dump in net/netlink/af_netlink.c)."""
LOG = logging.getLogger(__name__)

_FLAGS = socket.MSG_DONTWAIT | socket.MSG_TRUNC
_pool: list[bytearray] = []
"""Buffers of closed sockets, for the next ones."""


def open_raw(namespace: str, protocol: int = NETLINK_ROUTE) -> socket.socket:
    """Open the bare socket, for a caller that enters the namespace itself to open other things there too.

    :param namespace: for errors only
    :param protocol: ``NETLINK_ROUTE`` or ``NETLINK_NETFILTER``
    :raises KernelError: no descriptor is left, or EPROTONOSUPPORT: this kernel has no such family
    """
    try:
        raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as exc:
        raise KernelError(namespace, "netlink socket", exc.errno or errno.EIO) from exc
    bind_own(raw)
    return raw


class RepeatError(Exception):
    """The dump has to be read again: it was interrupted, or the buffer was too small."""


class NetlinkEndpoint:
    """One plain netlink socket, bound for life to one namespace.

    Use it in a ``with`` block and keep it short: it keeps its namespace alive.

    :ivar namespace: for errors only
    """

    def __init__(self, namespace: str, raw: socket.socket, counters: WriteCounters | None) -> None:
        """
        :param namespace: for errors only
        :param raw: from :func:`open_raw`, called inside that namespace; closed with this object
        :param counters: :attr:`WriteCounters.netlink` counts what goes through :meth:`batch`
        """
        self.namespace = namespace
        self._raw = raw
        self._counters = counters
        self._cookie = 0
        # Not from 1 on: message_around() searches for headers by this number, and small ones occur in payloads too.
        self._sequence = (1 << 28) + random.getrandbits(30)
        try:
            for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
                raw.setsockopt(SOL_NETLINK, option, 1)
        except OSError as exc:
            raw.close()
            raise self._error("netlink socket", exc.errno or errno.EIO) from exc
        self._buffer = _pool.pop() if _pool else bytearray(BUFFER)

    @classmethod
    def open(cls, namespace: str, counters: WriteCounters | None, protocol: int = NETLINK_ROUTE) -> Self:
        """Open a socket in a named namespace, ``""`` for the one the thread is in.

        :param counters: None: what is written through this socket is not counted
        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: no descriptor is left, or EPROTONOSUPPORT: this kernel has no such family
        """
        with entered(namespace):
            raw = open_raw(namespace, protocol)
        return cls(namespace, raw, counters)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._raw.fileno()

    def cookie(self) -> int:
        """Return the number of the socket's namespace, which is never used twice while the host runs."""
        if not self._cookie:
            self._cookie = cookie_of(self._raw)
        return self._cookie

    def index_of(self, device: str) -> int | None:
        """Return the index of a device in the socket's namespace; None without one.

        RTM_GETLINK would wait for a lock that the whole host shares, and answer with all that is known of the device.

        :raises KernelError: it could not be asked for
        """
        try:
            answer = fcntl.ioctl(self._raw, SIOCGIFINDEX, _INTERFACE.pack(device.encode(), 0))
        except OSError as exc:
            if exc.errno == errno.ENODEV:
                return None
            raise self._error(f"device {device}", exc.errno or errno.EIO) from exc
        return int(_INTERFACE.unpack(answer)[1])

    def close(self) -> None:
        """Close the socket, and give its buffer back for the next one."""
        self._raw.close()
        if len(self._buffer) == BUFFER:
            _pool.append(self._buffer)
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _error(self, what: str, code: int, hint: str = "") -> KernelError:
        return KernelError(self.namespace, what, code, hint)

    def refused(self, request: Request, code: int, hint: str) -> KernelError:
        """Return the error for a request that was refused, which is written to the log at DEBUG."""
        if LOG.isEnabledFor(logging.DEBUG):
            LOG.debug("refused in namespace %s: %s", self.namespace or "(host)", explain(request.kind, request.body))
        return self._error(request.text, code, hint)

    def _send(self, requests: Sequence[Request], last: int) -> int:
        """Send requests, with the flags ``last`` added to the last one; returns the first one's sequence number."""
        first = self._sequence + 1
        self._sequence += len(requests)
        try:
            self._raw.send(pack(requests, first, last))
        except OSError as exc:
            raise self._error(requests[0].text, exc.errno or errno.EIO, "netlink send") from exc
        return first

    def _receive(self, what: str) -> int:
        """Fill the buffer; returns the number of bytes, 0 if there is nothing."""
        try:
            size = self._raw.recv_into(self._buffer, 0, _FLAGS)
        except BlockingIOError:
            return 0
        except OSError as exc:
            if exc.errno == errno.ENOBUFS:
                raise RepeatError from exc
            raise self._error(what, exc.errno or errno.EIO, "netlink receive") from exc
        if size > len(self._buffer):
            self._buffer = bytearray(size * 2)
            raise RepeatError
        return size

    def _receive_or_skip(self, what: str) -> int:
        """Fill the buffer as :meth:`_receive` does; skip answers that did not fit."""
        while True:
            try:
                return self._receive(what)
            except RepeatError:
                continue

    def _drain(self) -> None:
        """Read and discard the rest of an answer."""
        while self._receive_or_skip("netlink socket"):
            pass
