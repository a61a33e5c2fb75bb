"""Internal IPv6 addresses that neighbours in the external network reach without a route, and the ways there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.extensions import Extension
from tests.support import lab
from tests.support.extension_documents import ExtendedRouter
from tests.support.packet_documents import Network, Vm, mac
from tests.support.packet_world import INTERNET6, NODE, PUBLIC, World
from tests.support.probes import frames_from
from tests.support.waiting import wait_for

RED = Network("red", ("10.1.0.0/24", "2001:db8:1::/64"))
LOCAL, REMOTE, HIDDEN = "2001:db8:1::11", "2001:db8:1::12", "2001:db8:1::13"
GATEWAY_MAC, AGENT_MAC = mac("port", "gateway", "main", "public"), mac("port", "fg", NODE, "public")


class Site:
    """A SNAT host with VMs ``local``, ``remote`` (to its document on a host without external network), ``hidden``."""

    def __init__(self, host: lab.Host, state_path: Path) -> None:
        self.world = World(host, state_path, AgentMode.DVR_SNAT, Extension.NDP_PROXY)
        cloud = self.world.cloud
        self.local = cloud.vm("local", RED, "10.1.0.11", LOCAL)
        self.remote = cloud.vm("remote", RED, "10.1.0.12", REMOTE, host="elsewhere")
        self.hidden = cloud.vm("hidden", RED, "10.1.0.13", HIDDEN)
        self.router = ExtendedRouter(cloud, "main", [RED])
        self.router.gateway(PUBLIC, "203.0.113.10", "2001:db8:f::10")
        self.router.proxy(self.local, LOCAL)
        self.router.proxy(self.remote, REMOTE, "dvr_no_external")
        self.world.apply(self.router)
        self.world.boot(self.local, self.remote, self.hidden)
        lab.run("ip", "-n", "internet", "-6", "route", "add", RED.cidrs[1], "dev", "eth0")
        self.world.settle()

    def reaches(self, address: str, patient: bool = True) -> bool:
        """Ping from the external network; what was learned of the address before does not count."""
        lab.run("ip", "-n", "internet", "-6", "neigh", "del", address, "dev", "eth0", check=False)
        return lab.ping("internet", address, timeout=None if patient else 1)

    def second_run(self) -> int:
        """Number of writes of a run without a change."""
        before = self.world.reconciler.kernel.counters.total()
        self.world.apply(self.router)
        return self.world.reconciler.kernel.counters.total() - before

    def resync(self) -> int:
        """Number of writes of a resync."""
        before = self.world.reconciler.kernel.counters.total()
        self.world.resync(self.router)
        return self.world.reconciler.kernel.counters.total() - before


@pytest.fixture
def site(host: lab.Host, tmp_path: Path) -> Site:
    return Site(host, tmp_path)


def test_local_addresses_use_the_fip_namespace_both_ways_and_others_the_snat_namespace(site: Site) -> None:
    assert site.second_run() == 0
    for address, way, other in ((LOCAL, AGENT_MAC, GATEWAY_MAC), (REMOTE, GATEWAY_MAC, AGENT_MAC)):
        with frames_from("internet", way) as expected, frames_from("internet", other) as unexpected:
            assert site.reaches(address)
        assert (address in expected, address in unexpected) == (True, False)
        neighbours = lab.ip_json("-6", "neigh", "show", address, netns="internet")
        assert [one["lladdr"] for one in neighbours] == [way]
    assert site.resync() == 0
    for namespace, address in ((f"fip-{PUBLIC.id}", LOCAL), (site.router.snat_namespace, REMOTE)):
        (entry,) = lab.ip_json("-6", "neigh", "show", "proxy", netns=namespace)
        lab.run("ip", "-n", namespace, "-6", "neigh", "del", "proxy", address, "dev", entry["dev"])
        lab.run("ip", "-n", namespace, "-6", "neigh", "add", "proxy", HIDDEN, "dev", entry["dev"])
        assert site.resync() == 2
        assert lab.ip_json("-6", "neigh", "show", "proxy", netns=namespace) == [entry]
    # Connections that a VM begins take the same ways.
    with frames_from("internet", AGENT_MAC) as seen:
        assert lab.ping("local", INTERNET6)
    assert LOCAL in seen


def test_other_addresses_of_the_subnet_are_closed_in_the_snat_namespace(site: Site) -> None:
    def static(address: str) -> None:
        words = ("ip", "-n", "internet", "-6", "neigh", "replace", address, "lladdr", GATEWAY_MAC, "dev", "eth0")
        lab.run(*words, "nud", "permanent")

    assert not site.reaches(HIDDEN, patient=False)
    static(HIDDEN)
    assert not lab.ping("internet", HIDDEN, timeout=1)
    static(REMOTE)
    assert lab.ping("internet", REMOTE)
    # Without the router's flag the subnets are open, as they were before, and nobody answers for their addresses.
    site.router.proxies_on = False
    site.world.apply(site.router)
    assert lab.ping("internet", HIDDEN)
    assert not site.reaches(LOCAL, patient=False)
    assert not site.reaches(REMOTE, patient=False)
    assert site.second_run() == 0


def test_a_vm_that_moves_takes_its_address_along(site: Site) -> None:
    moved = Vm(site.local.name, RED, site.local.addresses, "elsewhere")
    assert site.reaches(LOCAL)
    site.router.proxy(moved, LOCAL, "dvr_no_external")
    site.world.apply(site.router)

    def known() -> str:
        (neighbour,) = lab.ip_json("-6", "neigh", "show", LOCAL, netns="internet")
        return str(neighbour["lladdr"])

    wait_for(lambda: known() == GATEWAY_MAC, "a neighbour that knew the other way has heard the announcement")
    with frames_from("internet", GATEWAY_MAC) as seen:
        assert lab.ping("internet", LOCAL)
    assert LOCAL in seen
    site.router.proxy(moved, LOCAL, "dvr")  # a fip namespace elsewhere answers
    site.world.apply(site.router)
    assert not site.reaches(LOCAL, patient=False)
    assert site.second_run() == 0


def test_a_router_that_is_made_legacy_and_distributed_again_goes_on_answering(site: Site) -> None:
    for legacy, way in ((True, GATEWAY_MAC), (False, AGENT_MAC)):
        site.router.legacy = legacy
        site.world.apply(site.router)
        for address, mac_address in ((LOCAL, way), (REMOTE, GATEWAY_MAC)):
            with frames_from("internet", mac_address) as seen:
                assert site.reaches(address)
            assert address in seen
        assert not site.reaches(HIDDEN, patient=False)
        assert (site.second_run(), site.resync()) == (0, 0)


def test_what_the_kernel_has_stays_while_the_objects_are_not_known(site: Site) -> None:
    site.router.unknown = True
    for fresh in (False, True):
        if fresh:
            site.world.start_agent()
        (done,) = site.world.apply(site.router)
        assert [text.partition(":")[0] for text in done.plan.omitted] == ["ndp_proxy"]
        assert site.second_run() == 0
    assert site.reaches(LOCAL)
    assert site.reaches(REMOTE)
    assert not site.reaches(HIDDEN, patient=False)


def test_nothing_is_left_of_a_router_that_goes(site: Site) -> None:
    other = ExtendedRouter(site.world.cloud, "other", [Network("blue", ("10.2.0.0/24",))])
    site.world.apply(other.gateway(PUBLIC, "203.0.113.20"))
    fip = f"fip-{PUBLIC.id}"
    assert lab.ip_json("-6", "neigh", "show", "proxy", netns=fip) != []
    site.world.start_agent()  # it does not know the document any more
    site.world.remove(site.router)
    assert lab.ip_json("-6", "neigh", "show", "proxy", netns=fip) == []
    assert f"rule {LOCAL}" not in lab.run("ip", "-n", fip, "-6", "rule")


def test_a_sweep_removes_those_of_a_router_whose_devices_are_gone(site: Site) -> None:
    red6 = Network("blue", ("10.2.0.0/24", "2001:db8:2::/64"))
    other = ExtendedRouter(site.world.cloud, "other", [red6]).gateway(PUBLIC, "203.0.113.20", "2001:db8:f::20")
    site.world.apply(other)
    site.world.start_agent()
    lab.run("ip", "netns", "del", site.router.qrouter)
    fip = f"fip-{PUBLIC.id}"
    wait_for(
        lambda: not [one for one in lab.ip_json("link", netns=fip) if site.router.id[:10] in one["ifname"]], "gone"
    )
    assert lab.ip_json("-6", "neigh", "show", "proxy", netns=fip) != []
    site.world.resync(other)
    site.world.reconciler.remove_stale([other.id])
    assert lab.ip_json("-6", "neigh", "show", "proxy", netns=fip) == []


def test_dvrctl_shows_them(site: Site, tmp_path: Path) -> None:
    conf = tmp_path / "dvr-agent.conf"
    conf.write_text(f"[DEFAULT]\nhost = {NODE}\nagent_mode = dvr_snat\nstate_path = {tmp_path}\n")
    words = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(conf), "show", "router", site.router.id]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    for address in (LOCAL, REMOTE):
        assert f"neighbour proxy {address} dev " in shown
