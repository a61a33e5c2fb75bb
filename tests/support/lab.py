"""A laboratory on one kernel: throw-away hosts, VMs as namespaces, pings and TCP between them.

Everything is made and read with independent tools (``ip``, ``ping``, ``iptables-legacy-save``), never with the
code under test.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

CLONE_NEWNET = 0x40000000
MS_PRIVATE, MS_REC, MNT_DETACH = 1 << 18, 1 << 14, 2
NETNS = Path("/run/netns")
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def run(*words: object, check: bool = True, text: str | None = None, timeout: float = 60) -> str:
    """Run a command in the current namespace; returns its standard output."""
    done = subprocess.run(
        [str(word) for word in words], input=text, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))} → {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def ip_json(*words: object, netns: str | None = None) -> Any:
    """``ip -j …`` decoded."""
    out = run("ip", *(["-n", netns] if netns else []), "-j", "-d", *words)
    return json.loads(out or "[]")


def in_netns(netns: str, *words: object, check: bool = True, text: str | None = None, timeout: float = 60) -> str:
    """Run a command inside a named namespace."""
    return run("ip", "netns", "exec", netns, *words, check=check, text=text, timeout=timeout)


@contextlib.contextmanager
def entered(netns: str) -> Iterator[None]:
    """The calling thread is in the named namespace inside the block."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(NETNS / netns, os.O_RDONLY)
    try:
        _check(_libc.setns(there, CLONE_NEWNET), f"setns {netns}")
        yield
    finally:
        _check(_libc.setns(here, CLONE_NEWNET), "setns back")
        os.close(there)
        os.close(here)


class Probe(NamedTuple):
    """A question that a probe puts to the kernel.

    :ivar source: empty: the kernel chooses
    :ivar size: of the IP packet, which must not be fragmented; 0: small
    """

    client: str
    target: str
    protocol: str
    port: int = 0
    source: str = ""
    size: int = 0


class Seen(NamedTuple):
    """What came of a probe: the namespace that answered (empty: not told), and the source address that it saw."""

    server: str = ""
    peer: str = ""


Watcher = Callable[[Probe], Callable[[Seen | None], None]]
"""Is called before a probe, and what it returns with the outcome: None if no answer came."""
watchers: list[Watcher] = []
"""Who compares what probes see with something else; tests/packets/conftest.py adds one."""


def watched(probe: Probe) -> Callable[[Seen | None], None]:
    """Tell the watchers of a probe that begins; returns the function that takes its outcome."""
    ends = [watcher(probe) for watcher in watchers]

    def done(seen: Seen | None) -> None:
        for end in ends:
            end(seen)

    return done


@dataclass
class Host:
    """One throw-away host."""

    tmp: list[str] = field(default_factory=list)

    def bridge(self, name: str) -> str:
        """An ordinary Linux bridge in the root namespace, there already or made now."""
        if not (Path("/proc/sys/net/ipv4/conf") / name).exists():
            run("ip", "link", "add", name, "type", "bridge")
            run("ip", "link", "set", name, "up")
        return name

    def vm(
        self,
        name: str,
        bridge: str,
        cidr: str | tuple[str, ...],
        gateway: str | tuple[str, ...] = (),
        mac: str | None = None,
        mtu: int | None = None,
    ) -> str:
        """A "VM": a namespace with one interface on a bridge.  Addresses may be IPv4 and IPv6."""
        cidrs, gateways = ((x,) if isinstance(x, str) else x for x in (cidr, gateway))
        run("ip", "netns", "add", name)
        outer = f"vm{next(_numbers)}"
        peer = ["netns", name, *(["address", mac] if mac else [])]
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", *peer)
        in_netns(name, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        in_netns(name, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0", "net.ipv6.conf.eth0.accept_ra=0")
        run("ip", "link", "set", outer, "master", bridge, "up", *(["mtu", mtu] if mtu else []))
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "link", "set", "eth0", "up", *(["mtu", mtu] if mtu else []))
        for one in cidrs:
            run("ip", "-n", name, "addr", "add", one, "dev", "eth0", *(["nodad"] if ":" in one else []))
        for one in gateways:
            run("ip", "-n", name, "route", "add", "default", "via", one)
        return name


def private_run() -> None:
    """An own empty ``/run`` for this process: an ordinary user could not write the host's, root should not."""
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate /")
    _check(_libc.mount(b"run", b"/run", b"tmpfs", 0, None), "mount /run")


@contextlib.contextmanager
def fresh_host() -> Iterator[Host]:
    """Move the calling thread into a new root network namespace with an own ``/run/netns``; at the end it is gone."""
    if not os.environ.get("DVR_TEST_SANDBOX"):
        raise RuntimeError("not in the sandbox: run the tests by pytest")
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate /")
    NETNS.mkdir(parents=True, exist_ok=True)
    _check(_libc.mount(b"netns", str(NETNS).encode(), b"tmpfs", 0, None), "mount /run/netns")
    _check(_libc.unshare(CLONE_NEWNET), "unshare")
    try:
        run("ip", "link", "set", "lo", "up")
        yield Host()
    finally:
        _check(_libc.setns(here, CLONE_NEWNET), "setns back")
        os.close(here)
        for entry in NETNS.iterdir():
            _libc.umount2(str(entry).encode(), MNT_DETACH)
        while _libc.umount2(str(NETNS).encode(), MNT_DETACH) == 0 and _is_mount(NETNS):
            pass


def _is_mount(path: Path) -> bool:
    return any(line.split()[4] == str(path) for line in Path("/proc/thread-self/mountinfo").read_text().splitlines())


PATIENCE = 30.0
"""Seconds that packets which must arrive may take on a busy machine.  Nothing waits that long if they do."""
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT})
"""What neighbour discovery that was too slow ends with: the kernel asks three times, a second apart."""


def ping(
    netns: str, target: str, count: int = 2, size: int = 56, df: bool = False, timeout: float | None = None
) -> bool:
    """True if at least one answer came.

    :param timeout: seconds to wait for one; default: as long as it takes, up to :data:`PATIENCE`
    """
    words = ["ping", "-n", "-c", count, "-i", "0.2", "-W", timeout or 2, "-s", size, *(["-M", "do"] if df else [])]
    end = time.monotonic() + (PATIENCE if timeout is None else 0)
    headers = 48 if ":" in target else 28
    told = watched(Probe(netns, target, "icmp", size=size + headers if df else 0))
    while True:
        done = subprocess.run(
            ["ip", "netns", "exec", netns, *map(str, words), target],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode == 0 or time.monotonic() >= end:
            told(Seen() if done.returncode == 0 else None)
            return done.returncode == 0


def tcp_peer(server: str, listen: str, client: str, target: str, port: int = 8080, source: str = "") -> str | None:
    """Connect from ``client`` to ``target``; returns the source address that ``server`` saw, None: no connection."""
    told = watched(Probe(client, target, "tcp", port, source))
    peer = _tcp_peer(server, listen, client, target, port, source)
    told(Seen(server, peer) if peer else None)
    return peer


def _tcp_peer(server: str, listen: str, client: str, target: str, port: int, source: str) -> str | None:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with entered(server):
        listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((listen, port))
    listener.listen(4)
    listener.settimeout(PATIENCE + 5)
    seen: list[str] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, peer = listener.accept()
            connection.settimeout(PATIENCE)
            seen.append(peer[0])
            connection.sendall(b"hello")
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        if not _says_hello(client, family, (target, port), source):
            with contextlib.suppress(OSError):  # wakes the server
                listener.shutdown(socket.SHUT_RDWR)
            return None
    finally:
        thread.join()
        listener.close()
    return seen[0] if seen else None


def _says_hello(client: str, family: int, target: tuple[str, int], source: str) -> bool:
    """Connect, again and again while neighbour discovery fails; True if the server's greeting came."""
    end = time.monotonic() + PATIENCE
    while True:
        with entered(client):
            caller = socket.socket(family, socket.SOCK_STREAM)
        with caller:
            caller.settimeout(max(end - time.monotonic(), 1))
            try:
                if source:
                    caller.bind((source, 0))
                caller.connect(target)
                return caller.recv(16) == b"hello"
            except OSError as exc:
                if exc.errno not in _UNREACHABLE or time.monotonic() >= end:
                    return False
