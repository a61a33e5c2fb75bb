"""A small client of Neutron's REST API (without Keystone), and the objects that the tests make by it."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from typing import Any

Item = dict[str, Any]
PROJECT = "lab"
KEPT_SECONDS = 10.0
"""A connection that was silent for longer is made anew: the server closes it some time, and says nothing."""
ONE = {"policies": "policy", "address-scopes": "address_scope", "l3-routers": "router", "l3-agents": "agent"}
ONE |= {"ndp_proxies": "ndp_proxy"}
INTERFACES = (
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
)
"""Owners of a router's interfaces to tenant networks, by the kind of router."""


def one_of(collection: str) -> str:
    """How one item of a collection is called; the collection may stand below an object (``routers/…/…``)."""
    last = collection.rsplit("/", 1)[-1]
    return ONE.get(last, last.rstrip("s"))


class ApiError(AssertionError):
    """The server refused; ``status`` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:600]}")
        self.status = status


class Api:
    """One server; may be used by several threads."""

    def __init__(self, host: str, port: int) -> None:
        self._place = (host, port)
        self._local = threading.local()

    def call(self, verb: str, path: str, body: Item | None = None) -> Any:
        """One request; returns the decoded answer.

        :raises ApiError: an answer of 300 or more
        :raises OSError: nobody answers
        """
        connection = getattr(self._local, "connection", None)
        if connection is not None and time.monotonic() - self._local.used > KEPT_SECONDS:
            connection.close()
            connection = None
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(*self._place, timeout=120)
        try:
            # No X-Project-Id: without Keystone that makes the caller an administrator.
            connection.request(verb, f"/v2.0/{path}", json.dumps(body) if body is not None else None, HEADERS)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            self._local.connection = None
            raise exc if isinstance(exc, OSError) else ConnectionError(str(exc)) from exc
        self._local.used = time.monotonic()
        if answer.status >= 300:
            raise ApiError(answer.status, f"{verb} {path}: {text}")
        return json.loads(text) if text else None

    def alive(self) -> bool:
        """It answers."""
        try:
            self.call("GET", "networks?limit=1")
        except (OSError, ApiError):
            return False
        return True

    def create(self, collection: str, **values: Any) -> Item:
        one = one_of(collection)
        # What stands below an object has its project.
        project = {} if "/" in collection and not collection.endswith("/policies") else {"project_id": PROJECT}
        item: Item = self.call("POST", collection, {one: {**project, **values}})[one]
        return item

    def update(self, collection: str, key: str, **values: Any) -> Item:
        one = one_of(collection)
        item: Item = self.call("PUT", f"{collection}/{key}", {one: values})[one]
        return item

    def show(self, collection: str, key: str) -> Item:
        one = one_of(collection)
        item: Item = self.call("GET", f"{collection}/{key}")[one]
        return item

    def list(self, collection: str, **query: str) -> list[Item]:
        words = "&".join(f"{key}={value}" for key, value in query.items())
        answer: dict[str, list[Item]] = self.call("GET", f"{collection}?{words}")
        return next(iter(answer.values()))

    def delete(self, collection: str, key: str) -> None:
        self.call("DELETE", f"{collection}/{key}")

    def network(self, name: str, cidr: str, **subnet: Any) -> Item:
        """A tenant network with one subnet; the subnet's id comes as ``subnet_id``."""
        network = self.create("networks", name=name)
        return {**network, "subnet_id": self.subnet(network["id"], cidr, subnet)["id"]}

    def external_network(self, name: str, cidr: str, physnet: str, **subnet: Any) -> Item:
        kind = {"provider:network_type": "flat", "provider:physical_network": physnet, "router:external": True}
        network = self.create("networks", name=name, **kind)
        return {**network, "subnet_id": self.subnet(network["id"], cidr, subnet)["id"]}

    def subnet(self, network: str, cidr: str, values: Item) -> Item:
        """A subnet of a network; IPv4 without DHCP unless ``values`` say otherwise."""
        base = {"network_id": network, "cidr": cidr, "ip_version": 4, "enable_dhcp": False}
        return self.create("subnets", **{**base, **values})

    def router(self, name: str, external: str = "", subnets: tuple[str, ...] = (), **values: Any) -> Item:
        """A router with its gateway and interfaces; distributed unless ``values`` say otherwise."""
        gateway = {"external_gateway_info": {"network_id": external}} if external else {}
        router = self.create("routers", name=name, **{"distributed": True, **gateway, **values})
        for subnet in subnets:
            self.add_interface(router["id"], subnet)
        return router

    def add_interface(self, router: str, subnet: str) -> None:
        self.call("PUT", f"routers/{router}/add_router_interface", {"subnet_id": subnet})

    def remove_interface(self, router: str, subnet: str) -> None:
        self.call("PUT", f"routers/{router}/remove_router_interface", {"subnet_id": subnet})

    def instance_port(self, network: str, host: str, **values: Any) -> Item:
        """A port as Nova makes it for an instance on ``host``."""
        nova = {"device_owner": "compute:nova", "device_id": str(uuid.uuid4()), "binding:host_id": host}
        return self.create("ports", network_id=network, **{**nova, **values})

    def floating_ip(self, external: str, port: str | None = None, **values: Any) -> Item:
        return self.create("floatingips", floating_network_id=external, port_id=port, **values)

    def port_forwarding(self, floating: str, port: Item, protocol: str, outer: str, inner: str) -> Item:
        """A forwarding of a floating IP's ports ``outer`` to ``inner`` of an instance's port: ``80`` or ``80:89``."""
        target = {"internal_port_id": port["id"], "internal_ip_address": port["fixed_ips"][0]["ip_address"]}
        ranges = {"external_port_range": outer, "internal_port_range": inner}
        return self.create(f"floatingips/{floating}/port_forwardings", protocol=protocol, **target, **ranges)

    def qos_policy(self, name: str, **kbps: int) -> Item:
        """A policy with a bandwidth limit for each direction named (``egress``, ``ingress``)."""
        policy = self.create("qos/policies", name=name)
        policy["rule_ids"] = {
            direction: self.bandwidth_limit(policy["id"], direction, kbps[direction]) for direction in kbps
        }
        return policy

    def bandwidth_limit(self, policy: str, direction: str, kbps: int) -> str:
        """One more rule; returns its id."""
        values = {"direction": direction, "max_kbps": kbps, "max_burst_kbps": kbps}
        key: str = self.create(f"qos/policies/{policy}/bandwidth_limit_rules", **values)["id"]
        return key

    def conntrack_helper(self, router: str, protocol: str, port: int, helper: str) -> Item:
        return self.create(f"routers/{router}/conntrack_helpers", protocol=protocol, port=port, helper=helper)

    def ndp_proxy(self, router: str, port: Item, address: str) -> Item:
        """Make an IPv6 address of an instance known outside; the router's flag must be on."""
        return self.create("ndp_proxies", router_id=router, port_id=port["id"], ip_address=address)

    def ha_states(self, router: str) -> dict[str, str]:
        """``active`` or ``standby`` by host, as the server believes."""
        agents = self.list(f"routers/{router}/l3-agents")
        return {agent["host"]: agent["ha_state"] for agent in agents}

    def delete_router(self, router: str) -> None:
        """The router with its interfaces; floating IPs must be gone."""
        for port in self.list("ports", device_id=router):
            if port["device_owner"] in INTERFACES:
                self.call("PUT", f"routers/{router}/remove_router_interface", {"port_id": port["id"]})
        self.delete("routers", router)


HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
