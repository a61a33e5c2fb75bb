"""Notes when routes of floating IPs come into and leave a namespace, by the kernel's notifications."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

from tests.support.background import Background
from tests.support.lab import entered

RTM_NEWROUTE, RTM_DELROUTE, RTA_DST = 24, 25, 1
RTMGRP_IPV4_ROUTE = 0x40
SO_RCVBUFFORCE = 33
HEADER, RTMSG, ATTRIBUTE = struct.Struct("=IHHII"), 12, struct.Struct("=HH")


class RouteWatch(Background):
    """Listens for as long as the ``with`` block lasts.

    :ivar seen: (added, address) → time of its last notification, by the monotonic clock
    """

    def __init__(self, namespace: str) -> None:
        super().__init__()
        with entered(namespace):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        self._socket.bind((0, RTMGRP_IPV4_ROUTE))
        self._socket.settimeout(0.2)
        self.seen: dict[tuple[bool, str], float] = {}

    def close(self) -> None:
        self._socket.close()

    def work(self) -> None:
        while not self.stop.is_set():
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            now = time.monotonic()
            self.seen.update(dict.fromkeys(_routes(data), now))


def _routes(data: bytes) -> Iterator[tuple[bool, str]]:
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, *_ = HEADER.unpack_from(data, at)
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            yield from (
                (kind == RTM_NEWROUTE, one) for one in _destinations(data[at + HEADER.size + RTMSG : at + length])
            )
        at += (length + 3) & ~3 or len(data)


def _destinations(attributes: bytes) -> Iterator[str]:
    at = 0
    while at + ATTRIBUTE.size <= len(attributes):
        length, kind = ATTRIBUTE.unpack_from(attributes, at)
        if kind == RTA_DST:
            yield str(IPv4Address(attributes[at + 4 : at + length]))
        at += (length + 3) & ~3 or len(attributes)
