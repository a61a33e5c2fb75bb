"""A program that is missing skips a test, but fails it in CI."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.outcomes import Failed, Skipped

from tests.support.requirements import require


@pytest.mark.parametrize(("ci", "outcome"), [("", Skipped), ("true", Failed)])
@pytest.mark.parametrize("program", ["no-such-program", Path("/nowhere/program")])
def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException], program: str | Path
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match=rf"{program} is missing \(Debian package such\)"):
        require(program, "such")


def test_a_program_that_is_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    require("sh", "dash")
    require(Path("/bin/sh"), "dash")
