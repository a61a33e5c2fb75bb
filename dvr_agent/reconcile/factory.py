"""Puts a reconciler together: from the configuration, or from its parts (tests, benchmarks)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from oslo_config import cfg

from dvr_agent.attach.api import AttachDriver
from dvr_agent.attach.bridge import BridgeDriver
from dvr_agent.config import driver_name, host_settings
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.linux import open_kernel, probe_kernel
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.planner import Planner
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.services.factory import open_services


def open_reconciler(conf: cfg.ConfigOpts) -> RouterReconciler:
    """Open the reconciler that the configuration describes.

    :raises ConfigError: an option has a value that cannot be used
    :raises KernelError: this kernel lacks something that every router needs
    """
    probe_kernel()
    kernel = open_kernel()
    services = open_services(conf, True)
    return RouterReconciler(kernel, _attach(conf, kernel), host_settings(conf), Path(conf.state_path), services)


def open_planner(conf: cfg.ConfigOpts) -> Planner:
    """Open the planner of the host that the configuration describes: it reads kernel and state files, and writes none.

    :raises ConfigError: an option has a value that cannot be used
    """
    kernel = open_kernel()
    memory = HostMemory.empty(kernel, Path(conf.state_path))
    return Planner(kernel, _attach(conf, kernel), open_services(conf, False), host_settings(conf), memory)


def make_reconciler(settings: HostSettings, external_networks: Mapping[str, str], state_path: Path) -> RouterReconciler:
    """Make a reconciler on this machine's kernel and its bridges, in the network namespace of the calling thread."""
    kernel = open_kernel()
    attach = BridgeDriver(kernel.namespaces, external_networks, kernel.counters)
    return RouterReconciler(kernel, attach, settings, state_path)


def _attach(conf: cfg.ConfigOpts, kernel: Kernel) -> AttachDriver:
    if driver_name(conf) == "openvswitch":
        from dvr_agent.attach.openvswitch.factory import open_openvswitch  # the extra dvr-agent[ovs]

        return open_openvswitch(conf, kernel)
    return BridgeDriver(kernel.namespaces, conf.bridge.external_networks, kernel.counters)
