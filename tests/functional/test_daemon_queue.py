"""The work queue of the daemon: events, order, retries, states of routers, announcements, state files.

Only the kernel work is scripted (tests/support/fake_daemon.py).
"""

from __future__ import annotations

from tests.support.daemon_lab import router_id
from tests.support.scripted_daemon import MakeDaemon, built, calls, pretend_built
from tests.support.waiting import wait_for


def test_a_new_changed_and_deleted_file_is_acted_on_at_once(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 3600}).start()
    path = one.write(1, "first")
    one.wait_state(1, "in sync")
    assert (one.state / "built" / router_id(1)).read_text() == "first"
    one.write(1, "second")
    wait_for(lambda: (one.state / "built" / router_id(1)).read_text() == "second")
    path.unlink()
    wait_for(lambda: one.router(1) is None)
    assert built(one) == set()
    text = one.out
    assert f"router {router_id(1)} (first): added: 1 address, 1 namespace; " in text
    assert f"router {router_id(1)} (second): changed: 1 address; " in text
    assert f"router {router_id(1)} (second): removed: 1 namespace; " in text
    assert " ms after the event" in text


def test_a_bad_document_changes_nothing_and_the_router_recovers_later(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 1})
    path = one.write(1, "good")
    one.start()
    path.write_text('{"id": ')
    bad = one.wait_state(1, "bad document")
    assert "1.json" in bad["reason"]
    assert one.status()["source"]["bad"][0]["name"] == "1.json"
    assert one.status()["state"] == "degraded"
    seen = one.status()["last_sync"]
    wait_for(lambda: one.status()["last_sync"] > seen)
    assert built(one) == {router_id(1)}
    one.write(1, "good")
    one.wait_state(1, "in sync")
    assert one.status()["state"] == "in sync"


def test_a_failing_router_is_degraded_retried_and_does_not_stop_others(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1, "fail=2")
    one.write(2, "crash=1")
    one.write(3)
    one.start()
    failed = one.router(1)
    assert failed is not None
    assert failed["state"] == "degraded"
    assert "route 192.0.2.0/24: EINVAL" in failed["reason"]
    assert 0 <= failed["next_retry"] <= 2.5
    one.wait_state(3, "in sync")
    one.wait_state(1, "in sync")
    one.wait_state(2, "in sync")
    assert one.status()["counters"]["failures"] == 3
    assert "ZeroDivisionError: scripted" in one.out
    assert f"router {router_id(1)} (fail=2): recovered" in one.out


def test_a_change_of_a_router_that_waits_for_its_retry_is_tried_at_once(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"retry_interval": 3000, "retry_interval_max": 3000})
    one.write(1, "fail=1")
    one.start()
    one.wait_state(1, "degraded")
    one.write(1, "mended")
    one.wait_state(1, "in sync")


def test_unsupported_routers_are_left_alone_and_known(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 1})
    pretend_built(one, 1)
    one.write(1, distributed=False, ha=True)
    one.write(2, distributed=False, admin_state_up=False)
    one.start()
    for number in (1, 2):
        assert one.wait_state(number, "not supported")["next_retry"] is None
    wait_for(lambda: one.status()["last_audit"])
    assert built(one) == {router_id(1)}
    assert one.out.count("not supported, left alone") == 2
    assert one.out.count("2 routers are left alone") == 1
    assert one.out.index("2 routers are left alone") < one.out.index("not supported, left alone")
    assert one.status()["state"] == "in sync"


def test_an_administratively_down_router_loses_its_data_plane_but_stays_known(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1)
    one.start()
    one.write(1, admin_state_up=False)
    one.wait_state(1, "admin down")
    assert built(one) == set()
    one.write(1)
    one.wait_state(1, "in sync")
    assert built(one) == {router_id(1)}


def test_second_document_of_a_router_changes_nothing_and_its_error_ends_with_its_removal(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 3600})
    first, second = one.write(1, "first"), one.routers / "0-stray.json"
    one.start()
    second.write_text(first.read_text().replace("first", "second"))
    wait_for(lambda: one.status()["state"] == "degraded")
    (bad,) = one.status()["source"]["bad"]
    assert first.name in bad["error"]
    assert second.name in bad["error"]
    assert [router["state"] for router in one.status()["routers"]] == ["in sync"]
    second.unlink()
    wait_for(lambda: one.status()["state"] == "in sync")
    second.write_text(first.read_text().replace("first", "second"))
    wait_for(lambda: one.status()["state"] == "degraded")
    first.unlink()
    wait_for(lambda: (one.state / "built" / router_id(1)).read_text() == "second")
    wait_for(lambda: one.status()["state"] == "in sync")
    assert not [line for line in calls(one) if line.startswith("remove ")]


def test_error_of_a_bad_document_ends_with_its_removal(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 3600})
    one.write(1)
    one.start()
    for content in ("{", f'{{"id": "{router_id(1)}", "distributed": 7}}'):
        (one.routers / "stray.json").write_text(content)
        wait_for(lambda: one.status()["state"] == "degraded")
        (one.routers / "stray.json").unlink()
        wait_for(lambda: one.status()["state"] == "in sync")
    assert built(one) == {router_id(1)}


def test_changes_overtake_a_full_sync_and_updates_coalesce(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0})
    for number in range(20):
        one.write(number, "sleep=0.1")
    one.start(ready=False)
    wait_for(lambda: len(calls(one)) > 4)
    for word in ("a", "b", "c"):
        one.write(50, f"sleep=0.1 {word}")
    one.wait_state(50, "in sync")
    position = calls(one).index(f"reconcile {router_id(50)} shared")
    assert position < 15
    wait_for(lambda: one.status()["state"] == "in sync")
    assert (one.state / "built" / router_id(50)).read_text() == "sleep=0.1 c"
    assert sum(router_id(50) in call for call in calls(one)) <= 2
    assert one.status()["counters"]["latency_ms"]["max"] is not None


def test_announcements_are_repeated_twice_while_the_router_exists(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 1})
    one.write(1, "announce")
    path = one.write(2, "announce")
    one.start()
    path.unlink()
    wait_for(lambda: sum(call.startswith("announce") for call in calls(one)) == 2)
    audits = calls(one).count("begin_pass")
    # An audit has the priority of announcements: those that are due when it begins are sent before it ends.
    wait_for(lambda: calls(one).count("begin_pass") > audits + 2)
    assert [call for call in calls(one) if call.startswith("announce")] == [
        f"announce qrouter-{router_id(1)} 192.0.2.1 {frames}" for frames in ("REPLY", "REQUEST")
    ]


def test_announcements_of_a_changed_router_are_repeated_as_they_were(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}).start()
    one.write(1, "announce")
    wait_for(lambda: sum(call.startswith("announce") for call in calls(one)) == 2)
    assert [call for call in calls(one) if call.startswith("announce")] == [
        f"announce qrouter-{router_id(1)} 192.0.2.1 BOTH"
    ] * 2


def test_state_files_are_flushed_when_the_queue_is_empty_and_at_the_end(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}).start()
    one.write(1)
    one.wait_state(1, "in sync")
    wait_for(lambda: calls(one)[-1] == "flush")
    assert one.stop() == 0
    assert calls(one)[-1] == "flush"


def test_the_hub_answers_while_the_worker_is_busy_with_python(daemon: MakeDaemon) -> None:
    one = daemon()
    for number in range(100):
        one.write(number, "burn=20")
    one.start(ready=False)
    wait_for(lambda: one.alive() and one.socket.exists() and one.answering())
    progress = set()
    while (status := one.status())["state"] == "starting":
        progress.add(status["progress"])
    assert len(progress) > 10, "status was answered again and again while routers were built"
    worst = one.status()["counters"]["hub_lateness_worst_ms"]
    print(f"100 routers, 20 ms of Python each: a timer of the hub was late by {worst} ms at most")
    assert worst > 0


def test_a_flood_of_changes_of_one_router_is_few_jobs_and_ends_with_the_last(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 3600}).start()
    changes = 2000
    one.write(1, "first")
    one.wait_state(1, "in sync")
    for number in range(changes):
        one.write(1, f"sleep=0.01 {number}")
    one.write(2, "other")
    one.wait_state(2, "in sync")
    wait_for(lambda: (one.state / "built" / router_id(1)).read_text().endswith(f" {changes - 1}"))
    one.wait_state(1, "in sync")
    jobs = [line for line in calls(one) if line.startswith(f"reconcile {router_id(1)} ")]
    assert len(jobs) <= 50
