"""Create, remove and list named network namespaces, compatible with ``ip netns``; without a fork.

Implements :class:`dvr_agent.kernel.api.NamespaceManager`.  A name is a file in ``/run/netns`` on which the namespace is
mounted.  No file descriptor of a namespace is kept beyond a job (:meth:`RealNamespaces.job`), since that would keep a
removed namespace alive with all its links.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from dvr_agent import libc
from dvr_agent.errors import KernelError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.endpoint import open_raw
from dvr_agent.kernel.netlink.link import LOOPBACK, set_link
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import NETNS_DIR, OWN_NAMESPACE, NamespaceWindow, entered, nameless, path_of
from dvr_agent.kernel.packet_sockets import PacketSockets
from dvr_agent.umask import readable_by_all

MAKING_SECONDS = 1.0
"""Age of a file in ``/run/netns`` below which another process may be about to mount a namespace on it."""


class RealNamespaces:
    """The named network namespaces of this host.

    :param counters: counts namespaces created and removed
    :ivar packet_sockets: those in namespaces; a removal closes them
    :ivar on_new: is told of each new namespace, by name and descriptor, before the name is there
    """

    def __init__(self, counters: WriteCounters) -> None:
        self._counters = counters
        self.packet_sockets = PacketSockets()
        self.on_new: Callable[[str, int], object] = _ignore
        self._shared: tuple[int, int] | None = None
        self._nsfs = os.stat(OWN_NAMESPACE).st_dev

    def create(self, name: str) -> None:
        """Create a namespace, with ``lo`` up; a namespace that exists already is left as it is.

        The namespace is mounted last, so it is complete when its name appears.  An empty file that a crash left is
        used.

        :raises KernelError: EINVAL for an impossible name, or what the kernel refused
        """
        path = path_of(name)
        if self.exists(name):
            return
        try:
            namespace, raw = _unshared(name)
            try:
                sock = NetlinkSocket(name, raw, self._counters)
                try:
                    sock.batch([set_link(LOOPBACK, up=True, what="link lo up")])
                    self.on_new(name, namespace)
                    self._share_directory()
                    _mount_on(path, f"/proc/thread-self/fd/{namespace}")
                except BaseException:
                    sock.close()
                    raise
                job_sockets.keep(sock, os.fstat(namespace).st_ino)
            finally:
                os.close(namespace)
        except OSError as exc:
            raise KernelError(name, "namespace", exc.errno or errno.EIO, _refused("made", exc)) from exc
        self._counters.namespaces += 1

    def remove(self, name: str) -> None:
        """Remove a namespace with all its objects; the kernel does so in the background.  An absent one is no error.

        :raises KernelError: what the kernel refused
        """
        path = path_of(name)
        job_sockets.drop(name)
        self.packet_sockets.drop(name)
        try:
            was_there = _umount(path)
            while not _unlink(path):
                pass
        except OSError as exc:
            raise KernelError(name, "namespace", exc.errno or errno.EIO, _refused("removed", exc)) from exc
        self._counters.namespaces += was_there

    def list(self) -> list[str]:
        """Return the names of all namespaces, sorted.  Other files in ``/run/netns`` are not namespaces.

        :raises KernelError: the directory cannot be read (a missing directory is empty)
        """
        return _listed(self._may_be_namespace)

    def exists(self, name: str) -> bool:
        """True if there is a namespace of that name; that there is none is what two calls say.

        Else a removal would count as done, and a new namespace would be mounted over the one that is there.

        :raises KernelError: it cannot be told
        """
        path = path_of(name)
        try:
            return os.stat(path).st_dev == self._nsfs
        except OSError as exc:
            if exc.errno == errno.ENOENT and not os.path.exists(path):
                return False
            raise KernelError(name, "namespace", exc.errno or errno.EIO, "it cannot be told whether it exists") from exc

    def empty_files(self) -> Sequence[str]:
        """Return names without a namespace, sorted; ``ip netns`` lists them, and cannot enter them.

        :raises KernelError: the directory cannot be read (a missing directory is empty)
        """
        return _listed(_is_empty_file)

    def remove_file(self, name: str) -> None:
        """Remove a name without a namespace.  A name that has a namespace by now stays; an absent one is no error.

        :raises KernelError: what the kernel refused
        """
        path = path_of(name)
        if not _is_empty_file(path):
            return
        try:
            os.unlink(path)
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.EBUSY):  # EBUSY: mounted on meanwhile
                raise KernelError(name, "namespace file", exc.errno or errno.EIO, _refused("removed", exc)) from exc

    def job(self) -> AbstractContextManager[None]:
        """Keep netlink sockets open for the whole block, see :mod:`dvr_agent.kernel.job_sockets`."""
        return job_sockets.job()

    def enter(self, name: str) -> NamespaceWindow:
        """Have the calling thread in a namespace, see :func:`dvr_agent.kernel.netns.entered`."""
        return entered(name)

    def _may_be_namespace(self, path: str) -> bool:
        """True unless a listed name is certainly none: ports of a namespace that is not in a list count as stale."""
        try:
            return os.stat(path).st_dev == self._nsfs
        except OSError:
            return True

    def _share_directory(self) -> None:
        """Make ``/run/netns`` a shared mount point, as iproute2 does.

        Namespaces made here then appear in, and vanish from, other mount namespaces too.  Done once per directory.
        """
        if self._shared is not None and self._shared == _identity(NETNS_DIR):
            return
        with readable_by_all():
            os.makedirs(NETNS_DIR, 0o755, exist_ok=True)
        try:
            libc.mount(None, NETNS_DIR, libc.MS_SHARED | libc.MS_REC)
        except OSError as exc:
            if exc.errno != errno.EINVAL:  # EINVAL: not a mount point yet
                raise
            libc.mount(NETNS_DIR, NETNS_DIR, libc.MS_BIND | libc.MS_REC)
            libc.mount(None, NETNS_DIR, libc.MS_SHARED | libc.MS_REC)
        self._shared = _identity(NETNS_DIR)


def _identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of a file, None without one."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _listed(wanted: Callable[[str], bool]) -> list[str]:
    """Return the names in ``/run/netns`` whose path is wanted, sorted.

    :raises KernelError: the directory cannot be read (a missing directory is empty)
    """
    try:
        with os.scandir(NETNS_DIR) as entries:
            return sorted(entry.name for entry in entries if wanted(entry.path))
    except OSError as exc:
        if exc.errno == errno.ENOENT and not os.path.lexists(NETNS_DIR):
            return []
        raise KernelError("", NETNS_DIR, exc.errno or errno.EIO) from exc


def _is_empty_file(path: str) -> bool:
    """True for an empty plain file on which nothing is mounted, and that is not about to be mounted on."""
    try:
        found, directory = os.lstat(path), os.stat(NETNS_DIR)
    except OSError:
        return False
    plain = stat.S_ISREG(found.st_mode) and found.st_size == 0 and found.st_dev == directory.st_dev
    return plain and time.time() - found.st_ctime >= MAKING_SECONDS


def _unshared(name: str) -> tuple[int, socket.socket]:
    """Make a namespace: (its file descriptor, a netlink socket in it).  The thread returns to its own namespace."""
    with nameless():
        namespace = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return namespace, open_raw(name)
        except KernelError:
            os.close(namespace)
            raise


def _mount_on(path: str, source: str) -> None:
    """Name a namespace: mount it on a file.

    :param source: path of the namespace
    """
    made = False
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        made = True
    except FileExistsError:
        pass  # create() has seen that no namespace is mounted there
    try:
        libc.mount(source, path, libc.MS_BIND)
    except OSError:
        if made:
            os.unlink(path)
        raise


def _umount(path: str) -> bool:
    """Take the topmost mount off a path; False if there is none."""
    try:
        libc.umount(path, libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
    except OSError as exc:
        if exc.errno in (errno.EINVAL, errno.ENOENT):
            return False
        raise
    return True


def _unlink(path: str) -> bool:
    """Remove a file, if it is there; False: a mount had to be taken off it, and there may be more."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        if exc.errno != errno.EBUSY or not _umount(path):
            raise
        return False
    return True


def _refused(verb: str, error: OSError) -> str:
    """Return the hint for a call that was refused; the error's number is in the message already."""
    return f"cannot be {verb}" + (f" ({error.filename})" if error.filename else "")


def _ignore(_name: str, _descriptor: int) -> None:
    """Nobody hears new namespaces."""
