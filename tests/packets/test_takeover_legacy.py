"""A legacy router is taken over from neutron-l3-agent and given back, whatever its tables: nobody notices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.extensions import Extension
from dvr_agent.model.features import ConntrackHelper
from dvr_agent.reconcile.handover import find_own_objects, missing_effects, remove_own_objects
from tests.support import lab
from tests.support.packet_reference import INTERNET, LEGACY, NFT, ReferenceHost, unharmed
from tests.support.probes import Echo, tracked

OUTSIDE, FIP, GATEWAY = "203.0.113.1", "203.0.113.203", "203.0.113.48"


@pytest.mark.parametrize("variant", [NFT, LEGACY])
@pytest.mark.parametrize("metadata", [False, True])
def test_floating_ip_and_snat_go_on(host: lab.Host, tmp_path: Path, variant: str, metadata: bool) -> None:
    vms = {"fip": "10.1.0.171", "plain": "10.2.0.160"}
    reference = ReferenceHost(host, tmp_path / "state", "q4_legacy", vms)
    reference.restore(variant, metadata)
    ways = ((INTERNET, FIP), ("fip", OUTSIDE), ("plain", OUTSIDE), ("plain", FIP))
    streams = ((INTERNET, FIP), ("plain", OUTSIDE), ("fip", OUTSIDE))
    with Echo(INTERNET) as seen, Echo("fip"), unharmed(*ways, streams=streams):
        outcome = reference.take_over(metadata)
        assert outcome.conntrack_deleted == 0
        assert tracked(reference.qrouter, "10.2.0.160", OUTSIDE)
        assert "neutron" not in "".join((*reference.saved(NFT).values(), *reference.saved(LEGACY).values()))
        agent = reference.reconciler(metadata)
        assert not agent.reconcile(reference.router).plan
        assert agent.kernel.counters.total() == 0
        own = find_own_objects(agent.kernel)
        assert [missing_effects(agent.kernel, one) for one in own] == [["its chains"]]
        reference.restore(variant, metadata)
        assert [missing_effects(agent.kernel, one) for one in own] == [[]]
        remove_own_objects(agent.kernel, own)
        assert not any(reference.own().values())
    assert set(seen.peers) == {FIP, GATEWAY}


def test_it_is_not_given_back_before_its_conntrack_helpers_are_there(host: lab.Host, tmp_path: Path) -> None:
    reference = ReferenceHost(host, tmp_path / "state", "q4_legacy", {})
    reference.settings = replace(reference.settings, extensions=frozenset(Extension))
    features = replace(reference.router.features, conntrack_helpers=(ConntrackHelper("udp", 69, "tftp"),))
    reference.router = replace(reference.router, features=features)
    reference.take_over()
    reference.restore(LEGACY)
    kernel = reference.reconciler().kernel
    missing = [effect for own in find_own_objects(kernel) for effect in missing_effects(kernel, own)]
    assert [effect.partition(":")[2].split(" for ")[0] for effect in missing] == [" conntrack helper tftp"] * 2
