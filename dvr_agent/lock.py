"""One agent per host: file locks that the daemon holds while it runs and ``dvrctl apply`` while it works.

Two configurations may share the state directory or the host, and neither is allowed: one lock is named after the
host, two after the state directory (after its path, and after the directory that the path leads to).  Their files lie
in a directory of their own below ``/run`` that only root may enter: whoever can open a file can hold a lock on it.  It
is not ``/run/dvr-agent``, which systemd removes when the agent stops, maybe while ``dvrctl`` is at work.  Locks are
flock(2): the kernel drops them when the process ends, however it ends, and they hold across network namespaces.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from dvr_agent import securefiles
from dvr_agent.errors import NO_ROOM, SHORTAGES, ConfigError, LockedError

RUN_DIRECTORY = Path("/run/dvr-agent-locks")
FILE_MODE = 0o600
PROCESS_FILE = "dvr-agent.lock"
"""In ``state_path``: the id of the last process that worked with it.  No lock: its directory may be another user's."""


class AgentLock:
    """All locks; a context manager.

    :param state_path: directory of the state files, created if that is possible
    :param host: this host's name as Neutron knows it
    """

    def __init__(self, state_path: str, host: str, run_directory: Path = RUN_DIRECTORY) -> None:
        self._state_path, self._host, self._run_directory = Path(state_path), host, run_directory
        self._held: list[int] = []

    def acquire(self) -> None:
        """Take all locks, or none.

        :raises LockedError: another agent has one of them; names its process
        :raises ConfigError: ``state_path`` is no directory, or there is no place for locks
        """
        found = self._state_directory()
        try:
            directory = self._directory()
            try:
                what = f"state_path {self._state_path}"
                self._take(directory, f"state-{_digest(os.path.realpath(self._state_path))}.lock", what)
                if found is not None:
                    self._take(directory, f"state-{_digest(f'{found.st_dev}:{found.st_ino}')}.lock", what)
                self._take(directory, f"host-{_digest(self._host)}.lock", f"host {self._host}")
            finally:
                os.close(directory)
            self._note_process()
        except OSError as exc:
            self.release()
            raise ConfigError(f"no lock for host {self._host} below {self._run_directory}: {exc.strerror}") from exc
        except LockedError:
            self.release()
            raise

    def release(self) -> None:
        """Give back what is held.  The files stay: removing a lock file opens a race for the next two."""
        while self._held:
            os.close(self._held.pop())

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    def _state_directory(self) -> os.stat_result | None:
        """The state directory; None if it is missing and cannot be made (a full or read-only file system), which is
        for those to report who write into it.

        :raises ConfigError: it cannot be a directory
        """
        try:
            securefiles.ensure_directory(self._state_path)
        except OSError as exc:
            if exc.errno not in NO_ROOM | SHORTAGES:
                raise ConfigError(f"[DEFAULT] state_path = {self._state_path}: {exc.strerror}") from exc
        try:
            return self._state_path.stat()
        except OSError:
            return None

    def _note_process(self) -> None:
        """Write the process id where earlier versions had their lock, for people and scripts; nothing depends on it."""
        with contextlib.suppress(OSError):
            securefiles.replace(self._state_path / PROCESS_FILE, f"{os.getpid()}\n".encode())

    def _directory(self) -> int:
        """Descriptor of the directory of the locks; a user who may not write to /run has a directory of his own."""
        with contextlib.suppress(OSError):
            self._run_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(self._run_directory, os.W_OK):
                return _open_own(self._run_directory)
        own = Path(tempfile.gettempdir()) / f"dvr-agent-{os.geteuid()}"
        own.mkdir(mode=0o700, exist_ok=True)
        return _open_own(own)

    def _take(self, directory: int, name: str, what: str) -> None:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(name, flags, FILE_MODE, dir_fd=directory)
            try:
                _make_private(fd)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                os.close(fd)
                raise LockedError(
                    f"another dvr-agent{f' (process {owner})' if owner.isdigit() else ''} runs with {what} "
                    f"(lock {self._run_directory / name})"
                ) from None
            except OSError:
                os.close(fd)
                raise
            if _same_file(fd, name, directory):
                break
            os.close(fd)  # somebody cleaned the run directory between open and lock: the name is another file now
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._held.append(fd)


def _open_own(path: Path) -> int:
    """
    :raises OSError: the directory is somebody else's
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.fstat(fd).st_uid == os.geteuid():
        return fd
    os.close(fd)
    raise OSError(errno.EPERM, f"{path} belongs to somebody else")


def _make_private(fd: int) -> None:
    """
    :raises OSError: the file is no lock file of ours
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid != os.geteuid():
        raise OSError(errno.EPERM, "a lock file is a link, or belongs to somebody else")
    if stat.S_IMODE(found.st_mode) != FILE_MODE:
        os.fchmod(fd, FILE_MODE)


def _same_file(fd: int, name: str, directory: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
