"""Metrics of the running daemon, as Prometheus scrapes them."""

from __future__ import annotations

import http.client
import socket
import stat
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
    assert [check["name"] for check in answer["checks"] if not check["ok"]] == ["documents"]
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


def test_a_file_for_node_exporter_is_replaced_as_a_whole(daemon: MakeDaemon, tmp_path: Path) -> None:
    file = tmp_path / "collector" / "dvr-agent.prom"  # the directory is missing at first
    one = daemon(metrics={"textfile": file, "textfile_interval": 5}).start()
    wait_for(lambda: "metrics cannot be written, retrying: No such file or directory" in one.out)
    file.parent.mkdir()
    wait_for(file.exists)
    wait_for(lambda: "recovered: metrics are written" in one.out)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert value(file.read_bytes(), "dvr_agent_healthy") == 1
    assert list(file.parent.iterdir()) == [file]
    first = file.stat().st_ino
    wait_for(lambda: file.stat().st_ino != first)
    assert one.stop() == 0
    assert file.exists(), "node_exporter tells its age"


def test_the_port_serves_machines_only(daemon: MakeDaemon, host: lab.Host) -> None:
    lab.run("ip", "link", "set", "lo", "up")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    daemon(metrics={"listen": f"127.0.0.1:{port}"}).start()

    def ask(path: str, method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    code, text = ask("/metrics")
    assert (code, value(text, "dvr_agent_in_sync")) == (200, 1)
    assert [ask(path)[0] for path in ("/healthz", "/readyz", "/status", "/routers/x")] == [200, 200, 404, 404]
    assert ask("/sync", "POST")[0] == 404
    assert ask("/metrics", "POST")[0] == 405
    other = daemon("two", metrics={"listen": f"127.0.0.1:{port}"}).start(ready=False)
    assert other.process is not None
    assert other.process.wait(30) == 1
    assert f"[metrics] listen = 127.0.0.1, port {port}: Address already in use" in other.out + other.err


def test_another_address_than_the_loopback_device_ends_the_start(daemon: MakeDaemon) -> None:
    one = daemon(metrics={"listen": "0.0.0.0:9794"}).start(ready=False)
    assert one.process is not None
    assert one.process.wait(30) == 78
    error = one.out + one.err
    assert "[metrics] listen = '0.0.0.0:9794': expected address and port of the loopback device" in error
    assert str(one.config) in error


def test_the_whole_text_is_bounded(daemon: MakeDaemon, tmp_path: Path) -> None:
    one = daemon()
    one.start()
    few = len(samples(scrape(one)))
    for number in range(50):
        one.write(number, "fail=1000" if number % 2 else "")
    wait_for(lambda: value(scrape(one), "dvr_agent_routers", state="degraded") == 25)
    assert len(samples(scrape(one))) == few, "the number of routers changes no number of series"
