"""Reads, replaces and removes single files in directories that may belong to other users (see ``securedirs``).

Only regular files with one name are read, and only up to a limit.  A file is replaced as a whole: a temporary file
``.<name>.<16 hex digits>.tmp``, which no other user can have made, fsync, rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dvr_agent.securedirs import is_trusted, make_directory, open_directory, trusted_users

CREATE_TRIES = 10
NAME_BYTES = 8
"""Number of random bytes in a temporary file's name."""


@dataclass(frozen=True, slots=True)
class Content:
    """Content of a file.

    :ivar trusted: root, this process's user or the directory's owner wrote the file: its text may be quoted
    """

    data: bytes
    trusted: bool


def read(path: Path, limit: int) -> Content:
    """Read a file.

    :param limit: bytes; a larger file is not read
    :raises OSError: as open(2), with ``strerror`` for an operator; also for a link, or a file that is not regular
    """
    with _directory(path.parent) as directory:
        fd = _open_regular(path.name, directory)
        try:
            found = os.fstat(fd)
            if found.st_size > limit:
                raise OSError(errno.EFBIG, f"is larger than {limit} bytes and was not read")
            writers = {*trusted_users(), os.fstat(directory).st_uid}
            return Content(_read_all(fd, limit), found.st_uid in writers)
        finally:
            os.close(fd)


def open_regular(path: Path) -> int:
    """Open a file for reading; the caller closes the descriptor.

    :raises OSError: as :func:`read`
    """
    with _directory(path.parent) as directory:
        return _open_regular(path.name, directory)


def replace(path: Path, data: bytes, mode: int = 0o644, *, keep_owner: bool = False, sync: bool = False) -> str:
    """Replace a file as a whole, see :func:`replace_in`."""
    with _directory(path.parent) as directory:
        return replace_in(directory, path.name, data, mode, keep_owner=keep_owner, sync=sync)


def replace_in(
    directory: int, name: str, data: bytes, mode: int = 0o644, *, keep_owner: bool = False, sync: bool = False
) -> str:
    """Replace a file of an open directory: readers, also after a crash, find the old content or the new content.

    :param mode: mode of the new file
    :param keep_owner: keep owner and mode of the replaced file; a new file gets the owner of its directory
    :param sync: write the file to disk before returning
    :returns: why the owner could not be kept, or empty
    :raises OSError: ``strerror`` says what is wrong
    """
    with _temporary(name, directory) as (fd, temporary):
        _write_all(fd, data)
        trouble = _keep_owner(fd, name, directory, mode) if keep_owner else ""
        if not keep_owner:
            os.fchmod(fd, mode)
        if sync:
            os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        if sync:
            os.fsync(directory)
        return trouble


def create_empty(path: Path, mode: int = 0o644) -> int:
    """Put a new, empty file in place of a file; returns a descriptor for writing, which the caller closes.

    :raises OSError: ``strerror`` says what is wrong; EEXIST if another user creates the file again and again
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _directory(path.parent) as directory:
        for tries_left in reversed(range(CREATE_TRIES)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=directory)
            try:
                fd = os.open(path.name, flags, mode, dir_fd=directory)
            except FileExistsError:
                if not tries_left:
                    raise
                continue
            try:
                os.fchmod(fd, mode)  # whatever the umask is
            except OSError:
                os.close(fd)
                raise
            return fd
    raise AssertionError("not reached")


def open_to_append(path: Path) -> int:
    """Open a file for appending, and make it if it is missing; returns a descriptor, which the caller closes.

    Links are followed in directories where only root may write (``/dev/stdout`` is one), and refused elsewhere.

    :raises OSError: as open(2), or ``strerror`` says what is wrong
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC
    with _directory(path.parent) as directory:
        found = os.fstat(directory)
        if is_trusted(found, trusted_users()) and not found.st_mode & stat.S_ISVTX:
            return os.open(path.name, flags, 0o666, dir_fd=directory)
        # O_NONBLOCK: the open of a FIFO without a reader fails instead of blocking.
        try:
            fd = os.open(path.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=directory)
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, "is a symbolic link and was not opened") from None
            raise
        return _checked(fd)


def open_private(path: Path, mode: int = 0o600) -> int:
    """Open a file of this process's user for reading and appending; returns a descriptor, which the caller closes.

    A missing file is made; a link, a file of another user or with a second name is replaced by an empty file: that user
    could read what is written.

    :raises OSError: as open(2), or ``strerror`` says what is wrong
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with _directory(path.parent) as directory:
        try:
            fd = _checked(os.open(path.name, flags, mode, dir_fd=directory))
        except OSError as exc:
            if exc.errno not in (errno.ELOOP, errno.EMLINK, errno.EINVAL, errno.ENXIO):
                raise
        else:
            if os.fstat(fd).st_uid == os.geteuid():
                os.fchmod(fd, mode)
                return fd
            os.close(fd)
    os.close(create_empty(path, mode))
    with _directory(path.parent) as directory:
        return _checked(os.open(path.name, flags & ~os.O_CREAT, dir_fd=directory))


def remove(path: Path) -> None:
    """Remove a file, or the link in its place; a missing file is no error.

    :raises OSError: as unlink(2)
    """
    with contextlib.suppress(FileNotFoundError), _directory(path.parent) as directory:
        os.unlink(path.name, dir_fd=directory)


def remove_directory(path: Path) -> None:
    """Remove an empty directory; a missing one is no error.

    :raises OSError: as rmdir(2)
    """
    with contextlib.suppress(FileNotFoundError), _directory(path.parent) as directory:
        os.rmdir(path.name, dir_fd=directory)


def ensure_directory(path: Path, mode: int = 0o755) -> None:
    """Make a directory and its parents; new directories get the owner of their parent.

    :raises OSError: naming the directory
    """
    os.close(make_directory(path, mode))


def names(path: Path) -> list[str]:
    """Return the names of a directory's entries; empty if the directory is missing.

    :raises OSError: as open(2)
    """
    try:
        directory = open_directory(path)
    except FileNotFoundError:
        return []
    try:
        return os.listdir(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[int]:
    directory = open_directory(path)
    try:
        yield directory
    finally:
        os.close(directory)


def _open_regular(name: str, directory: int) -> int:
    """Open a regular file with one name for reading.

    The open of a FIFO would block until there is a writer; a file with a second name may be one that the directory's
    owner cannot read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=directory)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a symbolic link and was not opened") from None
        if exc.errno == errno.ENXIO:  # a socket, or a device without a driver
            raise OSError(errno.ENXIO, "is no regular file and was not opened") from None
        raise
    return _checked(fd)


def _checked(fd: int) -> int:
    """Return the descriptor of a regular file with one name; any other is closed.

    :raises OSError: as :func:`_require_one_name`
    """
    try:
        _require_one_name(os.fstat(fd))
    except OSError:
        os.close(fd)
        raise
    return fd


def _require_one_name(found: os.stat_result) -> None:
    """Check that a file is regular and has one name.

    :raises OSError: the file is not
    """
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, "is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is no regular file and was not opened")
    if found.st_nlink > 1:
        raise OSError(errno.EMLINK, "has more than one name (hard links) and was not opened")


def _read_all(fd: int, limit: int) -> bytes:
    parts, left = [], limit
    while left > 0 and (part := os.read(fd, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def _temporary(name: str, directory: int) -> Iterator[tuple[int, str]]:
    """Make a temporary file; it is removed if the block raises."""
    temporary = f".{name}.{secrets.token_hex(NAME_BYTES)}.tmp"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        yield fd, temporary
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(fd)


def _keep_owner(fd: int, name: str, directory: int, mode: int) -> str:
    """Give a new file owner and mode of the file that it replaces; returns why the owner cannot be kept, or empty."""
    owner = os.fstat(directory)
    with contextlib.suppress(FileNotFoundError):
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISREG(there.st_mode) and there.st_nlink == 1:
            owner, mode = there, stat.S_IMODE(there.st_mode) & 0o666
    os.fchmod(fd, mode)  # of another user's file only CAP_FOWNER could change it
    made = os.fstat(fd)
    if (owner.st_uid, owner.st_gid) != (made.st_uid, made.st_gid):
        try:
            os.fchown(fd, owner.st_uid, owner.st_gid)
        except OSError as exc:
            return f"cannot be given to user {owner.st_uid}, group {owner.st_gid}: {exc.strerror}"
    return ""
