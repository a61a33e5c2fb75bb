"""Metrics of the running daemon, as Prometheus scrapes them."""

from __future__ import annotations

from pathlib import Path

from dvr_agent.daemon.metrics.definitions import METRICS, PROCESS
from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.daemon_site import FLOATING, QROUTER, RECORDED, Site
from tests.support.prometheus import promtool, samples, value
from tests.support.scripted_daemon import MakeDaemon
from tests.support.waiting import wait_for


def scrape(daemon: Daemon) -> bytes:
    code, content_type, text = daemon.fetch("/metrics")
    assert code == 200
    assert content_type.startswith("text/plain; version=")
    return text


def test_metrics_tell_of_routers_jobs_and_failures(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1)
    one.write(2, "fail=1000")
    one.write(3, "crash=1000")
    one.write(4, ha=True)
    one.start()
    one.wait_state(2, "degraded")
    one.wait_state(3, "degraded")
    text = scrape(one)
    assert promtool("check", "metrics", stdin=text) is None
    names = {name for name, _labels in samples(text)}
    known = {series for metric in METRICS.values() for series in metric.series} | {*PROCESS}
    assert names <= known
    assert value(text, "dvr_agent_in_sync") == 0
    assert value(text, "dvr_agent_ready") == 1
    assert value(text, "dvr_agent_healthy") == 1
    assert value(text, "dvr_agent_routers", state="in_sync") == 1
    assert value(text, "dvr_agent_routers", state="degraded") == 2
    assert value(text, "dvr_agent_routers", state="not_supported") == 1
    assert value(text, "dvr_agent_routers", state="pending") == 0
    assert (value(text, "dvr_agent_failures_total", reason="kernel") or 0) >= 1
    assert (value(text, "dvr_agent_failures_total", reason="bug") or 0) >= 1
    assert value(text, "dvr_agent_failures_total", reason="attach") == 0
    assert (value(text, "dvr_agent_apply_seconds_count", job="resync") or 0) >= 4
    assert value(text, "dvr_agent_apply_seconds_count", job="begin_round") == 1
    assert value(text, "dvr_agent_round_seconds_count", round="resync") == 1
    assert value(text, "dvr_agent_objects_changed_total", kind="address") == 1
    assert (value(text, "dvr_agent_worker_calls_total") or 0) >= 4
    one.write(1, "changed")
    wait_for(lambda: value(scrape(one), "dvr_agent_apply_seconds_count", job="update") == 1)
    (one.routers / "1.json").unlink()
    wait_for(lambda: value(scrape(one), "dvr_agent_apply_seconds_count", job="removal") == 1)
    (one.routers / "2.json").unlink()
    (one.routers / "3.json").unlink()
    (one.routers / "4.json").unlink()
    wait_for(lambda: value(scrape(one), "dvr_agent_in_sync") == 1)


def test_a_directory_that_cannot_be_listed_is_seen(daemon: MakeDaemon) -> None:
    one = daemon(directory={"rescan_interval": 1}).start()
    assert value(scrape(one), "dvr_agent_source_up") == 1
    assert one.ask("/readyz")[0] == 200
    one.routers.rename(one.base / "away")
    wait_for(lambda: value(scrape(one), "dvr_agent_source_up") == 0)
    code, answer = one.ask("/readyz")
    assert code == 503
    assert next(check for check in answer["checks"] if not check["ok"])["name"] == "first resync"
    assert one.ask("/healthz")[0] == 200


def test_drift_and_floating_ips_are_counted_on_a_real_host(site: Site) -> None:
    site.daemon.configure(dvr_agent={"audit_interval": 1})
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: value(scrape(site.daemon), "dvr_agent_floating_ips", status="active") == 1)
    before = scrape(site.daemon)
    assert (value(before, "dvr_agent_objects_changed_total", kind="route") or 0) > 0
    assert value(before, "dvr_agent_drift_repaired_total", kind="rule") == 0
    assert (value(before, "dvr_agent_kernel_writes_total", kind="netlink") or 0) > 0
    rule = next(line for line in lab.run("ip", "-n", QROUTER, "rule").splitlines() if line.endswith("lookup 16"))
    lab.run("ip", "-n", QROUTER, "rule", "del", "priority", rule.partition(":")[0])
    wait_for(lambda: value(scrape(site.daemon), "dvr_agent_drift_repaired_total", kind="rule") == 1)
    assert FLOATING
    document = {**RECORDED, "router": {**RECORDED["router"], "_floatingips": []}}
    site.write(document)
    wait_for(lambda: value(scrape(site.daemon), "dvr_agent_floating_ips", status="active") == 0)


def test_the_whole_text_is_bounded(daemon: MakeDaemon, tmp_path: Path) -> None:
    one = daemon()
    one.start()
    few = len(samples(scrape(one)))
    for number in range(50):
        one.write(number, "fail=1000" if number % 2 else "")
    wait_for(lambda: value(scrape(one), "dvr_agent_routers", state="degraded") == 25)
    assert len(samples(scrape(one))) == few, "the number of routers changes no number of series"
