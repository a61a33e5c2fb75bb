"""The promises: each has a name of its own and tests that exist, and the page says what the rows say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.reliability import __main__ as program
from bench.reliability import figures, runner, specimens
from bench.reliability.api import Figure, Options
from bench.reliability.rows import promises
from tools import reliability_page

ROOT = Path(__file__).parents[2]


def test_page_is_generated_from_the_rows() -> None:
    text = reliability_page.PAGE.read_text()
    assert reliability_page.generate(text) == text, "stale: tools/reliability_page.py"


def test_names_are_unique_and_every_test_exists() -> None:
    known = promises()
    assert len({one.name for one in known}) == len(known)
    assert all(one.name.isascii() and " " not in one.name for one in known)
    assert all(one.tests for one in known)
    assert reliability_page.missing_tests(known) == []


def test_a_test_that_is_missing_is_told() -> None:
    assert len(reliability_page.missing_tests(specimens.promises())) == len(specimens.promises())


def test_a_program_that_fails_hangs_or_dies_is_not_kept_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "promises", specimens.promises)
    monkeypatch.setattr(runner, "ROWS", specimens.__name__)
    assert program.main(["--quick", "broken", "failing", "dying", "kept"]) == 1
    printed = capsys.readouterr().out
    assert "broken is NOT kept: 1 of 3 pings lost\n  the second one" in printed
    assert "failing is NOT kept: no figure: RuntimeError: no such bridge" in printed
    assert "dying is NOT kept: no figure: its process ended with 9" in printed
    assert "kept is NOT" not in printed
    assert "4 promises, 1 kept, 3 not kept" in printed
    hanging = next(one for one in specimens.promises() if one.name == "hanging")
    assert runner.measure(hanging, Options(), 1) == Figure("no figure: not done after 1 s", False)


def test_promises_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(program, "promises", specimens.promises)
    monkeypatch.setattr(runner, "ROWS", specimens.__name__)
    assert program.main(["kept"]) == 0
    assert "long, alone: True" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        program.main(["nothing of the kind"])


def test_figures_are_kept_until_they_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FILE", tmp_path / "figures.json")
    figures.record({"one": Figure("1", True), "two": Figure("2", True)}, {"one", "two"})
    figures.record({"two": Figure("3", False)}, {"one", "two"})
    assert {name: (row["text"], row["kept"]) for name, row in figures.load().items()} == {
        "one": ("1", "yes"),
        "two": ("3", "NO"),
    }
    figures.record({}, {"two"})
    assert list(figures.load()) == ["two"]


def test_the_front_door_lists_names() -> None:
    words = [sys.executable, "-m", "bench.reliability", "--list"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == [f"{one.name:24} {one.text}" for one in promises()] or not promises()
