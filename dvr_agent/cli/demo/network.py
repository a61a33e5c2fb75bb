"""Builds the demo's network with iproute2: bridges, and namespaces as VMs and as an internet host."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from dvr_agent.cli.demo import documents
from dvr_agent.errors import DvrError
from dvr_agent.kernel.netns import entered


class DemoError(DvrError):
    """A step of the demo failed."""


def run(*words: str) -> str:
    """Run a command; returns its standard output.

    :raises DemoError: the command failed; the text has its error output
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as exc:
        raise DemoError(f"{words[0]} is missing: the demo needs the packages that `make demo` installs") from exc
    if done.returncode:
        raise DemoError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def build_surroundings() -> None:
    """Build networks, VMs and the internet host, which exist before the agent starts."""
    run("ip", "link", "set", "lo", "up")
    for bridge in (documents.EXTERNAL_BRIDGE, documents.network_bridge("blue"), documents.network_bridge("green")):
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "link", "set", bridge, "up")
    for name, (network, address) in documents.VMS.items():
        gateway = address.rpartition(".")[0] + ".1"
        _host(name, documents.network_bridge(network), f"{address}/24", documents.mac(name), 1450)
        run("ip", "-n", name, "route", "add", "default", "via", gateway)
    _host("internet", documents.EXTERNAL_BRIDGE, f"{documents.EXTERNAL_GATEWAY}/24", documents.mac("internet"), 1500)
    run("ip", "-n", "internet", "addr", "add", f"{documents.INTERNET_ADDRESS}/32", "dev", "lo")


def _host(name: str, bridge: str, cidr: str, mac: str, mtu: int) -> None:
    run("ip", "netns", "add", name)
    peer = ("peer", "name", "eth0", "netns", name, "address", mac, "mtu", str(mtu))
    run("ip", "link", "add", f"v-{name}", "mtu", str(mtu), "type", "veth", *peer)
    run("ip", "link", "set", f"v-{name}", "master", bridge, "up")
    for device in ("lo", "eth0"):
        run("ip", "-n", name, "link", "set", device, "up")
    run("ip", "-n", name, "addr", "add", cidr, "dev", "eth0")


@contextlib.contextmanager
def _inside(namespace: str) -> Iterator[None]:
    with entered(namespace):
        yield


def source_seen(client: str, server: str, listen: str, target: str) -> str:
    """Open a TCP connection from one host to another; returns the source address at the server.

    :raises DemoError: no connection
    """
    with _inside(server):
        listener = socket.create_server((listen, 8080))
    listener.settimeout(5)
    seen: list[str] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, peer = listener.accept()
            seen.append(peer[0])
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with _inside(client):
            caller = socket.socket()
        with caller:
            caller.settimeout(5)
            caller.connect((target, 8080))
    except OSError as exc:
        raise DemoError(f"no TCP connection from {client} to {target}: {exc}") from exc
    finally:
        thread.join()
        listener.close()
    return seen[0]


def round_trip(namespace: str, target: str) -> float:
    """Median round trip time of a few pings in ms.

    :raises DemoError: an answer is missing
    """
    out = run("ip", "netns", "exec", namespace, "ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", target)
    times = sorted(float(line.rpartition("time=")[2].split()[0]) for line in out.splitlines() if "time=" in line)
    if len(times) < 3:
        raise DemoError(f"{namespace} → {target}: {3 - len(times)} of 3 pings lost")
    return times[1]


def echoes(namespace: str) -> int:
    """Number of echo requests that a host has received (``/proc/net/snmp``, IcmpInEchos)."""
    with _inside(namespace):
        text = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/net/snmp").read_text(encoding="ascii")
    names, values = (line.split() for line in text.splitlines() if line.startswith("Icmp:"))
    return int(values[names.index("InEchos")])


class Pinger:
    """A ping in the background, 50 packets a second."""

    def __init__(self, namespace: str, target: str) -> None:
        words = ["ip", "netns", "exec", namespace, "ping", "-n", "-i", "0.02", "-W", "1", target]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def stop(self) -> tuple[int, int]:
        """Stop the ping; returns numbers of packets (sent, lost)."""
        self._process.send_signal(2)
        out, _ = self._process.communicate(timeout=10)
        summary = next((line for line in out.splitlines() if "packets transmitted" in line), "")
        words = summary.split()
        if len(words) < 4:
            raise DemoError("ping said nothing")
        return int(words[0]), int(words[0]) - int(words[3])
