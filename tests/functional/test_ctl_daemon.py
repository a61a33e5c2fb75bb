"""Verbs of dvrctl that ask a running daemon: status, again and again, and sync.

Only the kernel work is scripted (tests/support/fake_daemon.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest

from dvr_agent.cli.status_text import STATES
from dvr_agent.daemon.job_result import RouterState
from tests.support.ctl import ctl_command, run_ctl
from tests.support.daemon_lab import Daemon, router_id
from tests.support.json_outputs import hold_output
from tests.support.scripted_daemon import MakeDaemon, calls
from tests.support.waiting import wait_for

LOOKS = 2000
"""Looks at the daemon, ten a second at most."""
ENDS = 20
"""Seconds; a process that has not ended by then hangs."""


@pytest.fixture
def three(daemon: MakeDaemon) -> Daemon:
    """A daemon with three routers, one of which fails twice and is not retried by itself in the time of a test."""
    one = daemon(dvr_agent={"retry_interval": 3600, "retry_interval_max": 3600, "audit_interval": 0})
    one.write(1, "web")
    one.write(2, "fail=2")
    one.write(3, "mail")
    return one.start()


def blocks(stream: IO[str]) -> Iterator[list[str]]:
    """The blocks of a piped ``--watch``, each without the empty line that ends it."""
    block: list[str] = []
    for line in stream:
        if line == "\n":
            # A table follows an empty line too; a block begins with the time.
            block.append("")
            continue
        if block and block[-1] == "" and line[:2] == "20":
            yield block[:-1]
            block = []
        block.append(line.rstrip("\n"))


T = TypeVar("T")


@contextlib.contextmanager
def watching(command: list[str], stderr: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process whose output is a pipe; it ends with the test, also one that waits until somebody reads."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def first(found: Iterable[T], wanted: Callable[[T], bool]) -> T:
    """The first of many looks that is as wanted."""
    for one in islice(found, LOOKS):
        if wanted(one):
            return one
    raise AssertionError(f"none of {LOOKS} looks is as wanted")


# -- status


def test_the_states_that_can_be_asked_for_are_those_of_the_daemon() -> None:
    assert set(STATES) == {state.value for state in RouterState} - {RouterState.REMOVED.value}


def test_status_says_first_what_it_comes_to(three: Daemon) -> None:
    done = run_ctl(three.config, "status")
    assert done.returncode == 2
    assert done.stdout.splitlines()[1:3] == ["state        degraded", "routers      1 degraded, 2 in sync"]
    assert done.stdout.index("fail=2") < done.stdout.index("mail")


def test_status_lists_routers_in_some_states_only(three: Daemon) -> None:
    for states, listed in (
        (["degraded"], {"fail=2"}),
        (["degraded", "in-sync"], {"fail=2", "web", "mail"}),
        (["pending"], set()),
    ):
        done = run_ctl(three.config, "status", "--only", *states)
        assert {name for name in ("web", "fail=2", "mail") if f" {name} " in done.stdout} == listed
        assert done.returncode == 2, "the exit code is about all routers"
        assert ("no router is pending" in done.stdout) == (not listed)
    found = json.loads(run_ctl(three.config, "-o", "json", "status", "--only", "degraded").stdout)
    assert {router["name"] for router in found["routers"]} == {"fail=2"}
    assert found["states"] == {"degraded": 1, "in sync": 2}


def test_a_state_that_no_router_can_have_is_a_wrong_argument(daemon: MakeDaemon) -> None:
    done = run_ctl(daemon().config, "status", "--only", "broken")
    assert done.returncode == 64
    assert "degraded" in done.stderr


def test_a_piped_watch_survives_a_restart_of_the_daemon_and_ends_by_ctrl_c(three: Daemon) -> None:
    command = ctl_command(three.config, "status", "--watch", "0.1")
    with watching(command, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        found = blocks(process.stdout)
        assert next(found)[2] == "state        degraded"
        three.stop()
        away = first(found, lambda block: "is not reachable" in block[1])
        assert away[2].startswith("last state   degraded at ")
        three.start()
        first(found, lambda block: "dvr-agent 0" in block[1])
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=ENDS)[1] == ""
        assert process.returncode == 2


def test_a_watch_in_json_is_a_line_for_each_look(three: Daemon) -> None:
    command = ctl_command(three.config, "-o", "json", "status", "--watch", "0.1")
    with watching(command) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["state"] == "degraded"
        three.stop()
        line = first(process.stdout, lambda text: json.loads(text)["state"] == "unreachable")
        hold_output(["-o", "json", "status", "--watch"], line)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=ENDS)
        assert process.returncode == 1


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, command: list[str]) -> None:
        self.fd, inside = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "NO_COLOR": ""}
        self.process = subprocess.Popen(
            command,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            env=env,
            preexec_fn=_take_terminal,
        )
        os.close(inside)
        self.seen = ""

    def until(self, text: str) -> None:
        while text not in self.seen:
            self.seen += os.read(self.fd, 65536).decode()

    def rest(self) -> str:
        try:
            while data := os.read(self.fd, 65536):
                self.seen += data.decode()
        except OSError:  # the other end is closed
            pass
        return self.seen


def _take_terminal() -> None:
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # of a session leader it becomes the controlling terminal


@pytest.mark.parametrize("end", ["ctrl-c", "sigterm"])
def test_a_watch_on_a_terminal_rewrites_the_screen_in_place_and_leaves_it_as_it_was(three: Daemon, end: str) -> None:
    terminal = Terminal(ctl_command(three.config, "status", "--watch", "0.1"))
    terminal.until("fail=2")
    terminal.seen = ""
    terminal.until("fail=2")
    terminal.until("\x1b[J")
    assert "\x1b[H" in terminal.seen
    assert "\x1b[2J" not in terminal.seen, "it is cleared once, so that nothing flickers"
    if end == "ctrl-c":
        os.write(terminal.fd, b"\x03")
    else:
        terminal.process.terminate()
    assert terminal.rest().endswith("\x1b[?7h\x1b[?25h\x1b[?1049l")
    assert "Traceback" not in terminal.seen
    assert terminal.process.wait(ENDS) == (2 if end == "ctrl-c" else 143)
    os.close(terminal.fd)


# -- sync


def tried(daemon: Daemon, number: int) -> int:
    return sum(line.startswith(f"reconcile {router_id(number)}") for line in calls(daemon))


def test_sync_retries_a_failed_router_at_once_and_says_how_it_ends(three: Daemon) -> None:
    first = run_ctl(three.config, "sync", "fail=2")
    assert first.returncode == 2
    assert first.stdout.startswith(f"degraded      {router_id(2)} (fail=2): namespace qrouter-x")
    again = run_ctl(three.config, "sync", router_id(2)[:8])
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines() == [f"in sync       {router_id(2)} (fail=2)", "1 router: 1 in sync"]
    assert (tried(three, 1), tried(three, 2)) == (1, 3)


def test_sync_of_all_tries_each_router_and_ends_when_all_have(three: Daemon) -> None:
    done = run_ctl(three.config, "-o", "json", "sync")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert {one["id"]: one["state"] for one in found["routers"]} == {
        router_id(1): "in sync",
        router_id(2): "degraded",
        router_id(3): "in sync",
    }
    assert found["waiting"] == []
    assert [tried(three, number) for number in (1, 2, 3)] == [2, 2, 2]
    assert run_ctl(three.config, "sync").returncode == 0


def test_sync_finds_that_the_document_of_a_router_is_gone(three: Daemon) -> None:
    three.stop()
    three.configure(directory={"path": three.routers, "rescan_interval": 3600})
    three.start()
    (three.routers / "3.json").unlink()
    done = run_ctl(three.config, "sync", router_id(1))
    assert done.returncode == 0
    wait_for(lambda: three.router(3) is None)
    gone = run_ctl(three.config, "sync", router_id(3))
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "no router begins with" in gone.stderr


def test_sync_without_a_daemon_is_one_line(daemon: MakeDaemon) -> None:
    one = daemon()
    done = run_ctl(one.config, "sync")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_router_that_fails_is_asked_for_again_by_the_admin_socket(three: Daemon) -> None:
    assert three.ask(f"/routers/{router_id(9)}", "POST")[0] == 404
    code, body = three.ask(f"/routers/{router_id(2)}", "POST")
    answer: dict[str, Any] = body
    assert (code, answer["queued"], answer["router"]["queued"]) == (202, 1, True)
    wait_for(lambda: not (three.router(2) or {})["queued"])
    assert tried(three, 2) == 2


def test_sync_is_refused_until_the_kernel_was_read(daemon: MakeDaemon) -> None:
    one = daemon()
    one.state.mkdir()
    (one.state / "fail-load").touch()
    one.start(ready=False)
    wait_for(lambda: one.alive() and one.socket.exists() and one.answering())
    done = run_ctl(one.config, "sync")
    assert done.returncode == 1
    assert "503" in done.stderr
    assert "has not read" in done.stderr


def test_path_of_the_socket_is_in_the_error(tmp_path: Path) -> None:
    config = tmp_path / "dvr-agent.conf"
    config.write_text(f"[DEFAULT]\nstate_path = {tmp_path}\n[dvr_agent]\nadmin_socket = {tmp_path}/none.sock\n")
    done = run_ctl(config, "status")
    said = f"dvr-agent is not reachable at {tmp_path}/none.sock: No such file or directory; it is not running"
    assert done.stderr == f"dvrctl: {said}\n"
