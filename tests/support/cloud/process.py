"""Long-running processes of the cloud: start on any host, wait for a sign of life, stop, kill.

A process is started by ``nsenter`` in the namespaces of its host; ``Process.pid`` is the program's own id, not
nsenter's, as the sandbox sees it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.service_manager import ServiceManager
from tests.support.waiting import PATIENCE, wait_for


class Process:
    """One program with its log file.

    :param manager: keeps descriptors for it from a stop to the next start
    :ivar pid: its id in the sandbox's process namespace
    :ivar begins: where in the log what it says begins
    """

    def __init__(
        self,
        name: str,
        words: Sequence[object],
        log: Path,
        enter: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cgroup: Path | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        self.name, self.log = name, log
        self.words = [str(word) for word in words]
        self._enter, self._env, self._cgroup, self._manager = list(enter), env, cgroup, manager
        self._start()

    def _start(self) -> None:
        # The shell says when it runs, which is when nsenter's child is known; then it becomes the program.
        self.begins = self.log.stat().st_size if self.log.exists() else 0
        reader, writer = os.pipe()
        started: dict[str, Any] = {"args": self.words, "env": {**os.environ, **(self._env or {})}}
        if self._manager is not None:
            started = self._manager.command(self.words, started["env"])
        words = [*self._enter, "sh", "-c", 'echo >&0; exec "$@" </dev/null', "sh", *started.pop("args")]
        if self._cgroup:
            words = ["sh", "-c", f'echo 0 >{self._cgroup}/cgroup.procs; exec "$@"', "sh", *words]
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                words, stdin=writer, stdout=output, stderr=output, start_new_session=True, **started
            )
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            if not pipe.readline():
                raise AssertionError(f"{self.name} could not be started, see {self.log}")
        self.pid = self._popen.pid
        if self._enter:
            self.pid = int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; returns the exit code, negative for a signal."""
        return self._popen.wait(timeout)

    def stop(self) -> int:
        """SIGTERM as systemd would, SIGKILL if it does not listen."""
        if self.running:
            self.signal(signal.SIGTERM)
        try:
            return self.wait(30)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL."""
        if self.running:
            self.signal(signal.SIGKILL)
        return self.wait()

    def restart(self) -> None:
        """The same once more; it must have ended."""
        self.wait()
        self._start()

    def wait_log(self, text: str, since: int = 0, timeout: float = PATIENCE) -> None:
        """Wait until its log has ``text`` after byte ``since``."""

        def found() -> bool:
            if not self.running:
                raise AssertionError(f"{self.name} ended with {self.wait()}, see {self.log}:\n{tail(self.log)}")
            with self.log.open("rb") as file:
                file.seek(since)
                return text.encode() in file.read()

        wait_for(found, f"{text!r} in {self.log}", timeout)


def tail(log: Path, lines: int = 30) -> str:
    """The end of a log."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""
