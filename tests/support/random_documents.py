"""Random documents of a few routers that share external networks, one change after the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

from dvr_agent.model.router import FloatingIp, Router, RouterPort
from tests.support.packet_documents import mac, uid
from tests.support.small_routers import EXTERNAL, HOST, make_router, port

OTHER = uid("network", "other")
BRIDGES = {EXTERNAL: "br-ext", OTHER: "br-other"}
NETS = {EXTERNAL: "203.0.113", OTHER: "192.0.2"}
NAMES = ("one", "two", "three", "four")
SCOPE = uid("scope", "both")
HOSTS = range(100, 108)
"""Last bytes of floating IPs."""


def gateway_port(network: str, name: str, variant: str = "plain") -> RouterPort:
    """An agent gateway port; the variants of one name have one id."""
    base = NETS[network]
    cidrs = {
        "subnet": [f"198.18.{len(base)}.200/24"],
        "address": [f"{base}.201/24"],
        "taken": [f"{base}.{HOSTS[1]}/24"],
        "dual stack": [f"{base}.200/24", "2001:db8:ff::200/64"],
    }.get(variant, [f"{base}.200/24"])
    made = port(f"{network} {name}", network, *cidrs)
    if variant == "mac":
        made = replace(made, mac=mac("another", name))
    if variant == "hop":
        made = replace(made, subnets=tuple(replace(one, gateway_ip=ip_address("198.51.100.1")) for one in made.subnets))
    if variant == "extra":
        made = replace(made, extra_subnets=(ip_network("198.18.77.0/24"),))
    return made


VARIANTS = ("plain", "mac", "address", "subnet", "hop", "taken", "dual stack", "extra")


def network_of(router: Router) -> str:
    return router.gateway.network_id if router.gateway is not None else EXTERNAL


class RandomDocuments:
    """The documents of the routers, and random changes of them.

    :param put: takes a new document, in order
    :param delete: takes a router whose document is gone
    """

    def __init__(
        self, dice: random.Random, put: Callable[[Router], object], delete: Callable[[Router], object]
    ) -> None:
        self._dice, self._put, self._delete = dice, put, delete
        made = [make_router(name, number, ipv6=number < 3) for number, name in enumerate(NAMES, 1)]
        self._first = {one.id: replace(one, agent_gateways=()) for one in made}
        self._gateways: dict[str, tuple[RouterPort, ...]] = {network: (gateway_port(network, "a"),) for network in NETS}
        self._here: dict[str, Router] = {}

    def change(self) -> None:
        """Make one change, which may concern several documents."""
        choices: dict[Callable[[Sequence[Router]], list[Router]], int] = {
            self._floating_ips: 6, self._gateway_of_all: 4, self._gateway_of_one: 4, self._gone: 2, self._network: 2,
            self._contest: 3, self._own_again: 2, self._down: 1, self._shared_subnet: 3, self._legacy: 1,
        }  # fmt: skip
        (make,) = self._dice.choices([*choices], [*choices.values()])
        changed = make([*self._here.values()])
        self._dice.shuffle(changed)
        for router in changed:
            self._here[router.id] = router
            self._put(router)

    def _any(self) -> Router:
        """A router; it may be one that has no document now."""
        router = self._dice.choice([*self._first.values()])
        return self._here.get(router.id) or replace(router, agent_gateways=self._gateways[EXTERNAL])

    def _number(self, router: Router) -> int:
        return 1 + [*self._first].index(router.id)

    def _floating_ip(self, router: Router, host: int) -> FloatingIp:
        network, address = network_of(router), f"{NETS[network_of(router)]}.{host}"
        fixed = f"10.{self._number(router)}.0.{10 + host % 5}"
        return FloatingIp(uid("fip", address), ip_address(address), ip_address(fixed), network, HOST)  # type: ignore[arg-type]

    def _floating_ips(self, here: Sequence[Router]) -> list[Router]:
        """A router gets others; those that had them mostly lose them."""
        router = self._any()
        wanted = [self._floating_ip(router, host) for host in self._dice.sample(HOSTS, self._dice.randrange(4))]
        addresses = {one.address for one in wanted}
        changed = [replace(router, floating_ips=tuple(wanted))]
        for other in here:
            left = tuple(one for one in other.floating_ips if one.address not in addresses)
            if other.id != router.id and left != other.floating_ips and self._dice.random() < 0.8:
                changed.append(replace(other, floating_ips=left))
        return changed

    def _new_gateways(self, network: str) -> tuple[RouterPort, ...]:
        number = 2 if self._dice.random() < 0.15 else 1
        names = self._dice.sample("abc", number)
        return tuple(gateway_port(network, name, self._dice.choice(VARIANTS)) for name in names)

    def _gateway_of_all(self, here: Sequence[Router]) -> list[Router]:
        network = self._dice.choice([*NETS])
        self._gateways[network] = self._new_gateways(network)
        return self._own_again([router for router in here if network_of(router) == network])

    def _own_again(self, here: Sequence[Router]) -> list[Router]:
        """Mostly all documents list the newest agent gateway port."""
        return [
            replace(router, agent_gateways=self._gateways[network_of(router)])
            for router in here
            if router.gateway is not None and self._dice.random() < 0.9
        ]

    def _gateway_of_one(self, _here: Sequence[Router]) -> list[Router]:
        router = self._any()
        listed = self._new_gateways(network_of(router)) if self._dice.random() < 0.9 else ()
        return [replace(router, agent_gateways=listed)]

    def _gone(self, here: Sequence[Router]) -> list[Router]:
        if here:
            router = self._dice.choice(here)
            del self._here[router.id]
            self._delete(router)
        return []

    def _network(self, _here: Sequence[Router]) -> list[Router]:
        """A router comes to another external network, or loses its gateway."""
        first = self._first[self._any().id]
        if self._dice.random() < 0.3:
            return [replace(first, gateway=None, gateway_host=None)]
        network = self._dice.choice([*NETS])
        gateway = port(f"{first.name}-qg", network, f"{NETS[network]}.{self._number(first)}/24")
        return [replace(first, gateway=gateway, agent_gateways=self._gateways[network])]

    def _contest(self, here: Sequence[Router]) -> list[Router]:
        """A router claims what another has."""
        router = self._any()
        others = [one for one in here if one.id != router.id and network_of(one) == network_of(router)]
        if not others or router.gateway is None:
            return []
        other = self._dice.choice(others)
        inside, theirs = router.interfaces[0], other.interfaces[0]
        claims = [
            replace(router, floating_ips=(self._floating_ip(router, self._number(other)),)),
            replace(router, interfaces=(replace(inside, id=theirs.id[:11] + inside.id[11:]), *router.interfaces[1:])),
        ]
        if other.floating_ips:
            host = other.floating_ips[0].address.packed[-1]
            claims.append(replace(router, floating_ips=(self._floating_ip(router, host),)))
        if other.gateway is not None:
            claims.append(replace(router, gateway=replace(router.gateway, fixed_ips=other.gateway.fixed_ips)))
            claims.append(replace(router, gateway=replace(router.gateway, mac=other.gateway.mac)))
        return [self._dice.choice(claims)]

    def _down(self, _here: Sequence[Router]) -> list[Router]:
        router = self._any()
        return [replace(router, admin_state_up=not router.admin_state_up)]

    def _legacy(self, _here: Sequence[Router]) -> list[Router]:
        router = self._any()
        return [replace(router, distributed=not router.distributed)]

    def _shared_subnet(self, _here: Sequence[Router]) -> list[Router]:
        """A router gets an interface in a subnet of several routers, in the external address scope; or loses it."""
        router = self._any()
        first = self._first[router.id]
        if router.gateway is None:
            return []
        if len(router.interfaces) > 1:
            return [replace(router, interfaces=first.interfaces, snat_interfaces=first.snat_interfaces)]
        inside, csnat = (
            replace(port(f"{router.name}-shared-{what}", uid("network", "shared"), f"10.50.0.{host}/24"), scope4=SCOPE)
            for what, host in (("qr", self._number(router)), ("sg", 20 + self._number(router)))
        )
        return [
            replace(
                router,
                interfaces=(*router.interfaces, inside),
                snat_interfaces=(*router.snat_interfaces, csnat),
                gateway=replace(router.gateway, scope4=SCOPE),
            )
        ]
