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

from dvr_agent.errors import KernelError

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

    :param timeout: seconds to wait for it
    :raises KernelError: EBUSY, it was not free in time; anything else: the file could not be opened
    """
    deadline = time.monotonic() + timeout
    if not _threads.acquire(timeout=timeout):
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


def _busy(path: str, timeout: float) -> KernelError:
    hint = f"another program has held it for {timeout:g} s (iptables, kube-proxy …); see: fuser {path}"
    return KernelError("", f"lock {path}", errno.EBUSY, hint)
