"""The metadata proxy that the other agent started goes on answering when its rules are replaced by ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import lab
from tests.support.other_proxy import PORT, answers, asking, proxy
from tests.support.packet_reference import LEGACY, NFT, ReferenceHost, unharmed

each_variant = pytest.mark.parametrize("variant", [NFT, LEGACY])


@pytest.fixture
def reference(host: lab.Host, tmp_path: Path) -> ReferenceHost:
    vms = {"fip": "10.1.0.112", "plain": "10.1.0.16"}
    return ReferenceHost(host, tmp_path / "state", "b2_dvr_snat_node_with_vms", vms)


@each_variant
def test_the_proxy_goes_on_answering(reference: ReferenceHost, variant: str) -> None:
    reference.restore(variant, metadata=True)
    with proxy(reference.qrouter) as clients:
        assert answers("plain")
        with asking("plain"), asking("fip"), unharmed(("plain", "203.0.113.1")):
            outcome = reference.take_over(metadata=True)
        assert outcome.conntrack_deleted == 0
        assert "neutron" not in "".join(reference.saved(variant).values())
        assert answers("plain")
        assert answers("fip")
        assert set(clients) == {"10.1.0.16", "10.1.0.112"}, "the proxy must see who asks"
        assert not answers("plain", "10.1.0.1", PORT, timeout=0.5), "its port is not for direct use"
    reconciler = reference.reconciler(metadata=True)
    assert not reconciler.reconcile(reference.router).plan


def test_the_proxy_of_a_legacy_router_goes_on_answering(host: lab.Host, tmp_path: Path) -> None:
    reference = ReferenceHost(host, tmp_path / "state", "q4_legacy", {"plain": "10.1.0.171"})
    reference.restore(LEGACY, metadata=True)
    with proxy(reference.qrouter) as clients:
        with asking("plain"):
            reference.take_over(metadata=True)
        assert answers("plain")
        assert set(clients) == {"10.1.0.171"}
        assert not answers("plain", "10.1.0.1", PORT, timeout=0.5)


def test_requests_go_nowhere_else_where_no_proxy_listens(reference: ReferenceHost) -> None:
    reference.restore(metadata=True)
    reference.take_over(metadata=True)
    assert not answers("plain", timeout=0.5)


def test_without_the_option_its_rules_go_and_come_back_with_it(reference: ReferenceHost) -> None:
    reference.take_over()
    with proxy(reference.qrouter):
        assert not answers("plain", timeout=0.5)
        reference.take_over(metadata=True)
        assert answers("plain")
        reference.take_over()
        assert not answers("plain", timeout=0.5)
        assert "redirect" not in reference.own()[reference.qrouter].lower()
