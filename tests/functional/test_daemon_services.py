"""Services of routers, as the daemon follows them.

Only the kernel work is scripted (tests/support/fake_daemon.py).
"""

from __future__ import annotations

from tests.support.daemon_lab import router_id
from tests.support.scripted_daemon import MakeDaemon, built, calls
from tests.support.waiting import wait_for


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


def test_event_of_a_service_queues_a_check_of_its_router(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1)
    one.start()
    before = len(calls(one))
    (one.state / "service").write_text(f"{router_id(1)} {router_id(7)}\n")
    wait_for(lambda: any(call.startswith(f"reconcile {router_id(1)}") for call in calls(one)[before:]))
    assert one.stop() == 0


def test_failure_of_a_whole_service_is_trouble_of_the_host(daemon: MakeDaemon) -> None:
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


def test_agent_exits_with_an_error_when_a_helper_died_and_the_action_is_exit(daemon: MakeDaemon) -> None:
    one = daemon()
    one.start()
    (one.state / "service").write_text("exit\n")
    assert one.process is not None
    assert one.process.wait(30) == 1
    assert "scripted helper has died: the agent ends, as check_child_processes_action says" in one.out
