"""Measures the flow of jobs of the real daemon: the lock of iptables programs held by another program, and a flood."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.reliability.api import Figure, Options
from tests.support import lab
from tests.support.daemon_site import EXTERNAL_BRIDGE, RECORDED, ROUTER, Site, namespaces, neighbour_router
from tests.support.waiting import wait_for
from tests.support.xtables_lock import held_lock


def removals_beside_the_lock(options: Options) -> Figure:
    """Hold the lock while routers come, go and change: those that need no table must not wait for it."""
    each, seconds = (3, 3.0) if options.quick else (20, 30.0)
    with _site() as site:
        leaving = [_write(site, number) for number in range(each)]
        changing = [neighbour_router(each + number) for number in range(each)]
        paths = [site.write(document, f"r{each + number}") for number, document in enumerate(changing)]
        wait_for(lambda: _states(site).count("in sync") == 2 * each)
        with held_lock():
            began = time.monotonic()
            _write(site, 2 * each)  # it needs tables: it waits
            for document, path in zip(changing, paths, strict=True):
                document["router"]["routes"] = [{"destination": "172.16.0.0/16", "nexthop": _vm_of(document)}]
                site.write(document, path.stem)
            for path, _ in leaving:
                path.unlink()
            gone = {f"qrouter-{router_id}" for _, router_id in leaving}
            wait_for(lambda: not gone & namespaces())
            removed = time.monotonic() - began
            wait_for(lambda: _states(site).count("in sync") == each)
            done = time.monotonic() - began
            lateness = site.daemon.status()["counters"]["hub_lateness_worst_ms"]
            time.sleep(max(began + seconds - time.monotonic(), 0))
        freed = time.monotonic()
        wait_for(lambda: _states(site).count("in sync") == each + 1)
        followed = time.monotonic() - freed
    text = (
        f"{each} removals in {removed:.1f} s, {each} changes in {done:.1f} s beside a lock held for {seconds:.0f} s; "
        f"the job that needed it {followed:.1f} s after it was free; hub at most {lateness:.0f} ms late"
    )
    return Figure(text, removed < seconds and done < seconds)


def flood_of_rewrites(options: Options) -> Figure:
    """Rewrite one document as fast as possible, and count the jobs."""
    rewrites = 1_000 if options.quick else 10_000
    with _site() as site:
        site.write(RECORDED)
        wait_for(lambda: _states(site) == ["in sync"])
        before = site.daemon.status()["counters"]["jobs"]
        began = time.monotonic()
        text = json.dumps(RECORDED).replace(json.dumps(RECORDED["router"]["name"]), '"flood-NUMBER"')
        path = site.daemon.routers / "one.json"
        for number in range(rewrites):
            temporary = path.with_suffix(".new")
            temporary.write_text(text.replace("flood-NUMBER", f"flood-{number}"))
            temporary.rename(path)
        seconds = time.monotonic() - began
        last = f"flood-{rewrites - 1}"
        wait_for(lambda: site.daemon.ask(f"/routers/{ROUTER}")[1]["name"] == last and _states(site) == ["in sync"])
        jobs = site.daemon.status()["counters"]["jobs"] - before
    return Figure(f"{rewrites:,} rewrites in {seconds:.1f} s: {jobs} reconciles, the last one in force", jobs <= 50)


@contextmanager
def _site() -> Iterator[Site]:
    """A daemon without audits, in a directory of its own."""
    with tempfile.TemporaryDirectory() as base:
        lab.Host().bridge(EXTERNAL_BRIDGE)
        site = Site(Path(base))
        site.daemon.configure(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 3600})
        site.daemon.start()
        try:
            yield site
        finally:
            site.daemon.stop()


def _write(site: Site, number: int) -> tuple[Path, str]:
    document = neighbour_router(number)
    return site.write(document, f"r{number}"), str(document["router"]["id"])


def _vm_of(document: Any) -> str:
    address = document["router"]["_interfaces"][0]["fixed_ips"][0]["ip_address"]
    return str(address).rpartition(".")[0] + ".9"


def _states(site: Site) -> list[str]:
    return [str(router["state"]) for router in site.daemon.status()["routers"]]
