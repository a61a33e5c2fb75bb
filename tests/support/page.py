"""``dvrctl web`` as a process, and requests to it as a browser or a stranger makes them."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.waiting import PATIENCE, wait_for


class Answer(NamedTuple):
    """Status code, headers (names in lower case) and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Page:
    """Serves the page of a daemon's configuration on a free port until :meth:`end`."""

    def __init__(self, config: Path, directory: Path) -> None:
        self.token_file = directory / "page" / "token"
        self.config = directory / "page.conf"
        self.config.write_text(f"{config.read_text()}\n[web]\ntoken_file = {self.token_file}\n")
        words = [*self.command(), "-o", "json", "web", "--listen", "127.0.0.1:0"]
        with (directory / "page.err").open("wb") as err:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=err, text=True)
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line == "}\n":
                break
        else:
            raise AssertionError(f"dvrctl web ended: {(directory / 'page.err').read_text()}")
        told = json.loads("".join(lines))
        self.port = int(told["listen"].rpartition(":")[2])
        self.url: str = told["url"]
        self.token = self.url.partition("#token=")[2]

    def command(self) -> list[str]:
        """The beginning of a command line of dvrctl with this configuration."""
        return [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(self.config)]

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Answer to one request, with the token unless ``Authorization`` says otherwise; ``_`` stands for ``-``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers=self._headers(headers))
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def _headers(self, given: dict[str, str]) -> dict[str, str]:
        named = {name.replace("_", "-"): value for name, value in given.items()}
        return {"Authorization": f"Bearer {self.token}", **named}

    def events(self) -> Stream:
        """Open the stream of events."""
        return Stream(self.port, self._headers({}))

    def front(self) -> int:
        """Process id of the front."""
        return int(wait_for(lambda: _children(self.process.pid), "dvrctl web has its front")[0])

    def end(self) -> int:
        """End it; returns its exit code."""
        self.process.terminate()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(PATIENCE)


class Stream:
    """An open stream of server-sent events."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.request("GET", "/events", headers=headers)
        self.answer = self._connection.getresponse()

    def until(self, wanted: str, condition: Any = lambda value: True) -> Any:
        """Read until an event of that name fulfils a condition, and return its value."""
        event, deadline = "", time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            line = self.answer.readline().decode()
            assert line, "the stream has ended"
            if line.startswith("event: "):
                event = line.removeprefix("event: ").strip()
            elif line.startswith("data: ") and event == wanted:
                value = json.loads(line.removeprefix("data: "))
                if condition(value):
                    return value
        raise AssertionError(f"no event {wanted} of that kind")

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def status_of(pid: int) -> dict[str, str]:
    """``/proc/<pid>/status`` as name → value."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in lines)}


def environment_of(pid: int) -> list[str]:
    """Names of the environment's variables of a process."""
    found = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return [one.partition("=")[0] for one in found if one]
