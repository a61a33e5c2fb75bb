"""Watched helpers, on ones that misbehave as no real program does on demand: each is a few lines of Python."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError
from dvr_agent.services import children, launch, processes, scope
from dvr_agent.services.children import Children
from dvr_agent.services.launch import CONFIG, Program
from tests.support import lab
from tests.support.waiting import wait_for

KEY = "one"
PATIENCE = 30.0
DAEMON = """
import os, signal, sys, time
pid_file = sys.argv[1]
{first}
if os.fork():
    while not os.path.exists(pid_file):
        time.sleep(0.001)
    os._exit(0)
with open(pid_file + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(pid_file + ".new", pid_file)
{late}
signal.signal(signal.SIGHUP, lambda *_: open(pid_file + ".read", "a").write("x"))
{last}
while True:
    signal.pause()
"""
"""Becomes a daemon as radvd does: its starter waits for the process id file."""


class Rig:
    """Helpers that are run as ``helper <configuration file> <process id file>``; the configuration is the program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children = Children("helper", "respawn")
        for name in ("here", "there"):
            lab.run("ip", "netns", "add", name)

    def program(
        self, namespace: str = "here", first: str = "", late: str = "", last: str = "", name: str = KEY
    ) -> Program:
        config, pid_file = self.folder / f"{name}.py", self.folder / f"{name}.pid"
        config.write_text(DAEMON.format(first=first, late=late, last=last))
        check = ("helper", "-c", "-C", CONFIG, "-m", "stderr")
        return Program("helper", ("helper", "-S", "-E", str(config), str(pid_file)), config, pid_file, namespace, check)

    def start_by_hand(self, program: Program) -> None:
        """As another agent does."""
        words = ["ip", "netns", "exec", program.namespace, *program.words]
        nothing = subprocess.DEVNULL
        subprocess.run(words, stdin=nothing, stdout=nothing, stderr=nothing, timeout=PATIENCE, check=True)

    def running(self) -> list[int]:
        return sorted(pid for pid, words in processes.running("helper") if any(str(self.folder) in w for w in words))

    def restart(self) -> None:
        self.children.close()
        self.children = Children("helper", "respawn")

    def told(self) -> dict[str, str]:
        assert select.select([self.children.fileno()], [], [], PATIENCE)[0], "nobody told"
        return self.children.changed()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "helper").symlink_to(Path(sys.executable).resolve())
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with lab.fresh_host():
        made = Rig(tmp_path)
        try:
            yield made
        finally:
            made.children.close()
            for pid in made.running():
                os.kill(pid, signal.SIGKILL)


def pid_of(program: Program) -> int:
    return int(program.pid_file.read_text())


def test_a_helper_starts_in_its_namespace_as_its_own_session_with_nothing_of_ours(rig: Rig) -> None:
    program = rig.program()
    assert not rig.children.find(KEY, program)
    with (rig.folder / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        rig.children.start(KEY, program)
    pid = pid_of(program)
    assert rig.children.find(KEY, program)
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/run/netns/here").st_ino
    assert os.stat("/proc/thread-self/ns/net").st_ino != os.stat("/run/netns/here").st_ino
    assert os.getsid(pid) != os.getsid(0)
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")} == {"/dev/null"}
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    ignored = int(next(line for line in status if line.startswith("SigIgn")).split()[1], 16)
    assert not ignored & 1 << (signal.SIGHUP - 1)


def test_our_child_that_let_the_daemon_go_is_waited_for(rig: Rig) -> None:
    before = zombies()
    rig.children.start(KEY, rig.program())
    assert zombies() == before


def zombies() -> set[int]:
    """Children of this process that have ended and were not waited for."""
    ours = {int(pid) for path in Path("/proc/self/task").iterdir() for pid in (path / "children").read_text().split()}
    return {pid for pid in ours if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"}


def test_it_is_told_to_read_anew_only_once_that_does_not_end_it(rig: Rig) -> None:
    """radvd's process id file is there some milliseconds before it catches SIGHUP."""
    program = rig.program(late="time.sleep(0.3)")
    rig.children.start(KEY, program)
    rig.children.reload(KEY)
    wait_for(Path(f"{program.pid_file}.read").exists)
    assert rig.running() == [pid_of(program)]


def test_one_that_another_agent_has_only_just_started_is_told_when_it_is_ready(rig: Rig) -> None:
    program = rig.program(late="time.sleep(0.3)")
    rig.start_by_hand(program)
    assert rig.children.find(KEY, program)
    rig.children.reload(KEY)
    wait_for(Path(f"{program.pid_file}.read").exists)
    assert rig.running() == [pid_of(program)]


def test_one_that_never_is_ready(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "START_SECONDS", 0.5)
    program = rig.program(late="while True: time.sleep(1)")
    with pytest.raises(ServiceError, match="is not ready"):
        rig.children.start(KEY, program)
    rig.children.end(KEY, program)
    assert rig.running() == []


def test_one_that_refuses_to_start_tells_why(rig: Rig) -> None:
    with pytest.raises(ServiceError, match=r"helper refuses to start \(exit code 7\)"):
        rig.children.start(KEY, rig.program(first="sys.exit(7)"))
    assert KEY not in rig.children


def test_one_that_dies_on_the_way_is_tried_again_later_and_later(rig: Rig) -> None:
    program = rig.program(late="os.abort()")
    for _ in range(2):
        with pytest.raises(ServiceError, match=r"has ended|ended right after its start"):
            rig.children.start(KEY, program)
    assert rig.running() == []


def test_one_that_does_not_become_a_daemon_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "START_SECONDS", 0.3)
    with pytest.raises(ServiceError, match="did not become a daemon"):
        rig.children.start(KEY, rig.program(first="time.sleep(600)"))
    assert rig.running() == []


def test_one_that_came_to_life_after_it_was_given_up_ends_before_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rig.children.processes.arguments == []
    """Its starter hangs, and its process id file is gone."""
    monkeypatch.setattr(launch, "START_SECONDS", 1.0)
    program = rig.program(late="os.unlink(pid_file)")
    program.config.write_text(program.config.read_text().replace("os._exit(0)", "time.sleep(600)"))
    with pytest.raises(ServiceError, match="did not become a daemon"):
        rig.children.start(KEY, program)
    assert len(rig.running()) == 1
    program = rig.program()
    rig.children.start(KEY, program)
    assert rig.running() == [pid_of(program)]


def test_a_stubborn_one_is_ended_by_force(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "TERM_SECONDS", 0.2)
    program = rig.program(last="signal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen(pid_file + '.deaf', 'w')")
    rig.children.start(KEY, program)
    wait_for(Path(f"{program.pid_file}.deaf").exists)
    rig.children.end(KEY, program)
    assert rig.running() == []
    assert not program.pid_file.exists()


def test_its_own_helper_ends_with_it(rig: Rig) -> None:
    program = rig.program(last="os.fork()\nopen(pid_file + '.two', 'w')")
    rig.children.start(KEY, program)
    wait_for(Path(f"{program.pid_file}.two").exists)
    assert len(rig.running()) == 2
    rig.children.processes.scan()
    assert not rig.children.has_stale(KEY, program)
    rig.children.end(KEY, program)
    assert rig.running() == []


def test_without_its_namespace_nothing_starts(rig: Rig) -> None:
    with pytest.raises(ServiceError, match="nowhere"):
        rig.children.start(KEY, rig.program("nowhere"))
    assert rig.running() == []


def test_one_in_another_namespace_is_not_it_and_ends_when_the_right_one_starts(rig: Rig) -> None:
    wrong = rig.program("there")
    rig.start_by_hand(wrong)
    old = pid_of(wrong)
    program = rig.program("here")
    assert not rig.children.find(KEY, program)
    assert rig.running() == [old]
    rig.children.start(KEY, program)
    assert rig.running() == [pid_of(program)]
    assert pid_of(program) != old


def test_a_stray_is_found_by_a_look_and_ended_and_the_right_one_stays(rig: Rig) -> None:
    program = rig.program()
    rig.children.start(KEY, program)
    pid = pid_of(program)
    program.pid_file.rename(f"{program.pid_file}.kept")
    rig.start_by_hand(program)
    Path(f"{program.pid_file}.kept").replace(program.pid_file)
    assert len(rig.running()) == 2
    rig.children.processes.scan()
    assert str(program.config) in rig.children.processes.arguments
    assert rig.children.has_stale(KEY, program)
    rig.children.end_stale(KEY, program)
    assert rig.running() == [pid]
    assert not rig.children.has_stale(KEY, program)
    assert rig.children.changed() == {}


def test_a_new_agent_ends_a_stray_beside_the_one_it_adopts(rig: Rig) -> None:
    program = rig.program()
    for _ in range(2):
        program.pid_file.unlink(missing_ok=True)
        rig.start_by_hand(program)
    assert len(rig.running()) == 2
    assert rig.children.find(KEY, program)
    rig.children.end_stale(KEY, program)
    assert rig.running() == [pid_of(program)]


def test_a_number_that_another_process_has_by_now_is_left_alone(rig: Rig) -> None:
    """The other one is of the same program, of another router."""
    other = rig.program(name="other")
    rig.children.start("other", other)
    program = rig.program()
    program.pid_file.write_text(str(pid_of(other)))
    assert not rig.children.find(KEY, program)
    rig.children.start(KEY, program)
    assert rig.running() == sorted([pid_of(other), pid_of(program)])
    rig.children.end(KEY, program)
    assert rig.running() == [pid_of(other)]


def test_a_death_that_is_seen_first_by_the_start_is_told_all_the_same(rig: Rig) -> None:
    program = rig.program()
    rig.children.start(KEY, program)
    pid = pid_of(program)
    os.kill(pid, signal.SIGKILL)
    assert select.select([rig.children.fileno()], [], [], PATIENCE)[0]
    assert not rig.children.find(KEY, program)
    rig.children.start(KEY, program)
    assert rig.told() == {KEY: f"helper (process {pid}) has died"}
    assert rig.children.changed() == {}


def test_waits_grow_with_each_death_and_end_once_it_has_lived(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    program = rig.program()
    for times in (1, 2, 3):
        rig.children.start(KEY, program)
        os.kill(pid_of(program), signal.SIGKILL)
        waited = time.monotonic()
        while KEY not in rig.told():
            with pytest.raises(ServiceError, match=f"died {times} times in a row"):
                rig.children.start(KEY, program)
            assert list(rig.children.waiting) == [KEY]
        if times > 1:
            assert time.monotonic() - waited >= 0.8 * children.FIRST_WAIT * 2 ** (times - 2)
    monkeypatch.setattr(children, "STABLE_SECONDS", 0.0)
    rig.children.start(KEY, program)
    os.kill(pid_of(program), signal.SIGKILL)
    assert KEY in rig.told(), "at once, though it died three times before"
    rig.children.forget(KEY)
    assert list(rig.children.waiting) == []


def test_nothing_stays_open(rig: Rig) -> None:
    rig.children.close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        rig.children = Children("helper", "respawn")
        program = rig.program()
        if not rig.children.find(KEY, program):
            rig.children.start(KEY, program)
        rig.children.processes.scan()
        rig.children.has_stale(KEY, program)
        rig.children.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert rig.running() == [pid_of(program)]
    rig.children = Children("helper", "respawn")


# -- control groups


@pytest.fixture
def managed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As where systemd runs; systemd-run notes its arguments and then does what it should, or what a test says."""
    monkeypatch.setattr(scope, "_is_managed", lambda: True)
    runner = rig.folder / "bin" / "systemd-run"
    runner.write_text(
        f'#!/bin/bash\necho "$@" >>{rig.folder}/asked\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    )
    runner.chmod(0o755)
    return rig.folder / "asked"


def test_where_systemd_runs_each_helper_gets_a_scope_of_its_own(rig: Rig, managed: Path) -> None:
    for name in ("one", "two"):
        program = rig.program(name=name)
        rig.children.start(name, program)
        assert rig.children.find(name, program)
    asked = managed.read_text().splitlines()
    units = {word for line in asked for word in line.split() if word.startswith("--unit=")}
    assert len(asked) == len(units) == 2
    assert all("--scope" in line and "--slice=system-helper.slice" in line for line in asked)
    assert all(unit.startswith("--unit=helper-here-") for unit in units)


def test_a_helper_is_started_without_a_scope_where_systemd_gives_none(rig: Rig, managed: Path) -> None:
    (rig.folder / "bin" / "systemd-run").write_text("#!/bin/sh\nexit 1\n")
    program = rig.program()
    rig.children.start(KEY, program)
    assert rig.children.find(KEY, program)


def test_no_scope_in_another_pid_namespace() -> None:
    """The suite runs in one: systemd, if there is one, would move other processes than those that are meant."""
    assert not scope._is_managed()


def test_a_helper_and_its_files_are_readable_whatever_the_umask(rig: Rig) -> None:
    before = os.umask(0o077)
    try:
        program = rig.program()
        rig.children.start(KEY, program)
        assert program.pid_file.stat().st_mode & 0o777 == 0o644
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
