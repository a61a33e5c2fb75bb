"""Packages say the version that the program says, and know what it depends on."""

from __future__ import annotations

import re
import tomllib
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


def dependencies() -> list[str]:
    """Return the names of the Python packages that the agent always needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.split("[<>=]", line)[0].removeprefix("python-") for line in project["dependencies"]]


@pytest.mark.parametrize("name", dependencies())
def test_what_the_program_depends_on_is_named(name: str) -> None:
    """Debian: for the build, since manual pages are made of the programs; dh_python3 names it in the package."""
    control = (ROOT / "debian" / "control").read_text().split("\nPackage:")[0]
    assert re.search(rf"^ python3-{re.escape(name)},$", control, re.MULTILINE)
    spec = (ROOT / "packaging" / "dvr-agent.spec").read_text()
    assert re.search(rf"^Requires: +python3-{re.sub('[-._]', '[-_]', name)}$", spec, re.MULTILINE)
