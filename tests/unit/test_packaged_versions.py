"""Packages say the version that the program says, know what it depends on, and have all files for operators."""

from __future__ import annotations

import re
import subprocess
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


def files_for_operators() -> list[str]:
    """Return the files and directories in ``etc`` that are installed nowhere but as documentation."""
    listed = subprocess.run([ROOT / "tools/install-files.sh", "--list"], capture_output=True, text=True, check=True)
    installed = {name for line in listed.stdout.splitlines() for name in Path(line).parts[-2:]}
    sources = {"dvr-agent.sysusers", "dvr-agent.logrotate", "dvr-agent.conf.sample", "dvr-agent-config-generator.conf"}
    return sorted(path.name for path in (ROOT / "etc").iterdir() if path.name not in installed | sources)


@pytest.mark.parametrize("name", files_for_operators())
def test_examples_are_in_the_packages(name: str) -> None:
    examples = (ROOT / "debian" / "dvr-agent.examples").read_text().split()
    assert {f"etc/{name}", f"etc/{name}/*"} & set(examples)
    docs = re.search(r"^%doc (.*)$", (ROOT / "packaging" / "dvr-agent.spec").read_text(), re.MULTILINE)
    assert docs
    assert f"etc/{name}" in docs[1].split()


def test_what_a_package_recommends_is_in_the_container() -> None:
    """But not systemd's journal, which no container has."""
    control = (ROOT / "debian" / "control").read_text()
    recommends = re.search(r"^Recommends:\n((?: .*\n)+)", control, re.MULTILINE)
    assert recommends
    names = {line.strip(" ,") for line in recommends[1].splitlines()} - {"python3-systemd"}
    assert names <= set((ROOT / "packaging" / "Containerfile").read_text().split())
