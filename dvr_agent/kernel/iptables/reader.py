"""Reads tables straight from the kernel: two getsockopt(2) calls per table, all tables of a namespace in one window.

libiptc reads a table in the same way but hands it over entry by entry and needs a setns window per table; through its
Python binding the five tables of an ordinary router take about twice as long, before anything of them is decoded.  Here
two thirds of the time are the kernel's own, as long as a table is what it was when last seen.

A table exists in a namespace only from its first use on, and asking for it makes it (and hooks it into the path of
every packet).  So what is not in ``/proc/net/ip_tables_names`` is not asked for: reading must not change anything.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from dvr_agent import libc
from dvr_agent.errors import KernelError
from dvr_agent.kernel.iptables.blob import Snapshot, Snapshots, decode_table, digest_of, shape_of
from dvr_agent.kernel.iptables.layout import ENTRIES_HEADER, GET_ENTRIES, GET_INFO, INFO, LAYOUTS, Layout
from dvr_agent.kernel.netns import cookie_of
from dvr_agent.state.filter import Family, Table, TableKey

READ_TRIES = 10
"""A table that changes between the two calls is read again, this often."""
KNOWN_MAX = 1 << 14
"""Namespaces of which we remember that they have a table."""


class Namespaces(Protocol):
    """The part of a :class:`~dvr_agent.kernel.api.NamespaceManager` that is needed here."""

    def enter(self, name: str) -> AbstractContextManager[None]: ...


Shapes = dict[TableKey, struct.Struct | None]
"""The tables that a namespace has, with the shape in which each was last seen."""


class TableReader:
    """Reads tables of any namespace; remembers what their content meant, and which namespace has which table."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._snapshots = Snapshots()
        self._known: dict[int, Shapes] = {}

    def open(self, namespace: str, keys: Iterable[TableKey]) -> NamespaceTables:
        """Sockets for reading these tables of one namespace, and the list of those that exist; to be closed.

        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: a socket could not be opened
        """
        wanted = frozenset(keys)
        families = sorted({family for family, _name in wanted})
        sockets: dict[Family, socket.socket] = {}
        lists: dict[Family, int] = {}
        cookie, shapes = None, None
        try:
            with self._namespaces.enter(namespace):
                for family in families:
                    sockets[family] = socket.socket(LAYOUTS[family].address_family, socket.SOCK_RAW, socket.IPPROTO_RAW)
                    cookie = cookie or _cookie(sockets[family])
                shapes = self._known.get(cookie) if cookie else None
                if shapes is None or not shapes.keys() >= wanted:
                    for family in families:
                        lists[family] = _open_list(LAYOUTS[family])
            if shapes is None:
                shapes = self._remember(cookie)
            for key in _listed(lists):
                shapes.setdefault(key, None)
        except OSError as exc:
            _close(sockets)
            hint = "packet filter tables are read by root only" if exc.errno == errno.EPERM else ""
            raise KernelError(namespace, "packet filter tables", exc.errno or errno.EIO, hint) from exc
        except BaseException:
            _close(sockets)
            raise
        finally:
            for fd in lists.values():
                if fd >= 0:
                    os.close(fd)
        return NamespaceTables(namespace, sockets, shapes, self._snapshots)

    def _remember(self, cookie: int | None) -> Shapes:
        """What will be known about a namespace: a table that is there stays there.  The oldest memories go first."""
        shapes: Shapes = {}
        if cookie:
            self._known[cookie] = shapes
            if len(self._known) > KNOWN_MAX:
                for old in list(self._known)[: KNOWN_MAX // 4]:
                    self._known.pop(old, None)
        return shapes


class NamespaceTables:
    """The tables of one namespace, as long as it is open; a context manager."""

    def __init__(
        self, namespace: str, sockets: dict[Family, socket.socket], shapes: Shapes, snapshots: Snapshots
    ) -> None:
        self.namespace = namespace
        self._sockets = sockets
        self._shapes = shapes
        self._snapshots = snapshots

    def __enter__(self) -> NamespaceTables:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close(self._sockets)

    def read(self, key: TableKey) -> Snapshot:
        """The table now; empty if it does not exist.

        :raises KernelError: the kernel refused, or the table does not hold still
        """
        if key not in self._shapes:
            return Snapshot(Table(*key))
        return self.read_existing(key)

    def read_existing(self, key: TableKey) -> Snapshot:
        """The table now; asking for one that does not exist makes it.

        :raises KernelError: the kernel refused, or the table does not hold still
        """
        shape = self._shapes.get(key)
        if shape is not None:  # as it was when last seen: very likely, and one call
            entries = self._entries(key, shape.size)
            if entries is not None:
                known = self._snapshots.get(digest_of(shape, key, entries))
                if known is not None:
                    return known
        for _ in range(READ_TRIES):
            info = ctypes.create_string_buffer(key[1].encode(), INFO.size)
            self._get(key, GET_INFO, info)
            entries = self._entries(key, INFO.unpack(info)[-1])
            if entries is not None:
                return self._understand(key, info.raw, entries)
        raise KernelError(self.namespace, Table(*key).text, errno.EAGAIN, "it changes faster than it can be read")

    def _understand(self, key: TableKey, info: bytes, entries: bytes) -> Snapshot:
        shape = self._shapes[key] = shape_of(LAYOUTS[key[0]], entries)
        digest = digest_of(shape, key, entries)
        snapshot = self._snapshots.get(digest)
        if snapshot is None:
            snapshot = decode_table(key, info, entries)
            self._snapshots.put(digest, snapshot)
        return snapshot

    def _entries(self, key: TableKey, size: int) -> bytes | None:
        """The entries; None if the table has another size by now."""
        # The buffer is zeroed: the kernel leaves gaps (behind the name of an extension) as they were.
        buffer = ctypes.create_string_buffer(ENTRIES_HEADER.size + size)
        ENTRIES_HEADER.pack_into(buffer, 0, key[1].encode(), size)
        return buffer.raw[ENTRIES_HEADER.size :] if self._get(key, GET_ENTRIES, buffer) else None

    def _get(self, key: TableKey, option: int, buffer: ctypes.Array[ctypes.c_char]) -> bool:
        """getsockopt(2).

        :returns: False if the table has another size by now
        """
        family = key[0]
        try:
            libc.getsockopt(self._sockets[family].fileno(), LAYOUTS[family].level, option, buffer)
        except OSError as exc:
            if exc.errno == errno.EAGAIN:
                return False
            code = exc.errno or errno.EIO
            raise KernelError(self.namespace, Table(*key).text, code, "it could not be read") from exc
        return True


def _close(sockets: dict[Family, socket.socket]) -> None:
    for opened in sockets.values():
        opened.close()


def _cookie(opened: socket.socket) -> int | None:
    """Number of the socket's namespace; None where the kernel is too old for it."""
    try:
        return cookie_of(opened)
    except OSError:
        return None


def _open_list(layout: Layout) -> int:
    """File with the names of the tables of the thread's namespace; -1 where the kernel has no legacy tables (yet)."""
    try:
        return os.open(f"/proc/thread-self/net/{layout.names}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _listed(lists: dict[Family, int]) -> list[TableKey]:
    return [(family, name) for family, fd in lists.items() if fd >= 0 for name in os.read(fd, 4096).decode().split()]
