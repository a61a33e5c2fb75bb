"""The log of the daemon: files, JSON, priorities in the journal, texts of users.

Only the kernel work is scripted (tests/support/fake_daemon.py).
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest

from tests.support import lab
from tests.support.daemon_lab import router_id
from tests.support.scripted_daemon import MakeDaemon
from tests.support.waiting import wait_for


def touch(file: Path) -> os.stat_result:
    """Make a file that the daemon will take for its journal."""
    file.touch()
    return file.stat()


@pytest.mark.root
@pytest.mark.parametrize("kind", ["link", "hard link", "directory"])
def test_log_file_that_another_user_could_have_redirected_is_refused(
    daemon: MakeDaemon, tmp_path: Path, kind: str
) -> None:
    logs, victim = tmp_path / "log", tmp_path / "etc" / "victim"
    logs.mkdir()
    victim.parent.mkdir()
    victim.write_text("root:secret")
    path = logs / "dvr-agent.log"
    if kind == "hard link":
        os.link(victim, path)
    elif kind == "link":
        path.symlink_to(victim)
    else:
        (logs / "deeper").symlink_to(victim.parent)
        path = logs / "deeper" / "victim"
    os.chown(logs, 64055, 64055)
    one = daemon(DEFAULT={"log_file": path}).start(ready=False)
    assert one.process is not None
    assert one.process.wait(20) == os.EX_CONFIG
    assert str(path) in one.err
    assert "link" in one.err
    assert victim.read_text() == "root:secret"


@pytest.mark.root
def test_a_log_file_becomes_a_link_when_it_is_rotated_and_nothing_is_written_through_it(
    daemon: MakeDaemon, tmp_path: Path
) -> None:
    logs, victim = tmp_path / "log", tmp_path / "victim"
    logs.mkdir()
    os.chown(logs, 64055, 64055)
    victim.write_text("root:secret")
    path = logs / "dvr-agent.log"
    one = daemon(DEFAULT={"log_file": path}).start()
    assert "ready" in path.read_text()
    path.rename(logs / "old")
    path.symlink_to(victim)
    one.write(1)
    one.wait_state(1, "in sync")
    assert victim.read_text() == "root:secret"
    assert router_id(1) in one.err
    path.unlink()
    one.write(2)
    one.wait_state(2, "in sync")
    assert router_id(2) in path.read_text()


def test_log_file_on_a_read_only_disk_does_not_stop_the_start(daemon: MakeDaemon, tmp_path: Path) -> None:
    logs = tmp_path / "log"
    logs.mkdir()
    path = logs / "dvr-agent.log"
    lab.run("mount", "-t", "tmpfs", "-o", "ro", "none", logs)
    try:
        one = daemon(DEFAULT={"log_file": path}).start()
        assert "ready" in one.err
        lab.run("mount", "-o", "remount,rw", logs)
        one.write(1)
        one.wait_state(1, "in sync")
        assert router_id(1) in path.read_text()
        one.stop()
    finally:
        lab.run("umount", "-l", logs)


def test_the_log_can_go_to_a_link_of_root(daemon: MakeDaemon) -> None:
    one = daemon(DEFAULT={"log_file": "/dev/stdout", "use_stderr": False}).start()
    one.stop()
    assert "ready" in one.out


@pytest.mark.parametrize("to", ["stdout", "stderr", "file"])
def test_with_use_json_every_line_is_json_and_carries_router_and_request_id(daemon: MakeDaemon, to: str) -> None:
    one = daemon(DEFAULT={"use_json": True, "debug": True, "use_stderr": to == "stderr"})
    if to == "file":
        one.configure(DEFAULT={"log_file": one.base / "log"})
    one.write(1, "crash=1")
    one.write(2, '100 % "quoted" {braces} é \u2028 end')
    one.write(3, distributed=False, ha=True)
    (one.routers / os.fsdecode(b"bad\xff\x1b.json")).write_text("{")
    one.start()
    one.wait_state(1, "in sync")
    one.stop()
    files = {"stdout": one.out, "stderr": one.err, "file": (one.base / "log").read_text() if to == "file" else ""}
    lines = [json.loads(line) for line in files.pop(to).splitlines()]
    assert [text for text in files.values() if text] == []
    added = [line for line in lines if router_id(2) in line["message"] and "added" in line["message"]]
    assert added[0]["context"]["router_id"] == router_id(2)
    assert added[0]["context"]["request_id"].startswith("req-")
    crashed = [line for line in lines if line["traceback"]]
    assert "ZeroDivisionError: scripted" in crashed[0]["traceback"]
    assert not any("eventlet" in line["message"].lower() and "deprecated" in line["message"] for line in lines)


def test_lines_of_the_first_job_have_the_request_id_and_nothing_else_in_brackets(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1)
    one.start()
    one.wait_state(1, "in sync")
    assert re.search(rf" \[req-[0-9a-f-]+\] router {router_id(1)}: added: ", one.out), one.out


def test_no_library_prints_anything(daemon: MakeDaemon) -> None:
    one = daemon().start()
    one.stop()
    assert one.err == ""
    assert "deprecat" not in one.out.lower()
    assert all(" INFO dvr_agent." in line for line in one.out.splitlines())


def test_a_router_name_cannot_forge_log_lines(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1, "innocent\n2026-01-01 00:00:00.000 1 CRITICAL forged\x1b[2J" + "x" * 500)
    one.start()
    assert "innocent\\n2026" in one.out
    assert "\n2026-01-01 00:00:00.000 1 CRITICAL" not in one.out
    assert "\x1b" not in one.out
    assert "x" * 100 not in one.out


def test_lines_have_their_priority_where_the_journal_reads_them(daemon: MakeDaemon) -> None:
    one = daemon()
    stream = touch(one.base / "out")
    (one.routers / "bad.json").write_text("{")
    one.start(JOURNAL_STREAM=f"{stream.st_dev}:{stream.st_ino}")
    wait_for(lambda: "bad document" in one.out)
    marks = {"INFO": "<6>", "WARNING": "<4>", "ERROR": "<3>", "DEBUG": "<7>"}
    for line in one.out.splitlines():
        level = next(word for word in line.split() if word in marks)
        assert line.startswith(marks[level])
    assert any(line.startswith("<3>") for line in one.out.splitlines())
    assert one.stop() == 0


def test_each_line_of_a_message_has_the_priority(daemon: MakeDaemon) -> None:
    one = daemon()
    stream = touch(one.base / "out")
    one.write(1, "crash=1")
    one.start(ready=False, JOURNAL_STREAM=f"{stream.st_dev}:{stream.st_ino}")
    wait_for(lambda: "Traceback" in one.out and one.out.endswith("\n"))
    traceback = one.out.partition("Traceback")[2].splitlines()
    assert len(traceback) > 3
    assert all(line.startswith("<") for line in one.out.splitlines())


def test_priorities_are_written_for_the_journal_only(daemon: MakeDaemon) -> None:
    one = daemon().start(JOURNAL_STREAM="1:2")
    assert "<6>" not in one.out


def test_a_configuration_error_has_its_priority_too(daemon: MakeDaemon) -> None:
    one = daemon(dvr_agent={"audit_interval": "often"})
    stream = touch(one.base / "err")
    one.start(ready=False, JOURNAL_STREAM=f"{stream.st_dev}:{stream.st_ino}")
    assert one.process is not None
    assert one.process.wait(20) == os.EX_CONFIG
    assert one.err.startswith("<3>dvr-agent: ")


def test_the_journal_without_its_module_is_a_clear_error(daemon: MakeDaemon) -> None:
    if importlib.util.find_spec("systemd") is not None:
        pytest.skip("systemd-python is installed")
    one = daemon(DEFAULT={"use_journal": True}).start(ready=False)
    assert one.process is not None
    assert one.process.wait(20) == os.EX_CONFIG
    assert f"{one.config}: [DEFAULT] use_journal = true: needs dvr-agent[journal]" in one.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("log_file", "/proc/nowhere/log"),
        ("log_dir", "/proc/nowhere"),
        ("log_config_append", "/nowhere.conf"),
        ("default_log_levels", "dvr_agent=LOUD"),
    ],
)
def test_a_log_that_cannot_be_written_is_a_configuration_error(daemon: MakeDaemon, option: str, value: str) -> None:
    one = daemon(DEFAULT={option: value}).start(ready=False)
    assert one.process is not None
    assert one.process.wait(20) == os.EX_CONFIG
    assert f"{one.config}: [DEFAULT] {option} = " in one.err
    assert "Traceback" not in one.err
