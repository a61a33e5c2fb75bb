"""Keep an instance of /proc for the parameters of many namespaces, and replace it before it grows.

The kernel keeps the ``ipv4`` directories of all namespaces in one hash chain, since they have one name and one parent:
``/proc/sys/net``.  Whoever opens a file there walks past the directories of all namespaces that anybody has looked at
since the host started: 0.2 ms with 1,000 routers, several times for each router.  An instance of procfs has directories
of its own, and making one costs some 12 us.  So the agent has one that no path leads to, and after
:data:`WINDOWS` namespaces the next.

Used by ``kernel/sysctl.py`` only.  Each thread has an instance of its own.
"""

from __future__ import annotations

import os
import threading
import weakref

from dvr_agent import libc

WINDOWS = 64
"""Namespaces for which one instance is used.  Closing one waits 0.3 ms for the kernel."""


class ProcInstance:
    """One instance of procfs.

    :ivar left: for how many namespaces it may still be used
    """

    def __init__(self) -> None:
        self.left = WINDOWS
        self._root = _mount()
        weakref.finalize(self, os.close, self._root)

    def open(self, path: str, flags: int) -> int:
        """Open a file, its path given from the root of procfs.

        :raises OSError: as open(2)
        """
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._root)


class _PerThread(threading.local):
    instance: ProcInstance | None = None


_thread = _PerThread()


def current() -> ProcInstance:
    """Return the instance to use in one namespace, now.

    :raises OSError: no descriptor is left
    """
    instance = _thread.instance
    if instance is None or not instance.left:
        instance = _thread.instance = ProcInstance()
    instance.left -= 1
    return instance


def _mount() -> int:
    """Make an instance; where that is refused (a container, a kernel before 5.8) /proc as it is serves as well."""
    try:
        return libc.mount_detached("proc")
    except OSError:
        return os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
