"""The bench runs, prints its table, and compares equal work with equal work.  How fast anything is, is not asserted."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.same import differences
from bench.sandbox import MARKER

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != MARKER}
    words = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_every_method_makes_the_same_objects_and_the_table_says_so() -> None:
    done = bench("--routers", "2", "--rounds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line[:58].strip(): line[58:].split() for line in done.stdout.splitlines()}
    assert rows["same objects by all methods"] == ["yes"]
    assert rows["kernel writes of the resyncs"] == ["0"]
    # Of a no-op resync the milliseconds: its ratio is printed as 0.00 where the build was slow.
    for label in ("build: ours ÷ floor (aim ≤ 1.3)", "build: commands ÷ ours", "no-op resync per router",
                  "one FIP added", "one router removed", "resident memory, MB"):  # fmt: skip
        assert float(rows[label][0]) > 0, label
    assert float(rows["no-op resync ÷ build (aim ≤ 0.05)"][0]) >= 0


@pytest.mark.full
def test_the_host_that_has_the_snat_is_measured_too() -> None:
    done = bench("--routers", "2", "--rounds", "1", "--mode", "dvr_snat", "--commands-max", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agent_mode dvr_snat" in done.stdout


def test_profile_names_functions_instead_of_a_table() -> None:
    done = bench("--routers", "2", "--profile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "profile: build" in done.stdout
    assert "profile: no-op resync" in done.stdout


def test_a_missing_object_is_told() -> None:
    one = {"qrouter-x": {"route": ["a", "b"], "rule": ["c"]}, "host": {"link": ["tap"]}}
    other = copy.deepcopy(one)
    other["qrouter-x"]["route"].remove("b")
    del other["host"]
    assert differences(one, other) == ["host link: tap", "qrouter-x route: b"]
    assert differences(other, one) == ["host link: tap", "qrouter-x route: b"]
    assert differences(one, one) == []
