"""``dvrctl why`` with a real Open vSwitch: VLAN tags, its errors, and a database that does not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.cli.why.answer import Answer, answer
from dvr_agent.cli.why.gather.facts import read_facts
from dvr_agent.config import load
from tests.support import lab, ovs
from tests.support.daemon_lab import Daemon
from tests.support.daemon_site import FLOATING, PORTS, RECORDED, ROUTER, VM_IP
from tests.support.waiting import wait_for

VM_PORT = next(port["id"] for port in PORTS if port["fixed_ips"][0]["ip_address"] == VM_IP)
VM_DEVICE = "vmport"
INTERFACE = f"qr-{RECORDED['router']['_interfaces'][0]['id'][:11]}"


class Site:
    """A host with Open vSwitch on which the daemon has built the router; the L2 agent's part is done by hand."""

    def __init__(self, switch: ovs.OpenVSwitch, base: Path) -> None:
        self.switch = switch
        self.daemon = Daemon(
            base,
            DEFAULT={"host": "compute1", "agent_mode": "dvr_snat", "interface_driver": "openvswitch"},
            OVS={"ovsdb_connection": switch.connection, "ovsdb_timeout": 3},
        )
        (self.daemon.routers / "one.json").write_text(json.dumps(RECORDED))
        self.daemon.start()
        wait_for(lambda: self.daemon.ask(f"/routers/{ROUTER}")[1]["state"] == "in sync")
        self.daemon.stop()
        ids = f"external_ids:iface-id={VM_PORT}"
        switch.vsctl("add-port", "br-int", VM_DEVICE, "--", "set", "Interface", VM_DEVICE, "type=internal", ids)

    def tag(self, *devices: str, tag: int) -> None:
        for device in devices:
            self.switch.vsctl("set", "Port", device, f"tag={tag}")

    def why(self) -> Answer:
        return answer(read_facts(load(["--config-file", str(self.daemon.config)], prog="dvrctl"), FLOATING))


@pytest.fixture
def site(host: lab.Host, tmp_path: Path) -> Iterator[Site]:
    with ovs.open_vswitch() as switch:
        made = Site(switch, tmp_path)
        yield made
        made.daemon.kill()


def test_vlan_tags_and_a_silent_database_are_named(site: Site) -> None:
    assert key(site.why()) == "vlan-none", site.why().sentence
    site.tag(*site.switch.ports(), tag=5)
    assert key(site.why()) is None, site.why().sentence
    site.tag(INTERFACE, tag=6)
    assert key(site.why()) == "vlan-mismatch"
    assert VM_DEVICE in site.why().sentence
    site.tag(VM_DEVICE, tag=4095)
    site.tag(INTERFACE, tag=5)
    assert key(site.why()) == "vlan-dead"
    assert VM_DEVICE in site.why().sentence
    site.tag(VM_DEVICE, tag=5)
    site.switch.vsctl("set", "Interface", VM_DEVICE, "external_ids:attached-mac=fa:16:3e:00:00:99")
    assert key(site.why()) == "instance-mac", site.why().sentence
    assert f"{VM_DEVICE} (port of Open vSwitch) shows that the instance has fa:16:3e:00:00:99" in site.why().sentence
    site.switch.vsctl("remove", "Interface", VM_DEVICE, "external_ids", "attached-mac")
    site.switch.vsctl("del-port", INTERFACE)
    assert key(site.why()) in ("port-unplugged", "link-missing"), site.why().sentence
    site.switch.stop_ovsdb()
    found = site.why()
    assert key(found) == "not-compared", found.sentence
    assert found.is_wrong


def key(found: Answer) -> str | None:
    return found.cause.key if found.cause is not None else None
