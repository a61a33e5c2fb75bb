"""What ``dvrctl web`` costs, in a headless Chromium: ``python -m bench.page --routers 1000``, as root.

The daemon is real, on a scripted reconciler (tests/support/fake_daemon.py): the page is measured, not the kernel.
Measured: navigation until the list of routers is drawn; a changed document until its row shows it; frames while the
list is scrolled; processor time of each process while one page is open and nothing happens.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.sandbox import enter_sandbox, fresh_root
from dvr_agent.cli.demo.network import run
from tests.support.chromium import Chromium
from tests.support.daemon_lab import Daemon, router_id
from tests.support.page import Page
from tests.support.waiting import wait_for

PAINTS, CHANGES, IDLE_SECONDS = 7, 5, 20.0
TICKS = os.sysconf("SC_CLK_TCK")
SCROLL = """new Promise((done) => {
  const list = document.getElementById('list'); const times = []; let last = performance.now();
  const step = (now) => { times.push(now - last); last = now; list.scrollTop += 400;
    if (times.length < 120) requestAnimationFrame(step); else done(times.slice(1)); };
  requestAnimationFrame(step); })"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("bench.page", description=__doc__)
    parser.add_argument("--routers", type=int, default=1000)
    enter_sandbox("bench.page", sys.argv[1:])
    fresh_root()
    run("ip", "link", "set", "lo", "up")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dvr-agent-page-") as directory:
        measure(Path(directory), wanted.routers)


def measure(base: Path, routers: int) -> None:
    daemon = Daemon(base / "daemon", "tests.support.fake_daemon")
    for number in range(routers):
        daemon.write(number, f"tenant-{number:04d}")
    daemon.start()
    wait_for(lambda: daemon.status()["states"].get("in sync") == routers, "all routers are in sync")
    page = Page(daemon.config, base)
    browser = Chromium(base / "chromium")
    try:
        paints = [paint(browser, page) for _ in range(PAINTS)]
        print(f"{routers} routers, status of {len(json.dumps(daemon.status())) / 1e3:.0f} kB")
        print(f"list drawn after {statistics.median(paints):.0f} ms (worst {max(paints):.0f} ms) of {PAINTS}")
        changes = [change(browser, daemon, number) for number in range(CHANGES)]
        print(f"a changed document is shown after {statistics.median(changes):.2f} s (worst {max(changes):.2f} s)")
        frames = browser.run(SCROLL)
        print(f"scrolling: {statistics.median(frames):.1f} ms a frame, worst {max(frames):.1f} ms")
        assert daemon.process is not None
        processes = {"dvr-agent": daemon.process.pid, "dvrctl web": page.process.pid, "front": page.front()}
        for name, share in shares(processes).items():
            print(f"{name}: {share:.2f} % of a processor while one page is open")
    finally:
        browser.close()
        page.end()
        daemon.kill()


def paint(browser: Chromium, page: Page) -> float:
    """Milliseconds from navigation until the list is drawn."""
    browser.open("about:blank")
    browser.open(page.url)
    browser.wait("performance.getEntriesByName('routers-drawn').length")
    return float(browser.run("performance.getEntriesByName('routers-drawn')[0].startTime"))


def change(browser: Chromium, daemon: Daemon, number: int) -> float:
    """Seconds from a change of a document until the page shows it."""
    name = f"changed-{time.monotonic_ns()}"
    browser.run(f"location.hash = '#/router/{router_id(number)}'")
    browser.wait("document.querySelector('.head h1')?.textContent.length > 0")
    begin = time.monotonic()
    daemon.write(number, name)
    wait_for(lambda: name in browser.text(".head h1"), every=0.02)
    return time.monotonic() - begin


def shares(processes: dict[str, int]) -> dict[str, float]:
    """Percent of a processor that each process takes in some seconds, those that it has started and waited for too."""
    before = {name: ticks(pid) for name, pid in processes.items()}
    begin = time.monotonic()
    time.sleep(IDLE_SECONDS)  # the time that is measured
    seconds = time.monotonic() - begin
    return {name: (ticks(pid) - before[name]) / TICKS / seconds * 100 for name, pid in processes.items()}


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


if __name__ == "__main__":
    main()
