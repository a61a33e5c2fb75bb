"""Runs the whole suite in private network, mount and process namespaces, so that no test can touch the host.

By ``unshare``, also as an ordinary user where user namespaces are allowed.  Whatever a test starts and does not end
(helper processes of routers above all) ends with the suite.
``DVR_TEST_SANDBOX`` marks the process inside: it holds the mount namespace that was left.  Set by hand to anything it
keeps the tests where they are, which is for those that touch nothing.  The ``host`` fixture gives every functional
test a fresh one of its own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

from dvr_agent.kernel.host_filter import HostFilter
from tests.support import lab
from tests.support.rabbit import PROGRAMS, Rabbit
from tests.support.replay_server import NeutronServer
from tests.support.requirements import other_users, require

settings.register_profile("dvr-agent", deadline=None)  # the machine is shared: time says nothing
# For CI, where coverage makes each example dear: --hypothesis-profile=few.  Each run has other examples.
settings.register_profile("few", deadline=None, max_examples=30)
settings.load_profile("dvr-agent")

# A shell's background job ignores it, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SANDBOXED = "DVR_TEST_SANDBOX"
MARKS = {
    "root": {"real_root"},
    "broker": {"broker"},
    "ovs": {"tests.support.ovs", "tests.support.ovs_rig"},
    "slow": {"broker", "installed", "tests.support.ovs", "tests.support.packet_reference", "bench.sandbox"},
}
"""Marker → fixtures and modules whose use brings it."""
NAMESPACES = ["--net", "--mount", "--pid", "--mount-proc", "--kill-child"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="what takes minutes by itself too: many random worlds")
    parser.addoption(
        "--packet-filter", choices=("legacy", "nftables"), default="legacy", help="of the routers that tests build"
    )
    parser.addoption("--seed", type=int, default=0, help="of random worlds (default: a new one, which is printed)")


def pytest_configure(config: pytest.Config) -> None:
    HostFilter.backend = config.getoption("--packet-filter")
    if config.option.collectonly:
        return
    left = os.environ.get(SANDBOXED)
    if left:
        if left.startswith("mnt:") and left != _mount_namespace():
            lab.private_run()
        return
    unshare = shutil.which("unshare")
    if unshare is None:
        raise pytest.UsageError("the tests need unshare (Debian package util-linux)")
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    flags = [*NAMESPACES, *([] if os.geteuid() == 0 else ["-r"])]
    os.environ[SANDBOXED] = _mount_namespace()
    args = list(config.invocation_params.args)
    os.execv(unshare, [unshare, *flags, "--", sys.executable, "-m", "pytest", *map(str, args)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    """Give each worker process namespaces of its own: the broker has fixed ports, the agent searches /proc."""
    for spec in specs:
        spec.python = shlex.join(["unshare", *NAMESPACES, "--", sys.executable])


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by what it uses, so that nobody has to think of it, and name the tests that it belongs together with.

    Not when all are collected: a worker of pytest-xdist has read the groups by then.
    """
    for name, uses in MARKS.items():
        if uses & _used(item):
            item.add_marker(name)
    if group := _group(item):
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Shorten long values: a test's id stands in the environment (PYTEST_CURRENT_TEST), and execve(2) has limits."""
    if isinstance(val, str | bytes) and len(val) > 200:
        return f"{val[:40]!r}... {len(val)} long"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    HostFilter.backend = item.config.getoption("--packet-filter")  # what runs in this process may have chosen another
    legacy = item.get_closest_marker("legacy_tables")
    if legacy and HostFilter.backend == "nftables":
        pytest.skip(f"legacy tables: {legacy.args[0]}")
    if item.get_closest_marker("full") and not item.config.getoption("--full"):
        pytest.skip("takes minutes: --full")
    if item.get_closest_marker("root") and not other_users():
        pytest.skip("needs root over other users")


def _used(item: pytest.Item) -> set[str]:
    """Names of the fixtures that a test uses, and of the modules that its module takes something from."""
    module = vars(item.getparent(pytest.Module).obj)  # type: ignore[union-attr]  # every test here has one
    taken = (one.__name__ if isinstance(one, ModuleType) else getattr(one, "__module__", "") for one in module.values())
    return {*item.fixturenames, *(name for name in taken if isinstance(name, str))}  # type: ignore[attr-defined]


def _group(item: pytest.Item) -> str:
    """Name the tests that one worker runs, so that what they share is made once; empty: a test that shares nothing."""
    if "broker" in item.fixturenames:  # type: ignore[attr-defined]
        return f"broker of {item.path.parent.name}"
    fixtures = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]  # no public way to the scope
    if any(one[-1].scope != "function" and one[-1].baseid for one in fixtures):
        callspec = getattr(item, "callspec", None)
        return f"{item.path.stem} {callspec.params.get('fleet', '') if callspec else ''}".strip()
    return item.path.stem if item.path.parent.name == "unit" else ""


def _mount_namespace() -> str:
    return os.readlink("/proc/self/ns/mnt")


@pytest.fixture
def host() -> Iterator[lab.Host]:
    """A pristine "host": an own root network namespace, an own empty ``/run/netns``, ``lo`` up."""
    with lab.fresh_host() as fresh:
        yield fresh


@pytest.fixture
def real_root() -> None:
    """Marks a test that gives files to other users, or becomes one; where that is impossible it is skipped."""


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """A RabbitMQ for all tests of the run; whoever stops it starts it again."""
    require(PROGRAMS / "rabbitmq-server", "rabbitmq-server")
    rabbit = Rabbit(tmp_path_factory.mktemp("rabbit"))
    try:
        yield rabbit.start()
    finally:
        rabbit.stop()


@pytest.fixture(scope="session")
def neutron_server(broker: Rabbit) -> Iterator[NeutronServer]:
    """A neutron-server made of recordings, on that bus; what it says and answers is each test's own."""
    server = NeutronServer(broker.url).start()
    yield server
    server.stop()
