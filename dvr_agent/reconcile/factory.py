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
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.reconcile.router import RouterReconciler
from dvr_agent.services.factory import open_services


def open_reconciler(conf: cfg.ConfigOpts, writable: bool = True) -> RouterReconciler:
    """The reconciler that the configuration describes.

    :param writable: False: the state files are never written (``dvrctl plan``)
    :raises ConfigError: an option has a value that cannot be used
    :raises KernelError: this kernel lacks something that every router needs
    """
    if writable:
        probe_kernel()
    kernel = open_kernel()
    allocations = Allocations(Path(conf.state_path), writable)
    return RouterReconciler(
        kernel, _attach(conf, kernel), host_settings(conf), allocations, open_services(conf, writable)
    )


def make_reconciler(
    settings: HostSettings, external_networks: Mapping[str, str], state_path: Path, writable: bool = True
) -> RouterReconciler:
    """A reconciler on this machine's kernel and its bridges, in the network namespace of the calling thread."""
    kernel = open_kernel()
    attach = BridgeDriver(kernel.namespaces, external_networks, kernel.counters)
    return RouterReconciler(kernel, attach, settings, Allocations(state_path, writable))


def _attach(conf: cfg.ConfigOpts, kernel: Kernel) -> AttachDriver:
    if driver_name(conf) == "openvswitch":
        from dvr_agent.attach.openvswitch.factory import open_openvswitch  # the extra dvr-agent[ovs]

        return open_openvswitch(conf, kernel)
    return BridgeDriver(kernel.namespaces, conf.bridge.external_networks, kernel.counters)
