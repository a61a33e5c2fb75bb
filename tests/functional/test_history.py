"""What the daemon has changed, and when: by its admin socket, by dvrctl, by the file; and in its log."""

from __future__ import annotations

import copy
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.history.file import history_path
from tests.support import lab
from tests.support.ctl import Ctl
from tests.support.daemon_lab import Daemon, router_id
from tests.support.daemon_site import EXTERNAL_BRIDGE, FIP, FLOATING, QROUTER, RECORDED, ROUTER, Site
from tests.support.filter_tools import remove_translation, uses_nftables
from tests.support.scripted_daemon import MakeDaemon, pretend_built
from tests.support.waiting import wait_for


def dvrctl(daemon: Daemon, *words: str, code: int = 0) -> str:
    """Run dvrctl; returns what it prints on stdout."""
    command = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(daemon.config), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout or done.stderr


def listed(daemon: Daemon, *words: str) -> list[dict[str, Any]]:
    """Return the entries that dvrctl prints as JSON lines."""
    return [json.loads(line) for line in dvrctl(daemon, "-o", "json", "history", *words).splitlines()]


def entries(daemon: Daemon, query: str = "") -> list[dict[str, Any]]:
    """Return the entries that the admin socket answers."""
    code, body = daemon.ask(f"/history{query}")
    assert code == 200
    found: list[dict[str, Any]] = body["entries"]
    return found


def texts(entry: dict[str, Any]) -> list[str]:
    return [f"{one['action']} {one['text']}" for group in entry["namespaces"] for one in group["changes"]]


def history_file(daemon: Daemon) -> Path:
    (path,) = daemon.state.rglob("history.jsonl")
    return path


@pytest.fixture
def built(site: Site, host: lab.Host) -> Site:
    """A daemon without audits, with one router in sync."""
    site.daemon.configure(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 600})
    host.bridge(EXTERNAL_BRIDGE)
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    return site


def test_history_has_the_words_of_plan_and_of_drift_who_did_it(built: Site) -> None:
    one = built.daemon
    changed = copy.deepcopy(RECORDED)
    changed["router"]["routes"] = [{"destination": "172.16.0.0/16", "nexthop": "10.1.0.9"}]
    changed["router"]["_floatingips"] = []
    other = one.base / "other.json"
    other.write_text(json.dumps(changed))
    (plan,) = json.loads(dvrctl(one, "-o", "json", "plan", str(other), code=2))["plans"]
    built.write(changed)
    (update,) = wait_for(lambda: [entry for entry in entries(one) if entry["job"] == "update"])
    assert update["namespaces"] == plan["namespaces"]
    assert (update["router"], update["state"], update["name"]) == (ROUTER, "in sync", RECORDED["router"]["name"])
    assert re.search(rf"\[{update['request_id']}\] router {ROUTER} .*: changed: ", one.out)
    started = entries(one)[0]
    assert started["job"] == "start"
    assert any(FLOATING in text for text in texts(started))
    assert [entry["job"] for entry in listed(one, FLOATING)][:2] == ["start", "update"]
    short, full = dvrctl(one, "history", ROUTER, "-n", "2"), dvrctl(one, "history", ROUTER, "-n", "2", "--full")
    assert "(--full lists them)" in short.splitlines()[0]
    assert "+ route 172.16.0.0/16" in short
    assert len(full.splitlines()) - len(short.splitlines()) > 20

    lab.run("ip", "-n", QROUTER, "route", "replace", "172.16.0.0/16", "via", "10.1.0.16", "proto", "zebra")
    (drift,) = wait_for(lambda: [entry for entry in entries(one) if entry["job"] == "drift"])
    assert "+ route 172.16.0.0/16 via 10.1.0.9 dev " in "\n".join(texts(drift))
    (by,) = [one for one in drift["by"] if one["protocol"]]
    assert by["protocol"] == "zebra"
    assert isinstance(by["pid"], int)
    assert "heard: " in dvrctl(one, "history", ROUTER[:8], "-n", "1")
    assert re.search(rf"drift repaired: {QROUTER}: \+ route 172.16.0.0/16 .*, changed by .*protocol zebra", one.out)


def test_the_removal_of_its_router_is_among_the_changes_of_a_floating_ip(built: Site) -> None:
    one = built.daemon
    (built.daemon.routers / "one.json").unlink()
    wait_for(lambda: [entry for entry in entries(one) if entry["job"] == "removal"])
    assert [entry["job"] for entry in listed(one, FLOATING)] == ["start", "removal"]
    (why,) = json.loads(dvrctl(one, "-o", "json", "why", FLOATING, code=2))["changes"][-1:]
    assert (why["job"], why["router"]) == ("removal", ROUTER)


def test_drift_of_tables_is_told_rule_by_rule(built: Site) -> None:
    one = built.daemon
    one.stop()
    one.configure(dvr_agent={"audit_interval": 1})
    one.start()
    remove_translation(QROUTER, FLOATING)
    (drift,) = wait_for(lambda: [entry for entry in entries(one) if entry["job"] == "drift"])
    (text,) = [text for text in texts(drift) if FLOATING in text]
    begins = "+ element ip dvr fip_in" if uses_nftables() else f"+ iptables -t nat -A dvr-PREROUTING -d {FLOATING}"
    assert text.startswith(begins)
    assert f"drift repaired: {QROUTER}: {text}" in one.out


def test_a_new_router_is_a_few_lines_in_the_log_and_all_of_it_in_the_history(built: Site) -> None:
    lines = [line for line in built.daemon.out.splitlines() if ": + namespace with " in line or " and " in line]
    for namespace in (QROUTER, FIP):
        assert len([line for line in lines if f"{namespace}: + namespace with " in line]) == 1
    assert len([line for line in built.daemon.out.splitlines() if " + route " in line]) == 0
    assert len(texts(entries(built.daemon)[0])) > 30


@pytest.mark.full
def test_debug_logs_every_object(site: Site, host: lab.Host) -> None:
    site.daemon.configure(DEFAULT={"debug": True})
    host.bridge(EXTERNAL_BRIDGE)
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    for text in texts(entries(site.daemon)[0]):
        assert text in site.daemon.out


def test_up_to_three_changes_are_logged_and_then_their_number(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1, "many=7")
    one.start()
    one.wait_state(1, "in sync")
    one.write(1, "more many=7")
    wait_for(lambda: "and 4 more" in one.out)
    objects = [line for line in one.out.splitlines() if f"qrouter-{router_id(1)}: + address" in line]
    assert len(objects) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_history_survives_any_end_of_the_daemon(daemon: MakeDaemon, number: signal.Signals) -> None:
    one = daemon()
    one.write(1, "web")
    one.start()
    one.wait_state(1, "in sync")
    wait_for(lambda: history_file(one).read_text().endswith("\n"))
    one.stop(number)
    with history_file(one).open("a") as file:
        file.write('{"seq": 99, "time": 1')  # as a process leaves it that is killed within a write
    assert [entry["job"] for entry in listed(one)] == ["start"], "without the daemon from the file"
    assert "web" in dvrctl(one, "history", "web")
    one.write(2, "db")
    one.start()
    one.wait_state(2, "in sync")
    assert [entry["seq"] for entry in wait_for(lambda: listed(one)[1:])] == [2]
    wait_for(lambda: [entry["seq"] for entry in entries(one)] == [1, 2])
    assert [entry["name"] for entry in listed(one, router_id(2)[:8])] == ["db"]


def test_removals_and_stale_sweeps_are_kept_router_by_router(daemon: MakeDaemon) -> None:
    one = daemon()
    pretend_built(one, 3, 4)
    one.write(1, "web").with_suffix(".json")
    one.start()
    sweeps = wait_for(lambda: [entry for entry in entries(one) if entry["job"] == "sweep"])
    assert {entry["router"] for entry in sweeps} == {router_id(3), router_id(4)}
    assert all(entry["state"] == "removed" for entry in sweeps)
    (one.routers / "1.json").unlink()
    (removal,) = wait_for(lambda: [entry for entry in entries(one) if entry["job"] == "removal"])
    assert (removal["router"], removal["name"]) == (router_id(1), "web")
    assert removal["namespaces"] == [{"name": f"qrouter-{router_id(1)}", "action": "-", "changes": []}]
    assert [entry["job"] for entry in entries(one, f"?router={router_id(1)}")] == ["start", "removal"]


def test_a_failure_and_its_end_are_in_the_history_once(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1, "fail=2")
    one.start()
    one.wait_state(1, "in sync")
    failed, recovered = wait_for(lambda: entries(one) if len(entries(one)) >= 2 else None)
    assert (failed["state"], failed["namespaces"]) == ("degraded", [])
    assert "route 192.0.2.0/24" in failed["reason"]
    assert (recovered["state"], recovered["reason"]) == ("in sync", "")
    assert one.out.count(": failed: ") == 1, "the same reason again is not told again so soon"
    assert re.search(r"\(fail=2\): recovered after 2 failed tries in \d+ s", one.out)


def test_a_query_that_makes_no_sense_is_refused_with_its_value(daemon: MakeDaemon) -> None:
    one = daemon().start()
    for query, name in (("limit=x", "limit"), ("after=-1", "after"), ("since=nan", "since"), ("limit=1e3", "limit")):
        code, body = one.ask(f"/history?{query}")
        assert code == 400
        assert body["error"].startswith(f"{name}={query.partition('=')[2]}: expected a number")
    assert one.ask("/history?after=0&limit=5&router=x") == (200, {"entries": [], "last": 0, "trouble": ""})


def test_who_is_meant_is_told_where_it_is_not_clear(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1, "web")
    one.write(2, "web")
    one.start()
    wait_for(lambda: len(entries(one)) == 2)
    assert 'several routers have the name "web"; use an id: ' in dvrctl(one, "history", "web", code=1)
    assert 'no router begins with "nobody"' in dvrctl(one, "history", "nobody", code=1)
    assert len(listed(one, f"qrouter-{router_id(1)}")) == 1
    assert dvrctl(one, "history", router_id(9)) == "no changes\n"
    assert "expected 90s" in dvrctl(one, "history", "--since", "soon", code=64)
    assert len(listed(one, "--since", "1h")) == 2
    assert listed(one, "--since", "2999-01-01") == []


def test_without_daemon_and_file_there_is_no_answer(daemon: MakeDaemon) -> None:
    one = daemon()
    said = dvrctl(one, "history", code=1)
    assert f"dvr-agent is not reachable at {one.socket}: " in said
    assert "history.jsonl" in said


def test_follow_shows_changes_as_they_come(daemon: MakeDaemon) -> None:
    one = daemon()
    one.start()
    command = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(one.config), "-o", "json", "history"]
    with (one.base / "followed").open("w") as file:
        process = subprocess.Popen([*command, "--follow"], stdout=file, stderr=subprocess.DEVNULL)
        try:
            for number in (1, 2):
                one.write(number, f"r{number}")
                wait_for(lambda number=number: (one.base / "followed").read_text().count("\n") == number)
            one.stop()
            one.write(3, "r3")
            one.start()
            wait_for(lambda: (one.base / "followed").read_text().count("\n") == 3)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130


# --- what dvrctl changes ---------------------------------------------------------------------------------------


def shown(ctl: Ctl) -> list[dict[str, Any]]:
    """Return the entries that ``dvrctl history`` shows, which are held to its schema."""
    done = ctl.run("-o", "json", "history")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_apply_and_cleanup_change_is_in_the_history(kernel_ctl: Ctl) -> None:
    one, other = kernel_ctl.document("a.json"), kernel_ctl.document("b.json", number=1)
    applied = kernel_ctl.json("apply", one)
    kernel_ctl.json("apply", one)
    (entry,) = shown(kernel_ctl)
    router = json.loads(one.read_text())["router"]["id"]
    assert (entry["job"], entry["router"], entry["state"]) == ("dvrctl apply", router, "in sync")
    assert entry["namespaces"] == applied["plans"][0]["namespaces"]
    assert f"{entry['name']}): dvrctl apply: " in kernel_ctl.run("history").stdout
    kernel_ctl.json("apply", other)
    other.unlink()
    kernel_ctl.json("cleanup")
    kernel_ctl.json("cleanup", "--router", router)
    kernel_ctl.json("cleanup", "--all", "--yes")
    found = [(one["job"], one["router"] == router, one["state"]) for one in shown(kernel_ctl)[2:] if one["router"]]
    assert found == [("dvrctl cleanup", False, "removed"), ("dvrctl cleanup", True, "removed")]
    bridges = [text for one in shown(kernel_ctl) for text in texts(one) if text.startswith("- bridge ")]
    assert bridges, "idle bridges are entries of the host"
    path = history_path(kernel_ctl.state, kernel_ctl.host)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one["seq"] for one in shown(kernel_ctl)] == [*range(1, len(shown(kernel_ctl)) + 1)]


def test_the_history_of_dvrctl_has_the_bounds_of_the_daemons(kernel_ctl: Ctl) -> None:
    path = kernel_ctl.document()
    with kernel_ctl.config.open("a") as file:
        file.write("history_file_size = 65536\n")
    for _ in range(8):
        kernel_ctl.json("apply", path)
        kernel_ctl.json("cleanup", "--all", "--yes")
    assert history_path(kernel_ctl.state, kernel_ctl.host).stat().st_size <= 65536
    numbers = [one["seq"] for one in shown(kernel_ctl)]
    assert numbers[0] > 1
    assert numbers == sorted(numbers)


def test_a_history_that_cannot_be_written_is_a_warning_and_the_verb_goes_on(kernel_ctl: Ctl) -> None:
    history_path(kernel_ctl.state, kernel_ctl.host).mkdir(parents=True)
    done = kernel_ctl.run("apply", kernel_ctl.document())
    assert done.returncode == 0
    assert {line.partition(": ")[2][:18] for line in done.stderr.splitlines()} == {"history of changes"}
    assert len(kernel_ctl.ns()) == 3


def test_no_entries_are_wanted_and_dvrctl_writes_none(kernel_ctl: Ctl) -> None:
    with kernel_ctl.config.open("a") as file:
        file.write("history_entries = 0\n")
    kernel_ctl.json("apply", kernel_ctl.document())
    assert not history_path(kernel_ctl.state, kernel_ctl.host).exists()


def test_the_daemon_goes_on_from_the_entries_of_dvrctl(site: Site, host: lab.Host) -> None:
    host.bridge(EXTERNAL_BRIDGE)
    document = site.daemon.base / "document.json"
    document.write_text(json.dumps(RECORDED))
    site.daemon.configure(directory={"rescan_interval": 600})
    dvrctl(site.daemon, "apply", str(document))
    site.write(RECORDED)
    site.daemon.start()
    wait_for(lambda: site.state() == "in sync")
    (applied,) = wait_for(lambda: [one for one in entries(site.daemon) if one["job"] == "dvrctl apply"])
    assert any(FLOATING in text for text in texts(applied))
    lab.run("ip", "-n", QROUTER, "rule", "add", "from", "192.0.2.1", "lookup", "16", "priority", "32777")
    jobs = wait_for(lambda: len(found := [one["job"] for one in entries(site.daemon)]) > 1 and found)
    assert jobs[0] == "dvrctl apply"
    assert [one["seq"] for one in entries(site.daemon)] == [*range(1, len(jobs) + 1)]
