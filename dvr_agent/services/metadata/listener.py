"""Opens the listening sockets in a router's namespace, where metadata requests arrive.  Used by ``service``."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dvr_agent.errors import KernelError, ServiceError
from dvr_agent.kernel import netns

BACKLOG = 1024
"""Maximum number of connections that wait in the kernel, mostly while the proxy is away."""
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
MIGRATE = Path("/proc/sys/net/ipv4/tcp_migrate_req")


class PortTakenError(ServiceError):
    """Another process listens on the port, without SO_REUSEPORT or as another user."""


@dataclass(frozen=True, slots=True)
class RouterListener:
    """Listening sockets of one router: one for both families, or for IPv4 alone where there is no IPv6.

    :ivar cookie: number of the sockets' network namespace (SO_NETNS_COOKIE)
    """

    sockets: tuple[socket.socket, ...]
    cookie: int

    @property
    def descriptors(self) -> list[int]:
        """File descriptors of the sockets."""
        return [one.fileno() for one in self.sockets]

    @property
    def port(self) -> int:
        """Port of the sockets; 0 if they have different ports."""
        ports = {one.getsockname()[1] for one in self.sockets}
        return int(ports.pop()) if len(ports) == 1 else 0

    def close(self) -> None:
        """Close our copies; the proxy has its own."""
        for one in self.sockets:
            one.close()


def open_listener(namespace: str, port: int) -> RouterListener:
    """Listen in a namespace.

    SO_REUSEPORT: another process of root's may listen there too, neutron-l3-agent's haproxy before and after us.
    Connections that are not accepted when one of them closes go to the other one (net.ipv4.tcp_migrate_req of that
    namespace) if both have the same address: so one socket for both families, as haproxy has it (``bind :::9697``).

    :raises PortTakenError: another process listens on the port, without SO_REUSEPORT or as another user
    :raises ServiceError: there is no such namespace, or no descriptor left
    """
    sockets: list[socket.socket] = []
    try:
        with netns.entered(namespace):
            with contextlib.suppress(OSError):  # Linux < 5.14: connections not accepted yet are reset
                MIGRATE.write_text("1")
            try:
                sockets.append(_listen(socket.AF_INET6, "::", port))
            except OSError as exc:
                if exc.errno not in NO_IPV6:
                    raise
                sockets.append(_listen(socket.AF_INET, "0.0.0.0", port))
        return RouterListener(tuple(sockets), netns.cookie_of(sockets[0]))
    except OSError as exc:
        _close(sockets)
        kind = PortTakenError if exc.errno == errno.EADDRINUSE else ServiceError
        raise kind(f"cannot listen on port {port} in {namespace}: {exc.strerror}") from exc
    except KernelError as exc:
        _close(sockets)
        raise ServiceError(str(exc)) from exc


def adopt_listener(descriptors: Sequence[int]) -> RouterListener | None:
    """Adopt sockets that the proxy gave back; None if they do not listen.  The descriptors are ours in any case."""
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    with contextlib.suppress(OSError):
        if sockets and all(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for one in sockets):
            return RouterListener(tuple(sockets), netns.cookie_of(sockets[0]))
    _close(sockets)
    return None


def namespace_cookie(namespace: str) -> int | None:
    """Return the cookie of a namespace, None if there is no such namespace (or Linux is older than 5.14)."""
    try:
        with netns.entered(namespace):
            probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with probe:
            return netns.cookie_of(probe)
    except (OSError, KernelError):
        return None


def _listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind((address, port))
        one.listen(BACKLOG)
    except OSError:
        one.close()
        raise
    return one


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()
