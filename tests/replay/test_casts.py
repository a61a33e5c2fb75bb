"""The recorded casts, API action by API action, to the whole daemon: what it asks the server then, and what it makes.

The documents of those moments were not recorded.  The routers here are made of a recorded one, with the subnets that
the casts speak of; their ports are those that the casts have announced so far, as the server would list them.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import lab
from tests.support.rabbit import Rabbit
from tests.support.recorded_documents import DATA
from tests.support.replay_server import NeutronServer
from tests.support.replay_site import Json, Site, add_to, exists, neighbours
from tests.support.waiting import wait_for

STEPS: list[Json] = json.loads((DATA / "rpc" / "casts.json").read_text())
TEMPLATE, HOST = "b2_dvr_snat_node_with_vms", "compute1"
SECOND = "10.2.0"
HERE = ("routers_updated", "router_added_to_agent")
GONE = ("router_removed_from_agent", "router_deleted")


def subnets_of(recording: str) -> dict[str, str]:
    """Subnet id → first three bytes of its addresses, of all IPv4 subnets that ARP casts of a recording name."""
    found = {}
    for step in STEPS:
        for message in step["messages"]:
            entry = message["args"].get("payload", {}) if "arp" in message["method"] else None
            if entry and step["recording"] == recording and "." in entry["arp_table"]["ip_address"]:
                found[entry["arp_table"]["subnet_id"]] = entry["arp_table"]["ip_address"].rpartition(".")[0]
    return found


def network_of(recording: str) -> str:
    """The network whose MTU was changed in a recording."""
    messages = [message for step in STEPS if step["recording"] == recording for message in step["messages"]]
    return next(str(one["args"]["network"]["id"]) for one in messages if one["method"] == "network_update")


def subject(message: Json) -> str | None:
    """The router that a message is about."""
    args = message["args"]
    payload = args.get("payload")
    if message["method"] in HERE:
        return str((args.get("routers") or payload)[0])
    if message["method"] in GONE:
        return str(args.get("router_id") or payload["router_id"])
    return None


class Story:
    """The cloud as the casts tell it, and what one agent must make of it."""

    def __init__(self, site: Site, template: Json, recording: str) -> None:
        self.site, self.server, self.cloud = site, site.server, site.server.cloud
        self._template = template
        self._recording = recording
        self._subnets = subnets_of(recording)
        self._macs: dict[str, dict[str, str]] = {subnet: {} for subnet in self._subnets}
        self._spoken_of: set[str] = set()

    def tell(self, messages: list[Json]) -> None:
        """The server changes, and says so; returns when the agent has followed."""
        # What the step before has led to is asked by now.
        wait_for(lambda: not self.site.source()["server"]["pending"])
        since = len(self.server.calls)
        for message in messages:
            self._change(message)
            self.server.replay(message)
        last = {subject(message): message["method"] for message in messages}
        for router_id, method in last.items():
            if router_id is not None and method in HERE:
                self.site.in_sync(router_id)
            elif router_id is not None:
                self.site.gone(router_id)
        self._check_questions(messages, since)
        for router_id in self.cloud.routers:
            wait_for(lambda one=router_id: self._as_told(one))

    def _change(self, message: Json) -> None:
        method, router_id = message["method"], subject(message)
        if method in HERE and router_id is not None:
            self.cloud.routers.setdefault(router_id, self._router(router_id))
        elif router_id is not None:
            self.cloud.routers.pop(router_id, None)
        elif method == "network_update":
            for router in self.cloud.routers.values():
                router["_interfaces"][0]["mtu"] = message["args"]["network"]["mtu"]
        elif "arp" in method:
            entry = message["args"]["payload"]["arp_table"]
            known = self._macs.setdefault(entry["subnet_id"], {})
            known.pop(entry["ip_address"], None)
            self._spoken_of.add(entry["ip_address"])
            if method == "add_arp_entry":
                known[entry["ip_address"]] = entry["mac_address"]
            self.cloud.ports[entry["subnet_id"]] = [
                {
                    "id": str(uuid.uuid5(uuid.NAMESPACE_URL, address)),
                    "mac_address": mac,
                    "device_owner": "compute:nova",
                    "fixed_ips": [{"subnet_id": entry["subnet_id"], "ip_address": address}],
                }
                for address, mac in known.items()
            ]

    def _check_questions(self, messages: list[Json], since: int) -> None:
        """A router that changed is asked for; one that was deleted is not; the agent's own state means everything."""
        for message in messages:
            router_id = subject(message)
            if message["method"] == "agent_updated":
                self.server.wait_asked("get_router_ids", since)
            elif message["method"] in HERE or (message["method"] == "network_update" and self.cloud.routers):
                self.server.wait_asked("sync_routers", since)
            elif message["method"] == "router_deleted":
                asked = [call.args["router_ids"] for call in self.server.asked("sync_routers", since)]
                assert not any(router_id in ids for ids in asked)

    def _as_told(self, router_id: str) -> bool:
        """The kernel has the neighbours and the MTU of this moment."""
        if not exists(f"qrouter-{router_id}"):
            return False
        links = {link["ifname"]: link["mtu"] for link in lab.ip_json("link", netns=f"qrouter-{router_id}")}
        first = self.cloud.routers[router_id]["_interfaces"][0]
        wanted = {address: mac for known in self._macs.values() for address, mac in known.items() if "." in address}
        found = {address: mac for address, mac in neighbours(router_id).items() if address in self._spoken_of}
        return links[f"qr-{first['id']}"[:14]] == first["mtu"] and found == wanted

    def _router(self, router_id: str) -> Json:
        """A distributed router with a port in each of the recording's subnets, and a floating IP."""
        router = copy.deepcopy(self._template)
        router["id"] = router_id
        for key in ("_interfaces", "_snat_router_interfaces"):
            (port,) = router[key]
            router[key] = [self._port(port, number, *one) for number, one in enumerate(self._subnets.items())]
        return router

    def _port(self, port: Json, number: int, subnet_id: str, prefix: str) -> Json:
        """The port, moved to another subnet; ids differ in their beginning, of which device names are made."""
        text = json.dumps(port).replace("10.1.0.", f"{prefix}.").replace(port["subnets"][0]["id"], subnet_id)
        moved: Json = json.loads(text.replace(port["id"], f"{number}{port['id'][1:]}"))
        moved["mac_address"] = f"{port['mac_address'][:-2]}{number:02x}"
        if not number:
            moved["network_id"] = network_of(self._recording)
        else:
            moved["network_id"] = f"{number}{port['network_id'][1:]}"
        return moved


@pytest.fixture
def site(broker: Rabbit, neutron_server: NeutronServer, host: lab.Host, tmp_path: Path) -> Iterator[Site]:
    neutron_server.reset(HOST)
    with broker.reach():
        router = add_to(neutron_server.cloud, TEMPLATE, HOST)
        site = Site(host, tmp_path, neutron_server, "dvr_snat", {router["gw_port"]["network_id"]})
        neutron_server.cloud.routers.clear()
        yield site.start()
        site.stop()


@pytest.mark.parametrize("agent", ["rec-c1", "rec-c2", "rec-snat"])
def test_the_recorded_casts_step_by_step(site: Site, agent: str) -> None:
    """Everything that one of the recorded agents was told, from the first router to the deletion of the last."""
    template: dict[str, Any] = json.loads((DATA / "documents" / f"{TEMPLATE}-{HOST}.json").read_text())["router"]
    for recording in ("casts", "casts_extra"):
        story = Story(site, template, recording)
        for step in STEPS:
            messages = [message for message in step["messages"] if message["host"] == agent]
            if step["recording"] == recording and messages:
                story.tell(messages)
        if recording == "casts":
            assert site.server.cloud.routers == {}, "the recording ends with the deletion of everything"
    assert site.source()["error"] == ""
    left = set(site.server.cloud.routers)
    kept = {path.name.removeprefix("qrouter-") for path in lab.NETNS.iterdir() if path.name.startswith("qrouter-")}
    assert kept == left
