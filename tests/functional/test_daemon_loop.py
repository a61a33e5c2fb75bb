"""The daemon's own logic, as a process: only the kernel work is scripted (tests/support/fake_daemon.py)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import lab
from tests.support.daemon_lab import Daemon, router_id, wait_for

MakeDaemon = Callable[..., Daemon]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """Makes daemons that are gone at the end of the test."""
    made: list[Daemon] = []

    def make(name: str = "one", **options: dict[str, object]) -> Daemon:
        made.append(Daemon(tmp_path / name, "tests.support.fake_daemon", **options))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def calls(daemon: Daemon) -> list[str]:
    path = daemon.state / "calls"
    return path.read_text().splitlines() if path.exists() else []


def built(daemon: Daemon) -> set[str]:
    return {file.name for file in (daemon.state / "built").iterdir()}


def pretend_built(daemon: Daemon, *numbers: int) -> None:
    (daemon.state / "built").mkdir(parents=True)
    for number in numbers:
        (daemon.state / "built" / router_id(number)).write_text("")


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
    one.write(1, ha=True)
    one.write(2, distributed=False, admin_state_up=False)
    one.start()
    for number in (1, 2):
        assert one.wait_state(number, "not supported")["next_retry"] is None
    wait_for(lambda: one.status()["last_audit"])
    assert built(one) == {router_id(1)}
    assert one.out.count("not supported, left alone") == 2
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
def test_the_guard_holds_back_a_sweep_of_ten_routers_and_more_than_half(
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
    assert f"{count} of {count} routers" in guard
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


def test_a_second_document_of_a_router_changes_nothing_and_is_over_when_it_goes(daemon: MakeDaemon) -> None:
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


def test_a_bad_document_that_goes_leaves_no_trouble_behind(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}, directory={"rescan_interval": 3600})
    one.write(1)
    one.start()
    for content in ("{", f'{{"id": "{router_id(1)}", "distributed": 7}}'):
        (one.routers / "stray.json").write_text(content)
        wait_for(lambda: one.status()["state"] == "degraded")
        (one.routers / "stray.json").unlink()
        wait_for(lambda: one.status()["state"] == "in sync")
    assert built(one) == {router_id(1)}


def test_files_that_are_seen_to_be_deleted_are_no_business_of_the_guard(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 1})
    paths = [one.write(number) for number in range(12)]
    one.start()
    for path in paths:
        path.unlink()
    wait_for(lambda: not built(one))
    assert one.status()["guard"] == ""


def test_a_document_that_belongs_to_nobody_known_holds_the_sweep_back(daemon: MakeDaemon) -> None:
    one = daemon(directory={"rescan_interval": 1})
    pretend_built(one, 5)
    (one.routers / "bad.json").write_text("{")
    one.write(1)
    one.start()
    assert built(one) == {router_id(1), router_id(5)}
    (one.routers / "bad.json").unlink()
    one.ask("/sync", "POST")
    wait_for(lambda: built(one) == {router_id(1)})


def test_a_missing_directory_is_no_deletion_and_no_readiness(daemon: MakeDaemon) -> None:
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
    one = daemon()
    one.write(1, "announce")
    path = one.write(2, "announce")
    one.start()
    path.unlink()
    wait_for(lambda: sum(call.startswith("announce") for call in calls(one)) == 2)
    time.sleep(0.3)
    assert [call for call in calls(one) if call.startswith("announce")] == [
        f"announce qrouter-{router_id(1)} 192.0.2.1"
    ] * 2


def test_state_files_are_flushed_when_the_queue_is_empty_and_at_the_end(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": 0}).start()
    one.write(1)
    one.wait_state(1, "in sync")
    wait_for(lambda: calls(one)[-1] == "flush")
    assert one.stop() == 0
    assert calls(one)[-1] == "flush"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_finishes_the_job_takes_no_other_and_leaves_the_data_plane(daemon: MakeDaemon, number: int) -> None:
    one = daemon().start()
    one.write(1, "sleep=1")
    wait_for(lambda: any(router_id(1) in call for call in calls(one)))
    one.write(2)
    assert one.stop(number) == 0
    assert built(one) == {router_id(1)}
    assert not one.socket.exists()
    assert "Traceback" not in one.out + one.err


def test_a_second_signal_ends_the_daemon_at_once(daemon: MakeDaemon) -> None:
    one = daemon().start()
    one.write(1, "sleep=30")
    wait_for(lambda: any(router_id(1) in call for call in calls(one)))
    assert one.process is not None
    one.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "stops" in one.out)
    assert one.stop() == 128 + signal.SIGTERM


def test_a_job_that_hangs_is_abandoned_after_ten_seconds(daemon: MakeDaemon) -> None:
    one = daemon().start()
    one.write(1, "sleep=300")
    wait_for(lambda: any(router_id(1) in call for call in calls(one)))
    asked = time.monotonic()
    assert one.stop() == 0
    assert time.monotonic() - asked >= 9.5
    assert "abandoned" in one.out


def test_kill_and_restart_replaces_the_dead_socket_and_changes_nothing(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1)
    one.start()
    assert one.stop(signal.SIGKILL) == -signal.SIGKILL
    assert one.socket.exists()
    one.start()
    assert one.status()["counters"]["writes"]["netlink"] == 0
    assert one.status()["state"] == "in sync"


def test_hangup_rereads_debug_and_log_levels(daemon: MakeDaemon) -> None:
    one = daemon().start()
    assert " DEBUG " not in one.out
    one.configure(DEFAULT={"debug": True, "default_log_levels": "dvr_agent.daemon.admin=WARN"})
    assert one.process is not None
    one.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "configuration reloaded" in one.out)
    one.write(1)
    wait_for(lambda: f"qrouter-{router_id(1)}: + namespace" in one.out)
    one.status()
    assert "admin socket: GET" not in one.out


def test_a_configuration_that_is_broken_at_hangup_changes_nothing(daemon: MakeDaemon) -> None:
    one = daemon().start()
    one.config.write_text("not a configuration")
    assert one.process is not None
    one.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "settings unchanged" in one.out)
    one.write(1)
    one.wait_state(1, "in sync")


def test_a_second_daemon_of_the_same_state_path_or_host_refuses_in_one_line(daemon: MakeDaemon) -> None:
    one = daemon("one").start()
    assert one.process is not None
    same_state = daemon("two", DEFAULT={"state_path": one.state})
    same_host = daemon("three", DEFAULT={"host": one.options["DEFAULT"]["host"]})
    for other in (same_state, same_host):
        other.start(ready=False)
        assert other.process is not None
        assert other.process.wait(20) == 1
        lines = (other.out + other.err).splitlines()
        assert len(lines) == 1
        assert lines[0].count(f"(process {one.process.pid})") == 1, "oslo.log appends the exception to what was said"
    assert one.status()["state"] == "in sync"


def test_the_admin_socket_is_private_and_answers_in_json(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1)
    one.start()
    assert stat.S_IMODE(one.socket.stat().st_mode) == 0o600
    status = one.status()
    assert {"version", "host", "mode", "pid", "started", "state", "last_sync", "last_audit", "next_audit",
            "queue_depth", "guard", "source", "counters", "routers"} <= set(status)  # fmt: skip
    assert status["source"]["path"] == str(one.routers)
    assert status["routers"] == [one.router(1)]
    assert one.ask("/nothing") == (404, {"error": "no /nothing here", "paths": ["/status", "/routers/<id>", "/sync"]})
    assert one.ask("/routers/x")[0] == 404
    assert one.ask("/status", "POST")[0] == 405
    assert one.ask("/sync", "GET")[0] == 405
    assert one.ask("/sync", "POST") == (202, {"queued": 1})


def test_a_client_that_sends_rubbish_or_goes_away_hurts_nobody(daemon: MakeDaemon) -> None:
    one = daemon().start()
    for text in (b"", b"\0\xff\r\n\r\n", b"GET /status", b"GET /status HTTP/1.1\r\n", b"G" * 100_000):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(one.socket))
            client.settimeout(0.2)
            client.sendall(text)
            if text:
                try:
                    client.recv(100)
                except TimeoutError:
                    pass
                except ConnectionError:
                    pass
    assert one.status()["state"] == "in sync"
    assert "Traceback" not in one.out + one.err
    assert one.err == ""


def _connect(daemon: Daemon, text: bytes = b"") -> socket.socket:
    """A client that sends this and then nothing more."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(daemon.socket))
    client.sendall(text)
    return client


@pytest.mark.parametrize("text", [b"", b"GET /status HTTP/1.1\r\nHost: x\r\n", b"GET /status HTTP/1.1\r\n\r\n"])
def test_many_idle_clients_do_not_silence_the_admin_socket(daemon: MakeDaemon, text: bytes) -> None:
    one = daemon().start()
    with contextlib.ExitStack() as clients:
        for _ in range(200):
            clients.enter_context(_connect(one, text))
        for _ in range(5):
            assert one.status()["state"] == "in sync"
    assert one.status()["state"] == "in sync"
    assert "Traceback" not in one.out + one.err
    assert one.err == ""


def test_many_clients_at_once_are_all_answered(daemon: MakeDaemon) -> None:
    one = daemon().start()
    with contextlib.ExitStack() as clients:
        request = b"GET /status HTTP/1.1\r\nConnection: close\r\n\r\n"
        all_of_them = [clients.enter_context(_connect(one, request)) for _ in range(200)]
        for client in all_of_them:
            assert client.recv(15) == b"HTTP/1.1 200 OK"


def test_the_oldest_idle_client_gives_way_and_a_busy_one_stays(daemon: MakeDaemon) -> None:
    one = daemon().start()
    request = b"GET /status HTTP/1.1\r\n\r\n"
    with contextlib.ExitStack() as clients:
        busy = clients.enter_context(_connect(one))
        idle = [clients.enter_context(_connect(one)) for _ in range(30)]
        for _ in range(10):
            busy.sendall(request)
            assert busy.recv(1 << 20).startswith(b"HTTP/1.1 200 OK")
            idle += [clients.enter_context(_connect(one)) for _ in range(10)]
        assert idle[0].recv(1) == b""


def test_an_admin_socket_that_another_process_serves_is_not_taken_over(daemon: MakeDaemon) -> None:
    one = daemon("one").start()
    other = daemon("two", dvr_agent={"admin_socket": one.socket}).start(ready=False)
    assert other.process is not None
    assert other.process.wait(20) == 1
    assert "another process answers there" in other.out
    assert one.status()["host"] == one.options["DEFAULT"]["host"]


@pytest.mark.parametrize("kind", ["link", "hard link", "directory"])
def test_a_log_file_that_another_user_could_have_led_astray_is_refused(
    daemon: MakeDaemon, tmp_path: Path, kind: str
) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    logs, victim = tmp_path / "log", tmp_path / "etc" / "victim"
    logs.mkdir()
    victim.parent.mkdir()
    victim.write_text("root:secret")
    path = logs / "dvr-agent.log"
    if kind == "hard link":
        os.link(victim, path)
    elif kind == "link":
        path.symlink_to(victim)
    else:
        (logs / "deeper").symlink_to(victim.parent)
        path = logs / "deeper" / "victim"
    os.chown(logs, 64055, 64055)
    one = daemon(DEFAULT={"log_file": path}).start(ready=False)
    assert one.process is not None
    assert one.process.wait(20) == os.EX_CONFIG
    assert str(path) in one.err
    assert "link" in one.err
    assert victim.read_text() == "root:secret"


def test_a_log_file_becomes_a_link_when_it_is_rotated_and_nothing_is_written_through_it(
    daemon: MakeDaemon, tmp_path: Path
) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    logs, victim = tmp_path / "log", tmp_path / "victim"
    logs.mkdir()
    os.chown(logs, 64055, 64055)
    victim.write_text("root:secret")
    path = logs / "dvr-agent.log"
    one = daemon(DEFAULT={"log_file": path}).start()
    assert "ready" in path.read_text()
    path.rename(logs / "old")
    path.symlink_to(victim)
    one.write(1)
    one.wait_state(1, "in sync")
    assert victim.read_text() == "root:secret"
    assert router_id(1) in one.err
    path.unlink()
    one.write(2)
    one.wait_state(2, "in sync")
    assert router_id(2) in path.read_text()


def test_a_log_file_on_a_read_only_disk_keeps_nobody_away(daemon: MakeDaemon, tmp_path: Path) -> None:
    logs = tmp_path / "log"
    logs.mkdir()
    path = logs / "dvr-agent.log"
    lab.run("mount", "-t", "tmpfs", "-o", "ro", "none", logs)
    try:
        one = daemon(DEFAULT={"log_file": path}).start()
        assert "ready" in one.err
        lab.run("mount", "-o", "remount,rw", logs)
        one.write(1)
        one.wait_state(1, "in sync")
        assert router_id(1) in path.read_text()
        one.stop()
    finally:
        lab.run("umount", "-l", logs)


def test_the_log_can_go_to_a_link_of_root(daemon: MakeDaemon) -> None:
    one = daemon(DEFAULT={"log_file": "/dev/stdout", "use_stderr": False}).start()
    one.stop()
    assert "ready" in one.out


@pytest.mark.parametrize("to", ["stdout", "stderr", "file"])
def test_with_use_json_every_line_is_json_and_carries_router_and_request_id(daemon: MakeDaemon, to: str) -> None:
    one = daemon(DEFAULT={"use_json": True, "debug": True, "use_stderr": to == "stderr"})
    if to == "file":
        one.configure(DEFAULT={"log_file": one.base / "log"})
    one.write(1, "crash=1")
    one.write(2, '100 % "quoted" {braces} é \u2028 end')
    one.write(3, ha=True)
    (one.routers / os.fsdecode(b"bad\xff\x1b.json")).write_text("{")
    one.start()
    one.wait_state(1, "in sync")
    one.stop()
    files = {"stdout": one.out, "stderr": one.err, "file": (one.base / "log").read_text() if to == "file" else ""}
    lines = [json.loads(line) for line in files.pop(to).splitlines()]
    assert [text for text in files.values() if text] == []
    told = [line for line in lines if router_id(2) in line["message"] and "added" in line["message"]]
    assert told[0]["context"]["router_id"] == router_id(2)
    assert told[0]["context"]["request_id"].startswith("req-")
    crashed = [line for line in lines if line["traceback"]]
    assert "ZeroDivisionError: scripted" in crashed[0]["traceback"]
    assert not any("eventlet" in line["message"].lower() and "deprecated" in line["message"] for line in lines)


def test_no_library_prints_anything(daemon: MakeDaemon) -> None:
    one = daemon().start()
    one.stop()
    assert one.err == ""
    assert "deprecat" not in one.out.lower()
    assert all(" INFO dvr_agent." in line for line in one.out.splitlines())


def test_systemd_is_told_when_it_is_ready_reloading_alive_and_stopping(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1, "sleep=0.5")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0dvr-agent-test-{os.getpid()}")
        manager.settimeout(20)
        one.start(ready=False, NOTIFY_SOCKET=f"@dvr-agent-test-{os.getpid()}", WATCHDOG_USEC="600000")
        heard: list[str] = []

        def until(line: str) -> None:
            while True:
                heard.append(manager.recv(4096).decode())
                if line in heard[-1].split("\n"):
                    return

        until("READY=1")
        assert built(one) == {router_id(1)}
        assert any("EXTEND_TIMEOUT_USEC" in text for text in heard[:-1])
        until("WATCHDOG=1")
        assert one.process is not None
        one.process.send_signal(signal.SIGHUP)
        until("READY=1")
        assert any(text.startswith("RELOADING=1\nMONOTONIC_USEC=") for text in heard)
        one.process.send_signal(signal.SIGTERM)
        until("STOPPING=1")
    assert one.process.wait(20) == 0


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
    print(f"100 routers, 20 ms of Python each: the hub's 50 ms timer was late by {worst} ms at most")
    assert worst > 0


def test_a_router_name_cannot_forge_log_lines(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1, "innocent\n2026-01-01 00:00:00.000 1 CRITICAL forged\x1b[2J" + "x" * 500)
    one.start()
    assert "innocent\\n2026" in one.out
    assert "\n2026-01-01 00:00:00.000 1 CRITICAL" not in one.out
    assert "\x1b" not in one.out
    assert "x" * 100 not in one.out


@pytest.mark.parametrize("log_file", [False, True])
def test_a_kernel_that_lacks_something_ends_the_start_with_one_clear_line(daemon: MakeDaemon, log_file: bool) -> None:
    one = daemon()
    if log_file:
        one.configure(DEFAULT={"log_file": one.base / "log"})
    one.start(ready=False, FAKE_KERNEL_WITHOUT_TABLES="1")
    assert one.process is not None
    assert one.process.wait(20) == 1
    lines = (one.out + one.err).splitlines()
    assert len(lines) == 1
    assert "this kernel has no legacy tables" in lines[0]


@pytest.mark.parametrize(
    ("group", "option", "value", "said"),
    [
        ("dvr_agent", "audit_interval", "often", "audit_interval"),
        ("DEFAULT", "agent_mode", "legacy", "agent_mode"),
        ("DEFAULT", "state_path", "/proc/nowhere", "state_path = /proc/nowhere"),
        ("dvr_agent", "admin_socket", "/proc/nowhere/admin.sock", "admin_socket = /proc/nowhere/admin.sock"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    daemon: MakeDaemon, group: str, option: str, value: str, said: str
) -> None:
    one = daemon(**{group: {option: value}}).start(ready=False)
    assert one.process is not None
    assert one.process.wait(20) == os.EX_CONFIG, "the service manager does not start it again"
    assert said in one.out + one.err
    assert str(one.config) in one.out + one.err
    assert "Traceback" not in one.out + one.err


def test_a_router_without_one_of_its_services_is_degraded_and_tried_again(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1, "unserved=2")
    one.start(ready=False)
    wait_for(lambda: one.socket.exists() and one.answering())
    record = one.wait_state(1, "degraded")
    assert record["reason"] == "scripted helper does not start"
    assert built(one) == {router_id(1)}, "what the kernel holds does not depend on it"
    one.wait_state(1, "in sync")
    assert "recovered" in one.out
    one.stop()


def test_a_service_that_wants_a_router_looked_at_is_heard(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1)
    one.start()
    before = len(calls(one))
    (one.state / "service").write_text(f"{router_id(1)} {router_id(7)}\n")
    wait_for(lambda: any(call.startswith(f"reconcile {router_id(1)}") for call in calls(one)[before:]))
    assert one.stop() == 0


def test_the_trouble_of_a_whole_service_is_the_hosts(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1)
    one.start()
    assert one.status()["services"]["scripted"] == {"routers": 1, "trouble": "", "since": 0.0}
    (one.state / "service").write_text("trouble=away\n")
    wait_for(lambda: one.status()["state"] == "degraded")
    assert one.status()["services"]["scripted"]["trouble"] == "away"
    assert one.wait_state(1, "in sync")
    (one.state / "service").write_text("trouble=\n")
    wait_for(lambda: one.status()["state"] == "in sync")
    one.stop()


def test_the_agent_ends_with_an_error_when_a_helper_died_and_it_shall(daemon: MakeDaemon) -> None:
    one = daemon()
    one.start()
    (one.state / "service").write_text("exit\n")
    assert one.process is not None
    assert one.process.wait(30) == 1
    assert "scripted helper has died: the agent ends, as check_child_processes_action says" in one.out


# -- signals and the service manager


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_no_signal_of_operators_ends_the_daemon(daemon: MakeDaemon, number: signal.Signals) -> None:
    """Neither while it starts nor later."""
    one = daemon().start(ready=False)
    assert one.process is not None
    status = Path(f"/proc/{one.process.pid}/status")
    wait_for(lambda: one.alive() and int(status.read_text().partition("SigCgt:")[2].split()[0], 16) >> number - 1 & 1)
    one.process.send_signal(number)
    wait_for(lambda: one.socket.exists() and one.answering() and one.status()["state"] == "in sync")
    one.process.send_signal(number)
    one.write(1)
    one.wait_state(1, "in sync")
    assert one.stop() == 0


def test_a_guru_meditation_report_shows_all_threads_and_no_secret(daemon: MakeDaemon) -> None:
    one = daemon(DEFAULT={"transport_url": "rabbit://neutron:sesame@broker/"}, dvr_agent={"source": "directory"})
    one.write(1)
    one.start()
    one.wait_state(1, "in sync")
    assert one.process is not None
    one.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: "Configuration of this agent" in one.err and "transport_url" in one.err)
    report = one.err
    green_threads = report.partition("Green Threads")[2].partition("Processes")[0]
    for part in ("in probe_hub", "in audit_periodically", "in watch"):
        assert part in green_threads, part
    assert "worker.py" in report.partition("Threads")[2].partition("Green Threads")[0]
    assert "sesame" not in report
    one.write(2)
    one.wait_state(2, "in sync")


def test_a_report_goes_to_a_file_where_that_is_configured(daemon: MakeDaemon) -> None:
    one = daemon()
    one.configure(oslo_reports={"log_dir": one.base})
    one.start()
    assert one.process is not None
    one.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: [path for path in one.base.glob("dvr-agent_gurumeditation_*") if path.stat().st_size])
    assert "Guru Meditation" not in one.err


@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        ("DEFAULT", "debug", "maybe"),
        ("DEFAULT", "ovs_use_veth", "tru"),
        ("dvr_agent", "allow_mass_removal", "yess"),
        ("dvr_agent", "audit_interval", "often"),
        ("DEFAULT", "agent_mode", "legacy"),
        ("DEFAULT", "interface_driver", "hub"),
    ],
)
def test_a_value_that_is_wrong_at_hangup_is_named_and_changes_nothing(
    daemon: MakeDaemon, group: str, option: str, value: str
) -> None:
    one = daemon().start()
    one.configure(**{group: {option: value}})
    assert one.process is not None
    one.process.send_signal(signal.SIGHUP)
    wait_for(lambda: one.alive() and "settings unchanged" in one.out)
    (line,) = [line for line in one.out.splitlines() if "settings unchanged" in line]
    assert " ERROR " in line
    assert line.count(f"{one.config}: [{group}] {option} = ") == 1
    assert value in line
    one.options[group].pop(option)
    one.configure(DEFAULT={"debug": True})
    one.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "configuration reloaded" in one.out)
    one.write(1)
    one.wait_state(1, "in sync")


class Manager:
    """The service manager's end of the notification socket."""

    def __init__(self) -> None:
        self.address = f"@dvr-agent-test-{os.getpid()}-{id(self)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:])
        self._socket.settimeout(30)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until(self, what: Callable[[str], bool]) -> str:
        while not what(text := self._socket.recv(4096).decode()):
            pass
        return text


def test_ready_is_told_after_a_bound_though_there_are_no_documents(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"ready_timeout": 1})
    one.configure(directory={"path": one.base / "later"})
    with Manager() as manager:
        one.start(ready=False, NOTIFY_SOCKET=manager.address)
        ready = manager.until(lambda text: text.startswith("READY=1"))
        assert "starting: " in ready
        assert f"{one.base / 'later'}: No such file or directory" in ready
        wait_for(lambda: " WARNING dvr_agent.daemon.systemd [-] ready after 1 s without a resync" in one.out)
        assert one.status()["state"] == "starting"
        (one.base / "later").mkdir()
        manager.until(lambda text: text == "STATUS=in sync; no routers")
    assert one.stop() == 0


def test_ready_is_told_after_a_bound_though_the_kernel_cannot_be_read(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"ready_timeout": 1})
    one.state.mkdir(parents=True, exist_ok=True)
    (one.state / "fail-load").write_text("")
    with Manager() as manager:
        one.start(ready=False, NOTIFY_SOCKET=manager.address)
        manager.until(lambda text: "STATUS=starting" in text)
        ready = manager.until(lambda text: text.startswith("READY=1"))
        assert "starting: kernel and state files cannot be read: " in ready
        (one.state / "fail-load").unlink()
        manager.until(lambda text: text == "STATUS=in sync; no routers")


def touch(file: Path) -> os.stat_result:
    """Make a file that the daemon will take for its journal."""
    file.touch()
    return file.stat()


def test_lines_have_their_priority_where_the_journal_reads_them(daemon: MakeDaemon) -> None:
    one = daemon()
    stream = touch(one.base / "out")
    (one.routers / "bad.json").write_text("{")
    one.start(JOURNAL_STREAM=f"{stream.st_dev}:{stream.st_ino}")
    wait_for(lambda: "bad document" in one.out)
    marks = {"INFO": "<6>", "WARNING": "<4>", "ERROR": "<3>", "DEBUG": "<7>"}
    for line in one.out.splitlines():
        level = next(word for word in line.split() if word in marks)
        assert line.startswith(marks[level])
    assert any(line.startswith("<3>") for line in one.out.splitlines())
    assert one.stop() == 0


def test_each_line_of_a_message_has_the_priority(daemon: MakeDaemon) -> None:
    one = daemon()
    stream = touch(one.base / "out")
    one.write(1, "crash=1")
    one.start(ready=False, JOURNAL_STREAM=f"{stream.st_dev}:{stream.st_ino}")
    wait_for(lambda: "Traceback" in one.out and one.out.endswith("\n"))
    traceback = one.out.partition("Traceback")[2].splitlines()
    assert len(traceback) > 3
    assert all(line.startswith("<") for line in one.out.splitlines())


def test_no_priorities_for_anybody_else(daemon: MakeDaemon) -> None:
    one = daemon().start(JOURNAL_STREAM="1:2")
    assert "<6>" not in one.out


def test_a_configuration_error_has_its_priority_too(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": "often"})
    stream = touch(one.base / "err")
    one.start(ready=False, JOURNAL_STREAM=f"{stream.st_dev}:{stream.st_ino}")
    assert one.process is not None
    assert one.process.wait(20) == os.EX_CONFIG
    assert one.err.startswith("<3>dvr-agent: ")


def test_the_journal_without_its_module_is_a_clear_error(daemon: MakeDaemon) -> None:
    if importlib.util.find_spec("systemd") is not None:
        pytest.skip("systemd-python is installed")
    one = daemon(DEFAULT={"use_journal": True}).start(ready=False)
    assert one.process is not None
    assert one.process.wait(20) == os.EX_CONFIG
    assert f"{one.config}: [DEFAULT] use_journal = true: needs dvr-agent[journal]" in one.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("log_file", "/proc/nowhere/log"),
        ("log_dir", "/proc/nowhere"),
        ("log_config_append", "/nowhere.conf"),
        ("default_log_levels", "dvr_agent=LOUD"),
    ],
)
def test_a_log_that_cannot_be_written_is_a_configuration_error(daemon: MakeDaemon, option: str, value: str) -> None:
    one = daemon(DEFAULT={option: value}).start(ready=False)
    assert one.process is not None
    assert one.process.wait(20) == os.EX_CONFIG
    assert f"{one.config}: [DEFAULT] {option} = " in one.err
    assert "Traceback" not in one.err
