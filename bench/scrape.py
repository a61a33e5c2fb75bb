"""``python -m bench.scrape``: what metrics cost, with many routers on a real kernel.

A daemon with these routers in sync is scraped again and again by its admin socket: the time that a scrape takes for who
scrapes, and the processor time of the daemon.  Then the same with bytes of floating IPs (two for each router), with
what reading them from the kernel takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import states
from bench.reliability.cost import prepare
from bench.reliability.load_host import open_daemon
from bench.reliability.processor_time import share_of, used_by
from bench.sandbox import enter_sandbox, fresh_root
from tests.support.daemon_lab import Daemon
from tests.support.prometheus import samples
from tests.support.waiting import wait_for

MODE = "dvr"
SCRAPES = 50
EVERY = 15.0
"""Seconds between two scrapes of an ordinary Prometheus."""
READ_EVERY = 10
"""Seconds between two readings of the bytes, here: more often than by default, to measure it."""
QUIET_SECONDS = 40.0
LINE = "{:<34} {:>12} {:>12}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.scrape", description=__doc__)
    parser.add_argument("--routers", type=int, default=1000)
    options = parser.parse_args(arguments)
    enter_sandbox("bench.scrape", arguments)
    fresh_root()
    prepare()
    with tempfile.TemporaryDirectory(prefix="dvr-scrape-") as base:
        daemon = open_daemon(Path(base), MODE)
        daemon.configure(dvr_agent={"audit_interval": 0}, metrics={"floating_ips_interval": READ_EVERY})
        for number, raw in enumerate(states.raw_documents(MODE, options.routers)):
            (daemon.routers / f"{number}.json").write_bytes(raw)
        try:
            plain, counted = _measure(daemon, "false"), _measure(daemon, "true")
        finally:
            daemon.kill()
    print(f"{options.routers} routers, {2 * options.routers} floating IPs, mode {MODE}")
    print(LINE.format("", "plain", "bytes of FIPs"))
    for name in plain:
        print(LINE.format(name, plain[name], counted[name]))
    return 0


def _measure(daemon: Daemon, floating_ips: str) -> dict[str, str]:
    daemon.configure(metrics={"floating_ips": floating_ips})
    daemon.start()
    wait_for(lambda: _is_settled(daemon), "all routers are in sync", 900, every=1.0)
    time.sleep(10.0)  # announcements are repeated for some seconds after a start
    assert daemon.process is not None
    pid = daemon.process.pid
    quiet = share_of(pid, QUIET_SECONDS)
    text = daemon.fetch("/metrics")[2]
    before, times = used_by(pid), []
    for _ in range(SCRAPES):
        began = time.perf_counter()
        daemon.fetch("/metrics")
        times.append(time.perf_counter() - began)
    cost = (used_by(pid) - before) / SCRAPES
    daemon.stop()
    return {
        "series": str(len(samples(text))),
        "answer, kB": f"{len(text) / 1e3:.0f}",
        "scrape, median, ms": f"{statistics.median(times) * 1e3:.1f}",
        "scrape, longest, ms": f"{max(times) * 1e3:.1f}",
        "processor time of one, ms": f"{cost * 1e3:.2f}",
        f"share of a core, every {EVERY:.0f} s": f"{cost / EVERY:.3%}",
        f"share without, readings every {READ_EVERY} s": f"{quiet:.2%}",
    }


def _is_settled(daemon: Daemon) -> bool:
    status = daemon.status()
    return {one["state"] for one in status["routers"]} == {"in sync"} and not status["queue_depth"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
