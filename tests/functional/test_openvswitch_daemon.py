"""The whole daemon, and dvrctl, with Open vSwitch: what it lost comes back without an audit, packets tell so."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import lab, ovs
from tests.support.ctl import run_ctl
from tests.support.daemon_lab import Daemon
from tests.support.daemon_site import FIP, FLOATING, MACS, QROUTER, RECORDED, ROUTER, SNAT, VM_IP
from tests.support.waiting import wait_for

INTERFACE = f"qr-{RECORDED['router']['_interfaces'][0]['id'][:11]}"


class Site:
    """A host with Open vSwitch and the daemon, which never audits by the clock."""

    def __init__(self, switch: ovs.OpenVSwitch, base: Path, use_veth: bool) -> None:
        self.switch = switch
        self.daemon = Daemon(
            base,
            DEFAULT={
                "host": "compute1",
                "agent_mode": "dvr_snat",
                "interface_driver": "openvswitch",
                "ovs_use_veth": use_veth,
            },
            dvr_agent={"audit_interval": 0},
            OVS={"ovsdb_connection": switch.connection, "ovsdb_timeout": 3},
        )
        (self.daemon.routers / "one.json").write_text(json.dumps(RECORDED))

    def state(self) -> str:
        code, body = self.daemon.ask(f"/routers/{ROUTER}")
        return str(body["state"]) if code == 200 else ""

    def attach_hosts(self) -> None:
        """A VM, and a host on the external network.  One layer 2 network carries both, told apart by subnets."""
        self.switch.vm("vm", f"{VM_IP}/24", MACS[VM_IP])
        lab.run("ip", "-n", "vm", "route", "add", "default", "via", "10.1.0.1")
        self.switch.vm("internet", "203.0.113.1/24", "fa:16:3e:99:00:01")

    def numbers(self) -> set[int]:
        """OpenFlow port numbers of the router's interface, which exists once; empty while it does not work."""
        names = {INTERFACE, "tap" + INTERFACE[3:]}
        return {int(row["ofport"] or 0) for name, row in self.switch.interfaces().items() if name in names}

    def reached(self) -> bool:
        return lab.ping("internet", FLOATING, count=1, timeout=1)

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run_ctl(self.daemon.config, *words)


@pytest.fixture
def site(request: pytest.FixtureRequest, host: lab.Host, tmp_path: Path) -> Iterator[Site]:
    with ovs.open_vswitch() as switch:
        made = Site(switch, tmp_path, getattr(request, "param", False))
        yield made
        process = made.daemon.process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("site", [False, True], ids=["internal", "veth"], indirect=True)
def test_packets_pass_again_after_everything_that_open_vswitch_can_lose(site: Site) -> None:
    site.daemon.start()
    site.attach_hosts()
    wait_for(site.reached)
    site.switch.vsctl("del-port", site.switch.ports().intersection({INTERFACE, "tap" + INTERFACE[3:]}).pop())
    wait_for(site.reached)
    site.switch.stop_ovsdb()  # the userspace datapath forwards nothing until it is back
    site.switch.start_ovsdb()
    wait_for(site.reached)
    site.switch.stop_vswitchd(signal.SIGKILL)
    site.switch.start_vswitchd()
    for name in ("vm", "internet"):  # nobody but the test brings the devices of instances back
        lab.run("ip", "netns", "del", name)
    for name in site.switch.ports():
        if name.startswith("tap") and len(name) < 14:
            site.switch.vsctl("del-port", name)
    site.attach_hosts()
    wait_for(site.reached)
    (site.daemon.routers / "one.json").unlink()
    wait_for(lambda: not {QROUTER, SNAT, FIP} & {path.name for path in lab.NETNS.iterdir()})
    assert not {name for name in site.switch.ports() if len(name) == 14}
    assert site.daemon.stop() == 0
    assert "Traceback" not in site.daemon.err


@pytest.mark.parametrize("site", [False, True], ids=["internal", "veth"], indirect=True)
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_interfaces_are_plugged_anew_when_the_router_becomes_of_another_kind(site: Site, restarted: bool) -> None:
    """Neutron's Open vSwitch agent sets flows for the kind that a router is of when its port appears."""
    site.daemon.start()
    site.attach_hosts()
    wait_for(site.reached)
    kinds = [RECORDED, copy.deepcopy(RECORDED)]
    kinds[1]["router"].update(distributed=False, gw_port_host="compute1", _snat_router_interfaces=[])
    for kind in (1, 0):
        before = site.numbers()
        if restarted:
            site.daemon.stop()
        (site.daemon.routers / "one.json").write_text(json.dumps(kinds[kind]))
        if restarted:
            assert "was plugged for a router that is" in site.ctl("plan").stdout
            site.daemon.start()
        wait_for(lambda: site.numbers() != before, "the interface has another OpenFlow port number")  # noqa: B023
        wait_for(lambda: site.state() == "in sync")
        wait_for(site.reached)
        assert ({SNAT, FIP} <= {path.name for path in lab.NETNS.iterdir()}) == (kind == 0)
        assert site.ctl("plan").returncode == 0
    assert "Traceback" not in site.daemon.err


def test_open_vswitch_comes_up_after_the_daemon(site: Site) -> None:
    site.switch.stop_vswitchd()
    site.switch.stop_ovsdb()
    site.daemon.start()
    assert site.state() == "degraded"
    plan = site.ctl("plan", str(site.daemon.routers / "one.json"))
    assert "does ovsdb-server run?" in plan.stdout + plan.stderr
    assert site.ctl("show", "routers").returncode == 0
    site.switch.start_ovsdb()
    site.switch.start_vswitchd()
    wait_for(lambda: site.state() == "in sync")
    assert site.ctl("plan").returncode == 0
    assert "eprecat" not in site.ctl("plan").stderr
    assert INTERFACE in site.ctl("show", "router", ROUTER).stdout
    assert {link["ifname"] for link in lab.ip_json("link")} == ovs.HOST_DEVICES
