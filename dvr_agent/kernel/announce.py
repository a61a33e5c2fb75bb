"""Announce addresses to neighbours: gratuitous ARP for IPv4, unsolicited neighbour advertisements for IPv6.

Implements :class:`dvr_agent.kernel.api.Announcer`; the reconciler and the daemon decide which addresses are announced,
and when again.  One packet socket in the namespace sends all frames.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Sequence

from pyroute2.arp import ARPHRD_ETHER
from pyroute2.protocols import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6

from dvr_agent.errors import KernelError
from dvr_agent.internet_checksum import checksum
from dvr_agent.kernel.api import GratuitousArp
from dvr_agent.kernel.packet_sockets import PacketSockets
from dvr_agent.state.namespace import Announcement

# Numbers that pyroute2 does not have.
SIOCGIFHWADDR = 0x8927
"""include/uapi/linux/sockios.h"""
ARPOP_REQUEST, ARPOP_REPLY = 1, 2
"""include/uapi/linux/if_arp.h"""
_OPERATIONS = ((GratuitousArp.REQUEST, ARPOP_REQUEST), (GratuitousArp.REPLY, ARPOP_REPLY))
BROADCAST = b"\xff" * 6
_IPV4_SIZE = 4
ALL_NODES = ipaddress.IPv6Address("ff02::1").packed
ALL_NODES_MAC = bytes.fromhex("333300000001")
"""RFC 2464, section 7: 33:33 and the last four bytes of the group."""
ND_NEIGHBOR_ADVERT = 136
NA_OVERRIDE, NA_ROUTER = 0x20000000, 0x80000000
"""RFC 4861, section 4.4.  The router flag is set: these namespaces forward packets, and a neighbour that has one as its
default router would drop the route if the flag were cleared."""
ND_OPT_TARGET_LL_ADDR = 2
"""RFC 4861, section 4.6.1."""
ND_HOP_LIMIT = 255
"""RFC 4861, section 7.1.2: receivers discard advertisements with another hop limit."""


class PacketAnnouncer:
    """Sends announcements by packet sockets."""

    def __init__(self, sockets: PacketSockets) -> None:
        self._sockets = sockets

    def announce(
        self, namespace: str, announcements: Sequence[Announcement], arp: GratuitousArp = GratuitousArp.BOTH
    ) -> None:
        """Send gratuitous ARP frames (IPv4) or an unsolicited neighbour advertisement (IPv6) for each.

        An announcement that cannot be sent does not keep the others from being sent.

        :raises KernelError: after all have been tried, naming the first that failed
        """
        if not announcements:
            return
        with self._sockets.open(namespace) as sock:
            failures = _send(sock, announcements, arp)
        if failures:
            first, cause = failures[0]
            what = f"announcement of {first.address} dev {first.device}"
            more = f"and {len(failures) - 1} more failed" if len(failures) > 1 else ""
            raise KernelError(namespace, what, cause.errno or errno.EIO, more) from cause


def _send(
    sock: socket.socket, announcements: Sequence[Announcement], arp: GratuitousArp
) -> list[tuple[Announcement, OSError]]:
    """Send all announcements; returns those that failed."""
    failures = []
    devices: dict[str, AnnouncingDevice] = {}
    for one in announcements:
        try:
            if one.device not in devices:
                devices[one.device] = AnnouncingDevice(_mac(sock, one.device), arp)
            for protocol, frame in devices[one.device].frames(one.address):
                sock.sendto(frame, (one.device, protocol))
        except OSError as exc:
            failures.append((one, exc))
    return failures


class AnnouncingDevice:
    """Makes the frames that announce addresses by one device.

    :param mac: of the device
    """

    def __init__(self, mac: bytes, arp: GratuitousArp) -> None:
        self._mac = mac
        self._arp = [_gratuitous_arp(mac, operation) for kind, operation in _OPERATIONS if kind in arp]

    def frames(self, address: str) -> list[tuple[int, bytes]]:
        """Return the frames that announce an address, each with its Ethernet protocol."""
        if ":" in address:
            return [(ETH_P_IPV6, _unsolicited_advertisement(socket.inet_pton(socket.AF_INET6, address), self._mac))]
        ip = socket.inet_aton(address)
        return [(ETH_P_ARP, begin + ip + target + ip) for begin, target in self._arp]


def _gratuitous_arp(mac: bytes, operation: int) -> tuple[bytes, bytes]:
    """Return what is before the sender's and between its address and the target's, which are the same.

    The frame is that which ``arping -U`` (request) and ``-A`` (reply) send (RFC 5227, section 3).
    """
    target = mac if operation == ARPOP_REPLY else BROADCAST
    arp = struct.pack("!HHBBH", ARPHRD_ETHER, ETH_P_IP, len(mac), _IPV4_SIZE, operation)
    return BROADCAST + mac + struct.pack("!H", ETH_P_ARP) + arp + mac, target


def _unsolicited_advertisement(ip: bytes, mac: bytes) -> bytes:
    """Make an unsolicited neighbour advertisement to all nodes, with override flag (RFC 4861, section 7.2.6)."""
    flags = NA_ROUTER | NA_OVERRIDE
    # The option's length is in units of eight bytes.
    rest = struct.pack("!I", flags) + ip + struct.pack("!BB", ND_OPT_TARGET_LL_ADDR, 1) + mac
    pseudo = ip + ALL_NODES + struct.pack("!II", 4 + len(rest), socket.IPPROTO_ICMPV6)
    unsummed = struct.pack("!BBH", ND_NEIGHBOR_ADVERT, 0, 0)
    message = struct.pack("!BBH", ND_NEIGHBOR_ADVERT, 0, checksum(pseudo + unsummed + rest)) + rest
    header = struct.pack("!IHBB", 6 << 28, len(message), socket.IPPROTO_ICMPV6, ND_HOP_LIMIT) + ip + ALL_NODES
    return ALL_NODES_MAC + mac + struct.pack("!H", ETH_P_IPV6) + header + message


def _mac(sock: socket.socket, device: str) -> bytes:
    """Return the device's own MAC address.

    :raises OSError: no such device, or none with Ethernet addresses
    """
    # struct ifreq: name (16 bytes), then struct sockaddr (family, 14 bytes of data), padded to 40.
    answer = fcntl.ioctl(sock, SIOCGIFHWADDR, struct.pack("16s24x", device.encode()))
    family, mac = struct.unpack_from("=H6s", answer, 16)
    if family != ARPHRD_ETHER:
        raise OSError(errno.EPFNOSUPPORT, "not an Ethernet device")
    return bytes(mac)
