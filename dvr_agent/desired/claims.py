"""What a router's document claims for itself on a host, and the router without what it may not have.

Two documents must not have one thing: a device name, an address or a MAC address in a network, the stem of a router id
(``docs/dataplane.md``, "Claims").  :func:`claims_here` lists what this host would build of a router,
:func:`claims_anywhere` all that any host may; :func:`without` leaves out exactly what another one has.  Which of two
documents has a thing is decided by ``dvr_agent.reconcile.claims``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from dvr_agent.desired import names
from dvr_agent.desired.host_view import HostView, agent_gateways
from dvr_agent.desired.names import STEM
from dvr_agent.model.features import Features, ForwardingIp
from dvr_agent.model.router import FloatingIp, HaInterface, Omission, Router, RouterPort
from dvr_agent.state.itemwise import itemwise

DEVICE, PAIR, ADDRESS, MAC, BRIDGE = "device", "pair", "address", "mac", "bridge"
"""Kinds of claims: the first word of a key."""

EXPECTED = {
    DEVICE: f"a port id whose first {STEM} characters (device names) no other port id on this host begins with",
    PAIR: "a router id whose first 10 characters (device names) no other router id on this host begins with",
    ADDRESS: "an address that no other port or floating IP of this network has",
    MAC: "a MAC address that no other port of this network has",
    BRIDGE: f"a network id whose first {STEM} characters (bridge name) no other network id on this host begins with",
}


class Claim(NamedTuple):
    """One thing that a document claims."""

    key: str
    """Kind and value.  Two claims with one key exclude each other, unless their things are equal."""
    thing: str
    """What the key stands for: the router, or what routers share (a network, its agent gateway port)."""
    path: str
    """Where the value is in the document."""
    value: str


class Parts(NamedTuple):
    """The parts of a router that are built."""

    interfaces: Iterable[RouterPort]
    csnat: Iterable[RouterPort]
    gateway: RouterPort | None
    fips: tuple[FloatingIp, ...]
    forwarding: tuple[ForwardingIp, ...]
    has_pair: bool
    ha: HaInterface | None = None


def claims_here(view: HostView) -> tuple[Claim, ...]:
    """Return what a router claims on this host; the agent gateway port is the network's, see :func:`gateway_claims`."""
    router = view.router
    csnat = [port for port in router.snat_interfaces if port.admin_state_up] if view.snat_here else []
    fips = (*view.local_fips, *view.central_fips)
    has_pair = view.agent_gateway is not None
    parts = Parts(view.interfaces, csnat, view.gateway_here, fips, view.forwarding_ips, has_pair, view.ha_interface)
    return _claims(router, parts)


def claims_anywhere(router: Router) -> tuple[Claim, ...]:
    """Return what a router claims on any of the hosts that may build it."""
    shared = (claim for port in router.agent_gateways for claim in gateway_claims(port))
    return (*own_claims_anywhere(router), *shared)


def own_claims_anywhere(router: Router) -> tuple[Claim, ...]:
    """Return the same without what is of its external network."""
    parts = Parts(
        router.interfaces,
        router.snat_interfaces,
        router.gateway,
        router.floating_ips,
        router.features.forwarding_ips,
        bool(router.agent_gateways),
        router.ha_interface,
    )
    return _claims(router, parts)


def gateway_claims(port: RouterPort) -> tuple[Claim, ...]:
    """Return what an agent gateway port claims for its network: all routers of the network share it."""
    return tuple(_of_port("_floatingip_agent_interfaces", port, network_owner(port.network_id)))


def network_owner(network_id: str) -> str:
    """Return the thing that an agent gateway port is: the same for all routers, whichever port they list."""
    return names.FIP + network_id


def kind_of(key: str) -> str:
    """Return the kind of a claim's key."""
    return key.partition(" ")[0]


def device_key(stem: str) -> str:
    """Return the key of the devices of a port, by the part of its id that is in their names."""
    return f"{DEVICE} {stem[:STEM]}"


def pair_key(router_id: str) -> str:
    """Return the key of a router's veth pair to a fip namespace."""
    return f"{PAIR} {names.router_stem(router_id)}"


def address_key(network_id: str, address: object) -> str:
    """Return the key of an address in a network."""
    return f"{ADDRESS} {network_id} {address}"


def _claims(router: Router, parts: Parts) -> tuple[Claim, ...]:
    found: list[Claim] = []
    for section, ports in (("_interfaces", parts.interfaces), ("_snat_router_interfaces", parts.csnat)):
        for port in ports:
            found += _of_port(section, port, router.id)
            bridge = f"{BRIDGE} {port.network_id[:STEM]}"
            found.append(Claim(bridge, port.network_id, _path(section, port.id, "network_id"), port.network_id))
    if parts.gateway is not None:
        found += _of_port("gw_port", parts.gateway, router.id)
    if parts.ha is not None:
        found += _of_port("_ha_interface", parts.ha.port, router.id)
    if router.gateway is not None:
        found += _of_fips(router, router.gateway, parts)
    if parts.has_pair:
        found.append(Claim(pair_key(router.id), router.id, "$.id", router.id))
    return tuple(found)


def _of_fips(router: Router, gateway: RouterPort, parts: Parts) -> Iterator[Claim]:
    listed: dict[str, tuple[FloatingIp | ForwardingIp, ...]] = {
        "_floatingips": parts.fips,
        "_pf_floatingips": parts.forwarding,
    }
    for section, fips in listed.items():
        yield from _fip_claims.each(router.id, fips, section, gateway.network_id, router.id)


@itemwise
def _fip_claims(
    fips: Sequence[FloatingIp | ForwardingIp], section: str, network_id: str, router_id: str
) -> list[Claim]:
    prefix = address_key(network_id, "")
    return [
        Claim(prefix + address, router_id, _path(section, fip.id, "floating_ip_address"), address)
        for fip, address in zip(fips, [str(fip.address) for fip in fips], strict=True)
    ]


def is_of_fip(router: Router, key: str) -> bool:
    """Return True if a key that a router claims is that of a floating IP."""
    gateway = router.gateway
    fips: list[FloatingIp | ForwardingIp] = [*router.floating_ips, *router.features.forwarding_ips]
    return gateway is not None and any(key == address_key(gateway.network_id, fip.address) for fip in fips)


def _of_port(section: str, port: RouterPort, thing: str) -> Iterator[Claim]:
    yield Claim(device_key(port.id), thing, _path(section, port.id, "id"), port.id)
    yield Claim(_mac_key(port), thing, _path(section, port.id, "mac_address"), port.mac)
    for fixed in port.fixed_ips:
        key = address_key(port.network_id, fixed.address)
        yield Claim(key, thing, _path(section, port.id, "fixed_ips.ip_address"), str(fixed.address))


def _mac_key(port: RouterPort) -> str:
    return f"{MAC} {port.network_id} {port.mac}"


def _path(section: str, object_id: str, key: str) -> str:
    """Return a place in the document; objects of a list by their id: the model does not keep their order."""
    return f"$.{section}.{key}" if section in ("gw_port", "_ha_interface") else f'$.{section}[id "{object_id}"].{key}'


# --- the router without what another one has ----------------------------------------------------------------------


def without(
    router: Router, view: HostView, refused: Mapping[str, Omission], of_gateways: Mapping[str, Omission]
) -> Router:
    """Return the router without the objects that it may not have.

    If no agent gateway port is left of those that it lists, it gets the one in use, which other documents list.

    :param view: the router on this host
    :param refused: key → why it may not have it
    :param of_gateways: key → why an agent gateway port of its networks may not have it
    """
    gateway, has_snat = router.gateway, True
    if gateway is not None and view.gateway_here is not None:
        kept = _usable(gateway, refused)
        has_snat = kept is not None
        # The other namespaces of a distributed router need to know the gateway port.
        gateway = kept or gateway if router.distributed else kept
    listed = [] if pair_key(router.id) in refused else [*router.agent_gateways]
    ha = router.ha_interface
    left = [port for port in listed if not _is_refused(port, of_gateways)]
    in_use, own = view.agent_gateway, agent_gateways(router, view.settings)
    if listed and in_use is not None and not any(port in left for port in own) and not _is_refused(in_use, of_gateways):
        left.append(in_use)
    fips: list[FloatingIp] = []
    lost: list[FloatingIp] = []
    for fip in router.floating_ips:
        (fips if _is_built(fip, router, view, refused, bool(left), has_snat) else lost).append(fip)
    return replace(
        router,
        gateway=gateway,
        gateway_host=router.gateway_host if has_snat else None,
        interfaces=_ports(router.interfaces, refused),
        snat_interfaces=_ports(router.snat_interfaces, refused) if view.snat_here else router.snat_interfaces,
        agent_gateways=tuple(left),
        ha_interface=ha if ha is None or _usable(ha.port, refused) == ha.port else None,
        floating_ips=tuple(fips),
        features=_features(router, view, refused, has_snat),
        omitted=(*router.omitted, *refused.values(), *of_gateways.values()),
        omitted_floating_ips=(*router.omitted_floating_ips, *lost),
    )


def _is_refused(port: RouterPort, refused: Mapping[str, Omission]) -> bool:
    """Return True for an agent gateway port that the network's routers may not have."""
    return any(claim.key in refused for claim in gateway_claims(port))


def _is_built(
    fip: FloatingIp, router: Router, view: HostView, refused: Mapping[str, Omission], has_pair: bool, has_snat: bool
) -> bool:
    """Return False for a floating IP of this host that is refused, or lost the namespace that it needs."""
    if view.is_central(fip):
        if view.gateway_here is None:
            return True
        possible = has_snat and _has_ipv4(router, refused)
    else:
        if not view.bound_here(fip):
            return True
        possible = has_pair or not router.agent_gateways
    return possible and address_key(fip.network_id, fip.address) not in refused


def _features(router: Router, view: HostView, refused: Mapping[str, Omission], has_snat: bool) -> Features:
    """Return the objects of extensions, without the floating IPs of port forwardings that are refused here."""
    found, gateway = router.features, router.gateway
    if not view.forwarding_ips or gateway is None:
        return found
    possible = has_snat and _has_ipv4(router, refused)
    kept = tuple(
        fip for fip in found.forwarding_ips if possible and address_key(gateway.network_id, fip.address) not in refused
    )
    return found if len(kept) == len(found.forwarding_ips) else replace(found, forwarding_ips=kept)


def _has_ipv4(router: Router, refused: Mapping[str, Omission]) -> bool:
    """True if the gateway port keeps an IPv4 address, which centralized floating IPs need; or never had one."""
    gateway = router.gateway
    addresses = [fixed.address for fixed in gateway.fixed_ips if fixed.address.version == 4] if gateway else []
    keys = [address_key(gateway.network_id, address) for address in addresses] if gateway else []
    return not keys or any(key not in refused for key in keys)


def _ports(ports: Iterable[RouterPort], refused: Mapping[str, Omission]) -> tuple[RouterPort, ...]:
    usable = (_usable(port, refused) for port in ports)
    return tuple(port for port in usable if port is not None and f"{BRIDGE} {port.network_id[:STEM]}" not in refused)


def _usable(port: RouterPort, refused: Mapping[str, Omission]) -> RouterPort | None:
    """Return the port without refused addresses; None if it may not have its device, or any of its addresses."""
    if device_key(port.id) in refused or _mac_key(port) in refused:
        return None
    fixed = tuple(ip for ip in port.fixed_ips if address_key(port.network_id, ip.address) not in refused)
    if len(fixed) == len(port.fixed_ips):
        return port
    return replace(port, fixed_ips=fixed) if fixed else None
