"""Sees every write to the kernel from outside: ``ip monitor`` in each namespace."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests import lab

QUIET = 0.3
"""Seconds to wait for a message of the kernel that should not come."""


def eventually(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
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
    """Namespace → what ``ip monitor all`` told there during the block; filled when the block has ended."""
    seen: dict[str, str] = {}
    monitors = {
        name: subprocess.Popen(["ip", "-ts", "-n", name, "monitor", "all"], stdout=subprocess.PIPE, text=True)
        for name in namespaces
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
            text = "".join(line for line in monitor.communicate()[0].splitlines(True) if not _is_kernels_own(line))
            if text:
                seen[name] = text


def _is_kernels_own(line: str) -> bool:
    """The kernel forgets the neighbour entries it makes for multicast groups whenever it likes."""
    return "[NEIGH]" in line and "NOARP" in line and "33:33:" in line


def _listens(pid: int) -> bool:
    """True once the process has joined netlink groups (proc(5): /proc/pid/net/netlink, column Groups)."""
    lines = Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]
    return any(line.split()[2] == str(pid) and int(line.split()[3], 16) for line in lines)
