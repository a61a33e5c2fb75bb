"""Runs the real daemon for the demo, with a configuration file and a directory of documents."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dvr_agent import securefiles
from dvr_agent.cli.demo import documents
from dvr_agent.cli.demo.network import DemoError

PATIENCE = 120.0
"""Seconds for the start of the daemon: its Python alone takes half a minute on a busy host that is emulated."""


class Agent:
    """One dvr-agent with all of its files below one directory.

    :ivar config_words: arguments that name its configuration, and no directory: the host's own is left alone
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.routers = directory / "routers"
        self.config = directory / "dvr-agent.conf"
        no_others = directory / "dvr-agent.conf.d"
        self.config_words = ["--config-file", str(self.config), "--config-dir", str(no_others)]
        self.log = directory / "dvr-agent.log"
        self._socket = directory / "admin.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.routers.mkdir(exist_ok=True)
        no_others.mkdir(exist_ok=True)
        external = f"{documents.object_id('network-external')}:{documents.EXTERNAL_BRIDGE}"
        self.config.write_text(
            f"[DEFAULT]\nhost = {documents.HOST}\nagent_mode = dvr_snat\nstate_path = {directory / 'state'}\n"
            f"log_file = {self.log}\n"
            f"[dvr_agent]\nadmin_socket = {self._socket}\n"
            f"[directory]\npath = {self.routers}\n"
            f"[bridge]\nexternal_networks = {external}\n",
            encoding="utf-8",
        )

    def start(self) -> float:
        """Start the daemon and wait until all routers are in sync; returns the seconds until then."""
        started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dvr_agent.cli.agent", *self.config_words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.wait(lambda status: status["state"] == "in sync", "in sync")
        return time.monotonic() - started

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the daemon; the data plane stays."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=15)
            self._process = None

    def place(self, document: documents.Json) -> None:
        """Write the router document to a new file and rename it, so that the daemon never reads half of it."""
        securefiles.replace(self.routers / "demo.json", json.dumps(document, indent=2).encode())

    def withdraw(self) -> None:
        """Delete the router document."""
        (self.routers / "demo.json").unlink()

    def status(self) -> dict[str, Any]:
        """Read the status from the admin socket."""
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(str(self._socket))
        connection.request("GET", "/status")
        status: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return status

    def wait(self, condition: Any, what: str, seconds: float = PATIENCE) -> None:
        """Wait until the status fulfils a condition.

        :raises DemoError: it did not in time, or the daemon ended; with the end of its log
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise DemoError(f"dvr-agent ended with {self._process.returncode}:\n{self.log_tail()}")
            try:
                if condition(self.status()):
                    return
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                pass
            time.sleep(0.02)
        raise DemoError(f"dvr-agent was not {what} after {seconds:.0f} s:\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the daemon's log."""
        text = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])
