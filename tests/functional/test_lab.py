"""The laboratory itself: what the other tests stand on."""

from __future__ import annotations

from tests import lab


def test_two_vms_on_a_bridge_reach_each_other(host: lab.Host) -> None:
    host.bridge("br-a")
    host.vm("one", "br-a", "10.9.0.1/24")
    host.vm("two", "br-a", "10.9.0.2/24")
    assert lab.ping("one", "10.9.0.2")
    assert not lab.ping("one", "10.9.0.3", timeout=0.3)
    assert lab.tcp_peer("two", "10.9.0.2", "one", "10.9.0.2") == "10.9.0.1"


def test_hosts_do_not_see_each_other(host: lab.Host) -> None:
    assert [link["ifname"] for link in lab.ip_json("link") if link["ifname"].startswith(("br-", "eth"))] == []
    assert lab.run("ip", "netns", "list") == ""
