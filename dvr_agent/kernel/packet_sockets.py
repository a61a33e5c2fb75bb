"""Keep the packet sockets that were used last for a moment, for the next announcement in the same namespace.

Closing a packet socket waits for an RCU grace period (10 to 14 ms, more than all other work for a router), so threads
of their own do it.  A socket keeps its namespace alive: it is closed when the namespace is removed, and soon in any
case, since another program may remove it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dvr_agent.errors import KernelError
from dvr_agent.kernel.netns import entered, inode_of

LINGER = 0.5
"""Seconds after which an unused socket is closed; in a resync of routers the next use comes sooner."""
MOST = 2
"""Sockets that are kept: routers share the fip namespace of their external network, and have a snat namespace each."""
CLOSING = "close packet socket"
"""Name of the threads that close packet sockets."""


class _Kept(NamedTuple):
    """An open socket.

    :ivar inode: of its namespace; no other namespace has it while the socket is open
    :ivar used: time of its last use
    """

    sock: socket.socket
    inode: int | None
    used: float = 0.0


class PacketSockets:
    """Packet sockets that send and receive nothing; for one thread that announces, and those that close."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        """By namespace; the last one used is the last one here."""
        self._is_watched = False

    @contextlib.contextmanager
    def open(self, namespace: str) -> Iterator[socket.socket]:
        """Open a socket in a namespace for the block, or take the one that is kept.

        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: no descriptor is left
        """
        one = self._take(namespace)
        try:
            yield one.sock
        finally:
            self._keep(namespace, one._replace(used=time.monotonic()))

    def drop(self, namespace: str) -> None:
        """Close the socket in a namespace, which is removed."""
        with self._lock:
            kept = self._kept.pop(namespace, None)
        if kept is not None:
            _close_aside(kept.sock)

    def _take(self, namespace: str) -> _Kept:
        with self._lock:
            kept = self._kept.pop(namespace, None)
        inode = inode_of(namespace) if namespace else None
        if kept is not None:
            if kept.inode == inode:
                return kept
            _close_aside(kept.sock)
        try:
            with entered(namespace):
                return _Kept(socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0), inode)
        except OSError as exc:
            raise KernelError(namespace, "packet socket", exc.errno or errno.EIO) from exc

    def _keep(self, namespace: str, one: _Kept) -> None:
        with self._lock:
            self._kept[namespace] = one
            surplus = self._kept.pop(next(iter(self._kept))) if len(self._kept) > MOST else None
            starts, self._is_watched = not self._is_watched, True
        if surplus is not None:
            _close_aside(surplus.sock)
        if starts and not _start(self._close_unused):
            self._is_watched = False
            self.drop(namespace)

    def _close_unused(self) -> None:
        """Close sockets that nobody uses any more, until none is kept."""
        is_watched = True
        while is_watched:
            time.sleep(LINGER)
            with self._lock:
                before = time.monotonic() - LINGER
                unused = [name for name, one in self._kept.items() if one.used <= before]
                closing = [self._kept.pop(name).sock for name in unused]
                is_watched = self._is_watched = bool(self._kept)
            for sock in closing:
                sock.close()


def _close_aside(sock: socket.socket) -> None:
    """Close a packet socket in a thread of its own; in this one if no thread can be started."""
    if not _start(sock.close):
        sock.close()


def _start(work: Callable[[], None]) -> bool:
    """Start a thread; returns False if that is not possible."""
    try:
        threading.Thread(target=work, name=CLOSING, daemon=True).start()
    except RuntimeError:
        return False
    return True
