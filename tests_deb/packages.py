"""Packages to upgrade between."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

OLD = "0.0.1"
"""The number of the older version, where there is no real one, or where its number is not smaller."""


@dataclass(frozen=True)
class Packages:
    """Two versions of the package.

    :param old: the version before
    :param new: the one that was built
    """

    old: Path
    new: Path

    @classmethod
    def of(cls, new: Path, old: Path | None, folder: Path) -> Packages:
        """Make an older version where there is none: the same files under another number."""
        if old is None or not is_older(number(old), number(new)):
            old = renumbered(old or new, OLD, folder)
        return cls(old, new)

    @property
    def old_version(self) -> str:
        """What the programs of the older version say that they are: without Debian's revision."""
        return number(self.old).partition("-")[0]


def number(package: Path) -> str:
    return run("dpkg-deb", "--field", package, "Version").strip()


def is_older(one: str, other: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False).returncode == 0


def renumbered(package: Path, version: str, folder: Path) -> Path:
    """Return a copy of a package, which and whose programs say that they are another version."""
    tree = folder / "tree"
    run("dpkg-deb", "--raw-extract", package, tree)
    replace(tree / "DEBIAN" / "control", r"^Version: .*$", f"Version: {version}")
    replace(
        tree / "usr/lib/python3/dist-packages/dvr_agent/__init__.py",
        r'^__version__ = ".*"$',
        f'__version__ = "{version}"',
    )
    result = folder / f"dvr-agent_{version}_all.deb"
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, result)
    return result


def replace(file: Path, pattern: str, text: str) -> None:
    before = file.read_text()
    after, count = re.subn(pattern, text, before, flags=re.MULTILINE)
    assert count == 1, f"{pattern} is {count} times in {file}"
    file.write_text(after)


def run(*words: object) -> str:
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True).stdout
