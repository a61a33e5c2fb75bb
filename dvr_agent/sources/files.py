"""Reads one file of a directory without ever waiting for it: regular files only, and not too large.

For ``document_reader``, ``cached_documents`` and the neutron source's ``fallback``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import NamedTuple

from dvr_agent.errors import SHORTAGES, DocumentError
from dvr_agent.named_files import kind
from dvr_agent.securedirs import trusted_users

RACY_NS = 50_000_000
"""A file that changed this shortly before it was read may change again within the same tick of the kernel's coarse
clock (4 to 10 ms) and then look the same: its signature is not trusted."""


class Signature(NamedTuple):
    """Metadata of a file: equal signatures are equal contents (``ctime`` covers permissions and kept ``mtime``)."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class FileContent(NamedTuple):
    """Content of a file; ``signature`` is None if it cannot be trusted."""

    data: bytes
    signature: Signature | None
    mtime_ns: int


def printable_name(name: str) -> str:
    """Return a file name as text that can be logged and encoded, whatever its bytes are."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def signature(name: str, directory: int) -> Signature | None:
    """Return the signature of a file by its metadata; None if they cannot be read."""
    try:
        return _signature(os.stat(name, dir_fd=directory))
    except OSError:
        return None


def needs_no_writing(name: str, directory: int) -> bool:
    """Return True if a name that was just created is complete: a link, or no regular file.

    A regular file is still being written, and another notification will say when it is closed.
    """
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return not stat.S_ISREG(found.st_mode) or found.st_nlink > 1


def exists(name: str, directory: int) -> bool:
    """Return False only if the directory certainly has no such name.

    A broken link exists, and a name whose metadata cannot be read may.
    """
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def is_link(name: str, directory: int) -> bool:
    """Return True if the name is a symbolic link."""
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:
        return False


def read(name: str, directory: int, max_size: int) -> FileContent | None:
    """Return the content of a regular file of at most ``max_size`` bytes.

    :returns: None if there is no such file (any more)
    :raises DocumentError: it cannot be read, is too large, or is no regular file
    :raises OSError: this process, or the host, is short of descriptors or memory
    """
    label = printable_name(name)
    try:
        # A FIFO would wait for its writer, a device might do anything: checked before opening, and again after it.
        _require_regular(label, os.stat(name, dir_fd=directory))
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        if is_link(name, directory):
            raise DocumentError(label, "$", "a link that leads nowhere", "a readable file") from None
        return None
    except OSError as exc:
        raise _unreadable(label, exc) from exc
    try:
        found = os.fstat(descriptor)
        _require_regular(label, found)
        _require_own(name, label, found, directory)
        if found.st_size > max_size:
            raise DocumentError(label, "$", f"{found.st_size} bytes", f"at most {max_size} bytes")
        data = _read_all(descriptor, max_size + 1)
    except OSError as exc:
        raise _unreadable(label, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    racy = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < RACY_NS
    return FileContent(data, None if racy else _signature(found), found.st_mtime_ns)


def _read_all(descriptor: int, limit: int) -> bytes:
    parts, left = [], limit
    while left > 0:
        part = os.read(descriptor, min(left, 1 << 20))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _signature(found: os.stat_result) -> Signature:
    return Signature(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _require_regular(label: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise DocumentError(label, "$", f"a {kind(found.st_mode)}", "a regular file")


def _require_own(name: str, label: str, found: os.stat_result, directory: int) -> None:
    """Refuse a link to a file of another user than the directory's owner.

    Whoever may write into the directory can link to a file that they may not read; its content must get neither into
    routers nor into the log.

    :raises DocumentError: it is of another user than the directory, which is not root's
    """
    owner = os.fstat(directory).st_uid
    if found.st_uid == owner or owner in trusted_users():
        return
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
        own = os.path.samestat(there, found) and there.st_nlink == 1
    except OSError:
        own = False
    if not own:
        raise DocumentError(label, "$", "a link to a file of another user", "a file of the directory's owner")


def _unreadable(label: str, exc: OSError) -> DocumentError | OSError:
    code = exc.errno or errno.EIO
    if code in SHORTAGES:
        return OSError(code, f"{label} cannot be read: {os.strerror(code)}")
    return DocumentError(label, "$", f"{errno.errorcode.get(code, code)} ({os.strerror(code)})", "a readable file")
