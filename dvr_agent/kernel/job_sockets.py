"""Keep netlink sockets for the time of a job, which writes to a namespace in several steps: one socket there, not five.

Outside of a job (:func:`job`) each caller of :func:`netlink` gets a socket of its own.  A kept socket keeps its
namespace alive: the end of the job closes it, and so does a removal of the namespace.  Another program may have put
another namespace in its place meanwhile, so the file in ``/run/netns`` is compared at each use.  Each thread has jobs
of its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from dvr_agent.kernel import netns
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.endpoint import open_raw
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import OWN_NAMESPACE, entered, path_of

MOST = 8
"""Sockets that are kept at a time; a job of one router needs four, and the removal of stale routers any number."""


class _Kept(NamedTuple):
    """A socket that is kept.

    :ivar inode: of the namespace; no other namespace has it while the socket is open
    :ivar is_new: the job has made the namespace
    """

    sock: NetlinkSocket
    inode: int
    is_new: bool


class _PerThread(threading.local):
    kept: dict[str, _Kept] | None = None


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
        for one in kept.values():
            one.sock.close()


def netlink(namespace: str, counters: WriteCounters) -> AbstractContextManager[NetlinkSocket]:
    """Return a socket of the route family in a namespace, ``""`` for the one the thread is in, for a ``with`` block.

    :param counters: the same for all sockets of a job
    :raises NamespaceGoneError: there is no such namespace
    :raises KernelError: no descriptor is left
    """
    kept = _thread.kept
    if kept is None:
        return NetlinkSocket.open(namespace, counters)
    one = kept.pop(namespace, None)
    if one is not None and not _is_current(namespace, one):
        one.sock.close()
        one = None
    if one is None:
        with entered(namespace):
            raw, inode = open_raw(namespace), os.stat(OWN_NAMESPACE).st_ino
        one = _Kept(NetlinkSocket(namespace, raw, counters), inode, False)
    _keep(kept, namespace, one)
    return nullcontext(one.sock)


def keep(sock: NetlinkSocket, inode: int) -> None:
    """Keep the socket in a namespace that was just made; outside of a job the socket is closed."""
    kept = _thread.kept
    if kept is None:
        sock.close()
    else:
        _keep(kept, sock.namespace, _Kept(sock, inode, True))


def drop(namespace: str) -> None:
    """Close the socket in a namespace, which is removed, or was replaced by another program."""
    kept = _thread.kept
    if kept and (one := kept.pop(namespace, None)) is not None:
        one.sock.close()


def is_new(namespace: str) -> bool:
    """True if the job has made the namespace, so that no other program's objects can be in it."""
    one = (_thread.kept or {}).get(namespace)
    return one is not None and one.is_new


def _keep(kept: dict[str, _Kept], namespace: str, one: _Kept) -> None:
    """Keep a socket as the last one used, and close the one that has not been used for the longest time."""
    kept[namespace] = one
    if len(kept) > MOST:
        drop(next(iter(kept)))


def _is_current(namespace: str, one: _Kept) -> bool:
    """True if the namespace is still the one of its name."""
    if not namespace:
        return True
    try:
        return os.stat(path_of(namespace)).st_ino == one.inode
    except OSError:
        return False
