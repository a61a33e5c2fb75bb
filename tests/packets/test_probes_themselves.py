"""The probes count right, and the documents are what Neutron would send."""

from __future__ import annotations

import pytest

from dvr_agent.model.parse import parse_document
from tests.support import lab
from tests.support.packet_documents import Cloud, Network, uid
from tests.support.probes import Arp, Echo, Flow, Pinger, arp_seen, who_answers

PUBLIC = Network("public", ("203.0.113.0/24", "2001:db8:f::/64"), 1500, "", ("203.0.113.2",))


@pytest.fixture
def pair(host: lab.Host) -> None:
    host.bridge("br-a")
    host.vm("one", "br-a", "10.9.0.1/24", mac="02:00:00:00:00:01")
    host.vm("two", "br-a", "10.9.0.2/24", mac="02:00:00:00:00:02")


def test_pinger_counts_what_is_lost(pair: None) -> None:
    with Pinger("one", "10.9.0.2") as good:
        good.run_for(10)
    assert good.lost == []
    assert good.sent >= 20
    with Pinger("one", "10.9.0.2") as bad:
        lab.in_netns("two", "iptables-legacy", "-A", "INPUT", "-p", "icmp", "-j", "DROP")
        bad.run_for(10)
        lab.in_netns("two", "iptables-legacy", "-F", "INPUT")
    assert 5 <= len(bad.lost) < bad.sent - 5


def test_echo_and_flow_tell_who_answers(pair: None) -> None:
    with Echo("two") as server:
        flow = Flow("one", "10.9.0.2")
        assert [flow.ask(), flow.ask()] == ["two", "two"]
        assert who_answers("one", "10.9.0.2") == "two"
        assert server.peers == ["10.9.0.1", "10.9.0.1"]
        lab.in_netns("two", "iptables-legacy", "-A", "INPUT", "-j", "DROP")
        assert flow.ask(timeout=0.2) is None
        flow.close()


def test_arp_is_heard(pair: None) -> None:
    with arp_seen("two") as seen:
        assert lab.ping("one", "10.9.0.2", count=1)
    assert Arp(1, "02:00:00:00:00:01", "10.9.0.1", "10.9.0.2") in seen


def test_documents_are_accepted_and_keep_their_ids() -> None:
    cloud = Cloud()
    red = Network("red", ("10.1.0.0/24", "2001:db8:1::/64"), scope="inner")
    vm, central = cloud.vm("vm", red, "10.1.0.11", "2001:db8:1::11"), cloud.vm("central", red, "10.1.0.12", host="")
    document = cloud.router("main", red).gateway(PUBLIC, "203.0.113.10", "2001:db8:f::10", snat=False)
    document.floating_ip("203.0.113.51", vm).floating_ip("203.0.113.60", central, central=True)
    document.route("172.16.0.0/16", "10.1.0.11")
    router = parse_document(document.raw(), "main")
    assert router == parse_document(document.raw(), "main")
    assert router.id == uid("router", "main")
    assert router.gateway is not None
    assert [str(fixed.address) for fixed in router.gateway.fixed_ips] == ["203.0.113.10", "2001:db8:f::10"]
    assert (router.gateway_host, router.enable_snat) == (cloud.host, False)
    assert {str(port.fixed_ips[0].address) for port in router.interfaces} == {"10.1.0.1", "2001:db8:1::1"}
    assert {str(port.fixed_ips[0].address) for port in router.snat_interfaces} == {"10.1.0.250", "2001:db8:1::fa"}
    assert {port.scope4 for port in router.interfaces} == {uid("scope", "inner")}
    assert {str(fip.address): fip.snat_bound for fip in router.floating_ips} == {
        "203.0.113.51": False,
        "203.0.113.60": True,
    }
    (ports,) = {ports for _, ports in router.ports_by_subnet if any(port.mac == central.mac for port in ports)}
    assert {vm.mac, central.mac} <= {port.mac for port in ports}
