"""Resync, audit and stale sweep of the daemon, and the guard of the sweep.

Only the kernel work is scripted (tests/support/fake_daemon.py).
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

from dvr_agent import plural
from tests.support.daemon_lab import router_id
from tests.support.scripted_daemon import MakeDaemon, built, calls, pretend_built
from tests.support.waiting import wait_for


def test_start_reads_before_it_writes_then_syncs_then_sweeps(daemon: MakeDaemon) -> None:
    one = daemon()
    pretend_built(one, 7)
    one.write(1)
    one.write(2)
    one.start()
    done = calls(one)
    assert done[:2] == ["load", "begin_pass"]
    assert set(done[2:4]) == {f"reconcile {router_id(n)} pass" for n in (1, 2)}
    assert done[4] == "remove_stale"
    assert built(one) == {router_id(1), router_id(2)}
    assert one.status()["state"] == "in sync"
    assert one.stop() == 0


def test_a_stale_router_that_cannot_be_removed_keeps_no_other_and_is_tried_again(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 600})
    pretend_built(one, 7, 8, 9)
    (one.state / "built" / router_id(8)).write_text("stuck=2")
    one.write(1)
    one.start()
    assert built(one) == {router_id(1), router_id(8)}
    (trouble,) = one.status()["troubles"]
    assert trouble.startswith("stale objects cannot be removed: namespace qrouter-")
    assert router_id(8) in trouble
    assert one.status()["state"] == "degraded"
    wait_for(lambda: built(one) == {router_id(1)})
    wait_for(lambda: one.status()["state"] == "in sync")
    assert one.status()["troubles"] == []
    assert "stale sweep: everything was removed but what was refused" in one.out


def test_no_job_begins_before_all_of_many_documents_are_listed(daemon: MakeDaemon) -> None:
    """What several documents claim is decided when all are known."""
    one = daemon()
    for number in range(450):  # the hub has its turn after each 200
        one.write(number)
    one.start()
    wait_for(lambda: one.status()["states"] == {"in sync": 450})
    done = calls(one)
    assert done[:2] == ["load", "begin_pass"]


def test_the_audit_repairs_drift_says_so_and_is_silent_when_there_is_none(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 1})
    one.write(1)
    one.write(2)
    one.start()
    wait_for(lambda: one.status()["last_audit"])
    assert "drift" not in one.out
    quiet = one.out.count("\n")
    first = one.status()["last_audit"]
    wait_for(lambda: one.status()["last_audit"] > first)
    assert one.out.count("\n") == quiet
    (one.state / "built" / router_id(2)).unlink()
    wait_for(lambda: one.status()["counters"]["drift_repaired"] == 1)
    assert "WARNING dvr_agent.daemon.jobs" in one.out
    assert f"router {router_id(2)}: drift repaired: 1 address, 1 namespace" in one.out
    assert built(one) == {router_id(1), router_id(2)}


@pytest.mark.parametrize(("stale", "kept", "refused"), [(10, 9, True), (9, 1, False), (10, 10, False)])
def test_guard_refuses_a_sweep_of_ten_routers_and_more_than_half(
    daemon: MakeDaemon, stale: int, kept: int, refused: bool
) -> None:
    one = daemon()
    pretend_built(one, *range(100, 100 + stale))
    for number in range(kept):
        one.write(number)
    one.start()
    assert len(built(one)) == (stale + kept if refused else kept)
    if refused:
        assert f"{stale} of {stale + kept} routers" in one.status()["guard"]
        assert one.status()["state"] == "degraded"
        assert "allow_mass_removal" in one.out
    one.stop()
    one.configure(dvr_agent={"allow_mass_removal": True})
    one.start()
    assert len(built(one)) == kept
    assert one.status()["guard"] == ""


def test_the_guards_warning_ends_when_the_routers_are_there_again(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 1})
    for number in range(12):
        one.write(number)
    one.start()
    away = one.base / "away"
    one.routers.rename(away)
    one.routers.mkdir()
    wait_for(lambda: one.status()["guard"])
    assert len(built(one)) == 12
    one.routers.rmdir()
    away.rename(one.routers)
    wait_for(lambda: not one.status()["guard"])
    assert one.status()["state"] == "in sync"
    assert len(built(one)) == 12


@pytest.mark.parametrize("count", [1, 9])
def test_an_empty_directory_at_the_start_removes_no_router_until_it_is_confirmed(
    daemon: MakeDaemon, count: int
) -> None:
    one = daemon(dvr_agent={"audit_interval": 1}, directory={"rescan_interval": 1})
    pretend_built(one, *range(count))
    one.start()
    guard = one.status()["guard"]
    assert f"{count} of {plural.count(count, 'router')}" in guard
    assert f"directory {one.routers} holds no document" in guard
    assert "allow_mass_removal" in guard
    assert "dvrctl cleanup" in guard
    assert one.status()["state"] == "degraded"
    wait_for(lambda: calls(one).count("begin_pass") > 2)
    assert len(built(one)) == count
    one.stop()
    one.configure(dvr_agent={"allow_mass_removal": True})
    one.start()
    assert not built(one)
    assert one.status()["guard"] == ""


def test_documents_that_fill_an_empty_directory_end_the_guard(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 1})
    pretend_built(one, 1, 2)
    one.start()
    assert one.status()["guard"]
    one.write(1)
    wait_for(lambda: not one.status()["guard"])
    assert built(one) == {router_id(1)}, "router 2 has no document, though others are there"
    wait_for(lambda: one.status()["state"] == "in sync")


@pytest.mark.parametrize("how", ["recreated", "renamed", "mounted over"])
def test_a_directory_that_is_empty_all_at_once_removes_no_router(daemon: MakeDaemon, how: str, host: None) -> None:
    one = daemon(dvr_agent={"audit_interval": 1}, directory={"rescan_interval": 1})
    for number in range(3):
        one.write(number)
    one.start()
    if how == "recreated":
        shutil.rmtree(one.routers)
        one.routers.mkdir()
    elif how == "renamed":
        one.routers.rename(one.base / "away")
        one.routers.mkdir()
    else:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(one.routers)], check=True)
    wait_for(lambda: one.status()["guard"])
    one.ask("/sync", "POST")
    passes = calls(one).count("begin_pass")
    wait_for(lambda: calls(one).count("begin_pass") > passes + 1)
    assert built(one) == {router_id(number) for number in range(3)}
    assert not [line for line in calls(one) if line.startswith("remove ")]
    if how == "mounted over":
        subprocess.run(["umount", str(one.routers)], check=True)
    for number in range(3):
        one.write(number)
    wait_for(lambda: not one.status()["guard"])
    wait_for(lambda: one.status()["state"] == "in sync")
    assert {router["reason"] for router in one.status()["routers"]} == {""}


def test_a_directory_that_vanishes_is_an_error_and_watched_again_when_it_is_made_anew(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 3600})
    one.write(1)
    one.start()
    shutil.rmtree(one.routers)
    wait_for(lambda: str(one.routers) in one.status()["source"]["error"])
    one.routers.mkdir()
    one.write(1)
    one.write(2)
    wait_for(lambda: built(one) == {router_id(1), router_id(2)})
    wait_for(lambda: not one.status()["source"]["error"])


def test_guard_does_not_apply_to_files_whose_deletion_was_notified(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 1})
    paths = [one.write(number) for number in range(12)]
    one.start()
    for path in paths:
        path.unlink()
    wait_for(lambda: not built(one))
    assert one.status()["guard"] == ""


def test_sweep_is_skipped_while_a_document_has_no_readable_router_id(daemon: MakeDaemon) -> None:
    one = daemon(directory={"rescan_interval": 1})
    pretend_built(one, 5)
    (one.routers / "bad.json").write_text("{")
    one.write(1)
    one.start()
    assert built(one) == {router_id(1), router_id(5)}
    (one.routers / "bad.json").unlink()
    one.ask("/sync", "POST")
    wait_for(lambda: built(one) == {router_id(1)})


def test_missing_directory_deletes_no_router_and_delays_readiness(daemon: MakeDaemon) -> None:
    one = daemon(directory={"rescan_interval": 1})
    pretend_built(one, 1)
    one.routers.rmdir()
    one.start(ready=False)
    wait_for(lambda: one.alive() and one.socket.exists() and one.answering())
    wait_for(lambda: one.status()["source"]["state"] == "failed")
    assert one.status()["state"] == "starting"
    assert one.ask("/sync", "POST")[0] == 503
    assert built(one) == {router_id(1)}
    one.routers.mkdir()
    one.write(1)
    wait_for(lambda: one.status()["state"] == "in sync")
    assert built(one) == {router_id(1)}


def test_a_directory_that_vanishes_later_is_no_deletion(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 1}, directory={"rescan_interval": 1})
    one.write(1)
    one.start()
    one.routers.rename(one.base / "away")
    wait_for(lambda: one.status()["state"] == "degraded")
    seen = one.status()["last_audit"]
    wait_for(lambda: one.status()["last_audit"] != seen)
    assert built(one) == {router_id(1)}
    (one.base / "away").rename(one.routers)
    wait_for(lambda: one.status()["state"] == "in sync")


def test_an_audit_of_many_routers_comes_in_portions_and_tries_each_once(daemon: MakeDaemon) -> None:
    number = 70
    one = daemon(dvr_agent={"audit_interval": 2})
    for index in range(number):
        one.write(index)
    one.start()
    started = len(calls(one))
    wait_for(lambda: one.status()["last_audit"])
    audit = calls(one)[started:]
    audit = audit[: audit.index("remove_stale") + 1]
    assert audit.count("begin_pass") == 2
    tried = [call for call in audit if call.startswith("reconcile")]
    assert sorted(tried) == sorted(f"reconcile {router_id(n)} pass" for n in range(number))
    assert audit[1:36].count("begin_pass") == 0
