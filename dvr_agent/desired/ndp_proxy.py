"""NDP proxies: internal IPv6 addresses that neighbours in the external network reach.

See ``docs/dataplane.md``, "NDP proxy".  An address is local where its port is bound to this host and the router is
linked to a fip namespace; else it is central: the host of the snat namespace answers for it.
Used by ``fip``, ``qrouter`` and ``central``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Network

from dvr_agent.desired.common import ACCEPT, DROP
from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.desired.host_view import HostView, port_subnets
from dvr_agent.extensions import Extension
from dvr_agent.model.features import NdpProxy
from dvr_agent.model.router import IPV6_MIN_MTU
from dvr_agent.state.filter import FilterRule
from dvr_agent.state.ownership import V6_PROXIED_PRIORITY, Ownership
from dvr_agent.state.proxy_neighbour import ProxyNeighbour
from dvr_agent.state.route import DEFAULT_V6, MAIN_TABLE, Hop, Route, make_route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl

EVERYTHING = (DEFAULT_V6,)
"""Networks of proxied neighbours in a namespace that one router has for itself."""


_WITH_FIP_NAMESPACES = (AgentMode.DVR.value, AgentMode.DVR_SNAT.value)


def owning_proxies(view: HostView, ownership: Ownership) -> Ownership:
    """Return the ownership of such a namespace: with the proxied neighbours in it if the extension is served."""
    return replace(ownership, proxied=EVERYTHING) if is_served(view) else ownership


def is_served(view: HostView) -> bool:
    """True if the extension is served: then proxied neighbours and the parameter are ours."""
    return Extension.NDP_PROXY in view.settings.extensions


def proxied_networks(view: HostView) -> tuple[str, ...]:
    """Return the internal IPv6 subnets in the external network's address scope.

    Empty if the extension is not served.
    """
    gateway = view.router.gateway
    if gateway is None or not is_served(view):
        return ()
    found = {
        str(subnet.cidr)
        for port in view.interfaces
        for _, subnet in port_subnets(port)
        if isinstance(subnet.cidr, IPv6Network) and port.scope6 == gateway.scope6
    }
    return tuple(sorted(found))


def local_addresses(view: HostView) -> tuple[str, ...]:
    """Return the addresses for which the fip namespace of this host answers."""
    if view.agent_gateway is None or not _is_on(view):
        return ()
    if view.router.features.ndp_proxies is None:
        return _found(view, view.fip)
    return tuple(str(one.address) for one in _usable(view) if one.host == view.settings.host)


def central_addresses(view: HostView, namespace: str) -> tuple[str, ...]:
    """Return the addresses for which the namespace of the gateway port answers, on the host that has it."""
    if not _is_on(view):
        return ()
    if view.router.features.ndp_proxies is None:
        return _found(view, namespace)
    local = set(local_addresses(view))
    found = [one for one in _usable(view) if str(one.address) not in local and _is_central(view, one)]
    return tuple(str(one.address) for one in found)


def ndp_omissions(view: HostView) -> list[str]:
    """Name the addresses that are in no subnet whose addresses neighbours may reach."""
    if not _is_on(view):
        return []
    usable = set(_usable(view))
    return [
        f"{Extension.NDP_PROXY.value}: address {one.address} (NDP proxy {one.id}) is in no internal IPv6 subnet of the "
        "external network's address scope"
        for one in view.router.features.ndp_proxies or ()
        if one not in usable
    ]


def ndp_warnings(view: HostView) -> list[str]:
    """Warn of addresses of this host that no fip namespace of it answers for, where one should."""
    if not _is_on(view) or view.agent_gateway is not None or view.settings.mode is not AgentMode.DVR:
        return []
    here = [str(one.address) for one in _usable(view) if one.host == view.settings.host]
    what = "their ports are bound to this host, which has no agent gateway port for the external network"
    return [f"NDP proxies of {', '.join(here)} are not built: {what}"] if here else []


def device_parameters(device: str, mtu: int, on: bool) -> list[Sysctl]:
    """Have a device answer for proxied addresses, without the random delay of up to 0.8 s."""
    if mtu < IPV6_MIN_MTU:
        return []
    delay = [Sysctl(f"ipv6/neigh/{device}/proxy_delay", "1")] if on else []
    return [Sysctl(f"ipv6/conf/{device}/proxy_ndp", "1" if on else "0"), *delay]


def central_parameters(view: HostView, device: str, mtu: int) -> list[Sysctl]:
    """Compute the parameters of the gateway port's device; none if the extension is not served."""
    return device_parameters(device, mtu, _is_on(view)) if is_served(view) else []


def proxies(addresses: tuple[str, ...], device: str) -> list[ProxyNeighbour]:
    """Make the proxied neighbours of a device."""
    return [ProxyNeighbour(address, device) for address in addresses]


def inward_routes(addresses: tuple[str, ...], rfp_link_local: str, fpr: str) -> list[Route]:
    """Route local addresses from the fip namespace to the router."""
    return [make_route(f"{address}/128", MAIN_TABLE, Hop(rfp_link_local, fpr)) for address in addresses]


def outward_rules(view: HostView) -> list[Rule]:
    """Have packets of local addresses leave by the fip namespace, as answers to what comes in by it must.

    Main has an IPv6 default route to the fip namespace (or an extra route of the document that must be followed); the
    rules of the redirect to SNAT come later.
    """
    return [Rule(6, V6_PROXIED_PRIORITY, MAIN_TABLE, f"{address}/128") for address in local_addresses(view)]


def forward_rules(view: HostView, namespace: str, qg: str) -> tuple[FilterRule, ...]:
    """Let in what comes by the gateway port for central addresses, and nothing else for their subnets."""
    if not _is_on(view):
        return ()
    open_to = [FilterRule(ACCEPT, dst=f"{one}/128", iif=qg) for one in central_addresses(view, namespace)]
    return (*open_to, *(FilterRule(DROP, dst=network, iif=qg) for network in proxied_networks(view)))


def _is_on(view: HostView) -> bool:
    router = view.router
    if not is_served(view) or router.gateway is None:
        return False
    return router.features.enable_ndp_proxy and router.gateway.mtu >= IPV6_MIN_MTU


def _usable(view: HostView) -> Iterator[NdpProxy]:
    networks = [IPv6Network(network) for network in proxied_networks(view)]
    for one in view.router.features.ndp_proxies or ():
        if any(one.address in network for network in networks):
            yield one


def _is_central(view: HostView, proxy: NdpProxy) -> bool:
    """True if no fip namespace of another host answers for the address.

    Without the mode of that host's agent a floating IP there may tell it: those of hosts without external network are
    centralized.
    """
    if not view.router.distributed or proxy.host in (None, view.settings.host):
        return True
    if proxy.agent_mode is not None:
        return bool(proxy.host) and proxy.agent_mode not in _WITH_FIP_NAMESPACES
    return proxy.host in {fip.host for fip in view.router.floating_ips if fip.snat_bound}


def _found(view: HostView, namespace: str | None) -> tuple[str, ...]:
    """Return the addresses that a namespace answers for now, where the objects are not known."""
    return tuple(address for name, address in view.found_proxies if name == namespace)
