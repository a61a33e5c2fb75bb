"""Starts the daemon on broken state files: the kernel stays as it is, and the files are written anew."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from bench.reliability.api import Figure, Options
from bench.reliability.crashes import differences
from bench.reliability.living import VICTIM, LivingHost, changed
from dvr_agent.reconcile.statefile import PAIRS_FILE, PRIORITIES_FILE
from tests.support.daemon_site import FLOATING, ROUTER
from tests.support.waiting import wait_for

NAMES = {PAIRS_FILE: ROUTER, PRIORITIES_FILE: FLOATING}
"""File → what a whole one has a line of."""
OTHER = "11111111-2222-4333-8444-555555555555"
QUICK_STATES = ("binary", "fifo")


def _bytes(data: bytes) -> Callable[[Path, bytes], None]:
    return lambda path, _old: _write(path, data)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _huge(path: Path, old: bytes) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)
        file.write(old)


def _link(path: Path, _old: bytes) -> None:
    target = path.with_name("elsewhere")
    target.write_text("root:x:0:0\n")
    path.symlink_to(target)


def _no_permission(path: Path, old: bytes) -> None:
    path.write_bytes(old)
    path.chmod(0)


STATES: dict[str, Callable[[Path, bytes], None]] = {
    "empty": _bytes(b""),
    "truncated": lambda path, old: _write(path, old[: len(old) * 2 // 3]),
    "binary": _bytes(bytes(range(256)) * 40),
    "JSON": _bytes(b'{"entries": [1, 2, {"a": null}]}'),
    "another version": lambda path, old: _write(path, b"version,2\n" + old.replace(b",", b"\t")),
    "another router's": lambda path, old: _write(path, re.sub(rb"(?m)^[^,]+", OTHER.encode(), old, count=1)),
    "duplicates": lambda path, old: _write(path, old * 3),
    "one value for all": lambda path, old: _write(path, re.sub(rb"(?m),.*$", b"," + _value(old), old)),
    "huge numbers": lambda path, old: _write(path, re.sub(rb"(?m),.*$", b"," + b"9" * 5000, old)),
    "no permission": _no_permission,
    "directory": lambda path, _old: path.mkdir(),
    "link": _link,
    "fifo": lambda path, _old: os.mkfifo(path),
    "device": lambda path, _old: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
    "100 MB": _huge,
}
"""What is in the file's place → how it comes there, given what the file held."""


def _value(old: bytes) -> bytes:
    return old.splitlines()[0].partition(b",")[2]


def measure(options: Options) -> Figure:
    """Start on each of them."""
    wrong = list[str]()
    states = QUICK_STATES if options.quick else tuple(STATES)
    with LivingHost() as host:
        host.put(VICTIM)
        host.settle(VICTIM)
        for name in states:
            wrong += [f"{name}: {line}" for line in start_on(host, name)]
        lost, sent = host.lost()
    text = f"{len(states)} broken states: {len(wrong)} went wrong, {lost} of {sent:,} pings lost"
    return Figure(text, not wrong and not lost, tuple(wrong))


def start_on(host: LivingHost, name: str) -> list[str]:
    """Return what went wrong."""
    host.put(VICTIM)
    before = host.settle(VICTIM)
    host.daemon.stop()
    paths = [host.daemon.state / file for file in NAMES]
    for path in paths:
        old = path.read_bytes()
        path.unlink()
        STATES[name](path, old)
    said = len(_log(host))
    host.daemon.start()
    wrong = list(differences(before, host.settle(VICTIM) if name != "directory" else _settled(host)))
    writes = host.daemon.status()["counters"]["writes"]
    wrong += [f"written: {writes}"] if any(writes.values()) else []
    if name == "directory":
        wait_for(lambda: host.daemon.status()["troubles"], "the host says that files cannot be kept")
        for path in paths:
            shutil.rmtree(path)
    host.put(changed())
    host.settle(changed())
    wait_for(lambda: all(_is_whole(path) for path in paths), f"state files are written anew after: {name}")
    return [*wrong, *_repeated(_log(host)[said:], paths), *host.faults_in_log()]


def _settled(host: LivingHost) -> dict[str, object]:
    wait_for(lambda: all(one["state"] == "in sync" for one in host.daemon.status()["routers"]), "routers are in sync")
    return host.picture()


def _is_whole(path: Path) -> bool:
    return not path.is_symlink() and path.is_file() and NAMES[path.name] in path.read_text()


def _log(host: LivingHost) -> list[str]:
    return f"{host.daemon.out}{host.daemon.err}".splitlines()


def _repeated(lines: list[str], paths: list[Path]) -> list[str]:
    """Return what the log says of a file more than once: about reading it, and about writing it."""
    found = []
    for path in paths:
        about = [line for line in lines if str(path) in line]
        for kind in (True, False):
            some = [line for line in about if ("written" in line) is kind]
            found += [f"said {len(some)} times: {some[0]}"] if len(some) > 1 else []
    return found
