"""Sees every write to the kernel from outside: ``ip monitor`` in each namespace."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from tests.support import lab
from tests.support.waiting import wait_for

BEGIN_MARK, END_MARK = "begin-of-watch", "end-of-watch"
"""Names of devices that do not exist; rules that name them are added when a watch begins, and when it ends."""


def until_settled(namespaces: Iterable[str]) -> None:
    """Wait until the kernel has finished what it does by itself: carrier, duplicate address detection."""
    for namespace in namespaces:
        wait_for(lambda name=namespace: _is_settled(name), f"the kernel has finished in {namespace}")


def _is_settled(namespace: str) -> bool:
    links = lab.ip_json("link", netns=namespace)
    if any("LOWER_UP" in link["flags"] and link["operstate"].endswith("DOWN") for link in links):
        return False
    return not lab.ip_json("-6", "addr", "show", "tentative", netns=namespace)


@contextlib.contextmanager
def writes_seen(namespaces: Iterable[str]) -> Iterator[dict[str, str]]:
    """Namespace → what ``ip monitor all`` told there during the block; filled when the block has ended.

    What the kernel does by itself with neighbours that it has learned is left out.
    """
    seen: dict[str, str] = {}
    permanent = {name: _permanent(name) for name in namespaces}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        told = {name: Path(folder, str(number)) for number, name in enumerate(permanent)}
        monitors = {}
        for name, path in told.items():
            output = stack.enter_context(path.open("w"))
            monitors[name] = subprocess.Popen(["ip", "-ts", "-n", name, "monitor", "all"], stdout=output)
        try:
            for name, monitor in monitors.items():
                wait_for(lambda pid=monitor.pid: _listens(pid), f"ip monitor in {name} listens")
            for name, path in told.items():
                wait_for(lambda name=name, path=path: _marks_begin(name, path), f"ip monitor in {name} tells")
            yield seen
            for name, path in told.items():
                _mark_end(name, path)
        finally:
            for monitor in monitors.values():
                monitor.terminate()
                monitor.wait()
            for name, path in told.items():
                lines = path.read_text().splitlines(True)
                text = "".join(
                    line for line in lines if not _is_mark(line) and not is_kernels_own(line, permanent[name])
                )
                if text:
                    seen[name] = text


def _marks_begin(namespace: str, told: Path) -> bool:
    """Add a rule, and return True once the monitor has told such a one: it throws away what comes while it lists links.

    It does so after it has joined its groups.
    """
    if BEGIN_MARK in told.read_text():
        return True
    _mark(namespace, BEGIN_MARK, "add")
    _mark(namespace, BEGIN_MARK, "del")
    return False


def _mark(namespace: str, device: str, action: str) -> None:
    lab.run("ip", "-n", namespace, "rule", action, "iif", device, "priority", "1", "lookup", "main")


def _is_mark(line: str) -> bool:
    return BEGIN_MARK in line or END_MARK in line


def _mark_end(namespace: str, told: Path) -> None:
    """Wait until a monitor has told all that has happened so far, however long it has to wait for a processor."""
    _mark(namespace, END_MARK, "add")
    wait_for(lambda: END_MARK in told.read_text(), f"ip monitor in {namespace} has told all")
    _mark(namespace, END_MARK, "del")


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
