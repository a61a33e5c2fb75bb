"""A host as neutron-l3-agent left it: recorded devices, addresses, routes, rules, packet filter, limits and files.

Nothing of the code under test makes it: ``ip``, ``iptables-restore``, ``tc``, Open vSwitch, radvd and keepalived do.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from dvr_agent.attach.openvswitch.driver import OpenVSwitchDriver
from dvr_agent.config import load, make_settings
from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.extensions import Extension
from dvr_agent.reconcile.factory import open_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab, ovs
from tests.support.oracle_recordings import Scenario
from tests.support.oracle_watch import until_settled
from tests.support.packet_reference import recorded_filter, restore_filter
from tests.support.recorded_documents import DATA, MODES
from tests.support.waiting import wait_for

ADVERT_INT = 1
"""Seconds between advertisements, so that a test need not wait for the recorded two."""
PAIR = ("rfp-", "fpr-")
PEER_ADDRESS, PEER_MAC = "169.254.250.1/18", "fa:16:3e:00:00:01"
PEER = f"""\
vrrp_instance VR {{{{
    state BACKUP
    interface eth0
    virtual_router_id {{vr_id}}
    priority 50
    nopreempt
    advert_int {ADVERT_INT}
    virtual_ipaddress {{{{
        {{primary}} dev eth0
    }}}}
}}}}
"""
MONITOR = "neutron-keepalived-state-change"


class RecordedHost:
    """The host of a scenario, on a throw-away host with Open vSwitch.

    :param variant: of iptables, which has the packet filter
    """

    def __init__(self, switch: ovs.OpenVSwitch, state_path: Path, scenario: Scenario, variant: str) -> None:
        self.scenario, self.state_path, self._switch = scenario, state_path, switch
        self.router_id: str = scenario.router["id"]
        self.namespaces = sorted(set(self._recorded) - {"files"})
        self._processes: list[subprocess.Popen[bytes]] = []
        self._write_files()
        for name in self.namespaces:
            lab.run("ip", "netns", "add", name)
            lab.run("ip", "-n", name, "link", "set", "lo", "up")
            self._set(name, "addr_gen_mode")
        for name in self.namespaces:
            self._make_links(name)
        for name in self.namespaces:
            self._fill(name)
        restore_filter(recorded_filter(scenario), variant)
        self._start_radvd()
        self.keepalived = self._start_keepalived() if self.confs.exists() else []
        until_settled(self.namespaces)

    @cached_property
    def _recorded(self) -> dict[str, dict[str, list[Any]]]:
        found: dict[str, dict[str, list[Any]]] = json.loads(
            (DATA / "recorded_hosts" / f"{self.scenario}.json").read_text()
        )
        return found

    @property
    def conf(self) -> Path:
        """The configuration of our agent."""
        return self.state_path.parent / "dvr-agent.conf"

    @property
    def confs(self) -> Path:
        return self.state_path / "ha_confs" / self.router_id

    @property
    def ha_namespace(self) -> str:
        return next(
            name for name in self.namespaces if any(link[0].startswith("ha-") for link in self._recorded[name]["links"])
        )

    @cached_property
    def was_master(self) -> bool:
        """True if the recorded host was the master."""
        return (self.confs / "state").read_text() == "primary"

    @cached_property
    def keepalived_conf(self) -> str:
        """The configuration of keepalived as neutron-l3-agent left it; empty if there is none."""
        path = self.confs / "keepalived.conf"
        return path.read_text() if path.exists() else ""

    @property
    def primary(self) -> str:
        """Device and primary virtual address."""
        router = self.scenario.router
        return f"ha-{router['_ha_interface']['id'][:11]} 169.254.0.{router['ha_vr_id']}/24"

    def pids(self) -> list[int]:
        """Process ids of keepalived and of its child."""
        paths = [self.state_path / "ha_confs" / f"{self.router_id}.pid.keepalived{child}" for child in ("", "-vrrp")]
        return [int(text) for path in paths if path.exists() and (text := path.read_text().strip())]

    def addresses(self, namespace: str) -> set[str]:
        return {
            f"{link['ifname']} {one['local']}/{one['prefixlen']}"
            for link in lab.ip_json("address", netns=namespace)
            for one in link["addr_info"]
        }

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for path in (
            *(self.state_path / "ha_confs").glob("*.pid.*"),
            *(self.state_path / "external" / "pids").glob("*.pid.*"),
        ):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)

    def _write_files(self) -> None:
        (self.state_path / "external" / "pids").mkdir(parents=True, exist_ok=True)
        for name, mode, text in self._recorded["files"]["state_path"]:
            path = self.state_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(re.sub(r"advert_int \d+", f"advert_int {ADVERT_INT}", text))
            path.chmod(int(mode, 8))

    def _make_links(self, namespace: str) -> None:
        ports = self.scenario.ports() | self._ha_port()
        for name, mac, mtu, kind in self._recorded[namespace]["links"]:
            if kind == "veth":
                if not self._is_there(namespace, name):
                    self._make_pair(namespace, name)
            else:
                ids = {"iface-id": ports[name]["id"], "iface-status": "active", "attached-mac": mac}
                words = [f'external_ids:{key}="{value}"' for key, value in ids.items()]
                self._switch.vsctl("add-port", "br-int", name, "--", "set", "Interface", name, "type=internal", *words)
                lab.run("ip", "link", "set", name, "netns", namespace)
            lab.run("ip", "-n", namespace, "link", "set", name, "address", mac, "mtu", mtu)
            self._set(namespace, f"{name}.addr_gen_mode")
        for name, *_rest in self._recorded[namespace]["links"]:
            lab.run("ip", "-n", namespace, "link", "set", name, "up")

    def _ha_port(self) -> dict[str, dict[str, Any]]:
        port = self.scenario.router.get("_ha_interface")
        return {f"ha-{port['id'][:11]}": port} if port else {}

    def _is_there(self, namespace: str, name: str) -> bool:
        return any(link["ifname"] == name for link in lab.ip_json("link", netns=namespace))

    def _make_pair(self, namespace: str, name: str) -> None:
        ours, other = PAIR if name.startswith(PAIR[0]) else PAIR[::-1]
        peer = name.replace(ours, other)
        where = next(one for one in self.namespaces if any(link[0] == peer for link in self._recorded[one]["links"]))
        lab.run("ip", "-n", namespace, "link", "add", name, "type", "veth", "peer", "name", peer, "netns", where)

    def _fill(self, namespace: str) -> None:
        self._set(namespace, "")
        lines = self._recorded[namespace]["ip"]
        if self.confs.exists() and namespace == self.ha_namespace:
            lines = [line for line in lines if not self._is_virtual(line)]
        for line in lines:  # a batch would not say which line failed
            lab.run("ip", "-n", namespace, *line.split())
        self._set(namespace, "")  # forwarding of all has overwritten that of devices
        for line in self._recorded[namespace]["tc"]:
            lab.run("tc", "-n", namespace, *line.split())

    def _set(self, namespace: str, last: str) -> None:
        """Set the recorded parameters whose keys end so."""
        lines = [line for line in self._recorded[namespace]["sysctl"] if line.split(" = ")[0].endswith(last)]
        lab.in_netns(namespace, "sysctl", "-e", "-q", "-p", "-", text="".join(f"{line}\n" for line in lines))

    def _is_virtual(self, line: str) -> bool:
        """True for an address or a route that keepalived adds by its recorded configuration."""
        words = line.split()
        text = self.keepalived_conf
        if words[0] == "addr":
            return f"{words[2]} dev {words[4]} " in text.replace("\n", " \n")
        if words[1] == "route":
            dst = {"default": "::/0" if words[0] == "-6" else "0.0.0.0/0"}.get(words[3], words[3])
            return f" {dst} via" in text
        return False

    def _start_radvd(self) -> None:
        for path in (self.state_path / "ra").glob("*.radvd.conf"):
            pid = self.state_path / "external" / "pids" / f"{self.router_id}.pid.radvd"
            words = ("radvd", "-C", path, "-p", pid, "-m", "syslog", "-u", "root")
            lab.in_netns(f"qrouter-{self.router_id}", *words)

    def _start_keepalived(self) -> list[int]:
        """Start it, and what looks as its monitor does; returns the process ids of keepalived."""
        if not self.was_master:
            self._start_peer()
        base = self.state_path / "ha_confs" / self.router_id
        pid, child = (f"{base}.pid.keepalived{one}" for one in ("", "-vrrp"))
        lab.in_netns(
            self.ha_namespace, "keepalived", "-P", "-f", self.confs / "keepalived.conf", "-p", pid, "-r", child
        )
        script = self.state_path / MONITOR
        script.write_text("while :; do sleep 1; done\n")
        monitor = subprocess.Popen(["/bin/sh", str(script), "--router_id", self.router_id])
        self._processes.append(monitor)
        self._monitor = monitor
        name = f"{self.router_id}.monitor.pid.{MONITOR}-monitor"
        (self.state_path / "external" / "pids" / name).write_text(str(monitor.pid))
        wait_for(lambda: len(self.pids()) == 2)
        if self.was_master:
            wait_for(lambda: self.primary in self.addresses(self.ha_namespace))
            self._start_peer()
        return self.pids()

    def _start_peer(self) -> None:
        """Start the keepalived of the other host; returns when it is the master, or waits for one."""
        self._switch.vm("peer", PEER_ADDRESS, PEER_MAC)
        conf = self.state_path / "peer.conf"
        primary = self.primary.split()[1]
        conf.write_text(PEER.format(vr_id=self.scenario.router["ha_vr_id"], primary=primary))
        pids = [self.state_path / name for name in ("peer.pid", "peer-vrrp.pid")]
        words = ("ip", "netns", "exec", "peer", "keepalived", "-P", "-n", "-f", conf, "-p", pids[0], "-r", pids[1])
        self._processes.append(subprocess.Popen(list(map(str, words))))
        wait_for(lambda: self.peer_is_master is not self.was_master and pids[1].exists())

    @property
    def monitor_has_ended(self) -> bool:
        return self._monitor.poll() is not None

    @property
    def peer_is_master(self) -> bool:
        return f"eth0 {self.primary.split()[1]}" in self.addresses("peer")


CONF = """\
[DEFAULT]
host = {host}
agent_mode = {mode}
state_path = {state_path}
interface_driver = openvswitch
enable_metadata_proxy = False
ha_vrrp_advert_int = {interval}
[agent]
extensions = {extensions}
[ovs]
ovsdb_connection = {ovsdb}
"""


@contextlib.contextmanager
def recorded_host(folder: Path, scenario: Scenario, variant: str) -> Iterator[RecordedHost]:
    """The host of a scenario with an Open vSwitch of its own during the block, and a configuration of our agent."""
    with ovs.open_vswitch() as switch:
        made = RecordedHost(switch, folder / "state", scenario, variant)
        made.conf.write_text(
            CONF.format(
                host=scenario.host,
                mode=MODES.get(scenario.host, AgentMode.DVR_SNAT).value,
                state_path=made.state_path,
                interval=ADVERT_INT,
                extensions=",".join(one.value for one in Extension),
                ovsdb=switch.connection,
            )
        )
        try:
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def our_agent(made: RecordedHost) -> Iterator[RouterReconciler]:
    """A process of our agent on that host, as its configuration says, during the block."""
    agent = open_reconciler(make_settings(load(["--config-file", str(made.conf)])))
    agent.load()
    try:
        yield agent
    finally:
        agent.services.close()
        assert isinstance(agent.attach, OpenVSwitchDriver)
        agent.attach.close()
