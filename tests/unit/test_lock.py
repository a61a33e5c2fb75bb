"""One agent per state directory and per host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dvr_agent.errors import ConfigError, LockedError
from dvr_agent.lock import AgentLock

HOLD = """
import sys, time
from pathlib import Path
from dvr_agent.lock import AgentLock
AgentLock(sys.argv[1], sys.argv[2], Path(sys.argv[3])).acquire()
print("held", flush=True)
time.sleep(60)
"""


def hold(state_path: Path, host: str, run_directory: Path) -> subprocess.Popen[str]:
    """Another process that has the lock."""
    words = [sys.executable, "-c", HOLD, str(state_path), host, str(run_directory)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(("state", "host"), [("one", "other-host"), ("two", "this-host"), ("one", "this-host")])
def test_same_state_path_or_same_host_is_refused_and_the_other_process_is_named(
    tmp_path: Path, state: str, host: str
) -> None:
    other = hold(tmp_path / "one", "this-host", tmp_path / "run")
    try:
        with pytest.raises(LockedError, match=rf"\(process {other.pid}\)"):
            AgentLock(str(tmp_path / state), host, tmp_path / "run").acquire()
        with AgentLock(str(tmp_path / "three"), "third-host", tmp_path / "run"):
            pass
    finally:
        other.kill()
        other.communicate()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    other = hold(tmp_path / "state", "h", tmp_path / "run")
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    with AgentLock(str(tmp_path / "state"), "h", tmp_path / "run"):
        pid = (tmp_path / "state" / "dvr-agent.lock").read_text()
    assert pid == f"{os.getpid()}\n"


def test_a_refused_lock_leaves_nothing_locked(tmp_path: Path) -> None:
    with AgentLock(str(tmp_path / "one"), "h", tmp_path / "run"):
        for _ in range(2):
            with pytest.raises(LockedError, match="host h"):
                AgentLock(str(tmp_path / "two"), "h", tmp_path / "run").acquire()
        with AgentLock(str(tmp_path / "two"), "g", tmp_path / "run"):
            pass


def test_a_state_path_that_is_no_directory_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="state_path"):
        AgentLock(str(tmp_path / "file"), "h", tmp_path / "run").acquire()


def test_a_lock_file_that_was_removed_under_us_does_not_let_two_in(tmp_path: Path) -> None:
    with AgentLock(str(tmp_path / "one"), "h", tmp_path / "run"):
        next((tmp_path / "run").iterdir()).unlink()
        with pytest.raises(LockedError, match="state_path"):
            AgentLock(str(tmp_path / "one"), "h", tmp_path / "run").acquire()
