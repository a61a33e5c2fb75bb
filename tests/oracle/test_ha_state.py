"""HA routers, distributed and legacy: same documents, equivalent kernel, on the master and on a backup."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.attach.api import AttachDriver
from dvr_agent.attach.bridge import BridgeDriver
from dvr_agent.desired.host_settings import AgentMode, HostSettings, VrrpSettings
from dvr_agent.extensions import Extension
from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.services.bundle import Services
from dvr_agent.services.keepalived.service import KeepalivedService
from tests.support import lab
from tests.support import oracle_reader as reader
from tests.support.oracle_build import external_bridge, openvswitch_driver, parse
from tests.support.oracle_normalise import as_wanted, differences, normalised
from tests.support.oracle_recordings import FeatureScenario
from tests.support.oracle_watch import until_settled, writes_seen
from tests.support.recorded_documents import MODES
from tests.support.requirements import require
from tests.support.waiting import wait_for

FORWARDING = "net.ipv6.conf.all.forwarding"
NAMES = (
    *("q2_ha_dvr_pair", "q2_ha_dvr_pair_failover", "q2_ha_dvr_pair_split"),
    *("q2r_ha_restart_active", "q2r_ha_restart_standby", "q3_ha_legacy_pair", "q3_ha_legacy_pair_failover"),
)
SCENARIOS = [FeatureScenario(name, host) for name in NAMES for host in ("compute1", "network2")]
SCENARIOS += [FeatureScenario(name, "compute2") for name in NAMES if name.startswith("q2_")]  # takes no part in VRRP


def primary(scenario: FeatureScenario) -> str:
    return f"169.254.0.{scenario.router['ha_vr_id']}/24"


def is_master(scenario: FeatureScenario) -> bool:
    return any(one.cidr == primary(scenario) for view in scenario.recorded.values() for one in view.addresses)


@pytest.mark.parametrize("layer2", ["bridge", pytest.param("openvswitch", marks=pytest.mark.ovs)])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_kernel_is_equivalent_to_the_reference_agents(
    host: lab.Host, tmp_path: Path, scenario: FeatureScenario, layer2: str
) -> None:
    with_switch = layer2 == "openvswitch"
    with reconciler(host, tmp_path, scenario, with_switch) as built:
        router = parse(scenario)
        assert built.reconcile(router).trouble == ()
        if is_master(scenario):
            wait_for(lambda: any(one.cidr == primary(scenario) for one in addresses(scenario)))
            built.reconcile(router)
        assert compare(scenario, with_switch) == []
        namespaces = sorted(path.name for path in lab.NETNS.iterdir())
        until_settled(namespaces)
        before = built.kernel.counters.total()
        with writes_seen(namespaces) as seen:
            assert not built.reconcile(router).plan
        assert (built.kernel.counters.total() - before, seen) == (0, {})


def compare(scenario: FeatureScenario, kinds: bool) -> list[str]:
    actual = normalised(scenario.observe(), scenario.document, kinds=kinds)
    return differences(normalised(wanted(scenario), scenario.document, kinds=kinds), actual)


def addresses(scenario: FeatureScenario) -> set[reader.Address]:
    return {one for view in scenario.observe().values() for one in view.addresses}


def wanted(scenario: FeatureScenario) -> Mapping[str, reader.View]:
    """The recording with what this agent has otherwise by intention."""
    found = dict(as_wanted(scenario.recorded))
    for name, view in found.items():
        devices = {link.name: link for link in view.links}
        if name.startswith("snat-"):
            found[name] = with_all_forwarding_ips(without_link_local_of_ha(view), scenario)
            # A reference agent that was restarted leaves the kernel's 1: a forwarding host ignores advertisements then.
            restarted = {one.key for one in view.sysctls if one.key.endswith(".accept_ra") and one.value == "1"}
            found[name] = with_parameters(found[name], dict.fromkeys(restarted, "2" if is_master(scenario) else "0"))
        elif name.startswith("qrouter-") and scenario.router["distributed"]:
            # The reference never switches IPv6 on in the qrouter namespace of a host that takes part in VRRP.
            local = {reader.Address(device, "fe80::/64") for device in devices if device.startswith(("qr-", "rfp-"))}
            parameters = {"net.ipv4.ip_nonlocal_bind": "0", FORWARDING: "1"}
            found[name] = with_parameters(replace(view, link_local=view.link_local | local), parameters)
        elif name.startswith("qrouter-") and not is_master(scenario):
            # It stays 1 on a host that was the master once.
            found[name] = with_parameters(view, {FORWARDING: "0"})
    return found


def without_link_local_of_ha(view: reader.View) -> reader.View:
    """The HA device needs none for VRRP; the reference has one in snat namespaces only."""
    return replace(view, link_local=frozenset(one for one in view.link_local if not one.device.startswith("ha-")))


def with_all_forwarding_ips(view: reader.View, scenario: FeatureScenario) -> reader.View:
    """Add the address of a port forwarding, which the recorded master has lost in a race."""
    if not is_master(scenario):
        return view
    gateway = next(link.name for link in view.links if link.name.startswith("qg-"))
    lost = {reader.Address(gateway, cidr) for cidr in scenario.router.get("port_forwardings_fip_set", ())}
    return replace(view, addresses=view.addresses | lost)


def with_parameters(view: reader.View, values: Mapping[str, str]) -> reader.View:
    kept = {one for one in view.sysctls if one.key not in values}
    return replace(view, sysctls=frozenset(kept | {reader.Sysctl(key, value) for key, value in values.items()}))


@contextlib.contextmanager
def bridge_driver(kernel: Kernel, host: lab.Host, scenario: FeatureScenario) -> Iterator[AttachDriver]:
    network = scenario.external_network
    assert network is not None
    bridge = host.bridge(external_bridge(network))
    lab.run("sysctl", "-qw", f"net.ipv6.conf.{bridge}.disable_ipv6=1")
    yield BridgeDriver({network: bridge}, kernel.counters)


@contextlib.contextmanager
def reconciler(
    host: lab.Host, state_path: Path, scenario: FeatureScenario, with_switch: bool
) -> Iterator[RouterReconciler]:
    """A reconciler whose keepalived runs only for the master, as a backup's does nothing as long as there is one."""
    kernel = open_kernel()
    settings = HostSettings(
        scenario.host,
        MODES.get(scenario.host, AgentMode.DVR_SNAT),
        extensions=frozenset(Extension),
        vrrp=VrrpSettings(interval=1),
    )
    services = Services()
    if is_master(scenario):
        require("keepalived", "keepalived")
        services = Services((), KeepalivedService(state_path / "ha_confs", state_path / "pids", "respawn"))
    layer2 = openvswitch_driver(kernel, state_path) if with_switch else bridge_driver(kernel, host, scenario)
    try:
        with layer2 as driver:
            made = RouterReconciler(kernel, driver, settings, state_path, services)
            made.load()
            yield made
    finally:
        services.close()
        for path in (state_path / "ha_confs").glob("*.pid.*"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)
