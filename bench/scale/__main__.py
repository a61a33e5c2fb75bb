"""``python -m bench.scale``: a cloud after a power cut, by the model; ``--check`` compares it with the real source."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

from bench.scale import live
from bench.scale.costs import Costs, Site
from bench.scale.model import AGENTS, OURS, Outcome, run
from bench.scale.server import THREADS

ROUTERS_AT_ONCE = 400_000
"""Above so many router documents a part of the hosts and workers is simulated: each worker serves as many as before."""
LONGEST_TIMEOUT = 600.0
"""Default of ``rpc_response_max_timeout``."""
SHARES = (0.5, 0.95, 1.0)
CHECKS = (
    Site(20, 40, 2, boot=4, timeout=5, max_timeout=50, cached=False),
    Site(20, 40, 2, boot=4, cached=False),
    Site(1, 500, 1, boot=0, cached=False),
)
"""With time-outs, without, and one host with many routers; one to four minutes each."""
SEEDS = 12
"""Runs of the model in a check: waits are random, and where there are time-outs small differences grow."""


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    logging.disable(logging.WARNING)
    if options.check:
        check()
        return
    workers = f"{options.workers} RPC workers of {options.threads} threads"
    print(f"{options.hosts} hosts start within {options.boot:g} s; {workers}; time-out {options.timeout:g} s")
    for routers in options.routers:
        longest = max(options.timeout, LONGEST_TIMEOUT)
        site = Site(options.hosts, routers, options.workers, options.boot, timeout=options.timeout, max_timeout=longest)
        for agent in options.agents:
            found = run(agent, part_of(site), Costs(), options.threads, options.prefetch)
            print("\n".join(lines(agent, site, found)), flush=True)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.scale", description=__doc__)
    parser.add_argument("--hosts", type=int, default=2000)
    parser.add_argument("--routers", type=_numbers, default=(50, 500, 5000), help="of each host, e.g. 50,500")
    parser.add_argument("--workers", type=int, default=64, help="rpc_workers of all neutron-servers together")
    parser.add_argument("--threads", type=int, default=THREADS, help="executor_thread_pool_size")
    parser.add_argument("--prefetch", type=int, help="rabbit_qos_prefetch_count of the servers; default: no limit")
    parser.add_argument("--boot", type=float, default=120.0, help="seconds within which all hosts start")
    parser.add_argument("--timeout", type=float, default=60.0, help="rpc_response_timeout")
    parser.add_argument("--agents", type=lambda text: text.split(","), default=list(AGENTS))
    parser.add_argument("--check", action="store_true", help="the real source against a slow server, beside the model")
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def part_of(site: Site) -> Site:
    """Return a site with fewer hosts and workers, where the whole would take too long."""
    part = 1
    while site.hosts * site.routers > ROUTERS_AT_ONCE * part and 2 * part <= site.workers:
        part *= 2
    return replace(site, hosts=round(site.hosts / part), workers=max(1, site.workers // part))


def lines(agent: str, site: Site, found: Outcome) -> Iterable[str]:
    """Yield what a run came to."""
    part, cloud, load = cloud_part(site, found), found.cloud, found.load
    routers = cloud.site.hosts * cloud.site.routers
    yield f"{agent}, {site.routers} routers a host:" + ("" if part == 1 else f" (one of {part:g} parts simulated)")
    for name, times, all_ in (
        ("documents on hosts", cloud.described, routers),
        ("routers in kernels", cloud.built, routers),
        ("hosts synced", cloud.synced, cloud.site.hosts),
        ("floating IPs ACTIVE", cloud.active, routers),
    ):
        reached = "  ".join(f"{share:.0%} {_time(found.when(times, share, all_))}" for share in SHARES)
        yield f"  {name:20} {reached}"
    share = load.wasted / load.seconds if load.seconds else 0.0
    yield f"  server: {load.seconds * part:,.0f} processor s, {share:.0%} of them for callers that had given up"
    yield f"  calls {sum(load.calls.values()) * part:,.0f}, time-outs {sum(load.timeouts.values()) * part:,.0f}"
    yield f"  longest answer {load.longest:.0f} s, at most {load.peak * part:,.0f} calls waiting" + (
        f"; {cloud.dropped * part:,.0f} routers given up" if cloud.dropped else ""
    )


def cloud_part(site: Site, found: Outcome) -> float:
    """Return of how many parts one was simulated."""
    return site.workers / found.cloud.site.workers


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return (
        f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def check() -> None:
    """Print what the model says and what the real source does, for some small sites."""
    costs = Costs(build=0.0)
    for site in CHECKS:
        said = [run(OURS, site, costs, threads=1, seed=seed) for seed in range(SEEDS)]
        found = live.measure(site, costs)
        print(f"{site.hosts} hosts of {site.routers} routers, {site.workers} workers, time-out {site.timeout:g} s:")
        rows: dict[str, tuple[list[float], float]] = {
            "half of the hosts synced, s": ([median(one.cloud.synced) for one in said], median(found.synced)),
            "all hosts synced, s": ([max(one.cloud.synced) for one in said], max(found.synced)),
            "calls of sync_routers": ([one.load.calls["sync_routers"] for one in said], found.calls["sync_routers"]),
            "time-outs": ([sum(one.load.timeouts.values()) for one in said], sum(found.timeouts.values())),
        }
        for name, (model, real) in rows.items():
            print(f"  {name:28} model {min(model):.0f} to {max(model):.0f}, real source {real:.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
