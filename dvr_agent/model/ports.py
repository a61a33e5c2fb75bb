"""Reads ports of a document: the router's own with their subnets, and ports in its subnets, which give neighbours.

``parse`` calls :func:`router_port` and :func:`ports_by_subnet`; ``checks`` compares the ports with each other.
"""

from __future__ import annotations

import marshal
from dataclasses import replace
from ipaddress import IPv6Address
from operator import attrgetter, itemgetter
from typing import TypeAlias

from dvr_agent.model import values
from dvr_agent.model.external import omission, why_no_host
from dvr_agent.model.ip import CACHED
from dvr_agent.model.reader import (
    MISSING,
    At,
    Invalid,
    Unique,
    array,
    boolean,
    json_path,
    mapping,
    show,
)
from dvr_agent.model.recall import LONG, LongLists, Remembered
from dvr_agent.model.router import FixedIp, IpAddress, IpNetwork, Omission, RaMode, RouterPort, Subnet, SubnetPort

PortsBySubnet: TypeAlias = tuple[tuple[str, tuple[SubnetPort, ...]], ...]

by_id = attrgetter("id")

AGENT_GATEWAYS, KEY_SIZE = 64, 4096
"""Agent gateway ports that are remembered, and the bytes of the largest one."""
_agent_gateways: dict[bytes, RouterPort] = {}
"""Agent gateway ports by what documents say of them."""

_lists: LongLists[SubnetPort] = LongLists(
    "id", "mac_address", "device_owner", "fixed_ips", "allowed_address_pairs", "status", "admin_state_up"
)
"""Ports that give neighbours, by subnet id."""

_subnets4: dict[tuple[object, object, object, bool], Subnet] = {}
"""IPv4 subnets by their id, cidr and gateway in documents, and whether their network is an external one."""


def network_order(network: IpNetwork) -> tuple[int, int, int]:
    """Return a sort key for networks of both families."""
    return network.version, int(network.network_address), network.prefixlen


def router_port(value: object, at: At, omitted: list[Omission] | None = None) -> RouterPort:
    """Read a port of the router: its gateway port, or an item of one of its lists of ports.

    The lists are ``_interfaces``, ``_snat_router_interfaces`` and ``_floatingip_agent_interfaces``.

    Fixed IPs keep their order: the first IPv4 one of the gateway is used for SNAT.

    :param omitted: a port of an external network: any address is accepted here, ``external`` checks it; gets an entry
        for each gateway of a subnet that can be none
    :raises Invalid: a value is not what it has to be
    """
    port = mapping(value, at)
    external = omitted is not None
    subnets = _subnets(port.get("subnets", []), (at, "subnets"), omitted)
    fixed_ips = _fixed_ips(port.get("fixed_ips", MISSING), (at, "fixed_ips"), {s.id: s for s in subnets}, not external)
    extra_subnets, extra_gateways = _extra_subnets(port.get("extra_subnets", []), (at, "extra_subnets"), external)
    scope4, scope6 = _scopes(port.get("address_scopes"), (at, "address_scopes"))
    host = values.optional_name(port.get("binding:host_id"), (at, "binding:host_id"))
    return RouterPort(
        id=values.uuid(port.get("id", MISSING), (at, "id")),
        network_id=values.uuid(port.get("network_id", MISSING), (at, "network_id")),
        mac=values.mac(port.get("mac_address", MISSING), (at, "mac_address")),
        mtu=values.mtu(port.get("mtu", MISSING), (at, "mtu")),
        fixed_ips=fixed_ips,
        subnets=tuple(sorted(subnets, key=by_id)),
        extra_subnets=extra_subnets,
        extra_gateways=extra_gateways,
        scope4=scope4,
        scope6=scope6,
        host=host or "",
        admin_state_up=boolean(port.get("admin_state_up", True), (at, "admin_state_up")),
    )


def agent_gateway_port(value: object, at: At, omitted: list[Omission]) -> RouterPort:
    """Read an agent gateway port as :func:`router_port` does; it is remembered if nothing of it is omitted.

    The documents of all routers on an external network list the same one in the same words.
    """
    words = marshal.dumps(mapping(value, at), 2)  # of later versions equal values may have different bytes
    known = _agent_gateways.get(words)
    if known is not None:
        return known
    before = len(omitted)
    found = router_port(value, at, omitted)
    if len(omitted) == before and len(words) <= KEY_SIZE:
        if len(_agent_gateways) >= AGENT_GATEWAYS:
            _agent_gateways.clear()
        _agent_gateways[words] = found
    return found


def _fixed_ips(value: object, at: At, subnets: dict[str, Subnet], of_host: bool) -> tuple[FixedIp, ...]:
    """Read fixed IPs.

    :param of_host: accept only addresses that a host on a link can have
    """
    read = values.host_address if of_host else values.address
    found = []
    for index, item in enumerate(array(value, at)):
        here: At = (at, index)
        entry = mapping(item, here)
        address_at: At = (here, "ip_address")
        address = read(entry.get("ip_address", MISSING), address_at)
        subnet_id = values.uuid(entry.get("subnet_id", MISSING), (here, "subnet_id"))
        subnet = subnets.get(subnet_id)
        if subnet is not None and subnet.cidr.version != address.version:
            raise Invalid(address_at, str(address), f"an address of the family of its subnet {subnet.cidr}")
        prefixlen: int = address.max_prefixlen
        if "prefixlen" in entry:
            prefixlen = values.prefixlen(entry["prefixlen"], (here, "prefixlen"), address)
        found.append(FixedIp(address, prefixlen, subnet_id))
    return tuple(found)


def _subnets(value: object, at: At, omitted: list[Omission] | None) -> list[Subnet]:
    found = []
    ids = Unique("a subnet id that is there once")
    for index, item in enumerate(array(value, at)):
        subnet = _subnet(item, (at, index), omitted)
        ids.add(subnet.id, ((at, index), "id"), subnet.id)
        found.append(subnet)
    return found


def _subnet(value: object, at: At, omitted: list[Omission] | None) -> Subnet:
    """Read a subnet; IPv4 ones without an omission are remembered, since all ports of a network list them."""
    entry = mapping(value, at)
    key = (entry.get("id"), entry.get("cidr"), entry.get("gateway_ip"), omitted is None)
    try:
        return _subnets4[key]
    except (KeyError, TypeError):  # not met yet, or not hashable, and so not what it has to be
        pass
    subnet_id = values.uuid(entry.get("id", MISSING), (at, "id"))
    cidr = values.subnet_network(entry.get("cidr", MISSING), (at, "cidr"))
    gateway = _gateway(entry.get("gateway_ip"), (at, "gateway_ip"), cidr, omitted)
    if cidr.version == 4:
        found = Subnet(subnet_id, cidr, gateway)
        if (gateway is None) == (key[2] is None):
            if len(_subnets4) >= CACHED:
                _subnets4.clear()
            _subnets4[key] = found
        return found
    mode = _ra_mode(entry.get("ipv6_ra_mode"), (at, "ipv6_ra_mode"))
    return Subnet(subnet_id, cidr, gateway, mode, _nameservers(entry.get("dns_nameservers"), (at, "dns_nameservers")))


def _gateway(text: object, at: At, cidr: IpNetwork, omitted: list[Omission] | None) -> IpAddress | None:
    """Read the gateway of a subnet.

    :param omitted: of an external network, where the gateway becomes a next hop
    """
    if text is None:
        return None
    gateway = values.host_address(text, at)
    if gateway.version != cidr.version:
        raise Invalid(at, text, f"an address of the family of {cidr}")
    reason = why_no_host(gateway, [cidr]) if gateway.version == 4 else ""  # a router may have the first IPv6 address
    if omitted is None or not reason:
        return gateway
    omitted.append(omission(at, str(gateway), f"a gateway that a host can be; this one is {reason}"))
    return None


def _ra_mode(value: object, at: At) -> RaMode | None:
    if value is None:
        return None
    try:
        return RaMode(value)
    except ValueError:
        raise Invalid(at, value, f"null or one of {', '.join(mode.value for mode in RaMode)}") from None


def _nameservers(value: object, at: At) -> tuple[IPv6Address, ...]:
    """Read the IPv6 ones of the nameservers: router advertisements can carry no others."""
    if value is None:
        return ()
    found = [values.address(item, (at, index)) for index, item in enumerate(array(value, at))]
    return tuple(address for address in found if isinstance(address, IPv6Address))


def _extra_subnets(value: object, at: At, external: bool) -> tuple[tuple[IpNetwork, ...], tuple[IpAddress, ...]]:
    """Read the networks and the gateway addresses of ``extra_subnets``.

    Every project that an internal network is shared with may add a subnet, and no route is made of it: an unusual one
    must not keep the routers of other projects from being built.
    """
    read = values.subnet_network if external else values.link_network
    found: set[IpNetwork] = set()
    gateways: set[IpAddress] = set()
    for index, item in enumerate(array(value, at)):
        entry = mapping(item, (at, index))
        found.add(read(entry.get("cidr", MISSING), ((at, index), "cidr")))
        if external and entry.get("gateway_ip") is not None:
            gateways.add(values.address(entry["gateway_ip"], ((at, index), "gateway_ip")))
    return tuple(sorted(found, key=network_order)), tuple(sorted(gateways, key=lambda ip: (ip.version, int(ip))))


def _scopes(value: object, at: At) -> tuple[str | None, str | None]:
    """Read the ids of the IPv4 and the IPv6 address scope."""
    if value is None:
        return None, None
    scopes = mapping(value, at)
    return values.optional_uuid(scopes.get("4"), (at, "4")), values.optional_uuid(scopes.get("6"), (at, "6"))


def ports_by_subnet(value: object, at: At, skipped: list[Omission], recall: bool = False) -> PortsBySubnet:
    """Read the envelope's ``ports_by_subnet``: for each subnet id the ports that ``get_ports_by_subnet`` lists.

    Users set MAC and IP addresses of their ports: a port that can be no neighbour must not keep the router from being
    built.  A port may be in several lists; each list has the addresses of its ports in that subnet.

    :param skipped: gets an entry for each address that gives no neighbour
    :param recall: take over what was read of the last lists of these subnets
    :raises Invalid: a value is not what it has to be
    """
    found = []
    subnets = Unique("a subnet id that is there once")
    for key, ports in mapping(value, at).items():
        here: At = (at, key)
        subnet_id = values.uuid(key, here)
        subnets.add(subnet_id, here, key)
        found.append((subnet_id, _subnet_ports(ports, here, subnet_id, skipped, recall)))
    return tuple(sorted(found, key=itemgetter(0)))


def _subnet_ports(
    value: object, at: At, subnet_id: str, skipped: list[Omission], recall: bool
) -> tuple[SubnetPort, ...]:
    """Read the list of a subnet; of two ports with one address the one that is up, or has the last id, keeps it."""
    items = array(value, at)
    recall = recall and len(items) >= LONG
    last = _lists.get(subnet_id) if recall else None
    known = last.values if last is not None else {}
    kept: dict[bytes, SubnetPort] = {}
    listed = []
    for index, item in enumerate(items):
        words = _lists.words(item) if recall else None
        port = known.get(words) if words is not None else None
        if port is None:
            before = len(skipped)
            port = _subnet_port(item, (at, index), subnet_id, skipped)
            if len(skipped) > before:
                words = None
        if words is not None:
            kept[words] = port
        listed.append(port)
    if last is not None and last.result[0] == tuple(listed):
        return last.result[1]
    before = len(skipped)
    found = tuple(sorted(_neighbours(listed, at, skipped), key=attrgetter("id", "mac")))
    if recall:
        _lists.keep(subnet_id, Remembered(None, kept, (tuple(listed), found) if len(skipped) == before else ((), ())))
    return found


def _neighbours(listed: list[SubnetPort], at: At, skipped: list[Omission]) -> list[SubnetPort]:
    """Return each port once, without the addresses that another port keeps."""
    places = [place for port in listed for place in port.addresses]
    if len({port.id for port in listed}) == len(listed) and len(set(places)) == len(places):
        return listed
    placed: dict[SubnetPort, At] = {}
    for index, port in enumerate(listed):
        placed.setdefault(port, (at, index))
    owners: dict[tuple[str, IpAddress], SubnetPort] = {}
    for port in sorted(placed, key=attrgetter("is_up", "id", "mac")):
        owners.update(dict.fromkeys(port.addresses, port))
    return [_without_rivals(port, here, owners, skipped) for port, here in placed.items()]


def _without_rivals(
    port: SubnetPort, at: At, owners: dict[tuple[str, IpAddress], SubnetPort], skipped: list[Omission]
) -> SubnetPort:
    """Return the port without the addresses that another port keeps with another MAC address."""
    lost = [place for place in port.addresses if owners[place].mac != port.mac]
    for place in lost:
        expected = f"a fixed IP of one port only; that of port {owners[place].id} is used"
        skipped.append(_no_neighbour(port.id, (at, "fixed_ips"), str(place[1]), expected))
    return replace(port, addresses=tuple(place for place in port.addresses if place not in lost)) if lost else port


def _subnet_port(value: object, at: At, list_of: str, skipped: list[Omission]) -> SubnetPort:
    """Read a port that gives neighbours.

    :param list_of: the subnet whose list the port is in; addresses of the port in other subnets are ignored
    """
    port = mapping(value, at)
    port_id = values.uuid(port.get("id", MISSING), (at, "id"))
    mac = values.any_mac(port.get("mac_address", MISSING), (at, "mac_address"))
    usable = values.is_unicast(mac)
    if not usable:
        expected = "a unicast MAC address that is not all zero"
        skipped.append(_no_neighbour(port_id, (at, "mac_address"), port["mac_address"], expected))
    addresses = []
    fixed_at: At = (at, "fixed_ips")
    for index, item in enumerate(array(port.get("fixed_ips", MISSING), fixed_at)):
        here: At = (fixed_at, index)
        entry = mapping(item, here)
        subnet_id = values.uuid(entry.get("subnet_id", MISSING), (here, "subnet_id"))
        if subnet_id != list_of:
            continue
        address = values.address(entry.get("ip_address", MISSING), (here, "ip_address"))
        reason = values.why_unusable(address)
        if reason:
            expected = f"the address of a host; this one is {reason}"
            skipped.append(_no_neighbour(port_id, (here, "ip_address"), entry["ip_address"], expected))
        elif usable:
            addresses.append((subnet_id, address))
    if len(addresses) > 1:
        addresses = sorted(set(addresses), key=lambda place: (place[0], place[1].version, int(place[1])))
    pairs = port.get("allowed_address_pairs")
    return SubnetPort(
        id=port_id,
        mac=mac,
        device_owner=values.name(port.get("device_owner", ""), (at, "device_owner")),
        addresses=tuple(addresses),
        pairs=() if pairs == [] else _pairs(port.get("allowed_address_pairs", []), (at, "allowed_address_pairs"), mac),
        is_up=port.get("status", "ACTIVE") == "ACTIVE" and port.get("admin_state_up", True) is not False,
    )


def _no_neighbour(port_id: str, at: At, value: str, expected: str) -> Omission:
    """Return the omission of a MAC address or an address of which no neighbour can be made."""
    return Omission(json_path(at), f"{show(value)} (port {port_id})", expected)


def _pairs(value: object, at: At, port_mac: str) -> tuple[tuple[str, IpNetwork], ...]:
    """Read allowed address pairs.

    Users set these freely, so a pair that can give no neighbour (a group MAC address, a multicast address …) is
    ignored: it must not keep the router from being built.
    """
    found: set[tuple[str, IpNetwork]] = set()
    for index, item in enumerate(array(value, at)):
        here: At = (at, index)
        entry = mapping(item, here)
        text = entry.get("mac_address")
        mac = port_mac if text is None else values.any_mac(text, (here, "mac_address"))
        network = values.address_or_network(entry.get("ip_address", MISSING), (here, "ip_address"))
        single = network.prefixlen == network.max_prefixlen
        if values.is_unicast(mac) and not (single and values.why_unusable(network.network_address)):
            found.add((mac, network))
    return tuple(sorted(found, key=lambda pair: (pair[0], network_order(pair[1]))))
