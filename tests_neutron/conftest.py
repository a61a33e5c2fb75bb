"""One cloud for the whole run, dvr-agent as its L3 agent on every host; what went wrong with the logs that say why.

``NEUTRON_L3_AGENT=neutron-l3-agent`` runs the tests with the reference agent instead: to see what is the cloud's.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cloud import sandbox
from tests.support.cloud.cloud import Cloud
from tests.support.cloud.config import HostPlan
from tests.support.cloud.host import Host
from tests.support.cloud.nova import Nova
from tests.support.cloud.process import tail
from tests.support.cloud.site import Site

PLANS = (HostPlan(1, "dvr_snat", metadata=True), HostPlan(2, "dvr"), HostPlan(3, "dvr_no_external"))
NETWORK_NODE = HostPlan(4, "dvr_snat", kind="network")
REFERENCE = os.environ.get("NEUTRON_L3_AGENT") == "neutron-l3-agent"
os.environ.setdefault("DVR_TEST_SANDBOX", "1")  # tests.support.lab, whose probes are used here, asks for it


def pytest_configure(config: pytest.Config) -> None:
    if config.option.collectonly or os.environ.get(sandbox.MARK):
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    sandbox.enter([sys.executable, "-m", "pytest", *map(str, config.invocation_params.args)])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the random walk and all kinds of fail-over too")
    parser.addoption("--seed", type=int, default=0, help="of the random walk (default: a new one, which is printed)")


def pytest_itemcollected(item: pytest.Item) -> None:
    for name in ("root", "ovs", "broker", "cloud", "slow"):
        item.add_marker(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The second network node joins for the last tests: beside it, SNAT of the others could be on either."""
    items.sort(key=lambda item: "network_node" in getattr(item, "fixturenames", ()))
    if not config.option.full:
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="only with --full"))


@pytest.fixture(scope="session")
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """Everything runs, and every agent is alive."""
    made = Cloud(PLANS)
    made.start()
    Nova()
    for host in made.hosts:
        if host.plan.metadata:
            host.start_metadata()
    for host in made.hosts:
        start_l3_agent(host)
    made.wait_l3_agents()
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        reporter.write_line("cloud up: " + ", ".join(f"{text} {at} s" for at, text in made.log))
    return made


def start_l3_agent(host: Host) -> None:
    """The agent that this run is about."""
    if REFERENCE:
        host.start_neutron_l3()
    else:
        host.start_dvr_agent()


@pytest.fixture(scope="module")
def shared_site(cloud: Cloud) -> Iterator[Site]:
    with Site(cloud) as made:
        yield made


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The module's router with gateway and network; instances stay for the next test, floating IPs do not."""
    yield shared_site
    shared_site.tidy()


@pytest.fixture
def hosts(cloud: Cloud) -> list[Host]:
    """compute1 (dvr_snat), compute2 (dvr), compute3 (dvr_no_external)."""
    return cloud.hosts[: len(PLANS)]


@pytest.fixture(scope="session")
def network_node(cloud: Cloud) -> Host:
    """A second dvr_snat host; it stays until the end."""
    host = cloud.join(NETWORK_NODE)
    start_l3_agent(host)
    cloud.wait_l3_agents()
    return host


@pytest.fixture
def reference() -> bool:
    """The tests run with neutron-l3-agent on every host."""
    return REFERENCE


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    logs = sandbox.FOLDER / "log"
    if report.failed and report.when == "call" and "cloud" in item.funcargs:  # type: ignore[attr-defined]
        for host in item.funcargs["cloud"].hosts:  # type: ignore[attr-defined]
            report.sections.append((f"{host.name}: wiring", host.wiring()))
    if report.failed and logs.exists():
        for log in sorted(logs.glob("*.log")):
            if words := tail(log, 12):
                report.sections.append((log.name, words))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The logs of a failed run outlive the sandbox."""
    logs = sandbox.FOLDER / "log"
    if exitstatus and logs.exists():
        kept = Path(tempfile.mkdtemp(prefix="dvr-agent-neutron-"))
        shutil.copytree(logs, kept, dirs_exist_ok=True)
        print(f"\nall logs of the cloud: {kept}")
