"""Locks that allow one agent per host: the daemon has them while it runs, writing verbs of ``dvrctl`` while they work.

Two agents must share neither the host nor the state directory: one lock is named after the host, two after the state
directory (after its path, and after the directory that the path leads to).  Lock files lie in a directory below
``/run`` that only root may enter, since a user who can open a file can lock it.  The directory is not
``/run/dvr-agent``, which systemd removes when the agent stops, possibly while ``dvrctl`` works.  Locks are flock(2):
the kernel drops them when the process ends, however it ends, and they hold across network namespaces.
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
"""File in ``state_path`` with the id of its last process.  No lock, since another user may own the directory."""


class AgentLock:
    """All locks of one agent; a context manager.

    :param state_path: directory of the state files, created if that is possible
    :param host: this host's name as Neutron knows it
    """

    def __init__(self, state_path: str, host: str, run_directory: Path = RUN_DIRECTORY) -> None:
        self._state_path, self._host, self._run_directory = Path(state_path), host, run_directory
        self._locks: list[int] = []

    def acquire(self) -> None:
        """Take all locks, or none.

        :raises LockedError: another agent has one of the locks; the text names its process
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
        """Release all locks.  The files stay: removing them opens a race between the next two agents."""
        while self._locks:
            os.close(self._locks.pop())

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    def _state_directory(self) -> os.stat_result | None:
        """Return the state directory's stat; None if it cannot be made because the file system is full or read-only.

        Writers of state files report that error.

        :raises ConfigError: ``state_path`` is no directory
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
        """Write the process id to the lock file of earlier versions, for people and scripts only."""
        with contextlib.suppress(OSError):
            securefiles.replace(self._state_path / PROCESS_FILE, f"{os.getpid()}\n".encode())

    def _directory(self) -> int:
        """Open the directory of the locks; a user who may not write to /run has a directory of their own."""
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
            os.close(fd)  # the file was removed between open and lock, and the name may belong to a new file
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._locks.append(fd)


def holder(state_path: str, run_directory: Path = RUN_DIRECTORY) -> int:
    """Return the id of the process that holds the lock of a state directory; 0 if none does.

    The lock is not tried, since that could make an agent that is just starting fail.
    """
    name = f"state-{_digest(os.path.realpath(state_path))}.lock"
    try:
        found = os.stat(run_directory / name, follow_symlinks=False)
        locks = Path("/proc/locks").read_text("ascii")
    except OSError:
        return 0
    wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in locks.splitlines():  # 1: FLOCK  ADVISORY  WRITE 708 00:13:1234 0 EOF
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == wanted:
            return int(words[4])
    return 0


def _open_own(path: Path) -> int:
    """Open a directory that belongs to this process's user.

    :raises OSError: the directory belongs to another user
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.fstat(fd).st_uid == os.geteuid():
        return fd
    os.close(fd)
    raise OSError(errno.EPERM, f"{path} belongs to another user")


def _make_private(fd: int) -> None:
    """Set the mode of a lock file.

    :raises OSError: the file was not made by an agent
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid != os.geteuid():
        raise OSError(errno.EPERM, "a lock file is a link, or belongs to another user")
    if stat.S_IMODE(found.st_mode) != FILE_MODE:
        os.fchmod(fd, FILE_MODE)


def _same_file(fd: int, name: str, directory: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
