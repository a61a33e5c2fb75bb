"""What a test needs of the machine.  Software that is missing skips a test on a developer's machine and fails it in CI
(the variable ``CI`` is set), where a skipped test would be one that nobody runs."""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from pathlib import Path

import pytest

from dvr_agent.errors import TablesUnavailableError
from dvr_agent.kernel.iptables.libiptc import probe


def require(program: str | Path, package: str) -> None:
    """Skip the test, in CI fail it, if a program (by name or by path) is not installed.

    :param package: the Debian package that has it
    """
    if not (Path(program).exists() if "/" in str(program) else shutil.which(program)):
        lacks(f"{program} is missing (Debian package {package})")


def require_legacy_tables() -> None:
    """Skip the test, in CI fail it, if this kernel has no legacy packet filter tables."""
    if reason := _why_no_legacy_tables():
        lacks(reason)


@lru_cache(maxsize=1)
def _why_no_legacy_tables() -> str:
    try:
        probe()
    except TablesUnavailableError as exc:
        return exc.hint
    return ""


def lacks(reason: str) -> None:
    """Skip the test, in CI fail it, since the machine lacks something that can be installed."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; in CI that is an error")
    pytest.skip(reason)


def other_users() -> bool:
    """Tell whether the process is root over other users too, which root of an ordinary user's namespace is not."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split()[2] == "4294967295"
