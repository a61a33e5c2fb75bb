"""Measures what drift events lead to beyond repairs: nothing by own writes, an audit by a storm, little in a fight."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import documents
from bench.reliability.api import Figure, Options
from bench.reliability.drift_times import FIP, changes, host
from bench.reliability.load_host import Questioner, percentile
from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.waiting import wait_for

ROUTERS, QUICK_ROUTERS = 100, 5
STORM, QUICK_STORM = 200_000, 20_000
FIGHT, QUICK_FIGHT = 25.0, 3.0
"""Seconds."""


def own_writes(options: Options) -> Figure:
    """Build, change and remove routers: each is one job."""
    number = QUICK_ROUTERS if options.quick else ROUTERS
    with host(1) as daemon:
        before, heard = _jobs(daemon), _counters(daemon)["events"]
        for fips in (1, 3):
            for one in range(1, number + 1):
                path = daemon.routers / f"{one}.new"
                path.write_bytes(documents.document(one, fips=fips))
                path.rename(path.with_suffix(".json"))
            wait_for(lambda: daemon.status()["states"] == {"in sync": number + 1}, "all are in sync")
            _settle(daemon)
        for one in range(1, number + 1):
            (daemon.routers / f"{one}.json").unlink()
        wait_for(lambda: daemon.status()["states"] == {"in sync": 1}, "all are gone")
        _settle(daemon)
        jobs, counters = _jobs(daemon) - before, _counters(daemon)
        is_quiet = "drift" not in daemon.out
    writes = sum(counters["writes"].values())
    text = (
        f"{3 * number} routers built, changed and removed by {writes:,} writes: {jobs - 3 * number} further jobs, "
        f"{counters['events'] - heard:,} events were read"
    )
    return Figure(text, jobs == 3 * number and is_quiet)


def storm(options: Options) -> Figure:
    """Add and delete foreign routes in a router's namespace, many at a time."""
    number = QUICK_STORM if options.quick else STORM
    space = f"qrouter-{documents.router_id(0)}"
    with tempfile.TemporaryDirectory() as folder, host(10) as daemon:
        batch = Path(folder) / "batch"
        places = [
            f"198.{18 + n // 65536 % 2}.{n // 256 % 256}.{n % 256}/32 dev lo table 999" for n in range(number // 2)
        ]
        batch.write_text("".join(f"route replace {place}\n" for place in places))
        with Questioner(daemon) as questions:
            lab.run("ip", "-n", space, "-batch", str(batch))
            lab.run("ip", "-n", space, "route", "flush", "table", "999")
            wait_for(lambda: "an audit of all routers follows" in daemon.out, "the storm is noticed")
            wait_for(lambda: daemon.status()["last_audit"] and not daemon.status()["queue_depth"], "the audit is over")
        status, losses = daemon.status(), daemon.out.count("events of the kernel were lost")
    text = (
        f"{number:,} foreign events: {losses} times an audit, {len(questions.seconds)} answers, p99 "
        f"{1e3 * percentile(questions.seconds, 0.99):.0f} ms; all in sync: {status['states'] == {'in sync': 10}}"
    )
    return Figure(text, status["states"] == {"in sync": 10} and 1 <= losses <= 3)


def fight(options: Options) -> Figure:
    """Undo each repair of a device at once, for some time."""
    change, undone = changes(0)["MTU"], 0
    with host(1) as daemon:
        seconds = QUICK_FIGHT if options.quick else FIGHT
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if "mtu 1400" not in lab.run("sh", "-c", change.shows):
                undone += 1
                os.system(change.command)
            time.sleep(0.02)
        lines = daemon.out.count("another program manages it too")
        found = daemon.status()["fights"]
    text = f"undone {undone} times in {seconds:.0f} s: {lines} line of the log, {len(found)} fight in the status"
    return Figure(text, lines == len(found) == 1 and undone <= 4)


def _counters(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.status()["counters"]
    return found


def _jobs(daemon: Daemon) -> int:
    return int(_counters(daemon)["jobs"])


def _settle(daemon: Daemon) -> None:
    """Wait until the daemon has heard all that happened up to now: it hears a later change of none of ours."""
    count = _counters(daemon)["events"]
    lab.run("ip", "-n", FIP, "route", "add", "192.0.2.200/32", "dev", "lo", "table", "4242")
    wait_for(lambda: _counters(daemon)["events"] > count, "the event is heard")
    lab.run("ip", "-n", FIP, "route", "delete", "192.0.2.200/32", "dev", "lo", "table", "4242")
    wait_for(lambda: not daemon.status()["queue_depth"], "the queue is empty")
