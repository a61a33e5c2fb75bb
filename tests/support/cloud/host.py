"""One emulated host: namespaces of its own, Open vSwitch in user space, Neutron's agents, dvr-agent, instances.

Network, mount, process and host name namespaces: ``/run`` is its own, ``ip netns`` shows its own namespaces only, and a
look for processes finds those of this host.  Three cables lead into the sandbox: management (RabbitMQ), tunnels (vxlan
between the ``br-tun``), and one for each external network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dvr_agent.cli.admin_client import UnreachableError, ask
from dvr_agent.cli.status_text import is_fine
from tests.support.cloud import config
from tests.support.cloud.api import Item
from tests.support.cloud.config import HostPlan
from tests.support.cloud.process import Process, tail
from tests.support.cloud.sandbox import CHECKOUT, FOLDER, run
from tests.support.cloud.server import VENV
from tests.support.cloud.usage import Usage
from tests.support.service_manager import ServiceManager
from tests.support.waiting import wait_for

OURS = Path(sys.executable).parent
WRAP = Path(__file__).with_name("wrap")
"""Programs that the reference agent needs and this machine cannot offer."""
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class Host:
    """A compute host of the cloud.

    :ivar l3: the L3 agent that runs, whichever of the two; None: none yet
    :ivar folder: configuration, state and logs of this host
    """

    def __init__(self, plan: HostPlan, folder: Path, logs: Path, rpc_timeout: int) -> None:
        self.plan, self.name, self._rpc_timeout = plan, plan.name, rpc_timeout
        self.folder, self._logs = folder, logs
        self.state = self.folder / "state"
        self.etc = self.folder / "etc"
        self.accounting = self.folder / "processes"
        self.tc_filters = self.folder / "tc.json"
        for place in (self.state / "lock", self.etc, self.folder / "ovs"):
            place.mkdir(parents=True)
        self.l3: Process | None = None
        self._managers = 0
        self.ovs_agent: Process
        self.metadata_agent: Process
        self.metadata_proxy: Process
        self.ovsdb: Process
        self.vswitchd: Process
        self._init = self._boot()
        self._enter = ["nsenter", "-t", str(self._init), "-n", "-m", "-p", "-u", "--"]

    def _boot(self) -> int:
        """Start its process 1; returns that one's id in the sandbox."""
        flags = ["--net", "--mount", "--pid", "--uts", "--mount-proc", "--kill-child"]
        inside = [sys.executable, "-m", "tests.support.cloud.hostinit", self.name, FOLDER, self.accounting]
        self._unshare = subprocess.Popen(
            ["unshare", *flags, "--", *map(str, inside)], stdout=subprocess.PIPE, cwd=CHECKOUT, text=True
        )
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != "ready\n":
            raise AssertionError(f"the namespaces of {self.name} could not be made")
        unshare = self._unshare.pid
        return int(Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0])

    def shutdown(self) -> None:
        """Every process of it is killed, and with its namespaces all it had is gone."""
        self._unshare.kill()
        self._unshare.wait()
        for device in ("eth0", "eth1", *self.plan.uplinks):
            # The kernel takes namespaces down when it likes; the cables' names may be wanted before.
            run("ip", "link", "del", self.cable(device), check=False)

    def run(self, *words: object, check: bool = True, timeout: float = 60) -> str:
        """Run a command on this host; returns its standard output."""
        return run(*self._enter, *words, check=check, timeout=timeout)

    def popen(self, *words: object, **options: Any) -> subprocess.Popen[str]:
        """Start a command on this host, for probes."""
        return subprocess.Popen([*self._enter, *map(str, words)], text=True, **options)

    def json(self, *words: object) -> Any:
        """``ip -j …`` on this host, decoded."""
        return json.loads(self.run("ip", "-j", "-d", *words) or "[]")

    def spawn(
        self, name: str, *words: object, cgroup: Path | None = None, manager: ServiceManager | None = None
    ) -> Process:
        """Start a daemon on this host; its output goes to the log ``<host>-<name>.log``."""
        environment = {"PYTHONWARNINGS": "ignore", "PATH": f"{WRAP}:{VENV}/bin:{os.environ['PATH']}"}
        environment["DVR_TC_FILTERS"] = str(self.tc_filters)
        log = self._logs / f"{self.name}-{name}.log"
        return Process(f"{name} on {self.name}", words, log, self._enter, environment, cgroup, manager)

    def start(self) -> None:
        """Cables and Open vSwitch, and the configuration files; no agent yet."""
        (self.etc / "neutron.conf").write_text(config.neutron_conf(self.name, self.state, self._rpc_timeout))
        (self.etc / "l3_agent.ini").write_text(config.l3_agent_ini(self.plan, self.state))
        (self.etc / "ovs_agent.ini").write_text(config.ovs_agent_ini(self.plan))
        (self.etc / "metadata_agent.ini").write_text(config.metadata_agent_ini(self.state))
        (self.etc / "dvr.conf").write_text(
            f"[dvr_agent]\nadmin_socket = {self.folder}/admin.sock\n"
            f"[metadata_proxy]\ncontrol_socket = {self.folder}/metadata/control.sock\n"
            f"[agent]\nextensions = {','.join(config.EXTENSIONS)}\n"
        )
        self._plug("mgmt", "eth0")
        self._plug("tunnel", "eth1")
        for name in self.plan.uplinks:
            self._plug(name, name)
        self.run("ip", "addr", "add", f"{self.plan.management_ip}/24", "dev", "eth0")
        self._start_ovs()

    def _plug(self, bridge: str, device: str) -> None:
        """A veth pair from this host to a bridge of the sandbox."""
        outer = self.cable(device)
        peer = ["peer", "name", device, "netns", self._init]
        run("ip", "link", "add", outer, "type", "veth", *peer)
        run("ip", "link", "set", outer, "master", bridge, "up")
        self.run("ip", "link", "set", device, "up")

    def cable(self, device: str) -> str:
        """What a cable's end in the sandbox is called."""
        return f"{device}-h{self.plan.number}"

    def _start_ovs(self) -> None:
        database = self.folder / "ovs" / "conf.db"
        self.run("ovsdb-tool", "create", database, SCHEMA)
        remotes = ["--remote=punix:/run/openvswitch/db.sock", "--remote=ptcp:6640:127.0.0.1"]
        self.ovsdb = self.spawn("ovsdb", "ovsdb-server", database, *remotes, "--pidfile")
        socket = Path(f"/proc/{self._init}/root/run/openvswitch/db.sock")
        wait_for(socket.exists, "ovsdb-server listens", every=0.02)
        self.run("ovs-vsctl", "--no-wait", "init")
        self.vswitchd = self.spawn("vswitchd", "ovs-vswitchd", "unix:/run/openvswitch/db.sock", "--pidfile")
        words: list[object] = []
        for bridge, port in [
            ("br-int", None),
            ("br-under", "eth1"),
            *((f"br-{name}", name) for name in self.plan.uplinks),
        ]:
            words += ["--", "add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev"]
            words += ["--", "add-port", bridge, port] if port else []
        # Returns when vswitchd has made them.
        self.run("ovs-vsctl", *words[1:], "--", "set", "bridge", "br-int", "fail_mode=secure")
        # The user space datapath routes its tunnels by an address on a bridge of its own.
        self.run("ip", "addr", "add", f"{self.plan.tunnel_ip}/24", "dev", "br-under")
        self.run("ip", "link", "set", "br-under", "up")

    def forget_flows(self) -> None:
        """Remove all flows of the datapath; Open vSwitch makes them again from the OpenFlow rules."""
        self.run("ovs-appctl", "revalidator/purge", check=False)  # vswitchd may be away

    # --- agents

    def start_ovs_agent(self) -> None:
        files = self._options("neutron.conf", "ovs_agent.ini")
        self.ovs_agent = self.spawn("ovs-agent", VENV / "bin/neutron-openvswitch-agent", *files)

    def start_metadata(self) -> None:
        """neutron-metadata-agent, and the proxy of ours as its unit starts it: no capabilities."""
        files = self._options("neutron.conf", "metadata_agent.ini")
        self.metadata_agent = self.spawn("metadata-agent", VENV / "bin/neutron-metadata-agent", *files)
        wait_for((self.state / "metadata_proxy").exists, "neutron-metadata-agent listens")
        bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        self.metadata_proxy = self.spawn(
            "metadata-proxy", *bare, OURS / "dvr-metadata-proxy", *self._options("dvr.conf")
        )

    def start_neutron_l3(self, usage: Usage | None = None) -> Process:
        """The reference agent."""
        files = self._options("neutron.conf", "l3_agent.ini")
        return self._start_l3("neutron-l3-agent", [VENV / "bin/neutron-l3-agent", *files], usage)

    def start_dvr_agent(self, usage: Usage | None = None, manager: ServiceManager | None = None) -> Process:
        """Ours, with the reference agent's files.

        :param manager: that of the process before, if this is a restart; :meth:`Process.restart` is one, too
        """
        return self._start_l3("dvr-agent", [OURS / "dvr-agent", *self.dvr_options], usage, manager or self.manager())

    def manager(self) -> ServiceManager:
        """A service manager for one agent."""
        self._managers += 1
        return ServiceManager(self.folder / f"notify-{self._managers}")

    def _start_l3(
        self, name: str, words: list[object], usage: Usage | None, manager: ServiceManager | None = None
    ) -> Process:
        before, cgroup = (usage.wrapper, usage.cgroup) if usage else ([], None)
        self.l3 = self.spawn(name, *before, *words, cgroup=cgroup, manager=manager)
        return self.l3

    @property
    def dvr_options(self) -> list[object]:
        return self._options("neutron.conf", "l3_agent.ini", "dvr.conf")

    def dvrctl(self, *words: object, check: bool = True, timeout: float = 60) -> str:
        return self.run(OURS / "dvrctl", *self.dvr_options, *words, check=check, timeout=timeout)

    def _options(self, *names: str) -> list[object]:
        return [word for name in names for word in ("--config-file", self.etc / name)]

    # --- what is there

    def netns(self, name: str) -> str:
        """A path to one of its namespaces, for processes of the sandbox."""
        return f"/proc/{self._init}/root/run/netns/{name}"

    def namespaces(self) -> set[str]:
        return {line.split()[0] for line in self.run("ip", "netns", "list").splitlines() if line}

    def router_namespaces(self) -> set[str]:
        """Those of L3 agents."""
        return {name for name in self.namespaces() if name.startswith(("qrouter-", "fip-", "snat-"))}

    def router_ports(self) -> set[str]:
        """Ports on br-int that L3 agents plug."""
        ports = self.run("ovs-vsctl", "list-ports", "br-int").split()
        return {name for name in ports if name.startswith(("qr-", "qg-", "sg-", "fg-", "ha-"))}

    def has_router(self, router: str) -> bool:
        return f"qrouter-{router}" in self.namespaces()

    def processes(self, name: str) -> set[int]:
        """Ids (the host's own) of processes whose command line begins with a program of that name."""
        lines = self.run("pgrep", "-a", "-f", name, check=False).splitlines()
        found = [line.split() for line in lines]
        # An interpreter may come first.
        return {int(words[0]) for words in found if name in {Path(word).name for word in words[1:3]}}

    def router_links(self, router: str, prefix: str) -> list[str]:
        """Names of devices in the router's namespace."""
        links = self.json("-n", f"qrouter-{router}", "link", "show") if self.has_router(router) else []
        return [link["ifname"] for link in links if link["ifname"].startswith(prefix)]

    def wiring(self) -> str:
        """Ports of routers with their VLAN tags (4095: cut off), and of each router namespace: the rules that translate
        addresses with the packets they took, neighbours, and some connections.
        """
        found = self.run(
            "ovs-vsctl", "-f", "csv", "-d", "bare", "--columns=name,tag", "list", "Port", check=False
        ).split()
        for name in sorted(self.router_namespaces()):
            inside = ("ip", "netns", "exec", name)
            rules = self.run(*inside, "iptables-legacy-save", "-c", "-t", "nat", check=False).splitlines()
            found += [name, *(one for one in rules if "-j DNAT" in one or "-j SNAT" in one)]
            found += self.run(*inside, "ip", "neigh", check=False).splitlines()
            found += self.run(*inside, "conntrack", "-L", check=False).splitlines()[-6:]
        return "\n".join(found)

    def routes(self, router: str) -> str:
        return self.run("ip", "-n", f"qrouter-{router}", "route", check=False)

    def holds(self, router: str) -> bool:
        """It is active for the HA router: the primary address is on the ``ha-`` device of its namespace."""
        for name in self.namespaces() & {f"snat-{router}", f"qrouter-{router}"}:
            for device in self.json("-n", name, "addr", "show"):
                if device["ifname"].startswith("ha-"):
                    return any(one.get("local", "").startswith("169.254.0.") for one in device["addr_info"])
        return False

    def dvr_status(self) -> dict[str, Any]:
        """What dvr-agent's admin socket says."""
        return ask(f"{self.folder}/admin.sock", "/status")

    def wait_in_sync(self) -> None:
        """Wait until dvr-agent has nothing to do and nothing to complain of."""

        def fine() -> bool:
            assert self.l3 is not None
            assert self.l3.running, f"{self.l3.name} has ended, see {self.l3.log}"
            try:
                return is_fine(self.dvr_status())
            except UnreachableError:
                return False

        wait_for(fine, f"dvr-agent on {self.name} is in sync")

    # --- instances

    def boot_instance(self, port: Item, gateway: str) -> str:
        """A namespace plugged into br-int as Nova's vif driver would plug an instance; returns its name."""
        name = f"vm-{port['id'][:8]}"
        device = f"tap{port['id'][:11]}"
        row = ["type=internal", f"external_ids:iface-id={port['id']}", "external_ids:iface-status=active"]
        row += [f"external_ids:attached-mac={port['mac_address']}", f"external_ids:vm-uuid={port['device_id']}"]
        self.run("ip", "netns", "add", name)
        self.run("ovs-vsctl", "add-port", "br-int", device, "--", "set", "Interface", device, *row)
        self.run("ip", "link", "set", device, "netns", name)
        inside = ["ip", "-n", name]
        self.run(*inside, "link", "set", device, "name", "eth0", "address", port["mac_address"], "mtu", 1450, "up")
        self.run(*inside, "link", "set", "lo", "up")
        for fixed in port["fixed_ips"]:
            length = 64 if ":" in fixed["ip_address"] else 24
            self.run(*inside, "addr", "add", f"{fixed['ip_address']}/{length}", "dev", "eth0", "nodad")
        self.run(*inside, "route", "add", "default", "via", gateway)
        return name

    def delete_instance(self, port: Item) -> None:
        """Unplug it; the namespace goes along."""
        self.run("ovs-vsctl", "--if-exists", "del-port", "br-int", f"tap{port['id'][:11]}")
        self.run("ip", "netns", "del", f"vm-{port['id'][:8]}")

    def logs(self, lines: int = 30) -> str:
        """The ends of its logs."""
        files = sorted(self._logs.glob(f"{self.name}-*.log"))
        return "\n".join(f"--- {file.name}\n{tail(file, lines)}" for file in files)
