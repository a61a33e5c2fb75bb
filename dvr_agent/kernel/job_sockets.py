"""Keep netlink sockets for the time of a job, which reads a namespace and writes to it in several steps.

A namespace has one socket of the route family then, instead of five, and one of the netfilter family: by it nf_tables
are read and written, and tracked connections deleted.  Closing that one waits for the kernel where something of
nf_tables was deleted shortly before: who deletes says so (:func:`note_deletion`), and it is closed aside then
(:mod:`.closer`).

Outside of a job (:func:`job`) each caller of :func:`netlink` gets a socket of its own.  A kept socket keeps its
namespace alive: the end of the job closes it, and so does a removal of the namespace.  Another program may have put
another namespace in its place meanwhile, so the file in ``/run/netns`` is compared at each use.  Each thread has jobs
of its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypeVar

from pyroute2.netlink import NETLINK_NETFILTER, NETLINK_ROUTE

from dvr_agent.kernel import netns
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.closer import close_aside
from dvr_agent.kernel.netlink.endpoint import open_raw
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import OWN_NAMESPACE, entered, path_of

MOST = 12
"""Sockets that are kept at a time; a job of one router needs seven, and the removal of stale routers any number."""
GRACE = 0.1
"""Seconds after a deletion in which closing a netfilter socket may wait; 40 ms are enough on a quiet host."""
DELETED_MAX = 1 << 14
"""Namespaces of which deletions are noted."""
T = TypeVar("T")
_deleted: dict[str, float] = {}
"""Namespace → when something of its nf_tables was deleted, until that is over."""


class _Kept(NamedTuple):
    """A socket that is kept.

    :ivar inode: of the namespace; no other namespace has it while the socket is open
    :ivar is_new: the job has made the namespace
    """

    sock: NetlinkSocket
    inode: int
    is_new: bool


class _PerThread(threading.local):
    kept: dict[tuple[str, int], _Kept] | None = None


_thread = _PerThread()


@contextlib.contextmanager
def job() -> Iterator[None]:
    """Keep sockets inside the block; a job inside a job is part of it."""
    if _thread.kept is not None:
        yield
        return
    kept = _thread.kept = {}
    try:
        with netns.way_back_kept():
            yield
    finally:
        _thread.kept = None
        for (_namespace, protocol), one in kept.items():
            _close(one.sock, protocol)


def netlink(
    namespace: str, counters: WriteCounters | None, protocol: int = NETLINK_ROUTE
) -> AbstractContextManager[NetlinkSocket]:
    """Return a socket in a namespace, ``""`` for the one the thread is in, for a ``with`` block.

    :param counters: the same for all sockets of a job
    :param protocol: ``NETLINK_ROUTE`` or ``NETLINK_NETFILTER``
    :raises NamespaceGoneError: there is no such namespace
    :raises KernelError: no descriptor is left, or the kernel has no such family
    """
    one = _current(namespace, protocol)
    return nullcontext(one) if one is not None else netlink_and(namespace, counters, (protocol,), _nothing)[0][0]


def netlink_and(
    namespace: str, counters: WriteCounters | None, protocols: Sequence[int], here: Callable[[], T]
) -> tuple[list[AbstractContextManager[NetlinkSocket]], T]:
    """Return sockets as :func:`netlink` does, and what a function returns, with one entry into the namespace.

    :param here: called inside the namespace, see :func:`dvr_agent.kernel.netns.entered`
    """
    kept = _thread.kept
    current = {protocol: _current(namespace, protocol) for protocol in protocols}
    opened: dict[int, socket.socket] = {}
    try:
        with entered(namespace):
            for protocol, one in current.items():
                if one is None:
                    opened[protocol] = open_raw(namespace, protocol)
            inode = os.stat(OWN_NAMESPACE).st_ino if kept is not None and opened else 0
            result = here()
    except BaseException:
        for raw in opened.values():
            raw.close()
        raise
    found: list[AbstractContextManager[NetlinkSocket]] = []
    for protocol, one in current.items():
        sock = one or NetlinkSocket(namespace, opened[protocol], counters)
        if one is None and kept is not None:
            _keep(kept, (namespace, protocol), _Kept(sock, inode, False))
        found.append(nullcontext(sock) if kept is not None else _closing(sock, protocol))
    return found, result


def keep(sock: NetlinkSocket, inode: int) -> None:
    """Keep the socket in a namespace that was just made; outside of a job the socket is closed."""
    kept = _thread.kept
    if kept is None:
        sock.close()
    else:
        _keep(kept, (sock.namespace, NETLINK_ROUTE), _Kept(sock, inode, True))


def drop(namespace: str) -> None:
    """Close the sockets in a namespace, which is removed, or was replaced by another program."""
    _drop((namespace, NETLINK_ROUTE))
    _drop((namespace, NETLINK_NETFILTER))


def note_deletion(namespace: str) -> None:
    """Note that something was deleted from nf_tables: closing a netfilter socket of the namespace waits for a while."""
    if len(_deleted) >= DELETED_MAX:  # of namespaces that are gone
        _deleted.clear()
    _deleted[namespace] = time.monotonic()


@contextlib.contextmanager
def _closing(sock: NetlinkSocket, protocol: int) -> Iterator[NetlinkSocket]:
    try:
        yield sock
    finally:
        _close(sock, protocol)


def _close(sock: NetlinkSocket, protocol: int) -> None:
    """Close a socket; aside, where closing it would wait for the kernel."""
    deleted = _deleted.get(sock.namespace) if protocol == NETLINK_NETFILTER else None
    if deleted is None:
        sock.close()
    elif time.monotonic() - deleted < GRACE:
        close_aside(sock)
    else:
        _deleted.pop(sock.namespace, None)
        sock.close()


def is_new(namespace: str) -> bool:
    """True if the job has made the namespace, so that no other program's objects can be in it."""
    one = (_thread.kept or {}).get((namespace, NETLINK_ROUTE))
    return one is not None and one.is_new


def _nothing() -> None:
    pass


def _current(namespace: str, protocol: int) -> NetlinkSocket | None:
    """Return the socket that is kept, as the last one used; None without one, or if the namespace is another one."""
    kept = _thread.kept
    one = kept.pop((namespace, protocol), None) if kept is not None else None
    if kept is None or one is None:
        return None
    if not _is_current(namespace, one):
        _close(one.sock, protocol)
        return None
    kept[namespace, protocol] = one
    return one.sock


def _keep(kept: dict[tuple[str, int], _Kept], key: tuple[str, int], one: _Kept) -> None:
    """Keep a socket as the last one used, and close the one that has not been used for the longest time."""
    kept[key] = one
    if len(kept) > MOST:
        _drop(next(iter(kept)))


def _drop(key: tuple[str, int]) -> None:
    kept = _thread.kept
    if kept and (one := kept.pop(key, None)) is not None:
        _close(one.sock, key[1])


def _is_current(namespace: str, one: _Kept) -> bool:
    """True if the namespace is still the one of its name."""
    if not namespace:
        return True
    try:
        return os.stat(path_of(namespace)).st_ino == one.inode
    except OSError:
        return False
