"""One agent per host: file locks that the daemon holds while it runs and ``dvrctl apply`` while it works.

Two locks, since two configurations may share the state directory or the host but not both: one in ``state_path``,
one named after the host below ``/run/dvr-agent``.  Locks are flock(2): the kernel drops them when the process ends,
however it ends, and they hold across network namespaces.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from dvr_agent.errors import ConfigError, LockedError
from dvr_agent.umask import readable_by_all

RUN_DIRECTORY = Path("/run/dvr-agent")


class AgentLock:
    """Both locks; a context manager.

    :param state_path: directory of the state files, created if missing
    :param host: this host's name as Neutron knows it
    """

    def __init__(self, state_path: str, host: str, run_directory: Path = RUN_DIRECTORY) -> None:
        self._state_path, self._host, self._run_directory = Path(state_path), host, run_directory
        self._held: list[int] = []

    def acquire(self) -> None:
        """Take both locks, or none.

        :raises LockedError: another agent has one of them; names its process
        :raises ConfigError: ``state_path`` cannot be used
        """
        host_file = f"host-{hashlib.sha256(self._host.encode()).hexdigest()[:16]}.lock"
        try:
            with readable_by_all():
                self._state_path.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._take(self._state_path / "dvr-agent.lock", f"state_path {self._state_path}")
        except OSError as exc:
            self.release()
            raise ConfigError(f"[DEFAULT] state_path = {self._state_path}: cannot be locked: {exc.strerror}") from exc
        try:
            self._take(self._directory() / host_file, f"host {self._host}")
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

    def _directory(self) -> Path:
        """Where the host's lock lives; a user who may not write to /run (in a user namespace) has his own."""
        with contextlib.suppress(OSError):
            self._run_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            if os.access(self._run_directory, os.W_OK):
                return self._run_directory
        own = Path(tempfile.gettempdir()) / f"dvr-agent-{os.geteuid()}"
        own.mkdir(mode=0o700, exist_ok=True)
        if own.is_symlink() or own.stat().st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"{own} belongs to somebody else")
        return own

    def _take(self, path: Path, what: str) -> None:
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                os.close(fd)
                raise LockedError(
                    f"another dvr-agent{f' (process {owner})' if owner else ''} runs with {what} (lock {path})"
                ) from None
            except OSError:
                os.close(fd)
                raise
            if _same_file(fd, path):
                break
            os.close(fd)  # systemd cleaned the run directory between open and lock: the name is another file now
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._held.append(fd)


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
