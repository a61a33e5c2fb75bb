"""Packages say the version that the program says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dvr_agent import __version__

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("pyproject.toml", r'^version = "(.+)"$'),
        ("debian/changelog", r"\Advr-agent \((.+)-\d+\) "),
        ("packaging/dvr-agent.spec", r"^Version: +(\S+)$"),
        ("CHANGELOG.md", r"^## \[(\d.*?)\]"),
    ],
)
def test_newest_version_is_the_program_s(file: str, pattern: str) -> None:
    found = re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)
    assert found, file
    assert found[1] == __version__
