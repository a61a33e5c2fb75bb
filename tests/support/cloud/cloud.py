"""The whole cloud: server side, hosts, and the networks between them.

bridge mgmt      192.168.110.0/24  hosts → RabbitMQ
bridge tunnel    192.168.120.0/24  vxlan between hosts
bridge physnet1  203.0.113.0/24    external network; the namespace ``outside`` is its gateway .1
bridge physnet2  198.51.100.0/24   a second external network, gateway .1 in ``outside`` too
bridge physha    VLANs             HA networks, over which the network nodes' keepalived speak
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.support.cloud import config
from tests.support.cloud.config import HA_PHYSNET, PHYSNETS, HostPlan
from tests.support.cloud.host import Host
from tests.support.cloud.offload import no_checksum_offload
from tests.support.cloud.sandbox import FOLDER, run
from tests.support.cloud.server import Server
from tests.support.waiting import wait_for

OUTSIDE = "outside"
EXTERNAL_CIDRS = dict(zip(PHYSNETS, ("203.0.113.0/24", "198.51.100.0/24"), strict=True))


class Cloud:
    """Made by ``start``; ends with the sandbox.

    :ivar hosts: by their plans' order
    :ivar log: what start-up took, in seconds since its begin
    """

    def __init__(self, plans: Sequence[HostPlan], rpc_timeout: int = 15) -> None:
        folder, self._rpc_timeout = FOLDER, rpc_timeout
        self.logs = folder / "log"
        self.logs.mkdir()
        self._began = time.monotonic()
        self.log: list[tuple[float, str]] = []
        self._networks()
        self.server = Server(folder, self.logs, rpc_timeout)
        self.api = self.server.api
        self.hosts = [Host(plan, folder / plan.name, self.logs, rpc_timeout) for plan in plans]
        self._made = 0
        self.external: dict[str, str] = {}
        """Neutron's ids of the external networks, by physical network."""

    def replace(self, host: Host) -> Host:
        """A new, empty host in the place of an old one, with its Open vSwitch agent but no L3 agent."""
        host.shutdown()
        self.hosts[self.hosts.index(host)] = new = self._new(host.plan)
        return new

    def join(self, plan: HostPlan) -> Host:
        """One more host, with its Open vSwitch agent but no L3 agent; ``dismiss`` takes it away again."""
        new = self._new(plan)
        self.hosts.append(new)
        return new

    def dismiss(self, host: Host) -> None:
        """The host is gone, and the server forgets its agents."""
        host.shutdown()
        self.hosts.remove(host)
        for agent in self.api.list("agents", host=host.name):
            self.api.delete("agents", agent["id"])

    def _new(self, plan: HostPlan) -> Host:
        self._made += 1
        new = Host(plan, FOLDER / f"{plan.name}-{self._made}", self.logs, self._rpc_timeout)
        new.start()
        new.start_ovs_agent()
        new.ovs_agent.wait_log("Agent rpc_loop - iteration:1 completed", since=new.ovs_agent.begins)
        return new

    def step(self, text: str) -> None:
        self.log.append((round(time.monotonic() - self._began, 1), text))

    def start(self) -> None:
        """Returns when the API answers and every Open vSwitch agent is alive; no L3 agent yet."""
        with ThreadPoolExecutor() as pool:
            started = [pool.submit(host.start) for host in self.hosts]
            self.server.start(self.step)
            for future in started:
                future.result()
        self.step("hosts")
        for host in self.hosts:
            host.start_ovs_agent()
        for name, cidr in EXTERNAL_CIDRS.items():
            self.external[name] = self.api.external_network(name, cidr, name)["id"]
        wait_for(lambda: self.alive("Open vSwitch agent") >= self._names(), "Open vSwitch agents are alive")
        self.step("Open vSwitch agents")

    def _names(self) -> set[str]:
        return {host.name for host in self.hosts}

    def alive(self, agent_type: str) -> set[str]:
        """Hosts whose agent of that type the server thinks alive."""
        return {
            agent["host"] for agent in self.api.list("agents") if agent["alive"] and agent["agent_type"] == agent_type
        }

    def wait_l3_agents(self) -> None:
        """Every L3 agent, whichever program it is, has reported."""
        wait_for(lambda: self.alive("L3 agent") >= self._names(), "L3 agents are alive")
        self.step("L3 agents")

    def _networks(self) -> None:
        run("ip", "netns", "add", OUTSIDE)
        run("ip", "-n", OUTSIDE, "link", "set", "lo", "up")
        for bridge in ("mgmt", "tunnel", HA_PHYSNET, *PHYSNETS):
            # Multicast (VRRP, MLD) goes to every port, as there is no querier.
            run("ip", "link", "add", bridge, "type", "bridge", "mcast_snooping", 0)
            run("ip", "link", "set", bridge, "up")
        run("ip", "addr", "add", f"{config.SERVER}/24", "dev", "mgmt")
        for bridge in PHYSNETS:
            run("ip", "link", "add", f"out-{bridge}", "type", "veth", "peer", "name", bridge, "netns", OUTSIDE)
            run("ip", "link", "set", f"out-{bridge}", "master", bridge, "up")
            no_checksum_offload(bridge, OUTSIDE)
            run("ip", "-n", OUTSIDE, "link", "set", bridge, "up")
            run("ip", "-n", OUTSIDE, "addr", "add", f"{self.gateway(bridge)}/24", "dev", bridge)

    def outside(self, *words: object, check: bool = True) -> str:
        """Run a command in the outside world."""
        return run("ip", "netns", "exec", OUTSIDE, *words, check=check)

    def gateway(self, physnet: str) -> str:
        """The address of the outside world in an external network."""
        return EXTERNAL_CIDRS[physnet].replace(".0/24", ".1")

    def l3_agent(self, host: Host) -> str:
        """Neutron's id of the host's L3 agent."""
        agents = self.api.list("agents", agent_type="L3%20agent", host=host.name)
        key: str = agents[0]["id"]
        return key

    @contextlib.contextmanager
    def cut_off(self, host: Host) -> Iterator[None]:
        """Within the block the management cable of the host is pulled."""
        cable = host.cable("eth0")
        run("ip", "link", "set", cable, "down")
        try:
            yield
        finally:
            run("ip", "link", "set", cable, "up")
