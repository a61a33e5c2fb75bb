"""Watch for a marked packet at devices of namespaces, and send one (:class:`Watch`, :func:`send`)."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NamedTuple

from pyroute2.protocols import ETH_P_ALL

from dvr_agent.errors import KernelError
from dvr_agent.kernel.live.frames import ethernet, make_ip_packet, read_addresses
from dvr_agent.kernel.netns import entered
from dvr_agent.trace.packet import Packet
from dvr_agent.trace.world import Device, Place

_IPV6_HDRINCL = 36
"""include/uapi/linux/in6.h; the socket module has no name for it."""
_MAX_FRAME = 1 << 16
_TABLE_FULL = frozenset({errno.EINVAL, errno.ENOBUFS})
"""Answers where no neighbour can be made: of ip6_finish_output2 (net/ipv6/ip6_output.c), and of IPv4."""
SEND_TRIES, _PAUSE = 5, 0.5
Way = Literal["in", "out"]


class Spot(NamedTuple):
    """A device, and the direction in which a packet passes it."""

    place: Place
    way: Way


class Sighting(NamedTuple):
    """A marked packet at a device, with its addresses there."""

    spot: Spot
    src: str
    dst: str


@dataclass(slots=True)
class Watch:
    """Packet sockets on devices; a context manager that closes them.

    :param mark: the end of the packet's payload
    :ivar seen: in the order of arrival
    """

    mark: bytes
    seen: list[Sighting] = field(default_factory=list)
    _sockets: dict[int, tuple[Place, socket.socket]] = field(default_factory=dict)

    def open(self, places: Iterable[Place]) -> None:
        """Open a socket on each device.

        :raises KernelError: a device cannot be watched
        """
        for place in places:
            try:
                with entered(place.namespace):
                    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
                    sock.bind((place.device, ETH_P_ALL))
            except (OSError, UnicodeEncodeError) as exc:
                raise _refused(place, "packet socket", exc) from exc
            sock.setblocking(False)
            self._sockets[sock.fileno()] = (place, sock)

    def wait(self, goal: Iterable[Sighting], seconds: float) -> None:
        """Take in packets until all of these were seen, for that time at most."""
        missing = set(goal)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select(list(self._sockets), [], [], left if missing else 0)
            if not ready:
                return
            for number in ready:
                missing.difference_update(self._take_in(*self._sockets[number]))

    def _take_in(self, place: Place, sock: socket.socket) -> list[Sighting]:
        before = len(self.seen)
        with contextlib.suppress(BlockingIOError):
            while True:
                data, address = sock.recvfrom(_MAX_FRAME)
                addresses = read_addresses(data) if self.mark in data else None
                if addresses is not None:
                    spot = Spot(place, "out" if address[2] == socket.PACKET_OUTGOING else "in")
                    self.seen.append(Sighting(spot, *addresses))
        return self.seen[before:]

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _place, sock in self._sockets.values():
            sock.close()


def send(namespace: str, packet: Packet, mark: bytes) -> None:
    """Have a namespace send the packet itself.

    :raises KernelError: the kernel refuses
    """
    family = socket.AF_INET6 if packet.family == 6 else socket.AF_INET
    data = make_ip_packet(packet, mark)
    try:
        with entered(namespace):
            sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with sock:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
            sock.bind((packet.head.src, 0))
            _send_patiently(sock, data, packet.head.dst)
    except OSError as exc:
        code = exc.errno or errno.EIO
        hint = "the kernel's neighbour table may be full (net.ipv4.neigh.default.gc_thresh3, net.ipv6…)"
        raise KernelError(namespace, f"packet {packet.head.text}", code, hint if code in _TABLE_FULL else "") from exc


def _send_patiently(sock: socket.socket, data: bytes, dst: str) -> None:
    """Send, again after a while where the neighbour table, which all namespaces of the host share, is full."""
    for tries_left in reversed(range(SEND_TRIES)):
        try:
            sock.sendto(data, (dst, 0))
            return
        except OSError as exc:
            if exc.errno not in _TABLE_FULL or not tries_left:
                raise
        time.sleep(_PAUSE)


def inject(into: Device, packet: Packet, mark: bytes, source_mac: str) -> None:
    """Have a packet come in by a device: send it on the other end of its veth pair.

    :param into: has a peer
    :raises KernelError: the kernel refuses
    """
    peer = into.peer
    if peer is None:
        raise KernelError(into.place.namespace, into.name, errno.EOPNOTSUPP, "it is no end of a veth pair")
    frame = ethernet(into.mac, source_mac, make_ip_packet(packet, mark))
    try:
        with entered(peer.namespace):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        with sock:
            sock.bind((peer.device, 0))
            sock.send(frame)
    except (OSError, UnicodeEncodeError) as exc:
        raise _refused(peer, "packet", exc) from exc


def _refused(place: Place, what: str, exc: OSError | UnicodeEncodeError) -> KernelError:
    if isinstance(exc, UnicodeEncodeError):
        return KernelError(place.namespace, f"{what} on {place.device}", errno.EINVAL, "its name is not UTF-8")
    return KernelError(place.namespace, f"{what} on {place.device}", exc.errno or errno.EIO)
