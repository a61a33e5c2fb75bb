"""Opens directories of other users safely: symbolic links that such a user could have made are not followed.

``state_path`` belongs to the user neutron, this process is root: by a symbolic link in place of a directory, that user
could have root write, rename or give away any file of the host.  So files below such a directory are opened by
descriptors of directories.  Links that root made in places where only root may write (``/var/lib/neutron`` on another
disk) are followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from pathlib import Path

from dvr_agent import libc

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MAX_LINKS = 40
"""``MAXSYMLINKS`` of the kernel."""

_NO_OPENAT2 = (errno.ENOSYS, errno.EPERM)
"""Error numbers of an old kernel, and of a seccomp filter that does not know the system call."""


def open_directory(path: str | Path) -> int:
    """Open a directory; the caller closes the descriptor.

    :raises OSError: as open(2); ELOOP if the path leads through a symbolic link that another user could have made
    """
    text = os.path.join(os.getcwd(), os.fspath(path))
    try:
        return libc.openat2(libc.AT_FDCWD, text, DIRECTORY, libc.RESOLVE_NO_SYMLINKS)
    except OSError as exc:
        if exc.errno != errno.ELOOP and exc.errno not in _NO_OPENAT2:
            raise OSError(exc.errno, exc.strerror, text) from None
    return _walk(text)


def make_directory(path: str | Path, mode: int = 0o755, *, inherit_owner: bool = True) -> int:
    """Open a directory, and make it and its parents if they are missing; the caller closes the descriptor.

    :param inherit_owner: new directories get the owner of their parent: neutron-l3-agent, which is not root, writes
        into them too
    :raises OSError: naming the directory
    """
    try:
        return open_directory(path)
    except FileNotFoundError:
        parent, name = os.path.split(os.path.normpath(os.path.join(os.getcwd(), os.fspath(path))))
        if not name:
            raise
    above = make_directory(parent, mode, inherit_owner=inherit_owner)
    try:
        made = False
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=above)
            made = True
        there = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        if made and _is_new(there):
            os.fchmod(there, mode)  # whatever the umask is
            if inherit_owner:
                owner = os.fstat(above)
                os.fchown(there, owner.st_uid, owner.st_gid)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, os.fspath(path)) from None
    finally:
        os.close(above)
    return there


def trusted_users() -> frozenset[int]:
    """Return the users whose links are followed: root, the process's user, the owner of ``/`` (in a user namespace)."""
    return frozenset({0, os.geteuid(), os.stat("/").st_uid})


def is_trusted(directory: os.stat_result, trusted: frozenset[int]) -> bool:
    """Return True if only trusted users can put links, or files that they do not own, into a directory.

    In a directory with the sticky bit (``/tmp``) other users can make links, but these do not belong to a trusted user.
    """
    if directory.st_uid not in trusted:
        return False
    others = stat.S_IWOTH if directory.st_gid == 0 else stat.S_IWOTH | stat.S_IWGRP
    return not directory.st_mode & others or bool(directory.st_mode & stat.S_ISVTX)


def _walk(path: str) -> int:
    """Open a directory component by component, and follow links of trusted users only."""
    trusted = trusted_users()
    todo, links = deque(path.split("/")), 0
    here, safe = _root(), True
    try:
        while todo:
            name = todo.popleft()
            if name in ("", "."):
                continue
            safe = safe and is_trusted(os.fstat(here), trusted)
            there = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            found = os.fstat(there)
            if not stat.S_ISLNK(found.st_mode):
                os.close(here)
                here = there
                continue
            try:
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, "too many symbolic links")
                if not safe or found.st_uid not in trusted:
                    raise OSError(errno.ELOOP, f"{name} is a symbolic link that another user could have made")
                target = os.readlink("", dir_fd=there)
            finally:
                os.close(there)
            if target.startswith("/"):
                os.close(here)
                here = _root()
            todo.extendleft(reversed(target.split("/")))
        return os.open(".", DIRECTORY, dir_fd=here)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, path) from None
    finally:
        os.close(here)


def _root() -> int:
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_new(directory: int) -> bool:
    """Return True for a directory that was just made.

    Between mkdir(2) and open(2) the owner of the parent can put another directory in its place, but only an empty one
    of this process's user, which does no harm.
    """
    return os.fstat(directory).st_uid == os.geteuid() and not os.listdir(directory)
