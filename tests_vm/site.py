"""The host of a cloud in the machine: dvr-agent as a service, the router of ``etc/examples/demo.json``, instances.

Everything is done as an operator would, by make, systemctl, dvrctl and ip.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvr_agent.cli.status_text import is_fine
from tests.support.computer import Computer

EXAMPLE = json.loads((Path(__file__).parent.parent / "etc/examples/demo.json").read_text())
ROUTER = EXAMPLE["router"]["id"]
EXTERNAL = EXAMPLE["router"]["gw_port"]["network_id"]
NAMESPACES = {f"qrouter-{ROUTER}", f"snat-{ROUTER}", f"fip-{EXTERNAL}"}
FLOATING = EXAMPLE["router"]["_floatingips"][0]["floating_ip_address"]
INTERNET = "203.0.113.1"
DOCUMENTS = "/etc/dvr-agent/routers"
CONFIG = "/etc/dvr-agent/dvr-agent.conf.d/50-site.conf"
SETTINGS = f"""\
[DEFAULT]
host = demo
agent_mode = dvr_snat
enable_metadata_proxy = true
[bridge]
external_networks = {EXTERNAL}:br-ext
"""

NETWORK_UNIT = """\
[Unit]
Description=The bridge of the external network, as the network configuration of a host makes it
DefaultDependencies=no
After=local-fs.target systemd-sysctl.service
Before=network.target
Wants=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip link add br-ext type bridge
ExecStart=/sbin/ip link set br-ext up

[Install]
WantedBy=multi-user.target
"""

METADATA_UNIT = """\
[Unit]
Description=Stands in for neutron-metadata-agent

[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/site-metadata.py /var/lib/neutron/metadata_proxy

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Vm:
    """An instance: a namespace with one interface on a network's bridge."""

    name: str
    bridge: str
    cidr: str
    mac: str = ""
    gateway: str = ""

    @property
    def address(self) -> str:
        return self.cidr.split("/")[0]

    def script(self) -> str:
        """Shell commands that make it, and the bridge if there is none yet, as another agent might."""
        outer = f"tap-{self.name}"
        lines = [
            f"[ -e /sys/class/net/{self.bridge} ] || ip link add {self.bridge} type bridge",
            f"ip link set {self.bridge} up",
            f"ip netns add {self.name}",
            f"ip link add {outer} type veth peer name eth0 netns {self.name}",
            *([f"ip -n {self.name} link set eth0 address {self.mac}"] if self.mac else []),
            f"ip link set {outer} master {self.bridge} up",
            f"ip -n {self.name} link set lo up",
            f"ip -n {self.name} link set eth0 up",
            f"ip -n {self.name} address add {self.cidr} dev eth0",
            *([f"ip -n {self.name} route add default via {self.gateway}"] if self.gateway else []),
        ]
        return "\n".join(lines)


def instances() -> dict[str, Vm]:
    """blue (with a floating IP), blue2 (without one), green, and a host in the internet."""
    blue, green = EXAMPLE["router"]["_interfaces"]
    ports = EXAMPLE["ports_by_subnet"]

    def vm(name: str, interface: dict[str, Any], number: int) -> Vm:
        subnet = interface["subnets"][0]
        port = ports[subnet["id"]][number]
        address = port["fixed_ips"][0]["ip_address"]
        bridge = f"brq{interface['network_id'][:11]}"
        return Vm(name, bridge, f"{address}/24", port["mac_address"], subnet["gateway_ip"])

    found = (
        vm("blue", blue, 0),
        vm("blue2", blue, 1),
        vm("green", green, 0),
        Vm("internet", "br-ext", f"{INTERNET}/24"),
    )
    return {one.name: one for one in found}


class Site:
    """The agent on a machine, and what an operator sees of it."""

    def __init__(self, machine: Computer) -> None:
        self.machine = machine
        self.vms = instances()

    def install(self, settings: str = SETTINGS, document: dict[str, Any] = EXAMPLE) -> None:
        """What follows an installation: configuration, the bridge of the external network, a document."""
        self.machine.write(CONFIG, settings)
        self.machine.write("/etc/systemd/system/site-metadata.service", METADATA_UNIT)
        self.machine.write("/usr/local/lib/site-metadata.py", (Path(__file__).parent / "metadata.py").read_text())
        self.machine.write("/etc/systemd/system/site-network.service", NETWORK_UNIT)
        self.machine.run("systemctl", "enable", "--now", "site-network", "site-metadata")
        self.machine.write(f"{DOCUMENTS}/demo.json", json.dumps(document))

    def begin(self) -> None:
        """Enable and start the agent; instances come once their router is there."""
        self.machine.run("systemctl", "enable", "--now", "dvr-agent")
        self.wait_in_sync()
        self.boot_instances()

    def boot_instances(self) -> None:
        self.machine.shell("\n".join(vm.script() for vm in self.vms.values()))

    def property(self, name: str, unit: str = "dvr-agent") -> str:
        return self.machine.run("systemctl", "show", "-P", name, unit).out.strip()

    def pid(self, unit: str = "dvr-agent") -> int:
        return int(self.property("MainPID", unit))

    def active(self, unit: str = "dvr-agent") -> str:
        return self.machine.run("systemctl", "is-active", unit, check=False).out.strip()

    def status(self) -> dict[str, Any]:
        """What ``dvrctl status`` asks for, without the time that its start takes here; empty: nobody answers."""
        words = ("curl", "-s", "-m", "20", "--unix-socket", "/run/dvr-agent/admin.sock", "http://localhost/status")
        done = self.machine.run(*words, check=False)
        return dict(json.loads(done.out)) if done.code == 0 else {}

    def wait_in_sync(self) -> None:
        """Until the agent says so by what ``dvrctl status`` goes by.

        :raises AssertionError: with what the agent says instead
        """
        seen: dict[str, Any] = {}

        def fine() -> bool:
            seen.clear()
            seen.update(self.status())
            return is_fine(seen)

        try:
            self.machine.wait_until("the agent is in sync", fine)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(seen, indent=1)}") from None

    def assert_nothing_to_do(self) -> None:
        """dvrctl, which reads documents and kernel for itself, agrees."""
        self.machine.run("dvrctl", "status")
        self.machine.run("dvrctl", "plan")

    def namespaces(self) -> set[str]:
        """Those of routers."""
        lines = self.machine.run("ip", "netns", "list").out.split("\n")
        return {line.split()[0] for line in lines if re.match(r"(qrouter|snat|fip)-", line)}

    def journal(self, *words: object, since: int = 0, unit: str = "dvr-agent") -> list[dict[str, Any]]:
        """Entries of this boot, as ``journalctl -o json`` has them.

        :param since: only those after this moment, see :meth:`now`; ``--after-cursor`` with a filter leaves out one too
            many in Debian 12
        """
        done = self.machine.run("journalctl", "-b", "-o", "json", "--no-pager", "-u", unit, *words, check=False)
        entries = [json.loads(line) for line in done.out.splitlines()]
        return [entry for entry in entries if int(entry["__MONOTONIC_TIMESTAMP"]) > since]

    def messages(self, *words: object, since: int = 0, unit: str = "dvr-agent") -> list[str]:
        return [str(entry.get("MESSAGE", "")) for entry in self.journal(*words, since=since, unit=unit)]

    def now(self) -> int:
        """Where the journal ends: microseconds since this boot."""
        done = self.machine.run("journalctl", "-b", "-n", "1", "-o", "json", "--no-pager")
        return int(json.loads(done.out)["__MONOTONIC_TIMESTAMP"])

    def wait_said(self, since: int, pattern: str, unit: str = "dvr-agent") -> list[str]:
        """Wait for messages that fit a regular expression."""

        def found() -> list[str]:
            return [one for one in self.messages(since=since, unit=unit) if re.search(pattern, one)]

        return self.machine.wait_until(f"{unit} says {pattern!r}", found)

    def ping(self, name: str, target: str) -> bool:
        """True if one of some pings from that instance is answered."""
        words = ("ip", "netns", "exec", name, "ping", "-n", "-c", "3", "-i", "0.3", "-W", "3", target)
        return self.machine.run(*words, check=False).code == 0

    def assert_paths(self) -> None:
        """East–west, out by floating IP and by SNAT, in by floating IP."""
        green = self.vms["green"].address
        for name, target in (
            ("blue", green),
            ("blue2", green),
            ("blue", INTERNET),
            ("blue2", INTERNET),
            ("internet", FLOATING),
        ):
            assert self.ping(name, target), f"{name} does not reach {target}"

    def start_pinging(self, name: str, target: str, interval: float = 0.1) -> str:
        """Ping every so many seconds until ``stop_pinging``; returns what that wants to know."""
        log = f"/run/ping-{name}.log"
        words = f"ip netns exec {name} ping -n -i {interval} -W 5 {target}"
        self.machine.shell(
            f"systemd-run -q --unit=ping-{name} -p KillSignal=SIGINT sh -c {shlex.quote(f'exec {words} >{log}')}"
        )
        self.machine.wait_until(
            "pings are answered", lambda: "icmp_seq=10 ttl" in self.machine.run("cat", log, check=False).out
        )
        return name

    def stop_pinging(self, name: str) -> tuple[int, int]:
        """How many were sent, and how many not answered (the last one may be under way)."""
        self.machine.run("systemctl", "stop", f"ping-{name}", check=False)
        said = self.machine.run("cat", f"/run/ping-{name}.log").out
        found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        assert found, said[-500:]
        sent, received = map(int, found.groups())
        last = re.findall(r"icmp_seq=(\d+)", said)[-1]
        return sent, sent - received - (1 if int(last) == sent - 1 else 0)
