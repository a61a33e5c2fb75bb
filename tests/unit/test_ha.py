"""HA routers: desired state and configuration of keepalived, against what neutron-l3-agent made of the documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent.desired.build import desired_router
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_settings import AgentMode, HostSettings, VrrpSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.services.keepalived.conf import is_same, keepalived_text
from dvr_agent.state.namespace import NamespaceState
from tests.support.recorded_documents import load_features

CONFS = Path(__file__).parent.parent / "data" / "keepalived"
FORWARDING = "203.0.113.161/32"
"""Of a port forwarding, which is not served in these tests."""
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
    assert is_same(keepalived_text(virtual_router), _without(FORWARDING, recorded))


def _without(address: str, text: str) -> str:
    return "\n".join(line for line in text.split("\n") if address not in line)
