"""HA routers: desired state and configuration of keepalived, against what neutron-l3-agent made of the documents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.desired.build import desired_router
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_settings import AgentMode, HostSettings, VrrpAuth, VrrpSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.services.keepalived.conf import is_same, keepalived_text
from dvr_agent.state.address import Address
from dvr_agent.state.diff import diff
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.sysctl import Sysctl
from tests.support.reconciler_rig import Bench
from tests.support.recorded_documents import load_features

CONFS = Path(__file__).parent.parent / "data" / "keepalived"
FORWARDING = "203.0.113.161/32"
"""Of a port forwarding, which is not served in these tests."""
SCRIPT = Path("/var/lib/neutron/ha_confs/r/ha_check_script_7.sh")
PLAIN = VrrpSettings()
DVR_SCENARIOS = ("q2_ha_dvr_pair", "q2_ha_dvr_pair_failover", "q2_ha_dvr_pair_split")


def settings(host: str, vrrp: VrrpSettings = PLAIN) -> HostSettings:
    return HostSettings(host, AgentMode.DVR_SNAT, vrrp=vrrp)


def snat_of(scenario: str, host: str, is_master: bool = False, vrrp: VrrpSettings = PLAIN) -> NamespaceState:
    view = make_view(load_features(scenario, host), settings(host, vrrp))
    state = desired_router(view, HostAllocations(is_master=is_master)).snat
    assert state is not None
    return state


@pytest.mark.parametrize("scenario", DVR_SCENARIOS)
@pytest.mark.parametrize("host", ["compute1", "network2"])
def test_the_configuration_of_keepalived_means_what_the_reference_wrote(scenario: str, host: str) -> None:
    virtual_router = snat_of(scenario, host).virtual_router
    assert virtual_router is not None
    recorded = (CONFS / f"{scenario}-{host}.conf").read_text()
    assert is_same(keepalived_text(virtual_router, SCRIPT), _without(FORWARDING, recorded))


def _without(address: str, text: str) -> str:
    return "\n".join(line for line in text.split("\n") if address not in line)


@pytest.mark.parametrize("scenario", ["q2_ha_dvr_pair", "q3_ha_legacy_pair"])
def test_a_document_that_lacks_the_ha_port_changes_nothing(scenario: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode=AgentMode.DVR_SNAT)
    router = load_features(scenario, "compute1")
    assert bench.reconciler.reconcile(router).plan
    assert not bench.reconciler.reconcile(replace(router, ha_interface=None)).plan


def test_what_vrrp_holds_is_no_difference_on_the_master_nor_on_a_backup() -> None:
    backup, master = snat_of("q2_ha_dvr_pair", "compute1"), snat_of("q2_ha_dvr_pair", "compute1", is_master=True)
    held = backup.virtual_router
    assert held is not None
    assert not diff(backup, backup)
    found = replace(
        master, addresses=frozenset({*master.addresses, held.primary, *held.addresses}), routes=frozenset(held.routes)
    )
    assert not diff(found, master)


def test_what_vrrp_does_not_hold_any_more_is_removed() -> None:
    state = snat_of("q2_ha_dvr_pair", "compute1", is_master=True)
    gateway = next(link.name for link in state.links if link.name.startswith("qg-"))
    old = Address(gateway, "203.0.113.99/32")
    changes = diff(replace(state, addresses=state.addresses | {old}), state)
    assert [change.text for change in changes.items] == [f"- {old.text}"]


@pytest.mark.parametrize("is_master", [False, True])
def test_a_backup_of_a_legacy_router_does_not_forward_ipv6(is_master: bool) -> None:
    view = make_view(load_features("q3_ha_legacy_pair", "compute1"), settings("compute1"))
    sysctls = desired_router(view, HostAllocations(is_master=is_master)).qrouter.sysctls
    assert (Sysctl("ipv6/conf/all/forwarding", "1") in sysctls) == is_master
    assert Sysctl("ipv6/conf/qg-77c7948d-97/forwarding", "1" if is_master else "0") in sysctls


def test_the_password_stands_in_the_configuration_alone() -> None:
    vrrp = VrrpSettings(password="s3cret")
    state = snat_of("q2_ha_dvr_pair", "compute1", vrrp=vrrp)
    assert state.virtual_router is not None
    assert "auth_type PASS\n        auth_pass s3cret" in keepalived_text(state.virtual_router, SCRIPT)
    assert "s3cret" not in repr((state, settings("compute1", vrrp)))


def test_authentication_by_ipsec_is_refused() -> None:
    vrrp = VrrpSettings(auth=VrrpAuth.AH, password="s3cret")
    view = make_view(load_features("q2_ha_dvr_pair", "compute1"), settings("compute1", vrrp))
    (omitted,) = desired_router(view, HostAllocations()).omitted
    assert "ha_vrrp_auth_type is AH" in omitted
    assert "s3cret" not in omitted
