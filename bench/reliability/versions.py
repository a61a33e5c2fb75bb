"""The daemon of release 0.2.0 and this one take turns on one host: neither changes what the other made."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.reliability.api import Figure, Options
from bench.reliability.crashes import differences
from bench.reliability.living import VICTIM, LivingHost, changed, picture
from tests.support import lab

ROOT = Path(__file__).parents[2]
RELEASE = "0.2.0"
MONITORED = ("link", "address", "route", "rule")
OF_THE_KERNEL = re.compile(r"fe80::|proto kernel|^\d+: \S+: <")
"""What it says by itself: a link-local address has passed duplicate address detection; a bridge's port forwards."""


def measure(options: Options) -> Figure:
    """Take turns: this one, the release, this one, the release; and routers that one makes and the other removes."""
    with tempfile.TemporaryDirectory(prefix="dvr-release-") as folder:
        revision = check_out(Path(folder))
        if not revision:
            return Figure("skipped: no tag", True)
        release = {"PYTHONPATH": folder, "PYTHONSAFEPATH": "1"}
        wrong = list[str]()
        with LivingHost() as host:
            host.put(VICTIM)
            host.settle(VICTIM)
            wrong += [f"{RELEASE} over this one: {line}" for line in turn(host, release)]
            if not options.quick:
                host.put(changed())
                host.settle(changed())
                wrong += [f"this one over {RELEASE}: {line}" for line in turn(host, {})]
                wrong += [f"{RELEASE} once more: {line}" for line in turn(host, release)]
                wrong += _made_by_one_removed_by_the_other(host, release)
            lost, sent = host.lost()
    turns = 1 if options.quick else 5
    text = f"{turns} turns with {revision}: {len(wrong)} changes in the kernel, {lost} of {sent:,} pings lost"
    return Figure(text, not wrong and not lost, tuple(wrong[:20]))


def _made_by_one_removed_by_the_other(host: LivingHost, release: dict[str, str]) -> Iterator[str]:
    """Have each remove what the other has made or changed; the release runs before and after.  Yields what is wrong."""
    host.put(None)
    host.settle(None)
    host.put(VICTIM)
    host.settle(VICTIM)
    yield from (f"this one over a router that {RELEASE} made: {line}" for line in turn(host, {}))
    host.put(None)
    host.settle(None)
    host.put(changed())
    host.settle(changed())
    yield from (f"{RELEASE} over a router that this one made: {line}" for line in turn(host, release))
    host.put(None)
    host.settle(None)
    yield from (f"left over: {line}" for line in host.left_overs())


def check_out(folder: Path) -> str:
    """Put the release into a folder; returns its revision, empty if this clone does not have it."""
    revision = _git("rev-parse", "--verify", "-q", f"v{RELEASE}^{{commit}}")
    revision = revision or _git("log", "-1", "--format=%H", f"-S[{RELEASE}] - ", "--", "CHANGELOG.md")
    if not revision:
        return ""
    archive = subprocess.run(["git", "archive", revision, "dvr_agent"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        return ""
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return revision[:12]


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def turn(host: LivingHost, environ: dict[str, str]) -> list[str]:
    """Stop the daemon and start another one; returns what changed in the kernel."""
    before = picture()
    with monitored() as lines:
        host.daemon.stop()
        host.daemon.of_this_version = not environ
        host.daemon.start(True, None, **environ)
        host.site.audited()
    running = Path(f"/proc/{host.pid()}/environ").read_bytes()
    assert not environ or environ["PYTHONPATH"].encode() in running
    writes = {kind: count for kind, count in host.daemon.status()["counters"]["writes"].items() if count}
    return [*differences(before, picture()), *lines, *(f"it wrote: {kind} {count}" for kind, count in writes.items())]


@contextlib.contextmanager
def monitored() -> Iterator[list[str]]:
    """Listen to the kernel in all namespaces; the list has what was heard once the block has ended."""
    heard: list[str] = []
    words = [["ip", "-o", "monitor", *MONITORED]]
    words += [["ip", "-o", "-n", name, "monitor", *MONITORED] for name in os.listdir(lab.NETNS)]
    programs = [subprocess.Popen(one, stdout=subprocess.PIPE, text=True) for one in words]
    time.sleep(0.5)  # ip says nothing when it has begun to listen
    try:
        yield heard
    finally:
        for one in programs:
            one.terminate()
            lines = one.communicate()[0].splitlines()
            heard += [line for line in lines if not OF_THE_KERNEL.search(line)]
