"""What the client of the admin socket says of a daemon that does not answer, and how often it waits for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvr_agent.cli.admin_client import AdminClient, NotListeningError, SilentError
from dvr_agent.cli.diag import sources
from dvr_agent.cli.process_state import Process, find_process
from dvr_agent.lock import AgentLock, holder
from tests.support.waiting import wait_for

LISTEN = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1)
print("listens", flush=True)
time.sleep(3600)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "admin.sock")


@pytest.fixture
def silent(path: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens and never answers."""
    with subprocess.Popen([sys.executable, "-c", LISTEN, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listens\n"
        yield process
        process.kill()


def state_of(pid: int) -> str:
    process = find_process(pid)
    return process.state if process is not None else ""


def failure(ask: Callable[[], object]) -> SilentError:
    with pytest.raises(SilentError) as caught:
        ask()
    return caught.value


def test_a_stopped_process_is_named_with_its_state(silent: subprocess.Popen[bytes], path: str) -> None:
    silent.send_signal(signal.SIGSTOP)
    wait_for(lambda: state_of(silent.pid) == "T")
    found = failure(lambda: AdminClient(path).ask("/status", timeout=0.1))
    assert f"does not answer within 0.1 s: process {silent.pid} (" in str(found)
    assert "exists and is in state T (stopped)" in str(found)
    assert found.process is not None
    assert found.process.is_stopped


def test_a_process_that_hangs_is_named_and_waited_for_only_once(silent: subprocess.Popen[bytes], path: str) -> None:
    client = AdminClient(path)
    first = failure(lambda: client.ask("/status", timeout=0.1))
    assert f"process {silent.pid} (" in str(first)
    assert failure(lambda: client.ask("/history", timeout=3600)) is first
    client.forget()
    assert failure(lambda: client.ask("/history", timeout=0.1)) is not first


def test_a_full_queue_is_a_process_that_does_not_answer(silent: subprocess.Popen[bytes], path: str) -> None:
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for one in waiting:
        one.connect(path)
    assert "accepts no connection" in str(failure(lambda: AdminClient(path).ask("/status", timeout=0.1)))
    for one in waiting:
        one.close()


def test_an_archive_waits_only_once_for_a_daemon_that_does_not_answer(
    silent: subprocess.Popen[bytes], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for number, resource in enumerate(("/status", "/history")):
        monkeypatch.setattr(sources, "SOCKET_SECONDS", 1 if number == 0 else 3600)
        with pytest.raises(sources.PieceError) as caught:
            sources.resource(path, resource)
        said.append(str(caught.value))
    assert all(f"process {silent.pid} (" in text for text in said)
    assert said[1].endswith("(waited 1 s, once)")


def test_the_lock_tells_whether_a_process_without_socket_runs(path: str, tmp_path: Path) -> None:
    state, run = str(tmp_path / "state"), tmp_path / "locks"
    client = AdminClient(path, lambda: holder(state, run))
    with pytest.raises(NotListeningError, match="No such file or directory; it is not running"):
        client.ask("/status")
    with AgentLock(state, "host", run):
        assert holder(state, run) == os.getpid()
        assert holder(str(tmp_path / "other"), run) == 0
        with pytest.raises(NotListeningError, match=rf"lock is held: process {os.getpid()} \(") as caught:
            client.ask("/status")
        assert caught.value.process is not None
    assert holder(state, run) == 0
    with pytest.raises(NotListeningError, match="it is not running"):
        client.ask("/status")


def test_a_process_that_is_gone_is_none() -> None:
    assert find_process(0) is None
    assert find_process(2**22 + 1) is None
    mine = find_process(os.getpid())
    assert mine is not None
    assert (mine.pid, mine.is_stopped) == (os.getpid(), False)
    assert Process(1, "x", "T").text.endswith("is in state T (stopped); `kill -CONT 1` continues it")
    assert Process(1, "x", "?").text == "process 1 (x) exists and is in state ?"
