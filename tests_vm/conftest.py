"""Machines for the tests; a test that fails shows the console of its machine, and the journal.

The image is made beforehand (``make test-vm``).  Two machines run side by side: ``node``, where the agent is a service,
and one where whole test suites run (``suites``); both from the first test on.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.support.requirements import require
from tests_vm.channel import LostError
from tests_vm.machine import Machine
from tests_vm.site import Site
from tests_vm.suites import Suites

IMAGE = Path(os.environ.get("VM_IMAGE", ".vm")).resolve()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="whole test suites in the machine, and more power cuts")


def pytest_itemcollected(item: pytest.Item) -> None:
    for name in ("root", "slow"):
        item.add_marker(name)
    if item.path.name == "test_agent_service.py" and not item.config.getoption("full"):
        item.add_marker(pytest.mark.skip(reason="only with --full: CI runs it on a booted tree, by make deb-check"))


@pytest.fixture(scope="session")
def image() -> Path:
    require("qemu-system-x86_64", "qemu-system-x86")
    if not (IMAGE / "disk").exists():
        pytest.exit(f"{IMAGE} has no disk: run the tests by make test-vm", 2)
    return IMAGE


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("full"))


@pytest.fixture(scope="session", autouse=True)
def suites(
    request: pytest.FixtureRequest, image: Path, full: bool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suites]:
    """Whole test suites, in the background, on a machine of their own; only if a test asks for their results."""
    made = Suites(image, tmp_path_factory.mktemp("suites") / "machine", full)
    if any(item.path.name == "test_suites.py" for item in request.session.items):
        made.start()
    yield made
    made.close()


@pytest.fixture(scope="session")
def node(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that has booted and knows nothing of the agent but the checkout."""
    machine = Machine(image, tmp_path_factory.mktemp("node") / "machine")
    machine.start()
    yield machine
    machine.close()


@pytest.fixture(scope="session")
def site(node: Machine) -> Site:
    """The node with the agent installed, enabled and running, a router, and instances."""
    made = Site(node)
    made.install()
    made.begin()
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    values = getattr(item, "funcargs", {}).values()
    candidates = (one.machine if isinstance(one, Site) else one for one in values)
    machines = {one for one in candidates if isinstance(one, Machine)}
    if report.failed:
        for machine in machines:
            report.sections.append(("the machine's console", machine.tail()))
            report.sections.append(("its journal", journal(machine)))
    return report


def journal(machine: Machine) -> str:
    """What agent, proxy and systemd said last, as far as the machine still tells."""
    try:
        words = ("journalctl", "--no-pager", "-b", "-n", "60", "-u", "dvr-agent", "-u", "dvr-metadata-proxy")
        return machine.run(*words, check=False, timeout=60).out
    except (LostError, AssertionError) as error:
        return str(error)
