"""Builds recorded scenarios by the real code path on the throw-away host that the calling thread is in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dvr_agent.attach.api import AttachDriver
from dvr_agent.attach.openvswitch.factory import open_openvswitch
from dvr_agent.config import attach_settings, load
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.extensions import Extension
from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.model.parse import parse_document
from dvr_agent.model.router import Router
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab, ovs
from tests.support.oracle_recordings import Scenario
from tests.support.recorded_documents import MODES


def external_bridge(network_id: str) -> str:
    """Name of the existing bridge that the tests give an external network."""
    return f"ex-{network_id[:8]}"


def parse(scenario: Scenario) -> Router:
    """The router as the agent understands the document."""
    return parse_document(scenario.raw, str(scenario))


def make_host(
    host: lab.Host,
    name: str,
    scenarios: Sequence[Scenario],
    state_path: Path,
    mode: AgentMode,
    *extensions: Extension,
) -> RouterReconciler:
    """A reconciler for a host of this name and mode, with the external bridges that the scenarios need."""
    networks = {scenario.external_network for scenario in scenarios}
    bridges = {network: host.bridge(external_bridge(network)) for network in networks if network}
    for bridge in bridges.values():
        # Else the host itself solicits routers there, and every fg- device learns it as a neighbour.
        lab.run("sysctl", "-qw", f"net.ipv6.conf.{bridge}.disable_ipv6=1")
    settings = HostSettings(host=name, mode=mode, extensions=frozenset(extensions))
    reconciler = make_reconciler(settings, bridges, state_path)
    reconciler.load()
    return reconciler


@contextmanager
def openvswitch_host(name: str, state_path: Path, *extensions: Extension) -> Iterator[RouterReconciler]:
    """A reconciler for a recorded host of this name, with an Open vSwitch of its own during the block."""
    kernel = open_kernel()
    with openvswitch_driver(kernel, state_path) as driver:
        settings = HostSettings(name, MODES[name], extensions=frozenset(extensions))
        reconciler = RouterReconciler(kernel, driver, settings, state_path)
        reconciler.load()
        yield reconciler


@contextmanager
def openvswitch_driver(kernel: Kernel, folder: Path) -> Iterator[AttachDriver]:
    """A driver with an Open vSwitch of its own during the block."""
    with ovs.open_vswitch() as switch:
        conf = folder / "conf"
        conf.write_text(f"[OVS]\novsdb_connection={switch.connection}\n")
        driver = open_openvswitch(attach_settings(load(["--config-file", str(conf)])).ovs, kernel)
        yield driver
        driver.close()
