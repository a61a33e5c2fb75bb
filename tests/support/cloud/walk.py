"""A random walk over what the API can do to routers of every kind and to all that hangs on them.

An action that the server refuses is counted and forgotten: it is the server that knows what goes together.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence

from tests.support.cloud.api import Api, ApiError, Item
from tests.support.cloud.cloud import Cloud
from tests.support.cloud.host import Host
from tests.support.cloud.site import Instance, Site

KINDS: dict[str, dict[str, bool]] = {
    "legacy": {"distributed": False, "ha": False},
    "distributed": {"distributed": True, "ha": False},
    "HA legacy": {"distributed": False, "ha": True},
    "HA distributed": {"distributed": True, "ha": True},
}
MOST_SITES, MOST_INSTANCES, MOST_FLOATING, MOST_FORWARDINGS = 4, 3, 4, 6
HELPERS = (("tcp", 21, "ftp"), ("udp", 69, "tftp"), ("tcp", 5060, "sip"))
PROTOCOLS = ("tcp", "udp", "sctp", "dccp")


class Walk:
    """Takes steps; knows what there ought to be.

    :ivar log: the steps so far, for whoever reads of a failure
    :ivar refused: how many of them the server did not want
    """

    def __init__(self, cloud: Cloud, hosts: Sequence[Host], seed: int) -> None:
        self._cloud, self._hosts, self._random = cloud, hosts, random.Random(seed)
        self.sites: list[Site] = []
        self.policies: list[Item] = []
        self.log: list[str] = []
        self.refused = 0
        self._steps: tuple[Callable[[], str], ...] = (
            self._add_router, self._remove_router, self._boot, self._boot, self._delete_instance,
            self._add_floating, self._add_floating, self._associate, self._disassociate, self._delete_floating,
            self._forward, self._forward, self._forward, self._change_forwarding, self._delete_forwarding,
            self._add_policy, self._limit_floating, self._limit_floating, self._limit_gateway, self._change_rule,
            self._delete_rule, self._add_helper, self._change_helper, self._delete_helper,
            self._routes, self._gateway, self._snat,
        )  # fmt: skip

    @property
    def _api(self) -> Api:
        return self._cloud.api

    def step(self) -> None:
        """Do one thing that makes sense now."""
        while True:
            try:
                what = self._random.choice(self._steps)()
            except ApiError as exc:
                self.refused += 1
                what = f"refused: {str(exc)[:160]}"
            except LookupError:
                continue  # nothing there to do it to
            self.log.append(what)
            return

    def end(self) -> None:
        """Everything goes."""
        for site in list(self.sites):
            self._delete(site)
        self.sites.clear()
        for policy in self.policies:
            self._api.delete("qos/policies", policy["id"])
        self.policies.clear()

    def _delete(self, site: Site) -> None:
        self._api.update("routers", site.router, routes=[])  # they would keep its interface
        site.__exit__()

    def statuses(self) -> dict[str, str]:
        """What the API must say of each floating IP, by its id."""
        found = {}
        for site in self.sites:
            forwarding = {floating for floating, _ in site.forwardings}
            for floating in site.floating_ips:
                serves = floating.get("port_id") or floating["id"] in forwarding
                found[floating["id"]] = "ACTIVE" if serves else "DOWN"
        return found

    # --- choices

    def _site(self, condition: Callable[[Site], object] = lambda site: True) -> Site:
        return self._random.choice([site for site in self.sites if condition(site)])

    def _instance(self, site: Site) -> Instance:
        return self._random.choice(site.instances)

    def _floating(self, site: Site) -> Item:
        return self._random.choice(site.floating_ips)

    def _policy(self) -> Item:
        return self._random.choice(self.policies)

    # --- routers and instances

    def _add_router(self) -> str:
        if len(self.sites) >= MOST_SITES:
            raise LookupError
        missing = [name for name in KINDS if name not in {site.kind for site in self.sites}]
        kind = self._random.choice(missing or list(KINDS))
        site = Site(self._cloud, "physnet1", True, **KINDS[kind])
        site.kind = kind
        self.sites.append(site)
        return f"{kind} router {site.router}"

    def _remove_router(self) -> str:
        if len(self.sites) < 3 or self._random.random() < 0.7:
            raise LookupError
        site = self._site()
        self.sites.remove(site)
        self._delete(site)
        return f"router {site.router} deleted"

    def _boot(self) -> str:
        site = self._site(lambda site: len(site.instances) < MOST_INSTANCES)
        host = self._random.choice(self._hosts)
        return f"{site.boot(host).name} on {host.name} at {site.router}"

    def _delete_instance(self) -> str:
        site = self._site(lambda site: len(site.instances) > 1)
        instance = self._instance(site)
        key = instance.port["id"]
        site.delete_instance(instance)
        for floating in site.floating_ips:
            if floating.get("port_id") == key:
                floating["port_id"] = None
        for forwarding in list(site.forwardings):
            with contextlib.suppress(ApiError):
                self._api.show(f"floatingips/{forwarding[0]}/port_forwardings", forwarding[1])
                continue
            site.forwardings.remove(forwarding)
        return f"{instance.name} deleted"

    # --- floating IPs

    def _add_floating(self) -> str:
        site = self._site(lambda site: len(site.floating_ips) < MOST_FLOATING)
        made = site.floating_ip()
        return f"floating IP {made['floating_ip_address']} for {site.router}"

    def _associate(self) -> str:
        site = self._site(lambda site: site.floating_ips and site.instances)
        floating, instance = self._floating(site), self._instance(site)
        site.associate(floating, instance)
        floating["port_id"] = instance.port["id"]
        return f"{floating['floating_ip_address']} for {instance.name}"

    def _disassociate(self) -> str:
        site = self._site(lambda site: site.floating_ips)
        floating = self._random.choice([one for one in site.floating_ips if one.get("port_id")])
        site.associate(floating, None)
        floating["port_id"] = None
        return f"{floating['floating_ip_address']} for nobody"

    def _delete_floating(self) -> str:
        site = self._site(lambda site: site.floating_ips)
        busy = {floating for floating, _ in site.forwardings}
        floating = self._random.choice([one for one in site.floating_ips if one["id"] not in busy])
        site.delete_floating_ip(floating)
        return f"{floating['floating_ip_address']} deleted"

    # --- port forwardings

    def _forward(self) -> str:
        site = self._site(lambda site: site.instances and len(site.forwardings) < MOST_FORWARDINGS)
        floating = self._random.choice([one for one in site.floating_ips if not one.get("port_id")])
        instance, protocol = self._instance(site), self._random.choice(PROTOCOLS)
        first, length = self._random.randrange(1000, 9000, 10), self._random.choice((0, 0, 3))
        outer = f"{first}:{first + length}"
        inner = self._random.choice((f"{first + 10000}:{first + 10000 + length}", "80:80"))
        site.forward(floating, protocol, outer, instance, inner)
        return f"{floating['floating_ip_address']} {protocol} {outer} → {instance.name} {inner}"

    def _change_forwarding(self) -> str:
        site = self._site(lambda site: site.forwardings)
        floating, forwarding = self._random.choice(site.forwardings)
        port = self._random.randrange(10000, 60000)
        self._api.update(f"floatingips/{floating}/port_forwardings", forwarding, external_port=port)
        return f"forwarding {forwarding} from port {port}"

    def _delete_forwarding(self) -> str:
        site = self._site(lambda site: site.forwardings)
        floating, forwarding = self._random.choice(site.forwardings)
        site.delete_forwarding(floating, forwarding)
        return f"forwarding {forwarding} deleted"

    # --- limits

    def _add_policy(self) -> str:
        if len(self.policies) >= 3:
            raise LookupError
        rates = {"egress": self._random.randrange(1000, 9000), "ingress": self._random.randrange(1000, 9000)}
        self.policies.append(self._api.qos_policy(f"policy{len(self.policies)}", **rates))
        return f"policy {self.policies[-1]['id']} {rates}"

    def _limit_floating(self) -> str:
        site = self._site(lambda site: site.floating_ips)
        floating, policy = self._floating(site), self._random.choice([*self.policies, None])
        self._api.update("floatingips", floating["id"], qos_policy_id=policy and policy["id"])
        return f"{floating['floating_ip_address']} limited by {policy and policy['id']}"

    def _limit_gateway(self) -> str:
        site, policy = self._site(), self._random.choice([*self.policies, None])
        gateway = {"network_id": site.external, "qos_policy_id": policy and policy["id"]}
        self._api.update("routers", site.router, external_gateway_info=gateway)
        return f"gateway of {site.router} limited by {policy and policy['id']}"

    def _change_rule(self) -> str:
        policy = self._policy()
        direction = self._random.choice(list(policy["rule_ids"]))
        kbps = self._random.randrange(1000, 9000)
        rules = f"qos/policies/{policy['id']}/bandwidth_limit_rules"
        self._api.update(rules, policy["rule_ids"][direction], max_kbps=kbps, max_burst_kbps=kbps)
        return f"{direction} of policy {policy['id']}: {kbps} kbit/s"

    def _delete_rule(self) -> str:
        policy = self._policy()
        if len(policy["rule_ids"]) < 2:
            policy["rule_ids"]["egress"] = self._api.bandwidth_limit(policy["id"], "egress", 2000)
            return f"policy {policy['id']} limits egress again"
        key = policy["rule_ids"].pop("egress")
        self._api.delete(f"qos/policies/{policy['id']}/bandwidth_limit_rules", key)
        return f"policy {policy['id']} limits egress no more"

    # --- the rest

    def _add_helper(self) -> str:
        site, helper = self._site(), self._random.choice(HELPERS)
        self._api.conntrack_helper(site.router, *helper)
        return f"helper {helper} at {site.router}"

    def _helper(self) -> tuple[str, Item]:
        collection = f"routers/{self._site().router}/conntrack_helpers"
        return collection, self._random.choice(self._api.list(collection))

    def _change_helper(self) -> str:
        collection, helper = self._helper()
        port = self._random.randrange(2000, 9000)
        self._api.update(collection, helper["id"], port=port)
        return f"helper {helper['helper']} on port {port}"

    def _delete_helper(self) -> str:
        collection, helper = self._helper()
        self._api.delete(collection, helper["id"])
        return f"helper {helper['helper']} deleted"

    def _routes(self) -> str:
        site = self._site()
        hops = self._random.sample(range(70, 90), self._random.randrange(3))
        routes = [{"destination": f"172.{hop}.0.0/16", "nexthop": f"10.{site.number}.0.{hop}"} for hop in hops]
        self._api.update("routers", site.router, routes=routes)
        return f"{len(routes)} extra routes at {site.router}"

    def _gateway(self) -> str:
        site = self._site(lambda site: not site.floating_ips)
        for gateway in ({}, {"network_id": site.external}):
            self._api.update("routers", site.router, external_gateway_info=gateway)
        return f"gateway of {site.router} cleared and set"

    def _snat(self) -> str:
        site, on = self._site(), self._random.random() < 0.6
        self._api.update("routers", site.router, external_gateway_info={"network_id": site.external, "enable_snat": on})
        return f"SNAT of {site.router}: {on}"
