"""The laboratory itself, what the other tests stand on; and the kernel under it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent.errors import KernelError
from dvr_agent.kernel import linux
from dvr_agent.kernel.linux import probe_kernel
from tests.support import lab


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


def test_this_kernel_has_what_every_router_needs(host: lab.Host) -> None:
    probe_kernel()
    assert lab.run("ip", "netns", "list") == "", "the probe leaves nothing"


def test_a_kernel_without_connection_tracking_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "_CONNTRACK_SYSCTL", Path("/proc/sys/net/netfilter/no_such_parameter"))
    with pytest.raises(KernelError, match="nf_conntrack"):
        probe_kernel()
