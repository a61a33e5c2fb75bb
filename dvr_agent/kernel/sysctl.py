"""Read and write kernel parameters of a namespace: files below ``/proc/sys/net``.

A file belongs to the namespace of the thread that opens it.  Used by ``kernel/observe.py`` (read), ``kernel/apply.py``
(write) and the attach drivers.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterable, Sequence

from dvr_agent.errors import KernelError
from dvr_agent.kernel import procfs
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netns import entered
from dvr_agent.state.sysctl import Sysctl

ROOT = "/proc/sys/net/"
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_SIZE = 4096


@functools.lru_cache(maxsize=128)
def _path(key: str) -> str:
    """Return the file of a parameter, empty if the key would lead out of ``/proc/sys/net``."""
    sound = "\0" not in key and not any(part in ("", ".", "..") for part in key.split("/"))
    return ROOT + key if sound else ""


def paths_of(namespace: str, keys: Iterable[str]) -> list[str]:
    """Return the files of parameters.

    :raises KernelError: a key would lead out of ``/proc/sys/net``
    """
    paths = []
    for key in keys:
        path = _path(key)
        if not path:
            raise KernelError(namespace, f"sysctl net/{key}", errno.EINVAL, "not a path below /proc/sys/net")
        paths.append(path)
    return paths


class _Directories:
    """Opens files below ``/proc/sys/net`` from descriptors of its directories, each opened once per window."""

    def __init__(self) -> None:
        self._proc: procfs.ProcInstance | None = None
        self._open: dict[str, int] = {}

    def open(self, path: str, flags: int) -> int:
        """Open a parameter's file.

        :raises OSError: as open(2)
        """
        head, _, rest = path.removeprefix(ROOT).partition("/")
        directory = self._open.get(head)
        if directory is None:
            self._proc = self._proc or procfs.current()
            directory = self._open[head] = self._proc.open("sys/net/" + head, os.O_PATH | os.O_DIRECTORY)
        return os.open(rest, flags | os.O_CLOEXEC, dir_fd=directory)

    def write(self, path: str, value: bytes) -> int:
        """Set a parameter; returns the errno, 0 for success.  Never raises: called inside ``entered``."""
        try:
            fd = self.open(path, os.O_WRONLY)
            try:
                os.write(fd, value)
            finally:
                os.close(fd)
        except OSError as exc:
            return exc.errno or errno.EIO
        return 0

    def close(self) -> None:
        """Close the descriptors of the directories."""
        for directory in self._open.values():
            os.close(directory)


def read_here(paths: Sequence[str]) -> list[str | int]:
    """Read value or errno of each parameter in the thread's namespace.  Never raises: called inside ``entered``."""
    values: list[str | int] = []
    directories = _Directories()
    for path in paths:
        try:
            fd = directories.open(path, os.O_RDONLY)
            try:
                values.append(os.read(fd, _SIZE).decode(errors="replace").strip())
            finally:
                os.close(fd)
        except OSError as exc:
            values.append(exc.errno or errno.EIO)
    directories.close()
    return values


def as_values(namespace: str, keys: Iterable[str], values: Iterable[str | int]) -> frozenset[Sysctl]:
    """Convert the values that :func:`read_here` read; absent parameters (of an absent device) are left out.

    :raises KernelError: a parameter could not be read
    """
    found = []
    for key, value in zip(keys, values, strict=True):
        if isinstance(value, str):
            found.append(Sysctl(key, value))
        elif value not in _ABSENT:
            raise KernelError(namespace, f"sysctl net/{key}", value)
    return frozenset(found)


def write(namespace: str, items: Sequence[Sysctl], counters: WriteCounters, may_lack: bool = False) -> None:
    """Set parameters of a namespace, in order.

    :param counters: counts them
    :param may_lack: a parameter that the kernel does not have is no error
    :raises NamespaceGoneError: there is no such namespace
    :raises KernelError: naming the first parameter that the kernel refused; later ones are not tried
    """
    paths = paths_of(namespace, (item.key for item in items))
    writes = [(path, item.value.encode()) for path, item in zip(paths, items, strict=True)]
    lacking = _ABSENT if may_lack else ()
    codes: list[int] = []
    directories = _Directories()
    with entered(namespace):
        for path, value in writes:
            codes.append(directories.write(path, value))
            if codes[-1] and codes[-1] not in lacking:
                break
        directories.close()
    counters.sysctls += codes.count(0)
    if codes and codes[-1] and codes[-1] not in lacking:
        hint = "this kernel or namespace has no such parameter" if codes[-1] in _ABSENT else ""
        raise KernelError(namespace, items[len(codes) - 1].text, codes[-1], hint)
