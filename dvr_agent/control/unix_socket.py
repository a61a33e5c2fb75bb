"""Makes and removes the Unix socket on which the agent connects to this process, and decides who may connect."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator

from dvr_agent.errors import ConfigError, LockedError

BACKLOG = 16
LOCK_SUFFIX = ".lock"
LOCK_SECONDS, LOCK_STEP = 5.0, 0.01
"""Seconds to wait for another process that is just starting or ending, and between two tries."""
UCRED = struct.Struct("iII")


def open_control_socket(path: str, program: str, group: str) -> socket.socket:
    """Listen on a Unix socket of mode 0600, in place of a socket of a dead process.

    :param program: name of this process, for errors
    :param group: of the option ``control_socket`` that has the path, likewise
    :raises LockedError: another process listens on it
    :raises ConfigError: the socket cannot be made
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        directory = os.path.dirname(path) or "."
        os.makedirs(directory, mode=0o755, exist_ok=True)
        with _one_at_a_time(path):
            _remove_stale(path, program, group)
            mask = os.umask(0o177)  # between bind(2) and chmod(2) any user could connect
            try:
                listener.bind(path)
            finally:
                os.umask(mask)
            listener.listen(BACKLOG)
    except LockedError:
        listener.close()
        raise
    except OSError as exc:
        listener.close()
        raise ConfigError(f"[{group}] control_socket = {path}: {exc.strerror or exc}") from exc
    return listener


def remove_control_socket(path: str, listener: socket.socket) -> None:
    """Close the socket, and remove its file unless another process listens on it by now."""
    listener.close()
    with contextlib.suppress(OSError), _one_at_a_time(path):
        if not _is_alive(path):
            os.unlink(path)


def may_control(connection: socket.socket) -> bool:
    """Return True if the other side is root or our own user."""
    _pid, uid, _gid = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return uid in (0, os.geteuid())


@contextlib.contextmanager
def _one_at_a_time(path: str) -> Iterator[None]:
    """Exclude other processes: two that start together must not both find the same socket stale.

    The lock is a file that no other user can open: on the directory any user could take a lock.
    """
    descriptor = _open_lock(path + LOCK_SUFFIX)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: str) -> int:
    """Open the lock file, and make it if it is missing.

    :raises OSError: the file cannot be made, or is a link
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except PermissionError:
        os.unlink(path)  # root has started the process by hand before; the directory is ours
        descriptor = os.open(path, flags, 0o600)
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EPERM, f"{path} is no lock file")


def _lock(descriptor: int) -> None:
    """Take the lock.

    :raises OSError: another process has had it for longer than a start takes
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "another process holds the lock") from None
        time.sleep(LOCK_STEP)


def _remove_stale(path: str, program: str, group: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file of that name, which is no socket")
    if _is_alive(path):
        raise LockedError(f"another {program} runs with [{group}] control_socket = {path}")
    os.unlink(path)


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # a process listens, and its backlog is full
            return True
    return True
