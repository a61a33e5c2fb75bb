"""HA routers: what belongs to the master of the virtual router, in the namespace in which a router's SNAT is.

The rest of that namespace (devices, packet filter, most parameters) is the same on all hosts of the router, so that a
fail-over needs nothing but addresses and routes, which VRRP moves (``docs/dataplane.md``, "HA routers").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network

from dvr_agent.desired import names
from dvr_agent.desired.common import BASE_SYSCTLS, FAMILIES, NONLOCAL_BIND, port_addresses, port_link
from dvr_agent.desired.host_settings import VrrpAuth, VrrpSettings
from dvr_agent.desired.host_view import HostView
from dvr_agent.model.router import IPV6_MIN_MTU, HaInterface
from dvr_agent.state.address import Address, kernel_link_local
from dvr_agent.state.filter import make_table
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.rule import KERNEL_RULES
from dvr_agent.state.sysctl import Sysctl
from dvr_agent.state.virtual_router import VirtualRouterState

LINK_LOCAL = IPv4Network("169.254.0.0/16")
RESERVED = (IPv4Network("169.254.169.254/32"), IPv4Network("169.254.64.0/18"))
"""Metadata, and the /31s of pairs: no primary virtual address is among them."""
NO_LINK_LOCALS = "1"
"""``addr_gen_mode``: the kernel makes no link-local addresses, which are the master's (IN6_ADDR_GEN_MODE_NONE)."""


def with_virtual_router(
    view: HostView, state: NamespaceState | None, name: str, is_master: bool
) -> NamespaceState | None:
    """Return the state of the namespace of a router's SNAT with its virtual router, if this host takes part in one.

    :param state: the state as if the router were no HA router; None: there would be no such namespace
    :param name: of the namespace
    :param is_master: this host is the master now
    """
    ha = view.ha_interface
    if ha is None:
        return state
    whole = state or _bare_state(name)
    device = names.device(names.HA, ha.port.id)
    link = port_link(device, ha.port)
    own = port_addresses(device, ha.port)
    ownership = whole.ownership
    return replace(
        whole,
        ownership=replace(ownership, prefixes=(*ownership.prefixes, names.HA)),
        links=whole.links | {link},
        addresses=frozenset(own),
        routes=frozenset(),
        sysctls=frozenset(_sysctls(whole, link, is_master)),
        announcements=(),
        virtual_router=_virtual_router(ha, view.settings.vrrp, whole, device),
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
    return VirtualRouterState(
        vr_id=ha.vr_id,
        priority=ha.priority,
        interval=vrrp.interval,
        device=device,
        source=str(source),
        primary=primary_address(ha, device),
        addresses=tuple(held),
        routes=tuple(sorted(whole.routes)),
        password=vrrp.password,
        may_start=ha.is_active,
    )


def _link_locals(links: Iterable[Link]) -> Iterator[Address]:
    """Yield the link-local addresses that the kernel would make; all hosts have these devices with one MAC address."""
    for link in links:
        if link.mtu >= IPV6_MIN_MTU:
            yield kernel_link_local(link.name, link.mac)


def _sysctls(whole: NamespaceState, ha_link: Link, is_master: bool) -> Iterator[Sysctl]:
    """Yield the kernel parameters: a backup learns no gateway, and no device gets a link-local address by itself."""
    for one in {*whole.sysctls, NONLOCAL_BIND}:
        yield one if is_master or not one.key.endswith("/accept_ra") else one._replace(value="0")
    yield Sysctl("ipv6/conf/default/addr_gen_mode", NO_LINK_LOCALS)
    for link in {*whole.links, ha_link}:
        if link.mtu >= IPV6_MIN_MTU:
            yield Sysctl(f"ipv6/conf/{link.name}/addr_gen_mode", NO_LINK_LOCALS)


def _bare_state(name: str) -> NamespaceState:
    """Return the state of a namespace without gateway: its hosts agree on a master nevertheless."""
    tables = [make_table(4, "nat", {})]
    tables += [make_table(family, table, {}) for family in FAMILIES for table in ("mangle", "filter")]
    return NamespaceState(
        name,
        Ownership(prefixes=(names.CSNAT, names.GATEWAY), kernel_rules=True),
        rules=KERNEL_RULES,
        sysctls=frozenset(BASE_SYSCTLS),
        tables=tuple(tables),
    )
