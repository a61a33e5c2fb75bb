"""What a tenant has: networks, a router, instances with floating IPs; made by the API, plugged, pinged, and deleted."""

from __future__ import annotations

import ipaddress
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from tests.support.cloud.api import Item
from tests.support.cloud.cloud import OUTSIDE, Cloud
from tests.support.cloud.host import Host
from tests.support.probes import Echo, who_answers
from tests.support.waiting import wait_for

_numbers = itertools.count(1)
FORGOTTEN = 40.0
"""Seconds in which the L2 agent has wired an instance, if it has seen it at all."""
STALE_FLOWS_SECONDS = 10.0
"""A path that is silent for so long may be held by a stale flow of the user space datapath."""


def wait_for_packets(cloud: Cloud, condition: Callable[[], bool], what: str) -> None:
    """Wait until packets arrive; make Open vSwitch translate its flows anew while they do not.

    A tunnel port that goes and comes (Neutron removes it with the last remote port of its networks) can leave a flow in
    Open vSwitch's user space datapath that was made while there was no tunnel: "all IPv4 to the local port".  The
    revalidator never corrects it, and VXLAN packets end in an ICMP "port unreachable", whatever the OpenFlow rules say.
    """
    last = time.monotonic()

    def arrive() -> bool:
        nonlocal last
        if condition():
            return True
        if time.monotonic() - last > STALE_FLOWS_SECONDS:
            for host in cloud.hosts:
                host.forget_flows()
            last = time.monotonic()
        return False

    wait_for(arrive, what)


@dataclass
class Instance:
    """A namespace that is plugged into a host's br-int.

    :ivar port: its Neutron port as it was created
    :ivar name: of its namespace on the host
    :ivar gateway: its default gateway
    :ivar simple: in the site's own network
    """

    cloud: Cloud
    host: Host
    port: Item
    name: str
    gateway: str
    simple: bool = True

    @property
    def address(self) -> str:
        return self._address(4)

    @property
    def address6(self) -> str:
        return self._address(6)

    def _address(self, version: int) -> str:
        addresses = [ipaddress.ip_address(fixed["ip_address"]) for fixed in self.port["fixed_ips"]]
        return str(next(address for address in addresses if address.version == version))

    @property
    def netns(self) -> str:
        """A path by which ``tests.support.lab.entered`` and the probes find the namespace."""
        return self.host.netns(self.name)

    def pings(self, target: str, wait: float = 1) -> bool:
        """One echo request is answered."""
        words = ["ping", "-n", "-c", 1, "-W", wait, target]
        return "1 received" in self.host.run("ip", "netns", "exec", self.name, *words, check=False)

    def reaches(self, target: str) -> None:
        """Wait until it is answered."""
        wait_for_packets(self.cloud, lambda: self.pings(target), f"{self.name} on {self.host.name} reaches {target}")


class Site:
    """A router with a gateway on ``physnet``, one network; a context that deletes whatever was made.

    :param kind: what kind of router, as the API says it: ``distributed`` (True by default), ``ha``
    """

    def __init__(self, cloud: Cloud, physnet: str = "physnet1", gateway: bool = True, **kind: bool) -> None:
        self.cloud, self.api = cloud, cloud.api
        self.number = next(_numbers)
        self.external, self.outside = cloud.external[physnet], cloud.gateway(physnet)
        self.network = self.api.network(f"net{self.number}", f"10.{self.number}.0.0/24")
        self.router = self.api.router(
            f"router{self.number}", self.external if gateway else "", (self.network["subnet_id"],), **kind
        )["id"]
        self.kind = ", ".join(name for name, on in {"distributed": True, **kind}.items() if on) or "legacy"
        """In words, for whoever reads of it."""
        self.central = f"{'snat' if kind.get('distributed', True) else 'qrouter'}-{self.router}"
        """The namespace with the gateway."""
        self.instances: list[Instance] = []
        self.floating_ips: list[Item] = []
        self.forwardings: list[tuple[str, str]] = []
        """Of floating IPs: the floating IP's id and the forwarding's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tidy()
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.delete_instance, list(self.instances)))
        self.api.delete_router(self.router)
        self.api.delete("networks", self.network["id"])

    def tidy(self) -> None:
        """Delete all floating IPs with their port forwardings."""
        for forwarding in list(self.forwardings):
            self.delete_forwarding(*forwarding)
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.delete_floating_ip, list(self.floating_ips)))

    def on(self, *hosts: Host) -> list[Instance]:
        """Instances on these hosts (one named twice gets two), those that are there or new ones."""
        spare = list(self.instances)
        chosen: list[Instance | Host] = []
        for host in hosts:
            found = next((instance for instance in spare if instance.host is host and instance.simple), None)
            if found:
                spare.remove(found)
            chosen.append(found or host)
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda one: one if isinstance(one, Instance) else self.boot(one), chosen))

    def boot(self, host: Host, network: str = "", gateway: str = "") -> Instance:
        """An instance on ``host``; returns when Neutron calls its port ACTIVE."""
        port = self.api.instance_port(network or self.network["id"], host.name)
        gateway = gateway or f"10.{self.number}.0.1"
        name = host.boot_instance(port, gateway)
        instance = Instance(self.cloud, host, port, name, gateway, not network)
        self.instances.append(instance)
        self._wait_active(instance)
        return instance

    def migrate(self, instance: Instance, host: Host) -> None:
        """Off one host and on to another, as Nova tells Neutron of it; returns when the port is ACTIVE there."""
        instance.host.delete_instance(instance.port)
        self.api.update("ports", instance.port["id"], **{"binding:host_id": host.name})
        instance.host = host
        host.boot_instance(instance.port, instance.gateway)
        self._wait_active(instance)

    def _wait_active(self, instance: Instance) -> None:
        """Wait for the L2 agent; Neutron's never looks again at a port that had no OpenFlow number when it came."""
        what = f"port of {instance.name} is ACTIVE"
        try:
            wait_for(lambda: self.port_status(instance) == "ACTIVE", what, FORGOTTEN)
        except AssertionError:
            instance.host.delete_instance(instance.port)
            instance.host.boot_instance(instance.port, instance.gateway)
            wait_for(lambda: self.port_status(instance) == "ACTIVE", what)

    def use_external(self, physnet: str) -> None:
        """Move the router's gateway to another external network."""
        self.external, self.outside = self.cloud.external[physnet], self.cloud.gateway(physnet)
        self.api.update("routers", self.router, external_gateway_info={"network_id": self.external})

    def add_ipv6(self) -> None:
        """An IPv6 subnet on the network, and an interface of the router in it."""
        modes = {"ip_version": 6, "ipv6_address_mode": "slaac", "ipv6_ra_mode": "slaac", "enable_dhcp": True}
        subnet = self.api.subnet(self.network["id"], f"fd00:{self.number:x}::/64", modes)
        self.api.add_interface(self.router, subnet["id"])

    def port_status(self, instance: Instance) -> str:
        status: str = self.api.show("ports", instance.port["id"])["status"]
        return status

    def delete_instance(self, instance: Instance) -> None:
        instance.host.delete_instance(instance.port)
        self.api.delete("ports", instance.port["id"])
        self.instances.remove(instance)

    def floating_ip(self, instance: Instance | None = None, wait: bool = True, **values: str) -> Item:
        """A floating IP for the instance; returns when Neutron calls it ACTIVE."""
        made = self.api.floating_ip(self.external, instance.port["id"] if instance else None, **values)
        self.floating_ips.append(made)
        if instance and wait:
            self.wait_status(made, "ACTIVE")
        return made

    def floating_ip_associated_once(self, instance: Instance) -> Item:
        """An ACTIVE one that was made without an instance: the server does not note which router has it."""
        made = self.floating_ip()
        self.associate(made, instance)
        self.reachable(made)
        self.wait_status(made, "ACTIVE")
        return made

    def associate(self, floating: Item, instance: Instance | None) -> None:
        self.api.update("floatingips", floating["id"], port_id=instance.port["id"] if instance else None)

    def delete_floating_ip(self, floating: Item) -> None:
        self.api.delete("floatingips", floating["id"])
        self.floating_ips.remove(floating)

    def forward(self, floating: Item, protocol: str, outer: str, instance: Instance, inner: str) -> Item:
        """Forward ports of a floating IP to an instance."""
        made = self.api.port_forwarding(floating["id"], instance.port, protocol, outer, inner)
        self.forwardings.append((floating["id"], made["id"]))
        return made

    def delete_forwarding(self, floating: str, forwarding: str) -> None:
        self.api.delete(f"floatingips/{floating}/port_forwardings", forwarding)
        self.forwardings.remove((floating, forwarding))

    def status(self, floating: Item) -> str:
        status: str = self.api.show("floatingips", floating["id"])["status"]
        return status

    def wait_status(self, floating: Item, status: str) -> None:
        address = floating["floating_ip_address"]
        wait_for(lambda: self.status(floating) == status, f"floating IP {address} is {status}")

    def answers(self, floating: Item) -> bool:
        """One echo request from outside is answered."""
        words = ["ping", "-n", "-c", 1, "-W", 1, floating["floating_ip_address"]]
        return "1 received" in self.cloud.outside(*words, check=False)

    def reachable(self, floating: Item) -> None:
        """Wait until it answers from outside."""
        what = f"{floating['floating_ip_address']} answers outside"
        wait_for_packets(self.cloud, lambda: self.answers(floating), what)

    def leads_to(self, instance: Instance, address: str, port: int = 7000, inner: int = 7000, client: str = "") -> None:
        """Wait until a connection to that address ends at the instance.

        :param inner: the instance's port
        :param client: namespace that connects; default: the one outside
        """
        with Echo(instance.netns, inner) as echo:
            wait_for_packets(
                self.cloud,
                lambda: who_answers(client or self.outside_netns, address, port) == echo.name,
                f"{address}:{port} leads to port {inner} of {instance.name}",
            )

    def unreachable(self, floating: Item) -> None:
        """Wait until it does not answer from outside."""
        wait_for(lambda: not self.answers(floating), f"{floating['floating_ip_address']} is silent")

    def silent(self, floating: Item) -> None:
        """It does not answer from outside."""
        assert not self.answers(floating), f"{floating['floating_ip_address']} answers"

    @property
    def outside_netns(self) -> str:
        return OUTSIDE
