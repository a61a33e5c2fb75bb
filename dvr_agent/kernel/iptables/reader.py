"""Read tables from the kernel by getsockopt(2), all tables of a namespace with one entry into the namespace.

Used by :mod:`.manager` for every comparison, and to write new tables.  libiptc reads a table in the same way but
returns it entry by entry and needs to enter the namespace for each table; through its Python binding the five tables of
an ordinary router take about twice as long, before anything is decoded.  Here two thirds of the time are the kernel's
own, as long as a table is unchanged since it was last read.

A table exists in a namespace only from its first use on, and asking for it creates it (and hooks it into the path of
every packet).  So a table that is not in ``/proc/net/ip_tables_names`` is not asked for: reading must not change
anything.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from dvr_agent import libc
from dvr_agent.errors import KernelError
from dvr_agent.kernel.api import RuleCount
from dvr_agent.kernel.iptables.fresh_table import SET_REPLACE, FreshTable, InitialTable, initial_table
from dvr_agent.kernel.iptables.known_structures import KnownStructure, KnownStructures
from dvr_agent.kernel.iptables.layout import ENTRIES_HEADER, GET_ENTRIES, GET_INFO, INFO, LAYOUTS, Layout
from dvr_agent.kernel.iptables.table_decoder import (
    Snapshot,
    Snapshots,
    decode_counts,
    digest_of,
    structure_of,
)
from dvr_agent.kernel.netns import cookie_of
from dvr_agent.state.filter import Family, Table, TableKey

READ_TRIES = 10
"""How often a table is read, if another program changes it between the calls for its size and for its entries."""
KNOWN_MAX = 1 << 14
"""Namespaces of which the existing tables are remembered."""


class Namespaces(Protocol):
    """The part of a :class:`~dvr_agent.kernel.api.NamespaceManager` that this package needs."""

    def enter(self, name: str) -> AbstractContextManager[None]:
        """Have the calling thread in that namespace inside the ``with`` block."""


Shapes = dict[TableKey, struct.Struct | None]
"""The tables that a namespace has, with the shape in which each was last read."""


@dataclass(slots=True)
class _Opened:
    """Descriptors that were opened inside a namespace.

    :ivar sockets: for getsockopt(2), by family
    :ivar lists: files with the names of its tables, by family; -1: this kernel has no legacy tables (yet)
    :ivar cookie: number of the namespace
    """

    sockets: dict[Family, socket.socket] = field(default_factory=dict)
    lists: dict[Family, int] = field(default_factory=dict)
    cookie: int | None = None

    def listed(self) -> list[TableKey]:
        """Read the names of the tables that the namespace has."""
        lists = [(family, fd) for family, fd in self.lists.items() if fd >= 0]
        return [(family, name) for family, fd in lists for name in os.read(fd, 4096).decode().split()]

    def close_sockets(self) -> None:
        _close(self.sockets)

    def close_lists(self) -> None:
        for fd in self.lists.values():
            if fd >= 0:
                os.close(fd)


class TableReader:
    """Reads tables of any namespace; caches decoded tables, and remembers which namespace has which tables."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._snapshots = Snapshots()
        self._structures = KnownStructures()
        self._known: dict[int, Shapes] = {}
        self._initial: dict[TableKey, InitialTable] = {}

    def open(
        self, namespace: str, keys: Iterable[TableKey], here: Callable[[Shapes], None] | None = None
    ) -> NamespaceTables:
        """Open the tables of one namespace for reading; the caller closes the result.

        :param here: called inside the namespace with the tables that it has, if they are known
        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: a socket could not be opened
        """
        wanted = frozenset(keys)
        opened = _Opened()
        try:
            with self._namespaces.enter(namespace):
                shapes = self._open_here(opened, wanted)
                if here is not None and shapes is not None:
                    here(shapes)
            if shapes is None:
                shapes = self._remember(opened.cookie)
            for key in opened.listed():
                shapes.setdefault(key, None)
        except OSError as exc:
            opened.close_sockets()
            hint = "packet filter tables are read by root only" if exc.errno == errno.EPERM else ""
            raise KernelError(namespace, "packet filter tables", exc.errno or errno.EIO, hint) from exc
        except BaseException:
            opened.close_sockets()
            raise
        finally:
            opened.close_lists()
        return NamespaceTables(namespace, opened.sockets, shapes, self._snapshots, self._structures, self._initial)

    def _open_here(self, opened: _Opened, wanted: frozenset[TableKey]) -> Shapes | None:
        """Open a socket per family in the thread's namespace, and the lists of its tables unless they are known.

        :returns: the known tables of the namespace, None for an unknown namespace
        """
        families = sorted({family for family, _name in wanted})
        for family in families:
            try:
                sock = socket.socket(LAYOUTS[family].address_family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            except OSError as exc:
                if exc.errno != errno.EAFNOSUPPORT:  # booted with ipv6.disable=1: no such tables
                    raise
                continue
            opened.sockets[family] = sock
            opened.cookie = opened.cookie or _cookie(sock)
        shapes = self._known.get(opened.cookie) if opened.cookie else None
        for family in sorted({family for family, _name in wanted - (shapes or {}).keys()}):
            opened.lists[family] = _open_list(LAYOUTS[family])
        return shapes

    def _remember(self, cookie: int | None) -> Shapes:
        """Start to remember the tables of a namespace, which a namespace never loses; the oldest ones are forgotten."""
        shapes: Shapes = {}
        if cookie:
            self._known[cookie] = shapes
            if len(self._known) > KNOWN_MAX:
                for old in list(self._known)[: KNOWN_MAX // 4]:
                    self._known.pop(old, None)
        return shapes


class NamespaceTables:
    """The tables of one namespace, opened for reading; a context manager that closes the sockets.

    :ivar namespace: for errors
    """

    def __init__(
        self,
        namespace: str,
        sockets: dict[Family, socket.socket],
        shapes: Shapes,
        snapshots: Snapshots,
        structures: KnownStructures,
        initial: dict[TableKey, InitialTable],
    ) -> None:
        self.namespace = namespace
        self._sockets = sockets
        self._shapes = shapes
        self._snapshots = snapshots
        self._structures = structures
        self._initial = initial

    def __enter__(self) -> NamespaceTables:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close(self._sockets)

    def read(self, key: TableKey, likely: Table | None = None) -> Snapshot:
        """Read a table; empty if it does not exist.

        :param likely: see :meth:`read_existing`
        :raises KernelError: the kernel refused, or the table keeps changing
        """
        if key not in self._shapes:
            return Snapshot(Table(*key))
        return self.read_existing(key, likely)

    def exists(self, key: TableKey) -> bool:
        """Return True if the namespace had a table when it was opened."""
        return key in self._shapes

    def initial(self, key: TableKey) -> InitialTable | None:
        """Return a table as this kernel makes it, which no namespace changes; None: it is written to already.

        The first time the table is read, and created by this.

        :raises KernelError: as :meth:`read_existing`
        """
        found = self._initial.get(key)
        if found is None:
            found = initial_table(key, *self.read_bytes(key))
            if found is not None:
                self._initial[key] = found
        return found

    def write_fresh(self, key: TableKey, fresh: FreshTable) -> bool:
        """Write a table that nobody has written to; False: the kernel refused, and nothing was changed."""
        family = key[0]
        try:
            self._sockets[family].setsockopt(LAYOUTS[family].level, SET_REPLACE, fresh.replacement)
        except OSError:
            return False
        self.foresee(key, fresh)
        return True

    def foresee(self, key: TableKey, fresh: FreshTable) -> None:
        """Note what will be read of a table that was written."""
        self._shapes[key] = fresh.shape
        self._snapshots.put(fresh.digest, fresh.snapshot)

    def counts(self, key: TableKey) -> tuple[RuleCount, ...]:
        """Read the counters of the rules in our chains; () if the table does not exist.

        :raises KernelError: the kernel refused, or the table keeps changing
        """
        if key not in self._shapes:
            return ()
        info, entries = self.read_bytes(key)
        return tuple(decode_counts(key, info, entries))

    def read_existing(self, key: TableKey, likely: Table | None = None) -> Snapshot:
        """Read a table; a table that does not exist is created by this.

        :param likely: the desired table: if it is decoded, and is this, this object is kept and no second one
        :raises KernelError: the kernel refused, or the table keeps changing
        """
        shape = self._shapes.get(key)
        if shape is not None:  # unchanged since it was last read: very likely, and one call
            entries = self._entries(key, shape.size)
            if entries is not None:
                known = self._snapshots.get(digest_of(shape, key, entries))
                if known is not None:
                    return known
        elif size := self._structures.likely_size(key):  # at a start: like the table of another namespace, and one call
            entries = self._entries(key, size)
            structure = self._structures.find(key, entries) if entries is not None else None
            if structure is not None and entries is not None:
                return self._decode(key, structure, entries, likely)
        info, entries = self.read_bytes(key)
        structure = self._structures.find(key, entries)
        if structure is None:
            structure = self._structures.add(key, structure_of(key, info, entries), entries)
        return self._decode(key, structure, entries, likely)

    @property
    def existing(self) -> list[TableKey]:
        """The tables that the namespace has."""
        return list(self._shapes)

    def read_bytes(self, key: TableKey) -> tuple[bytes, bytes]:
        """Read ``struct ipt_getinfo`` and all entries of a table that exists.

        :raises KernelError: the kernel refused, or the table keeps changing
        """
        for _ in range(READ_TRIES):
            info = ctypes.create_string_buffer(key[1].encode(), INFO.size)
            self._get(key, GET_INFO, info)
            entries = self._entries(key, INFO.unpack(info)[-1])
            if entries is not None:
                return info.raw, entries
        raise KernelError(self.namespace, Table(*key).text, errno.EAGAIN, "it changes faster than it can be read")

    def _decode(self, key: TableKey, known: KnownStructure, entries: bytes, likely: Table | None) -> Snapshot:
        shape = self._shapes[key] = known.shape
        digest = digest_of(shape, key, entries)
        snapshot = self._snapshots.get(digest)
        if snapshot is None:
            snapshot = known.structure.decode(entries)
            if likely is not None and snapshot.table == likely and not snapshot.table.dropping:
                snapshot = Snapshot(likely, snapshot.jumps)
            self._snapshots.put(digest, snapshot)
        return snapshot

    def _entries(self, key: TableKey, size: int) -> bytes | None:
        """Read the entries; None if the table has another size by now."""
        # The buffer is zeroed: the kernel leaves gaps (behind the name of an extension) as they were.
        buffer = ctypes.create_string_buffer(ENTRIES_HEADER.size + size)
        ENTRIES_HEADER.pack_into(buffer, 0, key[1].encode(), size)
        return buffer.raw[ENTRIES_HEADER.size :] if self._get(key, GET_ENTRIES, buffer) else None

    def _get(self, key: TableKey, option: int, buffer: ctypes.Array[ctypes.c_char]) -> bool:
        """Call getsockopt(2).

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
    """Return the number of the socket's namespace; None where the kernel is too old for it."""
    try:
        return cookie_of(opened)
    except OSError:
        return None


def _open_list(layout: Layout) -> int:
    """Open the file with the names of the thread's namespace's tables; -1: the kernel has no legacy tables (yet)."""
    try:
        return os.open(f"/proc/thread-self/net/{layout.names}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
