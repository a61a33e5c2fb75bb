"""Makes the reconciler or the planner of this host from the configuration, or from its parts (tests, benchmarks)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dvr_agent.attach.api import AttachDriver
from dvr_agent.attach.bridge import BridgeDriver
from dvr_agent.config import Settings
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.qos import needs_limits
from dvr_agent.kernel import capability
from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.filter_choice import choose
from dvr_agent.kernel.iptables.lock import TIMEOUT
from dvr_agent.kernel.linux import open_kernel, probe_kernel
from dvr_agent.kernel.nftables.limit_probe import choose_layout
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.planner import Planner
from dvr_agent.reconcile.reader import AttachReader
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.services.factory import open_services
from dvr_agent.settings import AttachSettings


def open_reconciler(settings: Settings, newer_wins: bool = False, lock_timeout: float = TIMEOUT) -> RouterReconciler:
    """Open the reconciler that the configuration describes.

    :param newer_wins: of two documents that claim one thing the newer has it: their source is an authority
    :param lock_timeout: seconds that a job waits for the lock of iptables programs; 0: the caller repeats the job
    :raises ConfigError: an option has a value that cannot be used
    :raises KernelError: this kernel lacks a function that every router needs
    """
    probe_kernel(settings.packet_filter)
    kernel = open_kernel(lock_timeout)
    attach, services = _attach(settings.attach, kernel), open_services(settings, True)
    dataplane = _on_this_kernel(settings.dataplane)
    return RouterReconciler(kernel, attach, dataplane, settings.state_path, services, newer_wins)


def open_planner(settings: Settings) -> Planner:
    """Open the planner that the configuration describes: it reads kernel and state files, and writes neither.

    :raises ConfigError: an option has a value that cannot be used
    """
    choose(settings.packet_filter)
    kernel = open_kernel()
    attach, services = _attach(settings.attach, kernel), open_services(settings, False)
    dataplane = _on_this_kernel(settings.dataplane)
    return Planner(kernel, attach, services, dataplane, HostMemory.empty(kernel, settings.state_path))


def open_attach(settings: Settings) -> AttachReader:
    """Open the attach driver that the configuration describes, to read layer 2 sides of ports.

    :raises ConfigError: an option has a value that cannot be used
    """
    return _attach(settings.attach, open_kernel())


def make_reconciler(settings: HostSettings, external_networks: Mapping[str, str], state_path: Path) -> RouterReconciler:
    """Make a reconciler without services on this machine's kernel and Linux bridges.

    :param settings: of the data plane
    :param external_networks: network id → existing bridge
    """
    kernel = open_kernel()
    attach = BridgeDriver(external_networks, kernel.counters)
    return RouterReconciler(kernel, attach, settings, state_path)


def _on_this_kernel(settings: HostSettings) -> HostSettings:
    """Return the settings with what the kernel can do."""
    no_limits = choose_layout()
    return replace(settings, ipv6=capability.has_ipv6(), no_limits=no_limits if needs_limits(settings) else "")


def _attach(settings: AttachSettings, kernel: Kernel) -> AttachDriver:
    if settings.driver == "openvswitch":
        from dvr_agent.attach.openvswitch.factory import open_openvswitch  # the extra dvr-agent[ovs]

        return open_openvswitch(settings.ovs, kernel)
    return BridgeDriver(settings.external_networks, kernel.counters)
