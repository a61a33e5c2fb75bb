"""Health: a worker that hangs in a system call is seen, and systemd's watchdog gets no sign of life any more."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.daemon_lab import Daemon, router_id
from tests.support.prometheus import value
from tests.support.scripted_daemon import MakeDaemon, ServiceManager
from tests.support.waiting import wait_for

SHORTEST = {"stuck_timeout": 5}


def hanging(one: Daemon) -> Path:
    """Have the worker hang in open(2) of a FIFO; returns the FIFO."""
    fifo = one.state / "hang"
    os.mkfifo(fifo)
    one.write(7, "hang")
    wait_for(lambda: (one.status()["working_on"] or {}).get("job") == router_id(7))
    return fifo


def release(fifo: Path) -> None:
    """Open the FIFO for writing, and close it."""
    os.close(os.open(fifo, os.O_WRONLY))


def test_a_worker_that_hangs_in_a_system_call_is_seen_and_its_recovery_too(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent=SHORTEST)
    one.write(1)
    one.start()
    code, answer = one.ask("/healthz")
    assert (code, answer["healthy"]) == (200, True)
    assert [check["name"] for check in answer["checks"]] == ["worker", "dispatcher"]
    fifo = hanging(one)
    wait_for(lambda: one.ask("/healthz")[0] == 503)
    worker = one.ask("/healthz")[1]["checks"][0]
    assert not worker["ok"]
    assert "stuck in a system call" in worker["text"]
    assert router_id(7) in worker["text"], "it names the job"
    assert one.ask("/readyz")[0] == 503
    text = one.fetch("/metrics")[2]
    assert value(text, "dvr_agent_healthy") == 0
    assert (value(text, "dvr_agent_worker_stuck_seconds") or 0) >= 5
    assert one.status()["state"] != "starting", "the hub answers all the same"
    wait_for(lambda: "no progress: the worker is stuck" in one.out)
    assert "read_text" in one.out, "the log has the stack of the worker"
    release(fifo)
    wait_for(lambda: one.ask("/healthz")[0] == 200)
    wait_for(lambda: "recovered: there is progress again" in one.out)
    assert one.out.count("no progress") == 1


def test_the_watchdog_is_fed_while_there_is_progress_and_no_longer(daemon: MakeDaemon) -> None:
    with ServiceManager() as manager:
        one = daemon(dvr_agent=SHORTEST)
        one.write(1)
        one.start(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="900000")
        manager.until(lambda text: text == "WATCHDOG=1")
        fifo = hanging(one)
        wait_for(lambda: one.ask("/healthz")[0] == 503)
        manager.until(lambda text: text.startswith("STATUS="))
        # Another status comes 5 s later; three signs of life would come in 0.9 s.
        assert "STATUS=the worker is stuck" in manager.until(is_status_and_no_sign_of_life)
        release(fifo)
        manager.until(lambda text: text == "WATCHDOG=1")
        assert one.ask("/healthz")[0] == 200


def is_status_and_no_sign_of_life(text: str) -> bool:
    assert text != "WATCHDOG=1"
    return text.startswith("STATUS=")
