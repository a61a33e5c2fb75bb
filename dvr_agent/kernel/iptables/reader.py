"""Reads tables straight from the kernel: two getsockopt(2) calls per table, all tables of a namespace in one window.

libiptc reads a table in the same way but hands it over entry by entry; through its Python binding that takes XTIMES
as long for the five tables of an ordinary router, and one setns window per table.

A table exists in a namespace only from its first use on, and asking for it makes it (and hooks it into the path of
every packet).  So what is not in ``/proc/net/ip_tables_names`` is not asked for: reading must not change anything.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from dvr_agent.errors import KernelError
from dvr_agent.kernel.iptables.blob import Snapshot, Snapshots
from dvr_agent.kernel.iptables.layout import ENTRIES_HEADER, GET_ENTRIES, GET_INFO, INFO, LAYOUTS, Layout
from dvr_agent.state.filter import Family, Table, TableKey

SO_NETNS_COOKIE = 71
"""``asm-generic/socket.h``: a number for the socket's namespace that no other ever gets (Linux 5.14)."""
READ_TRIES = 10
"""A table that changes between the two calls is read again, this often."""
KNOWN_MAX = 1 << 14
"""Namespaces of which we remember that they have a table."""

_libc = ctypes.CDLL(None, use_errno=True)
_getsockopt = _libc.getsockopt
_getsockopt.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Namespaces(Protocol):
    """The part of a :class:`~dvr_agent.kernel.api.NamespaceManager` that is needed here."""

    def enter(self, name: str) -> AbstractContextManager[None]: ...


class TableReader:
    """Reads tables of any namespace; remembers what their content meant, and which namespace has which table."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._snapshots = Snapshots()
        self._known: dict[int, frozenset[TableKey]] = {}

    def open(self, namespace: str, keys: Iterable[TableKey]) -> NamespaceTables:
        """Sockets and a list of the existing tables for reading these tables of one namespace; to be closed.

        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: a socket could not be opened
        """
        wanted = frozenset(keys)
        families = sorted({family for family, _name in wanted})
        sockets: dict[Family, socket.socket] = {}
        lists: dict[Family, int] = {}
        cookie = None
        try:
            with self._namespaces.enter(namespace):
                for family in families:
                    sockets[family] = socket.socket(LAYOUTS[family].address_family, socket.SOCK_RAW, socket.IPPROTO_RAW)
                    cookie = cookie or _cookie(sockets[family])
                if not wanted <= self._known.get(cookie or 0, frozenset()):
                    for family in families:
                        lists[family] = _open_list(LAYOUTS[family])
            present = self._known.get(cookie or 0, frozenset()) | _present(lists)
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
        if cookie and lists:
            self._remember(cookie, present)
        return NamespaceTables(namespace, sockets, present, self._snapshots)

    def _remember(self, cookie: int, present: frozenset[TableKey]) -> None:
        """A table that is there stays until its namespace goes; the oldest memories go first."""
        self._known[cookie] = present
        if len(self._known) > KNOWN_MAX:
            for old in list(self._known)[: KNOWN_MAX // 4]:
                self._known.pop(old, None)


class NamespaceTables:
    """The tables of one namespace, as long as it is open; a context manager.

    :ivar present: tables that exist there
    """

    def __init__(
        self,
        namespace: str,
        sockets: dict[Family, socket.socket],
        present: frozenset[TableKey],
        snapshots: Snapshots,
    ) -> None:
        self.namespace = namespace
        self.present = present
        self._sockets = sockets
        self._snapshots = snapshots

    def __enter__(self) -> NamespaceTables:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close(self._sockets)

    def read(self, key: TableKey) -> Snapshot:
        """The table now; empty if it does not exist."""
        if key not in self.present:
            return Snapshot(Table(*key))
        return self.read_existing(key)

    def read_existing(self, key: TableKey) -> Snapshot:
        """The table now; asking for one that does not exist makes it.

        :raises KernelError: the kernel refused, or the table does not hold still
        """
        family, name = key
        fd, level = self._sockets[family].fileno(), LAYOUTS[family].level
        label = name.encode()
        for _ in range(READ_TRIES):
            info = ctypes.create_string_buffer(label, INFO.size)
            self._get(key, fd, level, GET_INFO, info)
            size = INFO.unpack(info)[-1]
            # Zeroed: the kernel leaves gaps (behind the name of an extension) as they were.
            entries = bytearray(ENTRIES_HEADER.size + size)
            ENTRIES_HEADER.pack_into(entries, 0, label, size)
            if self._get(key, fd, level, GET_ENTRIES, (ctypes.c_char * len(entries)).from_buffer(entries)):
                return self._snapshots.of(key, bytes(info), entries[ENTRIES_HEADER.size :])
        raise KernelError(self.namespace, Table(*key).text, errno.EAGAIN, "it changes faster than it can be read")

    def _get(self, key: TableKey, fd: int, level: int, option: int, buffer: ctypes.Array[ctypes.c_char]) -> bool:
        """getsockopt(2).

        :returns: False if the table changed since its size was asked for
        """
        size = ctypes.c_uint32(len(buffer))
        if _getsockopt(fd, level, option, buffer, ctypes.byref(size)) == 0:
            return True
        code = ctypes.get_errno()
        if code == errno.EAGAIN:
            return False
        raise KernelError(self.namespace, Table(*key).text, code, "it could not be read")


def _close(sockets: dict[Family, socket.socket]) -> None:
    for opened in sockets.values():
        opened.close()


def _cookie(opened: socket.socket) -> int | None:
    """Number of the socket's namespace; None where the kernel is too old for it."""
    try:
        return int.from_bytes(opened.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
    except OSError:
        return None


def _open_list(layout: Layout) -> int:
    """File with the names of the tables of the thread's namespace; -1 where the kernel has no legacy tables (yet)."""
    try:
        return os.open(f"/proc/thread-self/net/{layout.names}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _present(lists: dict[Family, int]) -> frozenset[TableKey]:
    return frozenset(
        (family, name) for family, fd in lists.items() if fd >= 0 for name in os.read(fd, 4096).decode().split()
    )
