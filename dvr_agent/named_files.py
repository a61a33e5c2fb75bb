"""Reads files that a person names, on a command line or in the configuration, and waits for none in vain.

Opening a FIFO waits for a process that writes to it, a device may give bytes without end, or begin to work when it is
opened.  So its kind is looked at before it is opened.  Pipes of a shell (``<(command)``) are read.  Files in a
directory of documents are read by ``dvr_agent.sources.files``, which takes regular ones only.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from collections.abc import Iterator

PATIENCE = 5.0
"""Seconds in which a process must open a FIFO for writing; psub of fish does so a moment after dvrctl has started."""
_PAUSE = 0.02
_CHUNK = 1 << 20
_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def kind(mode: int) -> str:
    """Return the kind of a file that is not regular, in words, by its ``st_mode``."""
    return _KINDS.get(stat.S_IFMT(mode), "special file")


def why_not_regular(path: str | os.PathLike[str]) -> str:
    """Return why a file is not to be opened, ``a FIFO``; empty for a regular file, a pipe of a shell, and /dev/null.

    Empty also for a file that is missing, or whose kind cannot be told: opening it says why.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    return "" if _may_be_opened(found) or _is_shell_pipe(path) else f"a {kind(found.st_mode)}"


def read(path: str, limit: int, patience: float = PATIENCE) -> bytes:
    """Return the content of a file, at most ``limit`` bytes; ``-`` is standard input.

    :param patience: seconds in which a process must open a FIFO for writing
    :raises OSError: it cannot be read, or is a device, or nobody writes to the FIFO; ``strerror`` says so
    """
    if path == "-" or _is_standard_input(path):
        return sys.stdin.buffer.read(limit)
    found = os.stat(path)
    if not (_may_be_opened(found) or stat.S_ISFIFO(found.st_mode)):
        raise OSError(errno.EINVAL, f"a {kind(found.st_mode)}")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return _read_fifo(descriptor, limit, 0.0 if _is_shell_pipe(path) else patience)
        return b"".join(_chunks(descriptor, limit))
    finally:
        os.close(descriptor)


def _read_fifo(descriptor: int, limit: int, patience: float) -> bytes:
    """Read a FIFO or a pipe whose descriptor does not block.

    read(2) gives nothing while there is no writer yet, as at the end; EAGAIN while there is one that has not written
    (pipe(7)).

    :param patience: 0: the writer was there before this process
    :raises OSError: there is no writer in time
    """
    parts: list[bytes] = []
    end, has_writer = time.monotonic() + patience, patience == 0
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while (left := limit - sum(map(len, parts))) > 0:
        try:
            data = os.read(descriptor, min(left, _CHUNK))
        except BlockingIOError:
            has_writer = True
            poll.poll()
            continue
        if not data and not has_writer and time.monotonic() < end:
            time.sleep(_PAUSE)
            continue
        if not data:
            break
        has_writer = True
        parts.append(data)
    if not has_writer:
        raise OSError(errno.EINVAL, f"a FIFO to which no process has written for {patience:g} s")
    return b"".join(parts)


def _chunks(descriptor: int, limit: int) -> Iterator[bytes]:
    while limit > 0 and (data := os.read(descriptor, min(limit, _CHUNK))):
        limit -= len(data)
        yield data


def _may_be_opened(found: os.stat_result) -> bool:
    """Return True for a regular file, a directory (which open or read refuses) and /dev/null."""
    is_null = stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev
    return stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or is_null


def _is_shell_pipe(path: str | os.PathLike[str]) -> bool:
    """Return True for a pipe without a name, which a shell has opened: ``/dev/fd/63`` leads to ``/proc/…/pipe:[…]``."""
    return os.path.basename(os.path.realpath(path)).startswith("pipe:[")


def _is_standard_input(path: str) -> bool:
    """Return True for a name of a terminal or device that is standard input: /dev/stdin and the like."""
    try:
        found, own = os.stat(path), os.fstat(0)
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(found.st_mode) and os.path.samestat(found, own) and not _may_be_opened(found)
