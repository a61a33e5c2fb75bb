"""Processes are named for people: with their command line, and with the process that has started them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dvr_agent.kernel.iptables.lock import holder
from dvr_agent.kernel.port_owner import owner_of
from dvr_agent.kernel.process_name import command_of


def test_the_author_of_a_change_is_named_with_its_parent() -> None:
    command = "sleep 600 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            text = owner_of(child).text
        finally:
            subprocess.run(["kill", str(child)], check=True)
    assert text.endswith(f"(process {child}), started by sh (process {parent.pid}: sh -c {command})")


def test_the_holder_of_a_lock_is_named_though_the_process_that_took_it_has_ended(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = f"exec 9>{lock}; flock 9; sleep 600 & echo $!; wait"
    with subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        child = shell.stdout.readline().strip()
        try:
            text = holder(str(lock))
        finally:
            subprocess.run(["kill", child], check=True)
    assert text.startswith(f"bash (process {shell.pid}: bash -c exec 9>{lock}; flock 9"[:90])


def test_a_command_line_has_no_control_characters_and_an_end() -> None:
    with subprocess.Popen(["sh", "-c", "echo; read line", "\x1b[2J", "x" * 1000], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        text = command_of(process.pid)
        process.kill()
    assert "\x1b" not in text
    assert len(text) < 150


def test_a_free_lock_has_no_holder(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("w"):
        assert not holder(str(lock))
