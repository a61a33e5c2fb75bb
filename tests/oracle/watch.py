"""Sees every write to the kernel from outside: ``ip monitor`` in each namespace."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from tests import lab

QUIET = 0.3
"""Seconds to wait for a message of the kernel that should not come."""


def eventually(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until the condition holds.

    :raises AssertionError: it does not within that many seconds
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def until_settled(namespaces: Iterable[str]) -> None:
    """Wait until the kernel has finished what it does by itself after a change: duplicate address detection."""
    for namespace in namespaces:
        eventually(lambda name=namespace: not lab.ip_json("-6", "addr", "show", "tentative", netns=name), namespace)  # type: ignore[misc]


@contextlib.contextmanager
def writes_seen(namespaces: Iterable[str]) -> Iterator[dict[str, str]]:
    """Namespace → what ``ip monitor all`` told there during the block; filled when the block has ended.

    What the kernel does by itself with neighbours that it has learned is left out.
    """
    seen: dict[str, str] = {}
    permanent = {name: _permanent(name) for name in namespaces}
    monitors = {
        name: subprocess.Popen(["ip", "-ts", "-n", name, "monitor", "all"], stdout=subprocess.PIPE, text=True)
        for name in permanent
    }
    try:
        for name, monitor in monitors.items():
            eventually(lambda pid=monitor.pid: _listens(pid), f"ip monitor in {name} listens")  # type: ignore[misc]
        yield seen
        time.sleep(QUIET)
    finally:
        for monitor in monitors.values():
            monitor.terminate()
        for name, monitor in monitors.items():
            lines = monitor.communicate()[0].splitlines(True)
            text = "".join(line for line in lines if not is_kernels_own(line, permanent[name]))
            if text:
                seen[name] = text


def _permanent(namespace: str) -> frozenset[tuple[str, str]]:
    """(address, device) of the permanent neighbours."""
    found = lab.ip_json("neigh", "show", "nud", "permanent", netns=namespace)
    return frozenset((one["dst"], one["dev"]) for one in found)


def is_kernels_own(line: str, permanent: Collection[tuple[str, str]]) -> bool:
    """True for a line of ``ip monitor`` about a neighbour that the kernel learned, asked for, or forgot.

    Nobody else but the kernel makes neighbours that are not permanent (those of multicast groups among them).  One that
    was permanent counts whatever its state: a deleted one is announced as FAILED.
    """
    if "[NEIGH]" not in line or "PERMANENT" in line:
        return False
    words = line.split("[NEIGH]")[1].removeprefix("Deleted ").split()
    return "dev" in words and (words[0], words[words.index("dev") + 1]) not in permanent


def _listens(pid: int) -> bool:
    """True once the process has joined netlink groups (proc(5): /proc/pid/net/netlink, column Groups)."""
    lines = Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]
    return any(line.split()[2] == str(pid) and int(line.split()[3], 16) for line in lines)
