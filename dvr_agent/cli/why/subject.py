"""Finds what the operator asks about in the documents: a floating IP, an address, or a router.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from dvr_agent.cli.subjects import NotFoundError, find_router
from dvr_agent.cli.why.facts import Kind, Subject
from dvr_agent.desired import names
from dvr_agent.model.router import Router, RouterPort, SubnetPort
from dvr_agent.plural import count

Routers = Mapping[str, tuple[str, Router]]
"""Router id → (name of its document, router)."""


def find_subject(text: str, routers: Routers, router: str = "") -> Subject:
    """Return what is meant.

    :param text: an address, or the id, the beginning of the id or the name of a router
    :param router: the router to look at, likewise; empty: all
    :raises NotFoundError: no router, or more than one thing, is meant
    """
    address = _address(text)
    if router:
        chosen = find_router(router, _names(routers))
        routers = {chosen: routers[chosen]}
    if not address:
        router_id = find_router(text, _names(routers))
        document, found = routers[router_id]
        return Subject(text, Kind.ROUTER, router=found, document=document)
    for look in _LOOKS:
        candidates = [one for document, found in routers.values() for one in look(address, document, found)]
        if candidates:
            return _only(address, candidates)
    return Subject(text, Kind.NOTHING, address)


def _names(routers: Routers) -> dict[str, str]:
    return {router_id: router.name for router_id, (_, router) in routers.items()}


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


def _only(address: str, candidates: Sequence[Subject]) -> Subject:
    """Return the only candidate: tenants' networks may have the same addresses."""
    routers = {one.router.id: one.title for one in candidates if one.router is not None}
    if len(routers) > 1:
        listed = ", ".join(f"{name} ({router_id})" for router_id, name in sorted(routers.items())[:5])
        raise NotFoundError(f"{address} is in {count(len(routers), 'router')}: {listed}; say which one by --router")
    return candidates[0]


def _floating(address: str, document: str, router: Router) -> Iterator[Subject]:
    for fip in (*router.floating_ips, *router.omitted_floating_ips):
        if str(fip.address) == address:
            fixed = str(fip.fixed_address)
            port = _port_of(router, fixed)
            yield Subject(address, Kind.FLOATING_IP, address, router, document, fip, fixed, port)


def _forwarded(address: str, document: str, router: Router) -> Iterator[Subject]:
    for one in router.features.forwarding_ips:
        if str(one.address) == address:
            used = router.features.port_forwardings or ()
            fixed = sorted({str(use.fixed_address) for use in used if str(use.address) == address})
            inside = fixed[0] if len(fixed) == 1 else ""
            port = _port_of(router, inside) if inside else None
            yield Subject(address, Kind.FORWARDED, address, router, document, fixed=inside, port=port)


def _own(address: str, document: str, router: Router) -> Iterator[Subject]:
    for role, prefix, port in _own_ports(router):
        if any(str(fixed.address) == address for fixed in port.fixed_ips):
            device = names.device(prefix, port.id)
            yield Subject(address, Kind.OWN, address, router, document, role=role, device=device)


def _own_ports(router: Router) -> Iterator[tuple[str, str, RouterPort]]:
    yield from (("router interface", names.INTERNAL, port) for port in router.interfaces)
    yield from (("csnat port", names.CSNAT, port) for port in router.snat_interfaces)
    yield from (("agent gateway port", names.AGENT_GATEWAY, port) for port in router.agent_gateways)
    if router.gateway is not None:
        yield "gateway port", names.GATEWAY, router.gateway


def _fixed(address: str, document: str, router: Router) -> Iterator[Subject]:
    port = _port_of(router, address)
    if port is not None:
        fip = next((one for one in router.floating_ips if str(one.fixed_address) == address), None)
        yield Subject(address, Kind.FIXED, address, router, document, fip, address, port)


_LOOKS: tuple[Callable[[str, str, Router], Iterable[Subject]], ...] = (_floating, _forwarded, _own, _fixed)
"""In the order of their precedence: the router's own ports are in the lists of ports, too."""


def _port_of(router: Router, address: str) -> SubnetPort | None:
    """Return the port that has a fixed address or an allowed address pair; one that is up and has it as fixed first."""
    ports = [port for _, listed in router.ports_by_subnet for port in listed]
    fixed = [port for port in ports if any(str(one) == address for _, one in port.addresses)]
    pairs = [port for port in ports for _, net in port.pairs if net.num_addresses == 1 and str(net[0]) == address]
    found = [*sorted(fixed, key=lambda port: not port.is_up), *pairs]
    return found[0] if found else None


def near(address: str, routers: Routers) -> list[str]:
    """Return what the documents have near an address that none of them has: the subnets that it is in, each once."""
    wanted = ip_address(address)
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for _, router in routers.values():
        for role, _, port in _own_ports(router):
            for subnet in port.subnets:
                if wanted in subnet.cidr:
                    titles, roles = found.setdefault(str(subnet.cidr), ({}, {}))
                    titles[router.name or router.id] = None
                    roles[role] = None
    nobody = "but no port or floating IP there has it"
    return [
        f"it is in subnet {cidr} of {_counted(list(titles))} ({', '.join(roles)}), {nobody}"
        for cidr, (titles, roles) in found.items()
    ]


def _counted(titles: Sequence[str]) -> str:
    return f"router {titles[0]}" if len(titles) == 1 else count(len(titles), "router")
