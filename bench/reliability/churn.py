"""Changes many routers, many times a second: in sync at the end, nothing grows, and how long a change takes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from bench import documents
from bench.reliability.api import Figure, Options
from bench.reliability.load_host import LoadHost, Questioner, Usage, percentile
from bench.reliability.route_watch import RouteWatch
from tests.support import lab
from tests.support.waiting import wait_for

FEW, MORE = 1, 2
"""Floating IPs of a router before and after a change."""
RSS_GROWTH = 0.05
SETTLE_SECONDS = 5.0
NAMESPACE = f"fip-{documents.EXTERNAL_NETWORK}"


@dataclass(frozen=True)
class Load:
    """How much of it."""

    routers: int
    seconds: float
    per_second: int = 50
    build_seconds: float = 1800


@dataclass
class Written:
    """The changes that were written.

    :ivar fips: router → how many floating IPs its document has
    :ivar times: (added, address) → when the document was written last
    """

    fips: dict[int, int]
    times: dict[tuple[bool, str], float] = field(default_factory=dict)


def measure(options: Options) -> Figure:
    """Change 1,000 routers for five minutes; quick: 20 for a few seconds."""
    return run(Load(20, 5) if options.quick else Load(1000, 300))


def run(load: Load) -> Figure:
    """Build, change, wait, look."""
    with LoadHost() as host:
        written = Written(dict.fromkeys(range(load.routers), FEW))
        for number in written.fips:
            host.write(number, FEW)
        host.daemon.start(ready=False)
        wait_for(lambda: _all_in_sync(host, load), "all routers are built", load.build_seconds, every=1)
        latencies: list[float] = []
        with RouteWatch(NAMESPACE) as watch, Questioner(host.daemon) as questioner:
            _change(host, written, load, load.seconds / 5, watch, latencies)
            before = host.usage()
            worst = _change(host, written, load, load.seconds * 4 / 5, watch, latencies)
            wait_for(lambda: _all_in_sync(host, load), "in sync at the end", load.build_seconds, every=0.2)
            wrong = _wrong_routes(NAMESPACE, written)
        after = _settled(host, before)
    return _figure(load, before, after, latencies, max(worst, 0.0), questioner, wrong)


def _settled(host: LoadHost, before: Usage) -> Usage:
    """Return what the daemon holds once threads and descriptors of what has just ended are gone, or after seconds."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while _grown(before, after := host.usage()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return after


def _grown(before: Usage, after: Usage) -> list[str]:
    """Return what the daemon holds more of."""
    return [name for name in ("fds", "threads", "namespaces") if getattr(after, name) > getattr(before, name)]


def _all_in_sync(host: LoadHost, load: Load) -> bool:
    if not host.daemon.socket.exists() or not host.daemon.answering():
        return False
    return host.states() == {"in sync": load.routers} and not host.daemon.status()["queue_depth"]


def _change(
    host: LoadHost, written: Written, load: Load, seconds: float, watch: RouteWatch, latencies: list[float]
) -> float:
    """Write changes at the rate of the load; returns how late the daemon says that its hub was at worst, in ms."""
    host.counters()
    worst, asked = 0.0, time.monotonic()
    started, changes = time.monotonic(), int(seconds * load.per_second)
    for at in range(changes):
        time.sleep(max(0.0, started + at / load.per_second - time.monotonic()))  # the rate of the load
        number = at * 7 % load.routers
        added = written.fips[number] == FEW
        written.fips[number] = MORE if added else FEW
        host.write(number, written.fips[number])
        written.times[added, _address(number)] = time.monotonic()
        if time.monotonic() > asked + 5:
            worst, asked = max(worst, host.counters()["hub_lateness_ms"]), time.monotonic()
    # Two changes of a router that came while the daemon was busy may cancel each other: not all of them are seen.
    wait_for(lambda: not _wrong_routes(NAMESPACE, written), "the last changes are in the kernel", load.build_seconds)
    wait_for(lambda: _all_in_sync(host, load), "in sync", load.build_seconds, every=0.2)
    latencies += [watch.seen[key] - when for key, when in written.times.items() if watch.seen.get(key, 0) > when]
    written.times.clear()
    watch.seen.clear()
    return max(worst, host.counters()["hub_lateness_ms"])


def _address(number: int) -> str:
    """The floating IP that comes and goes."""
    fips = json.loads(documents.document(number, fips=MORE))["router"]["_floatingips"]
    return str(fips[-1]["floating_ip_address"])


def _wrong_routes(namespace: str, written: Written) -> list[str]:
    """Return floating IPs that have a route and should not, and the other way round."""
    there = {route["dst"] for route in lab.ip_json("route", netns=namespace)}
    return [_address(number) for number, fips in written.fips.items() if (_address(number) in there) != (fips == MORE)]


def _figure(
    load: Load,
    before: Usage,
    after: Usage,
    latencies: list[float],
    hub_ms: float,
    questioner: Questioner,
    wrong: list[str],
) -> Figure:
    growth = after.rss_mb / before.rss_mb - 1
    more = _grown(before, after)
    own_ms = questioner.lateness * 1000
    answers = max(questioner.seconds, default=0.0) * 1000
    late = hub_ms > 100 + own_ms
    text = (
        f"{load.routers:,} routers, {load.per_second} changes a second for {load.seconds:.0f} s: {len(wrong)} out of "
        f"sync; RSS {before.rss_mb:.0f} → {after.rss_mb:.0f} MB ({growth:+.1%}); {', '.join(more) or 'nothing'} more; "
        f"change → kernel p50 {percentile(latencies, 0.5) * 1000:.0f} ms, p99 {percentile(latencies, 0.99) * 1000:.0f} "
        f"ms; hub at most {hub_ms:.0f} ms late (this program itself {own_ms:.0f}), answers within {answers:.0f} ms"
    )
    held = [f"{number} more: {what}" for what, number in (after.targets - before.targets).items()]
    details = [*wrong[:10], *held, f"before {before}", f"after {after}"]
    return Figure(text, not wrong and growth <= RSS_GROWTH and not more and not late, tuple(details))
