"""The lock of iptables programs (``/run/xtables.lock``); :mod:`.manager` holds it from reading a table to its commit.

The kernel would let two writers overwrite each other as long as the number of rules stays the same, and libiptc does
not take the lock by itself (iptables(8), ``--wait``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dvr_agent.errors import KernelError, TablesLockedError
from dvr_agent.kernel.process_name import command_of, parent_of

XTABLES_LOCK = "/run/xtables.lock"
"""``XT_LOCK_NAME`` of iptables."""
TIMEOUT = 10.0
"""Seconds."""
_POLL = (0.001, 0.05)
"""Seconds between two tries: at first, and at most."""

_threads = threading.Lock()
"""Threads of this process wait here: by flock(2) they would have to poll for each other."""


@contextlib.contextmanager
def xtables_lock(path: str = XTABLES_LOCK, timeout: float = TIMEOUT) -> Iterator[None]:
    """Hold the lock inside the block, against other programs and other threads of this one.

    :param timeout: seconds to wait for it; 0: one try
    :raises TablesLockedError: it was not free in time
    :raises KernelError: the file could not be opened
    """
    deadline = time.monotonic() + timeout
    if not _threads.acquire(timeout=max(timeout, 0)):
        raise _busy(path, timeout)
    try:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise KernelError("", f"lock {path}", exc.errno or errno.EIO, "iptables programs share it") from exc
        try:
            _flock(fd, path, timeout, deadline)
            yield
        finally:
            os.close(fd)
    finally:
        _threads.release()


def _flock(fd: int, path: str, timeout: float, deadline: float) -> None:
    pause, longest = _POLL
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _busy(path, timeout) from None
        time.sleep(pause)
        pause = min(2 * pause, longest)


def _busy(path: str, timeout: float) -> TablesLockedError:
    lasting = f" for {timeout:g} s" if timeout else ""
    who = holder(path) or "another program"
    hint = f"{who} has held it{lasting} (iptables, kube-proxy …); see: fuser {path}"
    return TablesLockedError("", f"lock {path}", errno.EBUSY, hint)


def is_free(path: str = XTABLES_LOCK) -> bool:
    """True if no other program holds the lock now.  Does not wait, and takes the lock for some microseconds only."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def holder(path: str = XTABLES_LOCK) -> str:
    """Return the process that holds the lock with its command line; empty if it cannot be told.

    ``/proc/locks`` has the process that took it.  That one may have ended, while one that it shares the descriptor with
    still holds the lock (``flock 9`` in a script), or be in another process namespace: then all descriptors are read.
    """
    try:
        found = os.stat(path)
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return ""
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for words in map(str.split, lines):  # 1: FLOCK ADVISORY WRITE 123 00:19:45 0 EOF; waiters have "->" in front
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == place:
            taken_by = command_of(words[4])
            return taken_by or _sharer(found) or f"process {words[4]}, which has ended"
    return _sharer(found)


def _sharer(file: os.stat_result) -> str:
    """Return the process that has a descriptor of a file with a lock: the parent, if its children have it, too."""
    holders = {pid for pid in filter(str.isdigit, os.listdir("/proc")) if _has_lock(pid, file)}
    first = [pid for pid in holders if str(parent_of(pid)) not in holders]
    return command_of(min(first, key=int)) if first else ""


def _has_lock(pid: str, file: os.stat_result) -> bool:
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                is_file = os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), file)
                if is_file and "FLOCK" in Path(f"/proc/{pid}/fdinfo/{fd}").read_text():
                    return True
    return False
