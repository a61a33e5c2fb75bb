"""A host for the package to be tried on; a test that fails shows its console and journal.

Package and tree are made beforehand (``make deb-check``).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests_deb.container import Container
from tests_deb.packages import Packages
from tests_deb.places import ROOT, SUITE, booted_tree
from tests_vm.site import Site


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--previous", type=Path, help="package of the previous version (default: this one with its number)"
    )
    parser.addoption("--full", action="store_true", help="HA routers through an upgrade, too; --previous implies it")


def pytest_itemcollected(item: pytest.Item) -> None:
    for name in ("root", "slow"):
        item.add_marker(name)
    config = item.config
    if item.path.name == "test_ha_upgrade.py" and not (config.getoption("full") or config.getoption("previous")):
        item.add_marker(pytest.mark.skip(reason="only with --full or --previous"))


@pytest.fixture(scope="session")
def packages(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """The package that was built, and one of the version before."""
    found = sorted((ROOT / "build" / "deb" / SUITE).glob("dvr-agent_*_all.deb"))
    if len(found) != 1:
        pytest.exit(f"there is no package for {SUITE}: run the tests by make deb-check", 2)
    return Packages.of(found[0], pytestconfig.getoption("previous"), tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def host() -> Iterator[Container]:
    """A host that has booted and knows nothing of dvr-agent; what the package depends on is installed."""
    with booted_tree("package") as container:
        yield container


@pytest.fixture(scope="session")
def site(host: Container) -> Site:
    """The host as the operator of a cloud sees it."""
    return Site(host)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for host in getattr(item, "funcargs", {}).values():
            if isinstance(host, Container):
                report.sections.append(("the host's console and journal", host.tail()))
    return report
