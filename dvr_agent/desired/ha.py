"""HA routers: what belongs to the master of the virtual router, in the namespace in which a router's SNAT is.

The rest of that namespace (devices, packet filter, most parameters) is the same on all hosts of the router, so that a
fail-over needs nothing but addresses and routes, which VRRP moves (``docs/dataplane.md``, "HA routers").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network

from dvr_agent.desired import names
from dvr_agent.desired.common import NONLOCAL_BIND, port_addresses, port_link
from dvr_agent.desired.host_settings import VrrpAuth, VrrpSettings
from dvr_agent.desired.host_view import HostView
from dvr_agent.model.router import IPV6_MIN_MTU, HaInterface
from dvr_agent.state.address import Address, kernel_link_local
from dvr_agent.state.adverse import FORWARDS_IPV6
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.route import DEFAULT_V4, DEFAULT_V6, Hop, Route
from dvr_agent.state.sysctl import Sysctl
from dvr_agent.state.virtual_router import VirtualRouterState

LINK_LOCAL = IPv4Network("169.254.0.0/16")
RESERVED = (IPv4Network("169.254.169.254/32"), IPv4Network("169.254.64.0/18"))
"""Metadata, and the /31s of pairs: no primary virtual address is among them."""
NO_LINK_LOCALS = "1"
"""``addr_gen_mode``: the kernel makes no link-local addresses, which are the master's (IN6_ADDR_GEN_MODE_NONE)."""


def with_virtual_router(view: HostView, state: NamespaceState, is_master: bool) -> NamespaceState:
    """Return the state of the namespace of a router's SNAT with its virtual router, if this host takes part in one.

    :param state: the state as if the router were no HA router
    :param is_master: this host is the master now
    """
    ha = view.ha_interface
    if ha is None:
        return state
    device = names.device(names.HA, ha.port.id)
    link = port_link(device, ha.port)
    return replace(
        state,
        links=state.links | {link},
        addresses=frozenset(port_addresses(device, ha.port)),
        routes=frozenset(),
        proxy_neighbours=state.proxy_neighbours if is_master else frozenset(),
        sysctls=frozenset(_sysctls(view, state, link, is_master)),
        announcements=tuple(one for one in state.announcements if one.because in state.proxy_neighbours),
        virtual_router=_virtual_router(ha, view.settings.vrrp, state, device),
    )


def refusal(view: HostView) -> str:
    """Return why VRRP is not spoken for the router on this host, for the operator; empty: it is."""
    vrrp = view.settings.vrrp
    if view.ha_interface is None or not vrrp.password or vrrp.auth is not VrrpAuth.AH:
        return ""
    return (
        "no VRRP: ha_vrrp_auth_type is AH, authentication by IPsec, which this agent does not have; expected PASS, or "
        "no ha_vrrp_auth_password, on all hosts"
    )


def primary_address(ha: HaInterface, device: str) -> Address:
    """Compute the primary virtual address, as all hosts do: in the first free /24 of the link-local addresses."""
    taken = [*RESERVED, *(subnet.cidr for subnet in ha.port.subnets if isinstance(subnet.cidr, IPv4Network))]
    free = (net for net in LINK_LOCAL.subnets(new_prefix=24) if not any(net.overlaps(one) for one in taken))
    network = next(free, next(LINK_LOCAL.subnets(new_prefix=24)))
    return Address(device, f"{network[ha.vr_id]}/24")


def _virtual_router(ha: HaInterface, vrrp: VrrpSettings, whole: NamespaceState, device: str) -> VirtualRouterState:
    held = sorted({*whole.addresses, *_link_locals(whole.links)}, key=lambda one: (one.cidr, one.device))
    source = next((fixed.address for fixed in ha.port.fixed_ips if fixed.address.version == 4), "")
    routes = tuple(sorted(whole.routes))
    return VirtualRouterState(
        vr_id=ha.vr_id,
        priority=ha.priority,
        interval=vrrp.interval,
        device=device,
        source=str(source),
        primary=primary_address(ha, device),
        addresses=tuple(held),
        routes=routes,
        password=vrrp.password,
        may_start=ha.is_active,
        gateways=tuple(_gateways(routes)) if vrrp.check_interval else (),
        check_interval=vrrp.check_interval,
    )


def _gateways(routes: Iterable[Route]) -> Iterator[Hop]:
    """Yield the gateways of the external subnets: next hops of default routes by the gateway port."""
    for route in routes:
        if route.dst in (DEFAULT_V4, DEFAULT_V6):
            yield from (hop for hop in route.hops if hop.gateway and hop.device.startswith(names.GATEWAY))


def _link_locals(links: Iterable[Link]) -> Iterator[Address]:
    """Yield the link-local addresses that the kernel would make; all hosts have these devices with one MAC address."""
    for link in links:
        if link.mtu >= IPV6_MIN_MTU:
            yield kernel_link_local(link.name, link.mac)


def _sysctls(view: HostView, state: NamespaceState, ha_link: Link, is_master: bool) -> Iterator[Sysctl]:
    """Yield the kernel parameters: a backup learns no gateway, and no device gets a link-local address by itself.

    Forwarding of a legacy router's IPv6 begins when the host becomes the master; a backup that forwards joins the
    group of all routers with the master's MAC address.
    """
    for one in {*state.sysctls, NONLOCAL_BIND}:
        if is_master or one != FORWARDS_IPV6 or view.router.distributed:
            yield one if is_master or not one.key.endswith("/accept_ra") else one._replace(value="0")
    yield Sysctl("ipv6/conf/default/addr_gen_mode", NO_LINK_LOCALS)
    for link in {*state.links, ha_link}:
        if link.mtu >= IPV6_MIN_MTU:
            yield Sysctl(f"ipv6/conf/{link.name}/addr_gen_mode", NO_LINK_LOCALS)
            if link.name.startswith(names.GATEWAY) and not view.router.distributed:
                yield Sysctl(f"ipv6/conf/{link.name}/forwarding", "1" if is_master else "0")
