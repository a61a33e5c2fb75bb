"""Fixtures of the functional tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon_lab import Daemon
from tests.support.scripted_daemon import MakeDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """Makes daemons on a scripted reconciler; they are gone at the end of the test."""
    made: list[Daemon] = []

    def make(name: str = "one", **options: dict[str, object]) -> Daemon:
        made.append(Daemon(tmp_path / name, "tests.support.fake_daemon", **options))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait()
