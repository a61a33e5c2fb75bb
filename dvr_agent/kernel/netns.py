"""Enter a network namespace (:func:`entered`): the only code that moves a thread into another namespace.

Callers open what they need there (a netlink or packet socket, ``/proc/sys/net``, a libiptc handle) and use it after
they have left, since a socket stays bound to the namespace in which it was opened.  :mod:`dvr_agent.kernel.namespaces`
makes and removes namespaces.

``""`` is the name of the host's namespace, in which the calling thread is.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from dvr_agent import libc
from dvr_agent.errors import KernelError, NamespaceGoneError

NETNS_DIR = "/run/netns"
"""Directory in which named namespaces are mounted (ip-netns(8))."""
OWN_NAMESPACE = "/proc/thread-self/ns/net"
"""The calling thread's namespace; ``/proc/self`` would be that of the main thread."""
SO_NETNS_COOKIE = 71
"""Linux 5.14 (``include/uapi/asm-generic/socket.h``); neither Python nor pyroute2 has it."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC
T = TypeVar("T")


class _WayBack(threading.local):
    """The way of a thread back to its own namespace, inside :func:`way_back_kept`.

    :ivar descriptor: of that namespace, negative before it is opened; None: each window opens one
    """

    descriptor: int | None = None


_way_back = _WayBack()

setns: Callable[[int, int], None] = getattr(os, "setns", None) or libc.setns
"""setns(2); :func:`os.setns` exists from Python 3.12 on."""


def check_name(name: str) -> str:
    """Check the name of a namespace, and return it.

    :raises KernelError: it would leave ``/run/netns`` or is too long for a file name
    """
    if not name or "/" in name or "\0" in name or name in (".", "..") or len(os.fsencode(name)) > 255:
        raise KernelError(name, "namespace name", errno.EINVAL, "no slash, not empty, at most 255 bytes")
    return name


@functools.lru_cache(maxsize=64)
def path_of(name: str) -> str:
    """Return the file of a named namespace."""
    return f"{NETNS_DIR}/{check_name(name)}"


def inode_of(name: str) -> int | None:
    """Return the inode of a named namespace, None without one.  Not reused while a descriptor of it is open."""
    try:
        return os.stat(path_of(name)).st_ino
    except OSError:
        return None


def cookie_of(opened: socket.socket) -> int:
    """Return the number of the network namespace that a socket belongs to; no other namespace ever gets it.

    :raises OSError: the kernel is older than 5.14
    """
    return int.from_bytes(opened.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)


def open_namespace(name: str) -> int:
    """Open a file descriptor of a namespace, ``""`` for the caller's own.

    The caller closes it soon: it keeps the namespace alive.

    :raises NamespaceGoneError: there is no namespace of that name
    """
    try:
        return os.open(path_of(name) if name else OWN_NAMESPACE, _FLAGS)
    except OSError as exc:
        raise gone(name, exc) from exc


def _open_own(there: str | int) -> int:
    """Open the namespace that the thread is in, to return to it.

    :raises KernelError: no descriptor is left
    """
    try:
        return _own()
    except OSError as exc:
        raise KernelError(str(there), "namespace", exc.errno or errno.EIO, "it cannot be entered") from exc


def _own() -> int:
    """Open the namespace that the thread is in, unless its descriptor is kept.

    :raises OSError: no descriptor is left
    """
    kept = _way_back.descriptor
    if kept is not None and kept >= 0:
        return kept
    opened = os.open(OWN_NAMESPACE, _FLAGS)
    if kept is not None:
        _way_back.descriptor = opened
    return opened


@contextlib.contextmanager
def way_back_kept() -> Iterator[None]:
    """Open the way back from namespaces once for all windows inside the block, in which the thread has one home."""
    _way_back.descriptor = -1
    try:
        yield
    finally:
        kept, _way_back.descriptor = _way_back.descriptor, None
        if kept >= 0:
            os.close(kept)


def gone(name: str, exc: OSError) -> KernelError:
    """Make the error of a failed entry into a namespace.  A plain file in ``/run/netns`` (EINVAL) is no namespace.

    That a namespace is gone has consequences: what should be removed there counts as removed.  So a second call has to
    say it, too.
    """
    code = exc.errno or errno.EIO
    if code == errno.EINVAL or (code == errno.ENOENT and inode_of(name) is None):
        return NamespaceGoneError(name, "namespace", errno.ENOENT, "it does not exist")
    return KernelError(name, "namespace", code, "it cannot be entered")


def go_home(home: int) -> None:
    """Return the thread to its own namespace.

    If the system call fails the process aborts, since the thread would go on in a router's namespace.

    :param home: descriptor of that namespace; closed, unless it is kept
    """
    try:
        setns(home, libc.CLONE_NEWNET)
    except OSError as exc:
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"dvr-agent: setns back failed: {exc}\n".encode())
        os.abort()
    _close_home(home)


def _close_home(home: int) -> None:
    if home != _way_back.descriptor:
        os.close(home)


@contextlib.contextmanager
def nameless() -> Iterator[None]:
    """Have the calling thread in a new namespace inside the ``with`` block.

    The namespace lives as long as what is opened there.  Only system calls belong in the block, as in that of
    :func:`entered`.

    :raises OSError: it cannot be made
    """
    home = _own()
    try:
        libc.unshare(libc.CLONE_NEWNET)
    except OSError:
        _close_home(home)
        raise
    try:
        yield
    finally:
        go_home(home)


def in_new_namespace(action: Callable[[], T]) -> T:
    """Call a function in a new namespace, which ends with the call; probes try out there what this kernel can do.

    A thread of its own is in the namespace, so that the function may do anything.

    :raises KernelError: no namespace could be made
    :raises Exception: what the function raised
    """

    def run() -> T:
        try:
            libc.unshare(libc.CLONE_NEWNET)
        except OSError as exc:
            raise KernelError("", "new namespace", exc.errno or errno.EIO, "the agent needs CAP_SYS_ADMIN") from exc
        return action()

    with ThreadPoolExecutor(1, "probe") as pool:
        return pool.submit(run).result()


class NamespaceWindow:
    """The ``with`` block of :func:`entered`: the thread is in another namespace inside."""

    __slots__ = ("_home", "_name", "_there")

    def __init__(self, there: str | int) -> None:
        self._there = there
        self._home = -1

    def __enter__(self) -> None:
        there = self._there
        if there == "":
            return
        fd = there if isinstance(there, int) else open_namespace(there)
        try:
            home = _open_own(there)
            try:
                setns(fd, libc.CLONE_NEWNET)
            except OSError as exc:
                _close_home(home)
                raise gone(str(there), exc) from exc
            self._home = home
        finally:
            if fd is not there:
                os.close(fd)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        home = self._home
        if home >= 0:
            self._home = -1
            go_home(home)


def entered(namespace: str | int) -> NamespaceWindow:
    """Have the calling thread in a namespace inside the ``with`` block.

    Only system calls belong in the block: no logging, no lock, nothing that may switch green threads.  If the way
    back fails, the process aborts.

    :param namespace: name, ``""`` for where the thread is already, or a file descriptor of a namespace
    :raises NamespaceGoneError: there is no namespace of that name
    """
    return NamespaceWindow(namespace)
