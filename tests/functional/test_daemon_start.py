"""Start of the daemon: what systemd is notified of, and starts that are refused.

Only the kernel work is scripted (tests/support/fake_daemon.py).
"""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.support.daemon_lab import router_id
from tests.support.scripted_daemon import MakeDaemon, ServiceManager, built
from tests.support.waiting import wait_for


def test_systemd_is_notified_of_ready_reloading_alive_and_stopping(daemon: MakeDaemon) -> None:
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


def test_ready_is_reported_after_ready_timeout_without_documents(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"ready_timeout": 1})
    one.configure(directory={"path": one.base / "later"})
    with ServiceManager() as manager:
        one.start(ready=False, NOTIFY_SOCKET=manager.address)
        ready = manager.until(lambda text: text.startswith("READY=1"))
        assert "starting: " in ready
        assert f"{one.base / 'later'}: No such file or directory" in ready
        wait_for(lambda: " WARNING dvr_agent.daemon.systemd [-] ready after 1 s without a resync" in one.out)
        assert one.status()["state"] == "starting"
        (one.base / "later").mkdir()
        manager.until(lambda text: text == "STATUS=in sync; no routers")
    assert one.stop() == 0


def test_ready_is_reported_after_ready_timeout_when_the_kernel_cannot_be_read(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"ready_timeout": 1})
    one.state.mkdir(parents=True, exist_ok=True)
    (one.state / "fail-load").write_text("")
    with ServiceManager() as manager:
        one.start(ready=False, NOTIFY_SOCKET=manager.address)
        manager.until(lambda text: "STATUS=starting" in text)
        ready = manager.until(lambda text: text.startswith("READY=1"))
        assert "starting: kernel and state files cannot be read: " in ready
        (one.state / "fail-load").unlink()
        manager.until(lambda text: text == "STATUS=in sync; no routers")


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
        assert lines[0].count(f"(process {one.process.pid})") == 1, "oslo.log appends the exception to the line"
    assert one.status()["state"] == "in sync"


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
    ("group", "option", "value", "reason"),
    [
        ("dvr_agent", "audit_interval", "often", "audit_interval"),
        ("DEFAULT", "agent_mode", "legacy", "agent_mode"),
        ("DEFAULT", "state_path", "/proc/nowhere", "state_path = /proc/nowhere"),
        ("dvr_agent", "admin_socket", "/proc/nowhere/admin.sock", "admin_socket = /proc/nowhere/admin.sock"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    daemon: MakeDaemon, group: str, option: str, value: str, reason: str
) -> None:
    one = daemon(**{group: {option: value}}).start(ready=False)
    assert one.process is not None
    assert one.process.wait(20) == os.EX_CONFIG, "the service manager does not start it again"
    assert reason in one.out + one.err
    assert str(one.config) in one.out + one.err
    assert "Traceback" not in one.out + one.err


def test_unknown_options_and_groups_are_warned_of_and_the_daemon_runs(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_intervall": 3}, bridgee={"secret": "sesame"}).start()
    lines = [
        line.partition(" [-] ")[2] for line in one.out.splitlines() if " WARNING dvr_agent.daemon.service " in line
    ]
    text = one.config.read_text().splitlines()
    group, option = text.index("[bridgee]") + 1, text.index("audit_intervall = 3") + 1
    assert [line.removeprefix(f"{one.config}:") for line in lines] == [
        f"{group}: [bridgee]: unknown group, ignored; did you mean [bridge]?",
        f"{option}: [dvr_agent] audit_intervall: unknown option, ignored; did you mean audit_interval?",
    ]
    assert "sesame" not in one.out + one.err
