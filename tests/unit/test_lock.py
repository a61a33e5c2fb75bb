"""One agent per state directory and per host."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dvr_agent.errors import ConfigError, LockedError
from dvr_agent.lock import PROCESS_FILE, AgentLock
from tests.support.lab import Host

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
        pids = {path.read_text() for path in (tmp_path / "run").iterdir()}
    assert pids == {f"{os.getpid()}\n"}


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
    for number in range(3):
        run = tmp_path / f"run{number}"
        with AgentLock(str(tmp_path / "one"), "h", run):
            sorted(run.iterdir())[number].unlink()
            with pytest.raises(LockedError, match="state_path"):
                AgentLock(str(tmp_path / "one"), "h", run).acquire()


@pytest.mark.parametrize("name", ["same", "link", "link/", "one/../one", "./one", "bound"])
def test_one_directory_by_two_paths_is_one_state_path(tmp_path: Path, name: str, host: Host) -> None:
    one, other = tmp_path / "one", tmp_path / name.replace("same", "one")
    one.mkdir()
    (tmp_path / "link").symlink_to("one")
    (tmp_path / "bound").mkdir()
    subprocess.run(["mount", "--bind", one, tmp_path / "bound"], check=True)
    with AgentLock(str(one), "g", tmp_path / "run"), pytest.raises(LockedError, match="state_path"):
        AgentLock(f"{tmp_path}/{name}" if other != one else str(one), "h", tmp_path / "run").acquire()


@pytest.mark.root
def test_no_other_user_can_hold_a_lock(tmp_path: Path) -> None:
    """Whoever can open a file can flock(2) it."""
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
    state, run = tmp_path / "state", tmp_path / "run"
    run.mkdir(mode=0o755)
    state.mkdir()
    with AgentLock(str(state), "h", run):
        files = list(run.rglob("*"))
        assert (state / PROCESS_FILE).read_text() == f"{os.getpid()}\n"
    assert len(files) == 3
    for path in files:
        words = ["flock", "-n", str(path), "true"]
        done = subprocess.run(words, user=64055, group=64055, extra_groups=[], capture_output=True, check=False)
        assert b"cannot open" in done.stderr
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.parametrize("kind", ["held", "link", "directory"])
def test_the_file_with_the_process_id_locks_nobody_out(tmp_path: Path, kind: str) -> None:
    note, secret = tmp_path / "state" / PROCESS_FILE, tmp_path / "secret"
    note.parent.mkdir()
    secret.write_text("secret")
    if kind == "directory":
        note.mkdir()
    elif kind == "link":
        note.symlink_to(secret)
    else:
        note.touch()
    held = os.open(note, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with AgentLock(str(tmp_path / "state"), "h", tmp_path / "run"):
            assert secret.read_text() == "secret"
    finally:
        os.close(held)


def test_the_directory_of_locks_is_made_for_root_alone(tmp_path: Path) -> None:
    with AgentLock(str(tmp_path / "state"), "h", tmp_path / "run"):
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


def test_a_lock_file_with_another_mode_is_made_private(tmp_path: Path) -> None:
    with AgentLock(str(tmp_path / "state"), "h", tmp_path / "run"):
        files = list((tmp_path / "run").iterdir())
    for path in files:
        path.chmod(0o666)
    with AgentLock(str(tmp_path / "state"), "h", tmp_path / "run"):
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_link_in_a_lock_files_place_is_neither_followed_nor_quoted(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("root:secret")
    for make in (os.link, os.symlink):
        run = tmp_path / make.__name__
        with AgentLock(str(tmp_path / "state"), "h", run):
            paths = list(run.iterdir())
        for path in paths:
            path.unlink()
            make(victim, path)
        with pytest.raises(ConfigError) as caught:
            AgentLock(str(tmp_path / "state"), "h", run).acquire()
        assert "secret" not in str(caught.value)
        assert victim.read_text() == "root:secret"


def test_a_state_path_that_cannot_be_made_is_no_reason_not_to_start(tmp_path: Path, host: Host) -> None:
    readonly = tmp_path / "readonly"
    readonly.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", readonly], check=True)
    state = str(readonly / "var" / "neutron")
    with AgentLock(state, "h", tmp_path / "run"), pytest.raises(LockedError, match="state_path"):
        AgentLock(state, "g", tmp_path / "run").acquire()
