"""An HA router through an upgrade of the package, by either VRRP program: no host takes over, no packet is lost.

And dvr-vrrp through crashes without an agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from dvr_agent import __version__
from tests_deb.container import Container
from tests_deb.packages import Packages
from tests_deb.places import booted_tree
from tests_vm.site import EXAMPLE, FLOATING, INTERNET, ROUTER, SETTINGS, Site

VR_ID = 7
HA_NETWORK = "7f6f9d52-3a0c-5f0e-9c57-0f2f3c2f8a11"
HA_PORT = "5d8a3c1e-7b42-5c6d-8e9f-1a2b3c4d5e6f"
QROUTER = f"qrouter-{ROUTER}"
PRIMARY = f"169.254.0.{VR_ID}/24"
"""Who has it is the master."""
PID, STATISTICS = "/run/peer-vrrp.pid", "/tmp/keepalived.stats"
WAYS = {"internet": FLOATING, "blue2": INTERNET}
"""Who pings what."""
PEER_CONF = f"""\
vrrp_instance VR {{
    state BACKUP
    interface ha
    virtual_router_id {VR_ID}
    priority 50
    nopreempt
    advert_int 2
    virtual_ipaddress {{
        {PRIMARY} dev ha
    }}
}}
"""
PEER = f"""\
ip netns add peer
ip link add peerha type veth peer name ha netns peer
ip link set peerha master brq{HA_NETWORK[:11]} up
ip -n peer link set ha up
ip -n peer address add 169.254.250.1/18 dev ha
systemd-run -q --unit=peer ip netns exec peer keepalived -P -n -l -D -f /run/peer.conf -p /run/peer.pid -r {PID}
"""


def ha_document() -> dict[str, Any]:
    """Return the router of the example as an HA router that is not distributed: all its packets pass the master."""
    port = {
        "id": HA_PORT,
        "network_id": HA_NETWORK,
        "device_owner": "network:router_ha_interface",
        "mac_address": "fa:16:3e:0b:90:77",
        "mtu": 1500,
        "admin_state_up": True,
        "binding:host_id": "demo",
        "status": "ACTIVE",
        "fixed_ips": [{"ip_address": "169.254.192.10", "prefixlen": 18, "subnet_id": HA_NETWORK}],
        "subnets": [{"id": HA_NETWORK, "cidr": "169.254.192.0/18", "gateway_ip": None}],
        "extra_subnets": [],
        "address_scopes": {"4": None, "6": None},
    }
    ha = {"distributed": False, "ha": True, "ha_vr_id": VR_ID, "_ha_state": "active", "_ha_interface": port}
    return {**EXAMPLE, "router": {**EXAMPLE["router"], **ha}}


class Peer:
    """Another host of the router, as far as VRRP goes: a keepalived on the HA network, which would take over."""

    def __init__(self, site: Site) -> None:
        self._site = site
        site.machine.write("/run/peer.conf", PEER_CONF)
        site.machine.shell(PEER)
        site.machine.wait_until("the peer runs", lambda: site.machine.run("test", "-s", PID, check=False).code == 0)
        site.machine.wait_until("the peer hears the master", lambda: self.heard() > 0)

    def heard(self) -> int:
        """How many advertisements it has received, by the statistics that it writes now."""
        self._site.machine.shell(f"rm -f {STATISTICS}; kill -USR2 $(cat {PID})")

        def written() -> list[str]:
            return re.findall(r"Received: (\d+)", self._site.machine.run("cat", STATISTICS, check=False).out)

        return int(self._site.machine.wait_until("the peer writes its statistics", written)[0])

    @property
    def was_master(self) -> bool:
        return any("MASTER STATE" in line for line in self._site.messages(unit="peer"))


@pytest.fixture(scope="module", params=["keepalived", "builtin"])
def vrrp(request: pytest.FixtureRequest) -> str:
    """The program that speaks VRRP (``ha_vrrp``)."""
    return str(request.param)


@pytest.fixture(scope="module")
def host(vrrp: str, packages: Packages) -> Iterator[Container]:
    """A host with the package of the version before."""
    with booted_tree(f"ha-{vrrp}") as container:
        container.run("apt-get", "install", "-y", container.put(packages.old))
        yield container


@pytest.fixture(scope="module")
def site(vrrp: str, host: Container) -> Site:
    """The agent with an HA router, of which this host is the master, and instances."""
    made = Site(host)
    made.install(f"{SETTINGS}[dvr_agent]\nha_vrrp = {vrrp}\n", ha_document())
    if vrrp == "builtin":
        host.run("systemctl", "enable", "--now", "dvr-vrrp")
    made.begin()
    host.wait_until("this host is the master", lambda: PRIMARY in addresses(host))
    host.wait_until("it is known as such", lambda: made.status()["routers"][0]["vrrp"] == "master")
    return made


@pytest.fixture(scope="module")
def peer(site: Site) -> Peer:
    """Another host of the router."""
    return Peer(site)


def addresses(host: Container) -> str:
    return host.run("ip", "-n", QROUTER, "-o", "address").out


def speakers(site: Site, vrrp: str) -> set[int]:
    """Process ids of what speaks VRRP for the router."""
    if vrrp == "builtin":
        return {site.pid("dvr-vrrp")}
    files = [f"/var/lib/neutron/ha_confs/{ROUTER}.pid.keepalived{child}" for child in ("", "-vrrp")]
    return set(map(int, site.machine.run("cat", *files).out.split()))


def test_the_master_stays_master_and_no_packet_is_lost(
    site: Site, host: Container, vrrp: str, packages: Packages, peer: Peer
) -> None:
    pings = [site.start_pinging(name, target, interval=0.02) for name, target in WAYS.items()]
    before, version, since = speakers(site, vrrp), site.status()["version"], site.now()
    host.run("apt-get", "install", "-y", host.put(packages.new))
    site.wait_in_sync()
    heard = peer.heard()
    host.wait_until("the peer goes on hearing the master", lambda: peer.heard() > heard + 2)
    counts = {name: site.stop_pinging(name) for name in pings}
    assert (version, site.status()["version"]) == (packages.old_version, __version__)
    assert (speakers(site, vrrp) == before) == (vrrp == "keepalived")
    assert not peer.was_master
    assert PRIMARY in addresses(host)
    assert site.status()["routers"][0]["vrrp"] == "master"
    assert [line for line in site.messages(since=since) if "this host is a backup" in line] == []
    assert all(sent >= 10 for sent, _ in counts.values())
    assert {name: missing for name, (_, missing) in counts.items()} == dict.fromkeys(WAYS, 0)
    assert [line for line in site.messages(since=since) if ": added: " in line or ": removed: " in line] == []
    site.assert_nothing_to_do()


def test_crash_and_restart_of_dvr_vrrp_without_an_agent_are_no_fail_over(
    site: Site, host: Container, vrrp: str, peer: Peer
) -> None:
    """systemd keeps the sockets for the next process, and closes them at a stop."""
    if vrrp != "builtin":
        pytest.skip("keepalived takes no sockets from the agent")
    host.run("systemctl", "stop", "dvr-agent")
    host.run("systemctl", "kill", "--signal=KILL", "dvr-metadata-proxy")
    pings = [site.start_pinging(name, target, interval=0.02) for name, target in WAYS.items()]
    for words in (("kill", "--signal=KILL"), ("kill", "--signal=KILL"), ("restart",)):
        before = site.pid("dvr-vrrp")
        host.run("systemctl", *words, "dvr-vrrp")
        host.wait_until("there is another process", lambda pid=before: site.pid("dvr-vrrp") not in (0, pid))
        host.wait_until("it runs", lambda: site.active("dvr-vrrp") == "active")
        assert site.property("NFileDescriptorStore", "dvr-vrrp") == "1"
        heard = peer.heard()
        host.wait_until("the peer goes on hearing the master", lambda heard=heard: peer.heard() > heard + 2)
    metadata = ("curl", "-s", "-m", "60", "http://169.254.169.254/")
    assert host.run("ip", "netns", "exec", "blue", *metadata).out == site.vms["blue"].address
    counts = {name: site.stop_pinging(name) for name in pings}
    assert not peer.was_master
    assert PRIMARY in addresses(host)
    assert all(sent >= 10 for sent, _ in counts.values())
    assert {name: missing for name, (_, missing) in counts.items()} == dict.fromkeys(WAYS, 0)
    host.run("systemctl", "start", "dvr-agent")
    site.wait_in_sync()
    site.assert_nothing_to_do()
    host.run("systemctl", "stop", "dvr-vrrp")
    assert site.property("NFileDescriptorStore", "dvr-vrrp") == "0"
