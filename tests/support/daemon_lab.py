"""Runs a daemon as a process of its own, with its own directories, and asks it by its admin socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvr_agent.kernel.host_filter import HostFilter
from tests.support.json_outputs import hold
from tests.support.service_manager import ServiceManager
from tests.support.waiting import wait_for

PATIENCE = 60.0


def router_id(number: int) -> str:
    """A fixed router id per number."""
    return str(uuid.UUID(int=(number + 1) << 96 | 4 << 76 | 8 << 60))


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


class Daemon:
    """A daemon that can be started, stopped and killed again and again.

    :param module: what to run with ``python -m``
    :param options: ``[group] option`` → value, beside the directories
    """

    def __init__(self, base: Path, module: str = "dvr_agent.cli.agent", **options: Mapping[str, object]) -> None:
        self.base, self.module = base, module
        self.state, self.routers, self.socket = base / "state", base / "routers", base / "run" / "admin.sock"
        self.config = base / "dvr-agent.conf"
        self.process: subprocess.Popen[bytes] | None = None
        self.of_this_version = True
        """False: its answers need not be as the schemas say."""
        self._held: set[str] = set()
        """States in which the status was compared with its schema."""
        self.routers.mkdir(parents=True, exist_ok=True)
        self.options: dict[str, dict[str, object]] = {
            "DEFAULT": {"host": f"h-{uuid.uuid4()}", "state_path": self.state},
            "dvr_agent": {"admin_socket": self.socket, "retry_interval": 1, "packet_filter": HostFilter.backend},
            "directory": {"path": self.routers},
        }
        self.configure(**options)

    def configure(self, **options: Mapping[str, object]) -> None:
        """Write the configuration file with these options added or changed."""
        for group, values in options.items():
            self.options.setdefault(group, {}).update(values)
        lines = []
        for group, values in self.options.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in values.items())]
        self.config.write_text("\n".join(lines) + "\n")

    def start(self, ready: bool = True, manager: ServiceManager | None = None, **environ: str) -> Daemon:
        """Start it; with ``ready`` wait until the first sync is over.

        :param manager: keeps descriptors for it
        """
        words = [sys.executable, "-W", "default", "-m", self.module, "--config-file", str(self.config)]
        started: dict[str, Any] = {"args": words, "env": {**os.environ, **environ}}
        if manager is not None:
            started = manager.command(words, started["env"])
        with (self.base / "out").open("ab") as out, (self.base / "err").open("ab") as err:
            self.process = subprocess.Popen(**started, stdout=out, stderr=err)
        if ready:
            wait_for(lambda: self.alive() and self.socket.exists() and self.answering())
            wait_for(lambda: self.status()["state"] != "starting")
        return self

    def alive(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.out}{self.err}")
        return True

    def answering(self) -> bool:
        try:
            self.status()
        except OSError:
            return False
        return True

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; returns the exit code (negative: killed by a signal)."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Have it do nothing within the block."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, if it was started and has not ended."""
        if self.process is not None:
            self.stop(signal.SIGKILL)

    def ask(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """Status code and decoded answer."""
        code, _type, body = self.fetch(path, method)
        return code, json.loads(body) if body else None

    def fetch(self, path: str, method: str = "GET") -> tuple[int, str, bytes]:
        """Status code, content type and answer as it came."""
        connection = _Connection(self.socket)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        code, body = self.ask("/status")
        assert code == 200
        answer: dict[str, Any] = body
        if self.of_this_version and answer["state"] not in self._held:  # not each time: it is asked for again and again
            self._held.add(answer["state"])
            hold("status", {**answer, "routers": answer["routers"][:10]})
        return answer

    def router(self, number: int) -> dict[str, Any] | None:
        """What the daemon says of one router."""
        code, body = self.ask(f"/routers/{router_id(number)}")
        if code == 200:
            hold("router", body)
        return body if code == 200 else None

    def wait_state(self, number: int, state: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            router = self.router(number)
            return router if router is not None and router["state"] == state else None

        found: dict[str, Any] = wait_for(there)
        return found

    def write(self, number: int, name: str = "", **extra: object) -> Path:
        """Put a router document into the directory, by an atomic rename."""
        path = self.routers / f"{number}.json"
        document = {"id": router_id(number), "name": name, "distributed": True, "admin_state_up": True, **extra}
        path.with_suffix(".new").write_text(json.dumps(document))
        path.with_suffix(".new").rename(path)
        return path

    @property
    def out(self) -> str:
        return (self.base / "out").read_text()

    @property
    def log(self) -> str:
        """What it has logged so far; empty if it was never started."""
        return (self.base / "out").read_text(errors="replace") if (self.base / "out").exists() else ""

    @property
    def err(self) -> str:
        return (self.base / "err").read_text()
