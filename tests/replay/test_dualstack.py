"""A network with an IPv4 and an IPv6 subnet, told by a neutron-server over the bus: the router is served all the way.

The server's answers list each port with all its addresses, its casts are about one subnet each.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import lab
from tests.support.rabbit import Rabbit
from tests.support.replay_server import NeutronServer
from tests.support.replay_site import Json, Site, add_to, neighbours
from tests.support.waiting import wait_for

HOST = "compute1"
PORT_LISTS = ("_interfaces", "_snat_router_interfaces")


class Story:
    """The cloud and what the agent must make of it.

    :ivar v4: the IPv4 subnet
    :ivar v6: the IPv6 subnet, of which the router has no interface at first
    """

    def __init__(self, site: Site, router: Json, interfaces: dict[str, Json]) -> None:
        self.site, self.server, self.router, self.interfaces = site, site.server, router, interfaces
        self.ports = self.server.cloud.ports
        places = [one["fixed_ips"][0] for one in (*router["_interfaces"], interfaces["_interfaces"])]
        self.v4, self.v6 = (place["subnet_id"] for place in places)

    def cast(self, present: bool, subnet_id: str, address: str, mac: str) -> None:
        entry = {"subnet_id": subnet_id, "ip_address": address, "mac_address": mac}
        method = "add_arp_entry" if present else "del_arp_entry"
        self.server.fanout(method, "1.2", payload={"router_id": self.router["id"], "arp_table": entry})

    def attach(self) -> None:
        """The router gets its interface in the IPv6 subnet, and a csnat port there."""
        for key, port in self.interfaces.items():
            self.router[key].append(port)
        self.ports[self.v6].append(self.interfaces["_snat_router_interfaces"])

    def detach(self) -> None:
        """It loses both; if they come back they are other ports."""
        for key, port in self.interfaces.items():
            self.router[key].remove(port)
            made = copy.deepcopy(port)
            made["id"] = f"{port['id'][:7]}{'0' if port['id'][7] == 'f' else 'f'}{port['id'][8:]}"
            made["mac_address"] = port["mac_address"][:-2] + "77"
            self.interfaces[key] = made
        self.interfaces["_snat_router_interfaces"]["fixed_ips"][0]["ip_address"] += "7"
        self.ports[self.v6] = [one for one in self.ports[self.v6] if one["device_owner"] == "compute:nova"]

    def updated(self) -> None:
        since = len(self.server.calls)
        self.server.updated(self.router["id"])
        self.server.wait_asked("sync_routers", since)

    def has(self, wanted: dict[str, str | None]) -> None:
        """Wait until the kernel has these permanent neighbours, and none where it is to have none."""

        def met() -> bool:
            found = neighbours(self.router["id"])
            return all(found.get(address) == mac for address, mac in wanted.items())

        wait_for(met)
        assert self.site.source()["bad"] == []


@pytest.fixture
def story(broker: Rabbit, neutron_server: NeutronServer, host: lab.Host, tmp_path: Path) -> Iterator[Story]:
    neutron_server.reset(HOST)
    with broker.reach():
        router = add_to(neutron_server.cloud, "h_dual_stack", HOST)
        interfaces: dict[str, Any] = {}
        for key in PORT_LISTS:
            (interfaces[key],) = (one for one in router[key] if ":" in one["fixed_ips"][0]["ip_address"])
            router[key].remove(interfaces[key])
        site = Site(host, tmp_path, neutron_server, "dvr_snat", {router["gw_port"]["network_id"]})
        story = Story(site, router, interfaces)
        ports = neutron_server.cloud.ports
        ports[story.v6] = [one for one in ports[story.v6] if one["device_owner"] == "compute:nova"]
        site.start()
        site.in_sync(router["id"])
        yield story
        site.stop()


def test_ports_and_subnets_of_a_dual_stack_network_come_and_go(story: Story) -> None:
    old, new, other = (f"fa:16:3e:00:00:0{number}" for number in (1, 2, 3))
    v4, v6 = "10.1.0.200", "2001:db8:1::c8"

    # An instance of which the agent knows by a notification only; then the IPv6 subnet is attached.
    story.cast(True, story.v4, v4, old)
    story.has({v4: old})
    fixed = [{"subnet_id": story.v4, "ip_address": v4}, {"subnet_id": story.v6, "ip_address": v6}]
    instance = {
        "id": "00000000-0000-4000-8000-000000000001",
        "mac_address": old,
        "device_owner": "compute:nova",
        "fixed_ips": fixed,
    }
    story.ports[story.v4].append(instance)
    story.ports[story.v6].append(instance)
    story.attach()
    story.updated()
    story.has({v4: old, v6: old})

    # Its MAC address changes; the notifications come in another order for each subnet.
    story.cast(False, story.v4, v4, old)
    story.cast(True, story.v4, v4, new)
    story.cast(True, story.v6, "2001:DB8:1:0::C8", new)
    story.cast(False, story.v6, v6, old)
    story.has({v4: new, v6: new})

    # It is deleted, and its IPv4 address given to another; the router goes on to be served.
    story.cast(False, story.v6, v6, new)
    story.cast(False, story.v4, v4, new)
    story.cast(True, story.v4, v4, other)
    for subnet_id in (story.v4, story.v6):
        story.ports[subnet_id].remove(instance)
    story.has({v4: other, v6: None})
    _is_served(story)

    # The IPv6 interface is removed and added again; meanwhile nothing is told of that subnet's ports.
    csnat = story.interfaces["_snat_router_interfaces"]["fixed_ips"][0]["ip_address"]
    assert csnat in neighbours(story.router["id"])
    story.detach()
    story.ports[story.v6].append(instance | {"mac_address": other})
    story.attach()
    story.updated()
    again = story.interfaces["_snat_router_interfaces"]
    story.has({csnat: None, again["fixed_ips"][0]["ip_address"]: again["mac_address"], v6: other})
    _is_served(story)


def _is_served(story: Story) -> None:
    """A change of the router gets to the kernel."""
    port = story.router["_interfaces"][0]
    port["mtu"] = {1450: 1440}.get(port["mtu"], 1450)
    story.updated()
    device = f"qr-{port['id']}"[:14]

    def met() -> bool:
        links = lab.ip_json("link", netns=f"qrouter-{story.router['id']}")
        return {link["ifname"]: link["mtu"] for link in links}[device] == port["mtu"]

    wait_for(met)
