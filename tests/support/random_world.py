"""Random routers, networks and faults on one throw-away host, from a seed: for comparisons of model and kernel."""

from __future__ import annotations

import random
from ipaddress import ip_network
from pathlib import Path

from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.extensions import Extension
from tests.support import lab
from tests.support.filter_tools import uses_nftables
from tests.support.forwarding_documents import ForwardingRouter
from tests.support.packet_documents import Network, Vm
from tests.support.packet_world import PUBLIC, SCOPED, World

PORT, INNER_PORT = 7777, 7778
BEYOND = "192.0.2.1"
"""An address of the internet host in no subnet that a router knows."""


class RandomWorld:
    """A world made from a seed, and what was done to it.

    :ivar story: what was made and broken, for a failed test
    """

    def __init__(self, host: lab.Host, state_path: Path, rng: random.Random) -> None:
        self._rng = rng
        self.world = World(host, state_path, AgentMode.DVR_SNAT, Extension.PORT_FORWARDING)
        self.story: list[str] = []
        self._networks = [self._network(number) for number in range(rng.randint(2, 4))]
        self._vms = [self._vm(number) for number in range(rng.randint(3, 6))]
        self.floating: list[str] = []
        routers = [self._router(number) for number in range(rng.randint(1, 2))]
        self.world.apply(*[router for router in routers if router.networks])
        self.world.boot(*self._vms)
        lab.run("ip", "-n", "internet", "addr", "add", f"{BEYOND}/32", "dev", "lo")
        self._provide_routes(routers)
        self.world.settle()
        for _ in range(rng.randint(0, 5)):
            self._break_something()

    def addresses(self) -> list[tuple[str, str]]:
        """Return (namespace, address) of all addresses that are not link-local or of a loopback network."""
        found = []
        for path in sorted(lab.NETNS.iterdir()):
            for device in lab.ip_json("addr", "show", netns=path.name):
                for one in device["addr_info"]:
                    if one["scope"] == "global" and not one.get("tentative"):
                        found.append((path.name, one["local"]))
        return found

    def nowhere(self) -> list[str]:
        """Return addresses that nobody has, inside and outside of subnets, and some that are behind instances."""
        inside = [str(ip_network(net.cidrs[0])[200]) for net in self._networks]
        return [*inside, "203.0.113.199", "192.0.2.77", "2001:db8:f::199", "172.16.0.5", BEYOND]

    def _network(self, number: int) -> Network:
        cidrs = [f"10.{number + 1}.0.0/24"]
        if self._rng.random() < 0.4:
            cidrs.append(f"2001:db8:{number + 1}::/64")
        return Network(f"net{number}", tuple(cidrs), scope=self._rng.choice(("", "", "global", "private")))

    def _vm(self, number: int) -> Vm:
        network = self._rng.choice(self._networks)
        addresses = [str(ip_network(cidr)[11 + number]) for cidr in network.cidrs]
        bound = self._rng.random() < 0.8
        return self.world.cloud.vm(f"vm{number}", network, *addresses, host=None if bound else "")

    def _router(self, number: int) -> ForwardingRouter:
        rng = self._rng
        networks = [net for index, net in enumerate(self._networks) if index % 2 == number or rng.random() < 0.1]
        router = ForwardingRouter(self.world.cloud, f"router{number}", networks)
        router.legacy = rng.random() < 0.15
        external = rng.choice((PUBLIC, PUBLIC, SCOPED))
        prefix = external.cidrs[0].rpartition(".")[0]
        addresses = [f"{prefix}.{10 + number}", *([f"2001:db8:f::{10 + number}"] if external is PUBLIC else [])]
        router.gateway(external, *addresses, snat=rng.random() < 0.8)
        for index, vm in enumerate(self._vms):
            if vm.network in networks and rng.random() < 0.5:
                floating = f"{prefix}.{50 + 20 * number + index}"
                router.floating_ip(floating, vm, central=vm.host == "")
                self.floating.append(floating)
        inside = [vm for vm in self._vms if vm.network in networks]
        if inside and rng.random() < 0.4:
            forwarded = f"{prefix}.{90 + number}"
            router.forward(forwarded, "udp", str(PORT), rng.choice(inside), str(rng.choice((PORT, INNER_PORT))))
            self.floating.append(forwarded)
        if inside and rng.random() < 0.3:
            router.route("172.16.0.0/24", *{rng.choice(inside).address for _ in range(2)})
        self.story.append(f"{router.name}: {router.envelope()['router']['_floatingips'] and router.floating}")
        return router

    def _provide_routes(self, routers: list[ForwardingRouter]) -> None:
        """Give the hosts outside routes into the networks of routers, by the gateway port or the fip namespace."""
        for router in routers:
            external = router.external
            assert external is not None
            outside = "internet" if external is PUBLIC else "scoped-internet"
            for cidr in [
                cidr for net in router.networks for cidr in net.cidrs if (":" in cidr) <= (external is PUBLIC)
            ]:
                ways = [*router.gateway_addresses, *external.agent_gateway]
                via = self._rng.choice([one for one in ways if (":" in one) == (":" in cidr)])
                lab.run("ip", "-n", outside, "route", "replace", cidr, "via", via)

    def _break_something(self) -> None:
        """Do to a namespace what operators and other programs do by mistake."""
        spaces = [path.name for path in sorted(lab.NETNS.iterdir())]
        netns = self._rng.choice([name for name in spaces if name.startswith(("qrouter-", "fip-", "snat-"))] or spaces)
        devices = [one["ifname"] for one in lab.ip_json("link", "show", netns=netns) if one["ifname"] != "lo"]
        if not devices:
            return
        device, rng = self._rng.choice(sorted(devices)), self._rng
        command = rng.choice(FAULTS).format(device=device, n=rng.randint(2, 30), net=rng.randint(1, 4))
        self.story.append(f"{netns}: {command}")
        lab.in_netns(netns, "sh", "-c", command, check=False)


NFT_CHAIN = (
    "nft add table ip other; nft add chain ip other forwarded '{{ type filter hook forward priority 10; }}'; "
    "nft add rule ip other forwarded ip daddr 10.{net}.0.0/24"
)
ASIDE = "iptables-legacy -N aside; iptables-legacy -A aside -s 10.{net}.0.0/24 -j RETURN; iptables-legacy -A aside"
OURS = (
    (
        "nft flush chain ip dvr nat_prerouting",
        "nft flush map ip dvr fip_out",
    )
    if uses_nftables()
    else (
        "iptables-legacy -t nat -F dvr-PREROUTING",
        "iptables-legacy -t nat -F dvr-POSTROUTING",
    )
)
"""Faults of our chains."""
FAULTS = (
    "ip link set {device} down",
    "ip route del default",
    "ip route add blackhole 10.{net}.0.0/25",
    "ip route add unreachable 203.0.113.{n}/32",
    "ip route replace prohibit 10.{net}.0.11/32",
    "ip route flush table 16",
    "ip rule add from 10.{net}.0.0/24 to 203.0.113.0/24 blackhole priority 100",
    "ip rule add not from 10.{net}.0.0/24 prohibit priority 40000",
    "ip rule add fwmark 0x4000000/0xffff0000 unreachable priority 50",
    "ip rule add iif {device} lookup 77 priority 90",
    "ip rule add from all lookup main suppress_prefixlength 0 priority 10",
    "ip neigh flush dev {device} nud permanent",
    "ip neigh replace 10.{net}.0.11 lladdr fa:16:3e:00:00:99 dev {device} nud permanent",
    "sysctl -qw net.ipv4.conf.{device}.rp_filter=1",
    "sysctl -qw net.ipv4.conf.all.rp_filter=1",
    "sysctl -qw net.ipv4.conf.all.rp_filter=1",
    "sysctl -qw net.ipv4.conf.all.rp_filter=2",
    "sysctl -qw net.ipv4.conf.{device}.forwarding=0",
    "sysctl -qw net.ipv6.conf.all.forwarding=0",
    "sysctl -qw net.ipv4.conf.{device}.proxy_arp=0",
    "sysctl -qw net.ipv4.conf.all.arp_ignore=0",
    "iptables-legacy -I FORWARD -p udp -m udp --dport 7777 -j DROP",
    "iptables-legacy -A FORWARD -i {device} -j REJECT",
    "iptables-legacy -N other; iptables-legacy -A other -p udp -j DROP; iptables-legacy -A FORWARD -j other",
    f"{ASIDE} -p udp -j DROP; iptables-legacy -A FORWARD -g aside",
    "iptables-legacy -P FORWARD DROP",
    "iptables-legacy -t nat -A POSTROUTING -o {device} -j MASQUERADE",
    "iptables-legacy -t nat -I PREROUTING -d 203.0.113.{n} -j DNAT --to-destination 10.{net}.0.11",
    "iptables-legacy -t mangle -A PREROUTING -m mark ! --mark 0x0/0xffff0000 -j MARK --set-xmark 0x77/0xff",
    *OURS,
    "iptables-legacy -A INPUT -m conntrack --ctstate NEW -p icmp -j DROP",
    f"{NFT_CHAIN} drop",
    "iptables-nft -A FORWARD -p udp -m udp --dport 7777 -s 10.{net}.0.0/24 -j DROP",
    "ip addr add 10.{net}.0.{n}/24 dev {device}",
)
"""Commands in a namespace of the agent, which has ``device``."""
