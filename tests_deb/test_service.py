"""The agent's services as the package installs them: the same tests as in the virtual machine (``tests_vm``).

A tree boots in two seconds where the machine takes half a minute, so CI runs them here, and there with ``--full``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests_deb.container import Container
from tests_deb.packages import Packages
from tests_deb.places import booted_tree
from tests_vm.site import Site
from tests_vm.test_agent_service import (
    TestConfiguration,
    TestInstalled,
    TestJournal,
    TestRestart,
    TestRival,
    TestSignals,
    settings,
)

__all__ = [
    "TestConfiguration",
    "TestInstalled",
    "TestJournal",
    "TestRestart",
    "TestRival",
    "TestSignals",
    "settings",
]


@pytest.fixture(scope="module")
def host(packages: Packages) -> Iterator[Container]:
    """A host of this module's own, with the package."""
    with booted_tree("service") as container:
        container.run("apt-get", "install", "-y", container.put(packages.new))
        yield container


@pytest.fixture(scope="module")
def site(host: Container) -> Site:
    """The agent enabled and running, a router, and instances."""
    made = Site(host)
    made.install()
    made.begin()
    return made
