"""An HA router on a host with a daemon, and another host of it: a keepalived in a namespace on the HA network."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.support import lab
from tests.support.daemon_site import Site
from tests.support.recorded_documents import feature_document
from tests.support.waiting import wait_for

SCENARIO = "q2_ha_dvr_pair"
RECORDED = feature_document(SCENARIO, "compute1")["router"]
ROUTER = RECORDED["id"]
SNAT = f"snat-{ROUTER}"
HA_DEVICE = f"ha-{RECORDED['_ha_interface']['id'][:11]}"
HA_BRIDGE = f"brq{RECORDED['_ha_interface']['network_id'][:11]}"
PRIMARY = f"169.254.0.{RECORDED['ha_vr_id']}/24"
"""Primary virtual address: who has it is the master."""
CONFS = Path(__file__).parent.parent / "data" / "keepalived"
VIRTUAL = {
    f"{words[2]} {words[0]}"
    for words in map(str.split, (CONFS / f"{SCENARIO}-compute1.conf").read_text().splitlines())
    if len(words) > 2 and words[1] == "dev"
}
"""Device and address of all that the master has, by the configuration that neutron-l3-agent wrote."""
PEER_ADDRESS = "169.254.250.1/18"


def ha_document(status: str = "ACTIVE", **changes: Any) -> dict[str, Any]:
    """Return the recorded document of the router for this host, with changes of the router."""
    document = feature_document(SCENARIO, "compute1")
    document["router"]["_ha_interface"]["status"] = status
    document["router"].update(changes)
    return document


class HaSite(Site):
    """A host with a daemon, and the files of its HA router."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.daemon.configure(DEFAULT={"ha_vrrp_advert_int": 1})
        self.confs = self.daemon.state / "ha_confs"
        self.conf = self.confs / ROUTER / "keepalived.conf"

    def state(self, router_id: str = ROUTER) -> str | None:
        return super().state(router_id)

    def become_master(self) -> None:
        """Start the daemon with the router; returns when this host is its master, and known as such."""
        self.write(ha_document())
        self.daemon.start()
        wait_for(lambda: self.is_master)
        wait_for(lambda: self.state_file == "primary")

    @property
    def writes(self) -> Any:
        """How often the daemon has written to the kernel."""
        return self.daemon.status()["counters"]["writes"]

    @property
    def pids(self) -> list[int]:
        """Process ids of keepalived and its child."""
        paths = [self.confs / f"{ROUTER}.pid.keepalived{child}" for child in ("", "-vrrp")]
        return [int(path.read_text()) for path in paths if path.exists()]

    @property
    def state_file(self) -> str:
        path = self.confs / ROUTER / "state"
        return path.read_text() if path.exists() else ""

    @property
    def addresses(self) -> set[str]:
        """All addresses of the namespace but the HA port's own, with their devices."""
        links = lab.ip_json("address", netns=SNAT)
        found = {
            f"{link['ifname']} {one['local']}/{one['prefixlen']}"
            for link in links
            for one in link.get("addr_info", ())
            if link["ifname"] != "lo"
        }
        own = RECORDED["_ha_interface"]["fixed_ips"][0]
        return found - {f"{HA_DEVICE} {own['ip_address']}/{own['prefixlen']}"}

    @property
    def is_master(self) -> bool:
        return f"{HA_DEVICE} {PRIMARY}" in self.addresses

    @property
    def routes(self) -> set[str]:
        return {one["dst"] for one in lab.ip_json("route", netns=SNAT) if one.get("protocol") == "static"}

    def close(self) -> None:
        self.daemon.kill()
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


CONF = """\
vrrp_instance VR {{
    state BACKUP
    interface ha
    virtual_router_id {vr_id}
    priority 50
    nopreempt
    advert_int 1
    {auth}
    virtual_ipaddress {{
        {primary} dev ha
    }}
}}
"""


class Peer:
    """Another host of the router, as far as VRRP goes: a keepalived in a namespace on the HA network."""

    def __init__(self, base: Path, auth: str = "") -> None:
        self.base = base
        lab.run("ip", "netns", "add", "peer")
        lab.run("ip", "link", "add", "peerha", "type", "veth", "peer", "name", "ha", "netns", "peer")
        lab.run("ip", "link", "set", "peerha", "master", HA_BRIDGE, "up")
        lab.run("ip", "-n", "peer", "link", "set", "ha", "up")
        lab.run("ip", "-n", "peer", "address", "add", PEER_ADDRESS, "dev", "ha")
        conf = base / "peer.conf"
        conf.write_text(CONF.format(vr_id=RECORDED["ha_vr_id"], primary=PRIMARY, auth=auth))
        command = ["ip", "netns", "exec", "peer", "keepalived", "-P", "-n", "-l", "-D", "-f", str(conf)]
        command += ["-p", str(base / "peer.pid"), "-r", str(base / "peer-vrrp.pid")]
        with (base / "peer.log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)

    @property
    def is_master(self) -> bool:
        return any(
            f"{one['local']}/{one['prefixlen']}" == PRIMARY
            for link in lab.ip_json("address", netns="peer")
            for one in link.get("addr_info", ())
        )

    @property
    def is_listening(self) -> bool:
        return (self.base / "peer-vrrp.pid").exists()

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
