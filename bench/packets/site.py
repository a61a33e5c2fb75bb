"""One host with one router, its instances, and the outside; and the ways that packets take through it.

Devices, addresses, routes and rules are made by the agent in all methods.  For neutron-l3-agent's packet filter the
agent's is removed, and neutron-l3-agent's rules are restored by iptables.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from bench.packets import reference
from dvr_agent.desired import names
from dvr_agent.desired.allocation import PAIRS
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.kernel.host_filter import Backend, HostFilter
from dvr_agent.model.parse import parse_document
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.state.ownership import FIP_PRIORITIES
from tests.support import lab
from tests.support.packet_documents import Cloud, Json, Network, RouterDocument, mac

OUTSIDE = Network("outside", ("198.18.0.0/16",), 1500, agent_gateway=("198.18.0.2",))
RED, BLUE = Network("red", ("10.1.0.0/16",)), Network("blue", ("10.2.0.0/16",))
GATEWAY, STRANGER = "198.18.0.10", "192.0.2.7"
FIRST_FIP, FIRST_FIXED = IPv4Address("198.18.4.0"), IPv4Address("10.1.4.0")
FIRST_GATEWAY, FIRST_OTHER_FIP = IPv4Address("198.18.64.0"), IPv4Address("198.18.128.0")
"""Of other routers."""
PLAIN, EAST = "10.1.1.1", "10.2.1.1"
NOWHERE = "nowhere"
"""Device in the namespace ``red`` whose other end drops everything."""
STATE_PATH = Path("/run/bench-state")

OURS: dict[str, Backend] = {"legacy": "legacy", "nf_tables": "nftables"}
NEUTRON = {"neutron, legacy": "legacy", "neutron, nft": "nft"}
NO_FILTER = "no filter"
METHODS = (*OURS, *NEUTRON, NO_FILTER)
FIP_OUT, FIP_IN, SNAT_OUT, EAST_WEST = "FIP out", "FIP in", "SNAT out", "east-west"
WAYS = (FIP_OUT, FIP_IN, SNAT_OUT, EAST_WEST)


@dataclass(frozen=True, slots=True)
class Way:
    """From one namespace to another through the router.

    :ivar sender: namespace that sends by its device ``eth0``; likewise ``sink``, which receives
    :ivar macs: destination and source of the frames
    :ivar sent: source and destination of the packets; ``seen``: what the sink must see
    """

    sender: str
    sink: str
    macs: tuple[str, str]
    sent: tuple[str, str]
    seen: tuple[str, str]


class Site:
    """The host.

    :param fips: number of floating IPs, all on one router
    :param chosen: number of the one that is used, from 0 on; rules and priorities are in the order of their numbers
    :param beside: number of other routers, with a floating IP each; their rules in the fip namespace come first
    """

    def __init__(self, method: str, fips: int, chosen: int, beside: int = 0) -> None:
        self.pairs = [(str(FIRST_FIP + number), str(FIRST_FIXED + number)) for number in range(fips)]
        self._document = self._make_document()
        self._envelope = self._document.envelope()
        self._build(OURS.get(method, "nftables"), beside)
        floating, self._fixed = self.pairs[chosen]
        self._boot(self._document.cloud.vms[floating].mac)
        if method not in OURS:
            self._remove_filter()
        if method in NEUTRON:
            self._restore(NEUTRON[method])
        self.filtered = method != NO_FILTER
        self.ways = self._ways(floating)
        if not self.filtered:
            del self.ways[FIP_IN]

    def _make_document(self) -> RouterDocument:
        cloud = Cloud()
        router = cloud.router("bench", RED, BLUE).gateway(OUTSIDE, GATEWAY)
        for floating, fixed in self.pairs:
            router.floating_ip(floating, cloud.vm(floating, RED, fixed))
        cloud.vm("plain", RED, PLAIN)
        cloud.vm("east", BLUE, EAST)
        return router

    def _build(self, backend: Backend, beside: int) -> None:
        HostFilter.backend = backend
        lab.run("ip", "link", "set", "lo", "up")
        bridge = lab.Host().bridge("br-ext")
        STATE_PATH.mkdir()
        rows = zip(self.pairs, FIP_PRIORITIES, strict=False)
        (STATE_PATH / "fip-priorities").write_text("".join(f"{pair[0]},{number}\n" for pair, number in rows))
        (STATE_PATH / "fip-linklocal-networks").write_text(f"{self._document.id},{PAIRS[-1]}\n")
        settings = HostSettings(self._document.cloud.host, AgentMode.DVR_SNAT)
        reconciler = make_reconciler(settings, {OUTSIDE.id: bridge}, STATE_PATH)
        reconciler.load()
        for envelope in (self._envelope, *map(_other_router, range(beside))):
            reconciler.reconcile(parse_document(json.dumps(envelope).encode(), "bench"))
        reconciler.flush()

    @staticmethod
    def _boot(red: str) -> None:
        """Start one instance for each network: it sends raw frames, and drops what arrives since it has no address."""
        host = lab.Host()
        host.vm("red", RED.bridge, (), mac=red)
        host.vm("blue", BLUE.bridge, (), mac=mac("vm", "east"))
        host.vm("internet", "br-ext", f"{OUTSIDE.gateway(OUTSIDE.cidrs[0])}/16")
        for name in ("red", "blue", "internet"):
            lab.in_netns(name, "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.disable_ipv6=1")
        lab.run("ip", "-n", "red", "link", "add", NOWHERE, "type", "veth", "peer", "name", NOWHERE, "netns", "blue")
        for name in ("red", "blue"):
            lab.run("ip", "-n", name, "link", "set", NOWHERE, "up")

    def _all_namespaces(self) -> Sequence[str]:
        return (self._document.qrouter, self._document.snat_namespace, f"fip-{OUTSIDE.id}")

    def _remove_filter(self) -> None:
        for namespace in self._all_namespaces():
            for table in lab.in_netns(namespace, "nft", "list", "tables").splitlines():
                lab.in_netns(namespace, "nft", "delete", *table.split())

    def _restore(self, variant: str) -> None:
        qr = [names.device(names.INTERNAL, port["id"]) for port in self._router["_interfaces"]]
        sg = [names.device(names.CSNAT, port["id"]) for port in self._router["_snat_router_interfaces"]]
        rfp = names.device(names.ROUTER_TO_FIP, self._document.id)
        qg = names.device(names.GATEWAY, self._router["gw_port"]["id"])
        texts = (reference.qrouter(qr, rfp, self.pairs), reference.snat(sg, qg, GATEWAY), reference.fip_namespace())
        for namespace, text in zip(self._all_namespaces(), texts, strict=True):
            lab.in_netns(namespace, f"iptables-{variant}-restore", "--noflush", text=text)

    @property
    def _router(self) -> Json:
        return self._envelope["router"]

    def _ways(self, floating: str) -> dict[str, Way]:
        vms, interface = self._document.cloud.vms, self._router["_interfaces"][0]["mac_address"]
        agent = self._router["_floatingip_agent_interfaces"][0]["mac_address"]
        out, plain = (interface, vms[floating].mac), (interface, vms["plain"].mac)
        inward = (agent, "fa:16:3e:00:00:01")
        return {
            FIP_OUT: Way("red", "internet", out, (self._fixed, STRANGER), (floating, STRANGER)),
            FIP_IN: Way("internet", "red", inward, (STRANGER, floating), (STRANGER, self._fixed)),
            SNAT_OUT: Way("red", "internet", plain, (PLAIN, STRANGER), (GATEWAY, STRANGER)),
            EAST_WEST: Way("red", "blue", out, (self._fixed, EAST), (self._fixed, EAST)),
        }

    def forget_connections(self) -> None:
        """Delete all tracked connections."""
        if self.filtered:
            for namespace in (self._document.qrouter, self._document.snat_namespace):
                lab.in_netns(namespace, "conntrack", "-F")


def _other_router(number: int) -> Json:
    """Make a router whose SNAT is on another host."""
    cloud, name = Cloud(), f"other-{number}"
    network = Network(name, ("10.3.0.0/24",))
    router = cloud.router(name, network).gateway(OUTSIDE, str(FIRST_GATEWAY + number))
    envelope = router.floating_ip(str(FIRST_OTHER_FIP + number), cloud.vm(name, network, "10.3.0.10")).envelope()
    envelope["router"]["gw_port_host"] = "elsewhere"
    return envelope
