"""State files that are nonsense, huge, or no files at all: one line each, bounded work, and the agent goes on."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvr_agent import securefiles
from dvr_agent.desired.allocation import LinkLocalPair, parse_pairs, parse_priorities
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.errors import KernelError
from dvr_agent.reconcile.allocation_files import AllocationFiles
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.reconcile.statefile import PAIRS_FILE, PRIORITIES_FILE, StateFileError, read_entries
from tests.support.small_routers import HOST, fip, make_router

ROUTER = "a3d9771d-a5b3-4f1e-85d3-418205981830"
PAIR = LinkLocalPair.parse("169.254.88.134/31")
PARSERS: dict[str, Callable[[str], tuple[dict[str, Any], list[str]]]] = {
    PAIRS_FILE: parse_pairs,
    PRIORITIES_FILE: parse_priorities,
}
USER = 64055


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    ("text", "number"),
    [(b"x,y\n" * 220_000, 220_000), (b"\x00\xff\xfe\x80" * 100 + b"\n\x1b[31m,\n", 2), (b"a" * 1_000_000, 1)],
)
def test_nonsense_is_one_line_with_a_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, text: bytes, number: int
) -> None:
    (tmp_path / name).write_bytes(text)
    assert read_entries(tmp_path / name, PARSERS[name]) == {}
    (line,) = lines(caplog)
    skipped = "1 malformed line was skipped" if number == 1 else f"{number} malformed lines were skipped"
    assert f"{name}: {skipped}" in line
    assert len(line) < 400
    assert line.isprintable()


@pytest.mark.root
def test_of_a_file_of_a_third_user_nothing_is_quoted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / PRIORITIES_FILE
    for user, quoted in ((0, True), (USER, False)):
        caplog.clear()
        path.write_text("root:$6$secret:19000\n")
        os.chown(path, user, user)
        read_entries(path, parse_priorities)
        assert ("secret" in caplog.text) is quoted


@pytest.mark.parametrize("make", [os.symlink, os.link])
@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.root
def test_a_linked_file_is_not_read_not_quoted_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: object, name: str
) -> None:
    victim, state = tmp_path / "shadow", tmp_path / "state"
    state.mkdir()
    os.chown(state, USER, USER)
    victim.write_text("root:$6$secret:19000\n")
    victim.chmod(0o600)
    make(victim, state / name)  # type: ignore[operator]
    allocations, files = Allocations(state), AllocationFiles(state)
    allocations.load({}, [], [])
    assert "secret" not in caplog.text
    assert len(lines(caplog)) == 1
    files.flush(allocations)
    found = (state / name).lstat()
    assert (found.st_uid, found.st_nlink, found.st_size) == (USER, 1, 0)
    assert victim.read_text() == "root:$6$secret:19000\n"
    assert victim.stat().st_uid == 0


def _directory(path: Path) -> None:
    path.mkdir()
    (path / "entry").touch()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("harm", [_directory, _fifo, _huge])
@pytest.mark.parametrize("name", PARSERS)
def test_what_is_no_state_file_keeps_nobody_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: object, name: str
) -> None:
    harm(tmp_path / name)  # type: ignore[operator]
    assert PAIR is not None
    allocations, files = Allocations(tmp_path), AllocationFiles(tmp_path)
    allocations.load({ROUTER: PAIR}, [], [])
    (line,) = lines(caplog)
    assert name in line
    allocations.adopt_priority("203.0.113.5", 40000)
    if harm is _directory:
        with pytest.raises(StateFileError, match=f"{name}: .*irectory"):
            files.flush(allocations)
        (tmp_path / name / "entry").unlink()
        (tmp_path / name).rmdir()
    files.flush(allocations)
    assert (tmp_path / PAIRS_FILE).read_text() == f"{ROUTER},{PAIR}\n"
    assert (tmp_path / PRIORITIES_FILE).read_text() == "203.0.113.5,40000\n"


def test_both_files_are_tried_and_both_are_named(tmp_path: Path) -> None:
    assert PAIR is not None
    for name in PARSERS:
        _directory(tmp_path / name)
    allocations, files = Allocations(tmp_path), AllocationFiles(tmp_path)
    allocations.load({ROUTER: PAIR}, [], [])
    with pytest.raises(StateFileError) as caught:
        files.flush(allocations)
    assert all(name in str(caught.value) for name in PARSERS)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_shortage_says_nothing_about_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Else the entries of routers that are not in the kernel would be forgotten."""
    (tmp_path / PAIRS_FILE).write_text(f"{ROUTER},{PAIR}\n")
    allocations = Allocations(tmp_path)
    with monkeypatch.context() as patch:

        def refuse(path: Path, limit: int) -> securefiles.Content:
            raise OSError(code, os.strerror(code))

        patch.setattr(securefiles, "read", refuse)
        with pytest.raises(StateFileError, match=os.strerror(code)):
            allocations.load({}, [], [])
    allocations.load({}, [], [])
    assert not allocations.dirty


@pytest.mark.root
def test_neutron_l3_agent_reads_and_writes_the_files_afterwards(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, USER, USER)
    assert PAIR is not None
    for _ in range(2):
        allocations, files = Allocations(state), AllocationFiles(state)
        allocations.load({ROUTER: PAIR}, [], [])
        allocations.adopt_priority("203.0.113.5", 40000)
        files.flush(allocations)
        for name in PARSERS:
            file, copy = state / name, state / "copy"
            script = f"cat {file} && echo x,y >> {file} && cp {file} {copy} && mv {copy} {file}"
            words = ["sh", "-c", script]
            subprocess.run(words, user=USER, group=USER, extra_groups=[], check=True)
    assert {path.name for path in state.iterdir()} == set(PARSERS)


def test_priorities_in_the_kernel_are_read_before_a_new_one_is_given_and_of_unknown_routers_only(
    tmp_path: Path,
) -> None:
    """A start reads no rules: a host with its state file, and nothing new, needs none of them."""
    router = replace(make_router("one", 1), floating_ips=(fip("203.0.113.51", "10.1.0.9"),))
    view = make_view(router, HostSettings(HOST, AgentMode.DVR))
    alone = Allocations(tmp_path)
    alone.load({}, [], [])
    ((_, wanted),) = alone.allocate(view).priorities
    read: list[str] = []

    def rules_of(router_id: str) -> list[int]:
        read.append(router_id)
        return [wanted]

    others = ["a" * 8, "b" * 8]
    allocations = Allocations(tmp_path)
    allocations.load({}, [], others, rules_of)
    assert not read
    allocations.note_floating_ips(others[0], [])
    assert allocations.allocate(view).priorities != (("203.0.113.51", wanted),)
    assert read == others[1:]
    read.clear()
    allocations.allocate(view)
    assert not read

    (tmp_path / PRIORITIES_FILE).write_text(f"203.0.113.51,{wanted}\n")
    allocations.load({}, [], others, rules_of)
    assert allocations.allocate(view).priorities == (("203.0.113.51", wanted),)
    assert not read


def test_a_namespace_that_cannot_be_read_keeps_its_priorities_reserved(tmp_path: Path) -> None:
    router = replace(make_router("one", 1), floating_ips=(fip("203.0.113.51", "10.1.0.9"),))
    view = make_view(router, HostSettings(HOST, AgentMode.DVR))
    allocations = Allocations(tmp_path)
    errors = [KernelError("qrouter-a", "rules", errno.EMFILE)]

    def rules_of(router_id: str) -> list[int]:
        if errors:
            raise errors.pop()
        return [40000]

    allocations.load({}, [], ["a" * 8], rules_of)
    with pytest.raises(KernelError):
        allocations.allocate(view)
    assert allocations.allocate(view).priorities
    assert not errors
