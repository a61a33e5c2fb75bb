"""Throw-away worlds for the packet tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import lab
from tests.support.packet_world import World
from tests.support.way_check import WayCheck


@pytest.fixture
def world(host: lab.Host, tmp_path: Path) -> World:
    """A world of its own, for tests that change things."""
    return World(host, tmp_path)


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all tests of a module that only look."""
    with lab.fresh_host() as host:
        yield World(host, tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def ways() -> Iterator[WayCheck]:
    """Every probe of the suite is computed, too: the way that ``dvrctl trace`` shows is the one that packets take."""
    check = WayCheck()
    lab.watchers.append(check)
    try:
        yield check
    finally:
        lab.watchers.remove(check)
    assert not check.wrong, "\n\n".join(check.wrong)
