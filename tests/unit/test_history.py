"""The history of changes: ring, file, and the thread that writes it."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.history import file, writer
from dvr_agent.history.file import history_path, last_number, load, open_to_append, read, shrink
from dvr_agent.history.ring import Kept, Ring, pack
from dvr_agent.history.writer import HistoryWriter
from tests.support.waiting import wait_for

ONE, TWO = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


def entry(seq: int, router: str | None = ONE, text: str = "route") -> dict[str, Any]:
    return {"seq": seq, "time": float(seq), "router": router, "name": "r", "job": "update", "text": text}


def numbers(entries: list[Kept]) -> list[int]:
    return [one.seq for one in entries]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return history_path(tmp_path, "compute1")


def written(path: Path) -> list[int]:
    return [one["seq"] for _line, one in read(path)] if path.exists() else []


def start(path: Path, per_router: int = 100, limit: int = 1 << 20) -> HistoryWriter:
    one = HistoryWriter(path, per_router, limit)
    one.start()
    return one


def test_a_ring_keeps_the_newest_entries_of_each_router() -> None:
    ring = Ring(per_router=3, limit=1 << 20)
    ring.add(pack(entry(1, TWO)))
    for seq in range(2, 50):
        ring.add(pack(entry(seq)))
    assert numbers(ring.select(ONE)) == [47, 48, 49]
    assert numbers(ring.select(TWO)) == [1], "a router that changes often takes nothing from others"
    assert numbers(ring.select()) == [1, 47, 48, 49]


@given(st.lists(st.tuples(st.sampled_from([ONE, TWO, None]), st.integers(0, 3000))), st.integers(2000, 20000))
def test_a_ring_never_takes_more_than_its_bytes_and_always_has_the_newest(
    made: list[tuple[str | None, int]], limit: int
) -> None:
    ring = Ring(per_router=5, limit=limit)
    for seq, (router, size) in enumerate(made, 1):
        one = pack(entry(seq, router, "x" * size))
        ring.add(one)
        assert ring.size <= max(limit, one.size)
        assert sum(kept.size for kept in ring.select(limit=1000)) == ring.size
        if one.size <= limit * 0.9:
            assert numbers(ring.select())[-1] == seq


def test_entries_are_found_by_router_time_and_number() -> None:
    ring = Ring(10, 1 << 20)
    for seq in range(1, 9):
        ring.add(pack(entry(seq, ONE if seq % 2 else TWO)))
    assert numbers(ring.select(limit=2)) == [7, 8], "the newest without a number"
    assert numbers(ring.select(after=3, limit=2)) == [4, 5], "the next ones behind a number"
    assert numbers(ring.select(ONE, since=4.0)) == [5, 7]
    assert numbers(ring.select(TWO, after=2)) == [4, 6, 8]
    assert ring.select("nobody") == []
    assert json.loads(ring.select(limit=1)[0].text)["job"] == "update"


def test_entries_of_an_earlier_run_come_before_those_that_are_there() -> None:
    ring = Ring(3, 1 << 20, last=4)
    ring.add(pack(entry(5)))
    ring.put_before([pack(entry(seq, ONE if seq < 4 else TWO)) for seq in range(1, 5)])
    assert numbers(ring.select()) == [2, 3, 4, 5]
    assert numbers(ring.select(ONE)) == [2, 3, 5]


def test_changes_survive_a_restart_in_a_file_that_only_its_owner_may_read(path: Path) -> None:
    first = start(path)
    for _ in range(3):
        first.add({"time": 1.0, "router": ONE, "name": "é\u2028"})
    wait_for(lambda: written(path) == [1, 2, 3])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = start(path)
    second.add({"time": 2.0, "router": ONE, "name": ""})
    wait_for(lambda: written(path) == [1, 2, 3, 4])
    wait_for(lambda: numbers(second.ring.select()) == [1, 2, 3, 4])
    assert json.loads(second.ring.select()[0].text)["name"] == "é\u2028"


def test_half_a_line_of_a_killed_process_is_skipped_and_spoils_no_other(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(entry(1)) + "\n" + json.dumps(entry(2))[:20])
    assert (written(path), last_number(path)) == ([1], 1)
    one = start(path)
    one.add({"time": 2.0, "router": TWO})
    wait_for(lambda: written(path) == [1, 2])


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"seq": "1", "time": 1, "router": null}',
        b'{"seq": 1, "time": 1, "router": 5}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_lines_that_are_no_entries_are_skipped(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(line + b"\n" + json.dumps(entry(7)).encode() + b"\n")
    assert written(path) == [7]
    assert numbers(load(path, 1 << 20)) == [7]


def test_a_link_in_place_of_the_file_is_replaced_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("secret\n")
    path.parent.mkdir(parents=True)
    path.symlink_to(victim)
    one = start(path)
    one.add({"time": 1.0, "router": ONE})
    wait_for(lambda: not path.is_symlink() and written(path) == [1])
    assert victim.read_text() == "secret\n"


def test_a_full_file_keeps_the_newest_of_each_router(path: Path) -> None:
    path.parent.mkdir(parents=True)
    lines = [json.dumps(entry(1, TWO))] + [json.dumps(entry(seq)) for seq in range(2, 100)]
    path.write_text("".join(f"{line}\n" for line in lines))
    shrink(path, per_router=5, limit=1 << 20)
    assert written(path) == [1, 95, 96, 97, 98, 99]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shrink(path, per_router=5, limit=600)
    assert written(path) == [98, 99], "half of the size at most"


def test_the_file_never_grows_beyond_its_size(path: Path) -> None:
    one = start(path, per_router=1000, limit=64 * 1024)
    for number in range(2000):
        one.add({"time": float(number), "router": ONE, "text": "x" * 200})
        if number % 100 == 0:
            wait_for(lambda number=number: written(path)[-1:] == [number + 1])
        assert not path.exists() or path.stat().st_size <= 64 * 1024 + 250 * 100
    wait_for(lambda: written(path)[-1] == 2000)
    assert path.stat().st_size <= 64 * 1024 + 250 * 100


def test_a_disk_that_cannot_be_written_is_told_once_and_changes_are_written_when_it_can(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(writer, "LAST_PAUSE", 0.02)
    caplog.set_level(logging.INFO)
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("in the way")
    one = start(path)
    one.add({"time": 1.0, "router": ONE})
    wait_for(lambda: one.trouble)
    one.add({"time": 2.0, "router": ONE})
    wait_for(lambda: one._failures > 3)
    assert numbers(one.ring.select()) == [1, 2]
    path.parent.unlink()
    wait_for(lambda: written(path) == [1, 2] and not one.trouble)
    told = [message for message in caplog.messages if "history" in message]
    assert len([message for message in told if "cannot be" in message]) <= 2, told
    assert [message for message in told if message.startswith("recovered: ")] == [
        f"recovered: the history of changes is written to {path}"
    ]


def test_changes_that_are_too_many_for_a_broken_disk_are_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "WAITING", 5)
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(writer, "LAST_PAUSE", 0.02)
    caplog.set_level(logging.INFO)
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("in the way")
    one = start(path)
    for number in range(1, 21):
        one.add({"time": float(number), "router": ONE})
    wait_for(lambda: one._failures > 3)
    assert len(one._waiting) <= 5
    path.parent.unlink()
    wait_for(lambda: not one.trouble and written(path)[-1:] == [20])
    lost = 20 - len(written(path))
    assert lost >= 15
    assert [message for message in caplog.messages if "it lacks " in message]
    assert numbers(one.ring.select()) == list(range(1, 21)), "they are all in memory"


def test_a_file_that_was_removed_is_made_again(path: Path) -> None:
    one = start(path)
    one.add({"time": 1.0, "router": ONE})
    wait_for(lambda: written(path) == [1])
    path.unlink()
    one.add({"time": 2.0, "router": ONE})
    wait_for(lambda: written(path) == [2])


def test_without_entries_there_is_no_file(path: Path) -> None:
    one = start(path, per_router=0)
    one.add({"time": 1.0, "router": ONE})
    assert (one.ring.select(), path.exists()) == ([], False)


def test_a_file_of_another_kind_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        open_to_append(path)
    assert file.NAME in str(path)
