"""A host goes from legacy tables to nf_tables, or back: another process begins with the other packet filter.

Nobody notices: no packet is lost, connections go on, and new ones are translated as before.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dvr_agent.cli.render import Renderer, as_lines
from dvr_agent.kernel.host_filter import Backend, HostFilter
from tests.support import lab
from tests.support.other_proxy import answers, asking, proxy
from tests.support.packet_reference import INTERNET, NFT_TABLES, ReferenceHost, nft_tables, own_rules, unharmed
from tests.support.probes import Echo, tracked

OUTSIDE = "203.0.113.1"
FIP, GATEWAY = "203.0.113.183", "203.0.113.193"
VMS = {"fip": "10.1.0.112", "plain": "10.1.0.16"}
OTHER: dict[Backend, Backend] = {"legacy": "nftables", "nftables": "legacy"}
WAYS = {"legacy": "from legacy tables to nf_tables", "nftables": "from nf_tables to legacy tables"}
PLANNED = {
    "legacy": (
        "+ element ip dvr fip_in { 203.0.113.183 : 10.1.0.112 }",
        "stale chains of dvr-agent in iptables table nat",
    ),
    "nftables": ("-j DNAT --to-destination 10.1.0.112", "stale chains of dvr-agent in nft table ip dvr"),
}


@pytest.fixture(params=["legacy", "nftables"])
def was(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """The packet filter of before; in use until :func:`switch`."""
    monkeypatch.setattr(HostFilter, "backend", request.param)
    found: Backend = request.param
    return found


def switch(monkeypatch: pytest.MonkeyPatch, was: Backend) -> None:
    monkeypatch.setattr(HostFilter, "backend", OTHER[was])


def assert_switched(reference: ReferenceHost, was: Backend) -> None:
    """Everything is in the other packet filter only, and the next run of a new process writes nothing."""
    assert all(reference.own(OTHER[was]).values())
    assert not any(reference.own(was).values())
    if was == "nftables":
        assert not any(map(nft_tables, reference.namespaces)), "empty base chains cost every packet"
    else:
        assert all(nft_tables(name) <= set(NFT_TABLES) for name in reference.namespaces)
    reconciler = reference.reconciler()
    assert not reconciler.reconcile(reference.router).plan
    assert reconciler.kernel.counters.total() == 0


def test_floating_ip_and_snat_go_on(
    host: lab.Host, tmp_path: Path, was: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reference = ReferenceHost(host, tmp_path / "state", "b2_dvr_snat_node_with_vms", VMS)
    reference.take_over()
    before = reference.own(was)
    switch(monkeypatch, was)
    agent = reference.reconciler()

    lines = [line.strip() for line in as_lines(Renderer().section(agent.planner.plan(reference.router)))]
    assert all(any(line.endswith(text) for line in lines) for text in PLANNED[was]), lines
    assert agent.kernel.counters.total() == 0
    assert (reference.own(was), any(reference.own(OTHER[was]).values())) == (before, False)

    remove, both = agent.kernel.nftables.remove, []

    def watched(namespace: str) -> int:
        both.append(all(own_rules(namespace, backend) for backend in ("legacy", "nftables")))
        return remove(namespace)

    monkeypatch.setattr(agent.kernel.nftables, "remove", watched)
    ways = ((INTERNET, FIP), ("fip", OUTSIDE), ("plain", OUTSIDE), ("plain", FIP))
    streams = ((INTERNET, FIP), ("plain", OUTSIDE), ("fip", OUTSIDE))
    with Echo(INTERNET) as seen, Echo("fip"):
        with unharmed(*ways, streams=streams), caplog.at_level(logging.INFO):
            outcome = agent.reconcile(reference.router)
        assert both == [True] * 3, "the new rules are there before the old ones go"
        assert set(seen.peers) == {FIP, GATEWAY}
        assert outcome.conntrack_deleted == 0
        assert tracked(reference.snat, "10.1.0.16", OUTSIDE)
        assert_switched(reference, was)
        assert lab.tcp_peer(INTERNET, OUTSIDE, "plain", OUTSIDE) == GATEWAY
        assert lab.tcp_peer(INTERNET, OUTSIDE, "fip", OUTSIDE) == FIP
    (told,) = [text for text in caplog.messages if "packet filter" in text]
    assert told.startswith(f"router {reference.router.id}: packet filter changed {WAYS[was]}; chains removed: ")
    assert all(f"{name}: " in told for name in reference.namespaces)


def test_address_scopes_go_on_with_marks_that_were_taken_over_before(
    host: lab.Host, tmp_path: Path, was: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """neutron-l3-agent's numbers of the scopes are not those that this agent would choose."""
    vms = {"same": "10.64.1.15", "other": "10.80.1.141"}
    reference = ReferenceHost(host, tmp_path / "state", "i_address_scope", vms, "compute2")
    reference.restore()
    reference.take_over()
    switch(monkeypatch, was)
    same, other = "203.0.113.33", "203.0.113.157"
    ways = ((INTERNET, same), (INTERNET, other), ("same", OUTSIDE), ("other", OUTSIDE), ("other", same))
    streams = ((INTERNET, other), ("other", OUTSIDE), ("same", other))
    with Echo(INTERNET) as seen, Echo("other"), Echo("same"):
        with unharmed(*ways, streams=streams):
            reference.take_over()
        assert set(seen.peers) == {other}
    assert_switched(reference, was)
    assert not lab.ping("same", "10.80.1.141", count=1, timeout=0.3)


def test_metadata_goes_on(host: lab.Host, tmp_path: Path, was: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = ReferenceHost(host, tmp_path / "state", "b2_dvr_snat_node_with_vms", VMS)
    reference.take_over(metadata=True)
    switch(monkeypatch, was)
    with proxy(reference.qrouter) as clients:
        with asking("plain"), asking("fip"):
            reference.take_over(metadata=True)
        assert answers("plain")
        assert set(clients) == set(VMS.values())
        assert not answers("plain", "10.1.0.1", 9697, timeout=0.5), "the proxy's port is not for direct use"


def test_there_and_back_again_while_traffic_runs(
    host: lab.Host, tmp_path: Path, was: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = ReferenceHost(host, tmp_path / "state", "b2_dvr_snat_node_with_vms", VMS)
    reference.take_over()
    before = reference.own(was)
    with Echo(INTERNET) as seen, Echo("fip"):
        with unharmed((INTERNET, FIP), ("plain", OUTSIDE), streams=((INTERNET, FIP), ("plain", OUTSIDE))):
            for _ in range(3):
                for now in (OTHER[was], was):
                    monkeypatch.setattr(HostFilter, "backend", now)
                    assert reference.take_over().plan
        assert set(seen.peers) == {GATEWAY}
    assert without_order(reference.own(was)) == without_order(before)
    assert not any(reference.own(OTHER[was]).values())


def without_order(rules: dict[str, str]) -> dict[str, list[str]]:
    return {namespace: sorted(text.splitlines()) for namespace, text in rules.items()}
