"""Starts the daemon on a directory of very many files, a fifth of them bad."""

from __future__ import annotations

import json
import time
from pathlib import Path

from bench.reliability.api import Figure, Options
from bench.reliability.load_host import LoadHost, Questioner, percentile
from dvr_agent.errors import DocumentError
from dvr_agent.model.parse import parse_document
from tests.support import hostile
from tests.support.daemon_lab import router_id
from tests.support.waiting import wait_for

READY_SECONDS = 3000


def measure(options: Options) -> Figure:
    """Start on 100,000 files; quick: 300."""
    files, bad = (300, 60) if options.quick else (100_000, 20_000)
    with LoadHost() as host, Questioner(host.daemon) as questioner:
        fill(host.daemon.routers, files, bad)
        started = time.monotonic()
        host.daemon.start(ready=False)
        wait_for(lambda: host.daemon.alive() and host.daemon.socket.exists(), "it listens")
        # Not by the status: with so many routers its answer takes longer than reading a hundred files.
        wait_for(lambda: " ready" in f"{host.daemon.out}{host.daemon.err}", "it is ready", READY_SECONDS, every=1)
        seconds = time.monotonic() - started
        answers = list(questioner.seconds)
        lateness, usage = host.counters()["hub_lateness_worst_ms"], host.usage()
        wait_for(lambda: not host.daemon.status()["queue_depth"], "all have been looked at", READY_SECONDS, every=5)
        told = len(host.daemon.status()["source"]["bad"])
        known = sum(host.states().values())
    own = questioner.lateness * 1000
    slow = lateness > 1000 + own
    text = (
        f"{files:,} files: ready after {seconds:.0f} s, {told:,} of {bad:,} bad ones told, {known:,} routers known; "
        f"{len(answers):,} answers, p99 {percentile(answers, 0.99) * 1000:.0f} ms; hub at most "
        f"{lateness:.0f} ms late (this program itself {own:.0f}); {usage.rss_mb:.0f} MB"
    )
    return Figure(text, told == bad and known >= files - bad and bool(answers) and not slow)


def _is_bad(data: bytes) -> bool:
    try:
        parse_document(data, "one")
    except DocumentError:
        return True
    return False


def fill(folder: Path, files: int, bad: int) -> None:
    """Write the files.  The good ones are of routers that are left alone: reading is what counts here."""
    every = files // bad
    broken = [data for _, data in hostile.STRANGE_TEXTS if len(data) < 4096 and _is_bad(data)]
    for number in range(files):
        path = folder / f"{number}.json"
        if number % every == 0:
            path.write_bytes(broken[number // every % len(broken)])
        else:
            path.write_text(json.dumps({"id": router_id(number), "name": str(number), "distributed": True, "ha": True}))
