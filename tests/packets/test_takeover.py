"""Our agent takes over from neutron-l3-agent, whose rules stand in nf_tables or in legacy tables: nobody notices."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dvr_agent.kernel.host_filter import HostFilter
from tests.support import lab
from tests.support.packet_reference import INTERNET, LEGACY, NFT, NFT_TABLES, ReferenceHost, nft_tables, unharmed
from tests.support.probes import Echo, tracked

OUTSIDE = "203.0.113.1"
FIP = "203.0.113.183"
each_variant = pytest.mark.parametrize("variant", [NFT, LEGACY])


@pytest.fixture
def with_fip(host: lab.Host, tmp_path: Path) -> ReferenceHost:
    """One network; ``fip`` has a floating IP, ``plain`` has none."""
    vms = {"fip": "10.1.0.112", "plain": "10.1.0.16"}
    return ReferenceHost(host, tmp_path / "state", "b2_dvr_snat_node_with_vms", vms)


@pytest.fixture
def with_subnets(host: lab.Host, tmp_path: Path) -> ReferenceHost:
    vms = {"one": "10.1.0.15", "two": "10.2.0.144", "three": "10.1.1.237"}
    return ReferenceHost(host, tmp_path / "state", "j_two_subnets_two_networks", vms)


@pytest.fixture
def with_scopes(host: lab.Host, tmp_path: Path) -> ReferenceHost:
    """``same`` is in the external network's address scope, ``other`` in another, ``none`` in none."""
    vms = {"same": "10.64.1.15", "other": "10.80.1.20", "none": "10.90.1.20"}
    reference = ReferenceHost(host, tmp_path / "state", "i_address_scope", vms)
    lab.run("ip", "-n", INTERNET, "route", "add", "10.64.1.0/24", "via", "203.0.113.119")
    return reference


def assert_taken_over(reference: ReferenceHost) -> None:
    """Nothing of the other agent is left, ours is there, and the next run of a new process writes nothing."""
    for variant in (NFT, LEGACY):
        assert "neutron" not in "".join(reference.saved(variant).values())
    assert all(reference.own().values())
    ours = set(NFT_TABLES) if HostFilter.backend == "nftables" else set()
    for namespace in reference.namespaces:
        assert nft_tables(namespace) <= ours, "empty base chains cost every packet"
    reconciler = reference.reconciler()
    assert not reconciler.reconcile(reference.router).plan
    assert reconciler.kernel.counters.total() == 0


def marks(reference: ReferenceHost, device: str) -> set[int]:
    """Marks of address scopes that our rules give to what comes in by a device of the qrouter namespace."""
    rules = reference.own()[reference.qrouter]
    legacy = re.findall(rf"-A \S+ -i {device} -j MARK --set-xmark (\w+)/0xffff0000", rules)
    nft = re.findall(rf'iifname "{device}" meta mark set meta mark & \w+ \| (\w+)', rules)
    return {int(mark, 16) for mark in (*legacy, *nft)}


@each_variant
def test_floating_ip_and_snat_go_on(with_fip: ReferenceHost, variant: str) -> None:
    with_fip.restore(variant)
    ways = ((INTERNET, FIP), ("fip", OUTSIDE), ("plain", OUTSIDE), ("plain", FIP))
    streams = ((INTERNET, FIP), ("plain", OUTSIDE), ("fip", OUTSIDE))
    with Echo(INTERNET) as seen, Echo("fip"):
        with unharmed(*ways, streams=streams):
            outcome = with_fip.take_over()
        assert set(seen.peers) == {FIP, "203.0.113.193"}
        assert outcome.conntrack_deleted == 0
        assert tracked(with_fip.snat, "10.1.0.16", OUTSIDE)
        assert_taken_over(with_fip)
        assert lab.tcp_peer(INTERNET, OUTSIDE, "plain", OUTSIDE) == "203.0.113.193"
        assert lab.tcp_peer(INTERNET, OUTSIDE, "fip", OUTSIDE) == FIP


@each_variant
def test_east_west_goes_on(with_subnets: ReferenceHost, variant: str) -> None:
    with_subnets.restore(variant)
    with (
        Echo("two"),
        unharmed(("one", "10.2.0.144"), ("two", "10.1.1.237"), ("three", OUTSIDE), streams=(("three", "10.2.0.144"),)),
    ):
        with_subnets.take_over()
    assert_taken_over(with_subnets)


@each_variant
def test_address_scopes_go_on_with_the_marks_that_connections_carry(with_scopes: ReferenceHost, variant: str) -> None:
    with_scopes.restore(variant)
    assert not lab.ping("same", "10.80.1.20", count=1, timeout=0.3)
    ways = ((INTERNET, "10.64.1.15"), ("same", OUTSIDE), ("other", OUTSIDE), ("none", OUTSIDE))
    with Echo(INTERNET) as seen:
        with unharmed(*ways, streams=(("same", OUTSIDE), ("other", OUTSIDE), ("none", OUTSIDE))):
            with_scopes.take_over()
        assert set(seen.peers) == {"10.64.1.15", "203.0.113.90"}
    assert_taken_over(with_scopes)
    assert marks(with_scopes, "qr-9e73f72e-7f") == {0x4020000}
    for source, target in (("same", "10.80.1.20"), ("other", "10.90.1.20"), ("none", "10.64.1.15")):
        assert not lab.ping(source, target, count=1, timeout=0.3)


@each_variant
def test_floating_ips_across_address_scopes_go_on(host: lab.Host, tmp_path: Path, variant: str) -> None:
    """On this host the other agent numbered the scopes in another order."""
    vms = {"same": "10.64.1.15", "other": "10.80.1.141"}
    reference = ReferenceHost(host, tmp_path / "state", "i_address_scope", vms, "compute2")
    reference.restore(variant)
    same, other = "203.0.113.33", "203.0.113.157"
    ways = ((INTERNET, same), (INTERNET, other), ("same", OUTSIDE), ("other", OUTSIDE), ("other", same))
    streams = ((INTERNET, other), ("other", OUTSIDE), ("same", other))
    with Echo(INTERNET) as seen, Echo("other"), Echo("same"):
        with unharmed(*ways, streams=streams):
            reference.take_over()
        assert set(seen.peers) == {other}
        assert_taken_over(reference)
    assert marks(reference, "qr-9e73f72e-7f") == {0x4010000}
    assert marks(reference, "rfp-fa6933c9-9") == {0x4020000}
