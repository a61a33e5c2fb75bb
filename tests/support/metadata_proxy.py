"""The real dvr-metadata-proxy as a process, what the agent says to it, and clients that speak HTTP byte by byte."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h11

from dvr_agent.metadata import control_protocol
from tests.support.service_manager import ServiceManager
from tests.support.waiting import wait_for

PATIENCE = 60.0
"""Seconds for anything that has to happen at all."""


def listener(address: str = "127.0.0.1", backlog: int = 1024) -> socket.socket:
    """A listening socket as the agent would make it; on loopback."""
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    one.bind((address, 0))
    one.listen(backlog)
    return one


class Agent:
    """The agent's end of the control socket."""

    def __init__(self, path: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.settimeout(PATIENCE)
        self._connection.connect(str(path))

    def ask(self, do: str, descriptors: Sequence[int] = (), **more: Any) -> dict[str, Any]:
        answer, received = self.exchange({"do": do, **more}, descriptors)
        for descriptor in received:
            os.close(descriptor)
        return answer

    def exchange(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        control_protocol.send(self._connection, message, descriptors)
        answer, received = control_protocol.receive(self._connection)
        assert answer is not None, "the proxy hung up"
        return answer, received

    def send_raw(self, data: bytes) -> dict[str, Any]:
        self._connection.send(data)
        answer, _ = control_protocol.receive(self._connection)
        assert answer is not None
        return answer

    def serve(self, router: str, sockets: Iterable[socket.socket], namespace: int = 7) -> None:
        descriptors = [one.fileno() for one in sockets]
        assert self.ask("serve", descriptors, router=router, namespace=namespace) == {"ok": True}

    def give(self, router: str) -> list[socket.socket]:
        answer, received = self.exchange({"do": "give", "router": router})
        assert answer["ok"] is True
        return [socket.socket(fileno=descriptor) for descriptor in received]

    def close(self) -> None:
        self._connection.close()


class Proxy:
    """One process.

    :param options: by group, of the configuration file
    :param descriptors: RLIMIT_NOFILE of the process
    :param manager: what starts it instead of systemd; None: nothing does
    """

    def __init__(
        self,
        tmp: Path,
        upstream: Path,
        options: dict[str, dict[str, Any]] | None = None,
        descriptors: int | None = None,
        name: str = "proxy",
        manager: ServiceManager | None = None,
    ) -> None:
        self.control = tmp / f"{name}.dir" / "control.sock"
        self.config, self.log = tmp / f"{name}.conf", tmp / f"{name}.log"
        groups: dict[str, dict[str, Any]] = {
            "DEFAULT": {"metadata_proxy_socket": upstream, "state_path": tmp, "debug": True},
            **(options or {}),
        }
        groups["metadata_proxy"] = {"control_socket": self.control, **groups.get("metadata_proxy", {})}
        self.config.write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
                for group, values in groups.items()
            )
        )
        self._descriptors, self._manager = descriptors, manager
        self._agents: list[Agent] = []
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """A new process; the one before has ended."""
        self.process = self.launch()
        wait_for(self._answers, "the proxy starts")
        return self.process

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it and do not wait for anything."""
        words = [sys.executable, "-m", "dvr_agent.metadata_proxy.main", "--config-file", str(self.config)]
        if self._descriptors is not None:
            words = ["prlimit", f"--nofile={self._descriptors}", *words]
        with self.log.open("ab") as log:
            how = {"args": words} if self._manager is None else self._manager.command(words)
            return subprocess.Popen(stdout=log, stderr=log, **how)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            self.agent().close()
            return True
        return False

    def agent(self) -> Agent:
        one = Agent(self.control)
        self._agents.append(one)
        return one

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        for agent in self._agents:
            agent.close()
        self.process.kill()
        self.process.wait()


class Client:
    """An instance's connection: sends what the test says, and reads answers with h11."""

    def __init__(
        self, target: socket.socket, source: str = "", timeout: float = PATIENCE, receive: int | None = None
    ) -> None:
        self.socket = socket.socket(target.family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        if receive is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(target.getsockname())
        self.rest = b""
        self.informational: list[int] = []

    def send(self, data: bytes) -> Client:
        self.socket.sendall(data)
        return self

    def answer(self, method: bytes = b"GET") -> tuple[int, dict[str, str], bytes]:
        """The next answer, whole: status, headers, body.

        :raises h11.RemoteProtocolError: it is cut off, or there is none
        """
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"x")]))
        http.send(h11.EndOfMessage())
        if self.rest:
            http.receive_data(self.rest)
        response, pieces = None, []
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                try:
                    http.receive_data(self.socket.recv(65536))
                except ConnectionResetError:
                    http.receive_data(b"")
            elif isinstance(event, h11.InformationalResponse):
                self.informational.append(event.status_code)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            else:
                break
        assert response is not None
        self.rest = http.trailing_data[0]
        return response.status_code, {k.decode(): v.decode("latin-1") for k, v in response.headers}, b"".join(pieces)

    def get(self, path: str = "/", more: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        return self.send(b"GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n" % (path.encode(), more)).answer()

    def is_closed(self) -> bool:
        """Wait until the other side closes; True if nothing came before that."""
        try:
            return self.socket.recv(65536) == b""
        except ConnectionResetError:
            return True

    def is_open(self) -> bool:
        """Nothing has come yet, and no end."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.socket.settimeout(PATIENCE)
        return False

    def close(self) -> None:
        self.socket.close()


def get(
    target: socket.socket, path: str = "/", more: bytes = b"", source: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """One request over a connection of its own."""
    client = Client(target, source)
    try:
        return client.get(path, more + b"Connection: close\r\n")
    finally:
        client.close()
