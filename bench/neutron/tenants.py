"""The routers that the bench gives to the agents, made by the API: each with a network, two instances' ports, two FIPs.

The ports are bound to the host and never plugged: the L3 agents do not look.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.support.cloud.api import Api, Item

AT_ONCE = 4
"""Requests in flight: the API is the same two or so cores."""


@dataclass(slots=True)
class Tenant:
    """One router and what belongs to it."""

    router: str
    network: Item
    ports: list[Item] = field(default_factory=list)
    floating_ips: list[Item] = field(default_factory=list)


class Tenants:
    """Makes and deletes them.

    :param kind: what the API is told of each router: ``distributed``, ``ha``
    """

    def __init__(self, api: Api, external: str, host: str, **kind: bool) -> None:
        self._api, self._external, self._host, self._kind = api, external, host, kind
        self._made = 0

    def make(self, number: int, floating_ips: int = 2) -> list[Tenant]:
        """So many more routers, each with so many floating IPs."""
        numbers = range(self._made, self._made + number)
        self._made += number
        # The first HA router of a project brings the HA network, and the server refuses another one meanwhile.
        first = [self._make(one, floating_ips) for one in numbers[:1]]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return first + list(pool.map(lambda one: self._make(one, floating_ips), numbers[1:]))

    def _make(self, number: int, floating_ips: int) -> Tenant:
        network = self._api.network(f"net{number}", f"10.{number // 250}.{number % 250}.0/24")
        router = self._api.router(f"router{number}", self._external, (network["subnet_id"],), **self._kind)
        tenant = Tenant(router["id"], network)
        for _ in range(floating_ips):
            self.add_port(tenant)
            key = tenant.ports[-1]["id"]
            tenant.floating_ips.append(self._api.floating_ip(self._external, key))
        return tenant

    def add_port(self, tenant: Tenant) -> Item:
        """One more instance on the host."""
        tenant.ports.append(self._api.instance_port(tenant.network["id"], self._host))
        return tenant.ports[-1]

    def delete_router(self, tenant: Tenant) -> None:
        """Floating IPs, interfaces, router."""
        for floating in tenant.floating_ips:
            self._api.delete("floatingips", floating["id"])
        self._api.delete_router(tenant.router)

    def delete_rest(self, tenant: Tenant) -> None:
        """Ports and network, when the router is gone."""
        for port in tenant.ports:
            self._api.delete("ports", port["id"])
        self._api.delete("networks", tenant.network["id"])
