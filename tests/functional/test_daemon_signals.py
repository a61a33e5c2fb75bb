"""Signals of the daemon: stop, reload, report.

Only the kernel work is scripted (tests/support/fake_daemon.py).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.daemon_lab import router_id
from tests.support.scripted_daemon import MakeDaemon, built, calls
from tests.support.waiting import wait_for


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
    one.configure(DEFAULT={"debug": True, "default_log_levels": "dvr_agent.daemon.http_application=WARN"})
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


def test_the_report_says_where_a_worker_hangs_and_which_routers_are_not_in_sync(daemon: MakeDaemon) -> None:
    one = daemon(DEFAULT={"ha_vrrp_auth_password": "sesame12"})
    one.write(1, "fail=1000")
    one.start()
    one.wait_state(1, "degraded")
    os.mkfifo(one.state / "hang")
    one.write(2, "hang")
    wait_for(lambda: (one.status()["working_on"] or {}).get("job") == router_id(2))
    wait_for(lambda: one.status()["queue_depth"] == 2)  # the retry of the other one waits
    assert one.process is not None
    one.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: "ha_vrrp_auth_password" in one.err)
    section = one.err.partition("Routers, Queue and Worker")[2].partition("Configuration of this agent")[0]
    assert f"{router_id(2)} for " in section, "the job under way"
    assert "read_text" in section, "the stack of the worker"
    assert f"{router_id(1)}: degraded: namespace qrouter-x: route 192.0.2.0/24" in section
    assert f"{router_id(1)}: retry, for " in section, "it waits"
    assert "cannot be told" not in section
    assert "sesame12" not in one.err
    os.close(os.open(one.state / "hang", os.O_WRONLY))
    one.wait_state(2, "in sync")


def test_a_report_is_there_while_the_first_resync_is_under_way(daemon: MakeDaemon) -> None:
    """The libraries for it are loaded later, but not too late."""
    one = daemon()
    one.write(1, "hang")
    one.state.mkdir(parents=True, exist_ok=True)
    os.mkfifo(one.state / "hang")
    one.start(ready=False)
    wait_for(lambda: one.alive() and one.socket.exists() and one.answering())
    wait_for(lambda: (one.status()["working_on"] or {}).get("job") == router_id(1))
    assert one.process is not None
    for _ in range(2):
        before = one.err.count("Routers, Queue and Worker")
        one.process.send_signal(signal.SIGUSR2)
        wait_for(lambda before=before: one.err.count("Routers, Queue and Worker") > before)
    os.close(os.open(one.state / "hang", os.O_WRONLY))
    one.wait_state(1, "in sync")
    one.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: one.err.count("Routers, Queue and Worker") == 3)


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
