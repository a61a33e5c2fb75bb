"""The two ways of serving N routers' metadata: started, asked, measured, ended.  Namespaces and upstream are there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dvr_agent.control.connection import AwayError
from dvr_agent.kernel import netns
from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.services.metadata.control_client import ControlClient
from dvr_agent.services.metadata.listener import RouterListener, open_listener

PORT = 9697
PATIENCE = 120.0
CONFIG = """\
global
    log /dev/log local0 info
    user root
    group root
    maxconn 1024
    pidfile {pid}
    daemon
defaults
    log global
    mode http
    option httplog
    option dontlognull
    option http-server-close
    option forwardfor
    retries 3
    timeout http-request 30s
    timeout connect 30s
    timeout client 32s
    timeout server 32s
    timeout http-keep-alive 30s
listen listener
    bind 0.0.0.0:{port}
    server metadata {upstream}
    http-request set-header X-Neutron-Router-ID {router}
"""
"""What the reference agent's haproxies go by (Neutron 29, without rate limits), option by option."""


@dataclass(frozen=True, slots=True)
class Cost:
    """
    :ivar seconds: until every router was served
    :ivar cpu: processor seconds that this took, of the processes that serve and of starting them
    :ivar memory: MiB, proportional set size of all processes that serve
    :ivar processes: that serve
    """

    seconds: float
    cpu: float
    memory: float
    processes: int


class Proxies(Protocol):
    name: str

    def start(self, namespaces: Sequence[str]) -> Cost: ...

    def stop(self) -> None: ...


class Haproxies:
    """One per router, as neutron-l3-agent starts them, but without its part of the work."""

    name = "haproxy"

    def __init__(self, folder: Path, upstream: Path) -> None:
        self._folder, self._upstream = folder, upstream
        self._pids: list[int] = []

    def start(self, namespaces: Sequence[str]) -> Cost:
        began, cpu = time.monotonic(), _cpu_of_children()
        for namespace in namespaces:
            pid, conf = self._folder / f"{namespace}.pid", self._folder / f"{namespace}.conf"
            conf.write_text(CONFIG.format(pid=pid, port=PORT, upstream=self._upstream, router=namespace))
            with netns.entered(namespace):
                started = subprocess.Popen(["haproxy", "-f", str(conf)], stderr=subprocess.DEVNULL)
            if started.wait():
                raise RuntimeError(f"haproxy ended with {started.returncode}")
            self._pids.append(int(pid.read_text().split()[0]))
        for namespace in namespaces:
            wait_answer(namespace)
        seconds = time.monotonic() - began
        spent = _cpu_of_children() - cpu + sum(map(_cpu, self._pids))
        return Cost(seconds, spent, sum(map(_memory, self._pids)), len(self._pids))

    def stop(self) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGTERM)
        for pid in self._pids:
            _wait_gone(pid)
        self._pids.clear()


class OneProxy:
    """dvr-metadata-proxy, and the agent's part of the work: sockets opened and handed over."""

    name = "dvr-metadata-proxy"

    def __init__(self, folder: Path, upstream: Path) -> None:
        self._conf, self._socket = folder / "proxy.conf", folder / "control.sock"
        self._settings = ProxySettings(str(upstream))
        self._listeners: list[RouterListener] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, namespaces: Sequence[str]) -> Cost:
        began, cpu = time.monotonic(), time.process_time()
        self._conf.write_text(f"[metadata_proxy]\ncontrol_socket = {self._socket}\n")
        words = [sys.executable, "-m", "dvr_agent.metadata_proxy.main", "--config-file", str(self._conf)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = self._reach()
        client.ask({"do": "set", "settings": self._settings.to_json()})
        for namespace in namespaces:
            listener = open_listener(namespace, PORT)
            self._listeners.append(listener)
            question = {"do": "serve", "router": namespace, "namespace": listener.cookie}
            client.ask(question, listener.descriptors)
        for namespace in namespaces:
            wait_answer(namespace)
        spent = time.process_time() - cpu + _cpu(self._process.pid)
        return Cost(time.monotonic() - began, spent, _memory(self._process.pid), 1)

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _reach(self) -> ControlClient:
        client, deadline = ControlClient(str(self._socket)), time.monotonic() + PATIENCE
        while True:
            try:
                client.connect()
                return client
            except AwayError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def connect(namespace: str, source: str = "127.0.0.1") -> socket.socket:
    """A connection to the proxy in a namespace.

    :raises OSError: there is none
    """
    with netns.entered(namespace):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", PORT))
    return connection


def ask(connection: socket.socket) -> bytes:
    """One request and its answer; the connection is closed by the other side."""
    connection.sendall(
        b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n"
    )
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


def wait_answer(namespace: str) -> None:
    """Wait until a request in the namespace is answered by 200."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with connect(namespace) as connection:
                if ask(connection).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        time.sleep(0.01)
    raise RuntimeError(f"{namespace} is not served")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _memory(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no memory")


def _wait_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
