"""Runs the whole suite in private network, mount and process namespaces, so that no test can touch the host.

By ``unshare``, also as an ordinary user where user namespaces are allowed.  Whatever a test starts and does not end
(helper processes of routers above all) ends with the suite.
``DVR_TEST_SANDBOX`` marks the process inside: it holds the mount namespace that was left.  Set by hand to anything it
keeps the tests where they are, which is for those that touch nothing.  The ``host`` fixture gives every functional
test a fresh one of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support import lab
from tests.support.rabbit import Rabbit
from tests.support.replay_server import NeutronServer

settings.register_profile("dvr-agent", deadline=None)  # the machine is shared: time says nothing
settings.load_profile("dvr-agent")

SANDBOXED = "DVR_TEST_SANDBOX"


def pytest_configure(config: pytest.Config) -> None:
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
    flags = ["--net", "--mount", "--pid", "--mount-proc", "--kill-child", *([] if os.geteuid() == 0 else ["-r"])]
    os.environ[SANDBOXED] = _mount_namespace()
    args = list(config.invocation_params.args)
    os.execv(unshare, [unshare, *flags, "--", sys.executable, "-m", "pytest", *map(str, args)])


def _mount_namespace() -> str:
    return os.readlink("/proc/self/ns/mnt")


@pytest.fixture
def host() -> Iterator[lab.Host]:
    """A pristine "host": an own root network namespace, an own empty ``/run/netns``, ``lo`` up."""
    with lab.fresh_host() as fresh:
        yield fresh


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """A RabbitMQ for all tests of the run; whoever stops it starts it again."""
    if not Rabbit.installed():
        pytest.skip("RabbitMQ is not installed (Debian package rabbitmq-server)")
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
