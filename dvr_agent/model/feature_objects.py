"""Reads the objects that L3 agent extensions act on: keys of the router, and the lists of the envelope beside it.

A list of the envelope has the ``data`` of Neutron's versioned objects; null: they are not known.  Users make these
objects one by one: a bad one is omitted, and named, while the rest of the router is built.  ``parse`` calls
:func:`features`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from operator import attrgetter
from typing import Any, TypeVar

from dvr_agent.extensions import Extension
from dvr_agent.model import values
from dvr_agent.model.external import FloatingIpRules
from dvr_agent.model.features import (
    NO_FEATURES,
    BandwidthLimit,
    ConntrackHelper,
    Features,
    ForwardingIp,
    NdpProxy,
    PortForwarding,
    PortRange,
    QosPolicy,
    forwarding_ips_in_use,
)
from dvr_agent.model.reader import MISSING, At, Invalid, Unique, Verbatim, array, boolean, json_path, mapping, show
from dvr_agent.model.router import FloatingIp, Omission, RouterPort

LISTS = ("port_forwardings", "qos_policies", "ndp_proxies")
"""Keys of the envelope that a router does not have itself."""

HELPERS = "conntrack_helpers"
"""Key of the envelope and of the router."""

NOT_CURRENT = "not_current"
"""Key of the envelope with the keys of lists that are older than the document."""

PROTOCOLS = ("tcp", "udp", "sctp", "dccp")
"""Protocols that have ports."""

DEFAULT_BURST = 0.8
"""Burst of a limit whose ``max_burst_kbps`` is 0, as a part of its rate (neutron_lib: DEFAULT_BURST_RATE)."""

MAX_PORT = 65535
MOST_TURNS = 64
"""How often a range of inside ports may begin again for one of outside ports; each time is a rule."""
MAX_KBPS = 2**31 - 1
"""Largest rate and burst that Neutron's database stores."""

_RANGE = re.compile(r"([0-9]{1,5})(?::([0-9]{1,5}))?", re.ASCII)
_HELPER = re.compile(r"[a-zA-Z0-9_.-]{1,15}", re.ASCII)
"""A name that fits into NF_CT_HELPER_NAME_LEN (16) of nf_conntrack_helper.h."""

T = TypeVar("T")
Identified = TypeVar("Identified", PortForwarding, QosPolicy, NdpProxy)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Parts of the document that the objects refer to.

    :ivar rules: decides which addresses can be floating IPs, and which fixed addresses are inside
    :ivar floating_ips: those that are associated with a port
    """

    gateway: RouterPort | None
    floating_ips: tuple[FloatingIp, ...]
    rules: FloatingIpRules


def features(
    router: Mapping[str, Any], at: At, envelope: Mapping[str, Any], around: Surroundings
) -> tuple[Features, tuple[Omission, ...]]:
    """Read all of them, and return the omitted ones.

    :param at: place of the router
    :raises Invalid: a list, or a key of the router, is not what it has to be
    """
    omitted: list[Omission] = []
    listed = _forwarding_ips(router.get("_pf_floatingips"), (at, "_pf_floatingips"))
    forwardings = _port_forwardings(router, envelope, listed, around, omitted)
    policies = _each(
        envelope.get("qos_policies", []), (None, "qos_policies"), Extension.FIP_QOS, _once(_qos_policy), omitted
    )
    found = Features(
        forwarding_ips=listed if forwardings is None else forwarding_ips_in_use(listed, forwardings),
        port_forwardings=forwardings,
        qos_policies=_sorted(policies),
        gateway_qos_policy_id=_gateway_policy(router.get("external_gateway_info"), (at, "external_gateway_info")),
        enable_ndp_proxy=boolean(router.get("enable_ndp_proxy") or False, (at, "enable_ndp_proxy")),
        ndp_proxies=_ndp_proxies(router, envelope, omitted),
        conntrack_helpers=_helpers(router, at, envelope, omitted),
        not_current=frozenset(map(str, array(envelope.get(NOT_CURRENT, []), (None, NOT_CURRENT)))),
    )
    return NO_FEATURES if found == NO_FEATURES else found, tuple(omitted)


def _each(
    value: object, at: At, extension: Extension, read: Callable[[Mapping[str, Any], At], T], omitted: list[Omission]
) -> list[T] | None:
    """Read a list of objects without the bad ones; None where the list is null."""
    if value is None:
        return None
    found: list[T] = []
    for index, item in enumerate(array(value, at)):
        here: At = (at, index)
        try:
            found.append(read(mapping(item, here), here))
        except Invalid as exc:
            omitted.append(Omission(json_path(exc.at), show(exc.value), exc.expected, extension.value))
    return found


def _once(read: Callable[[Mapping[str, Any], At], Identified]) -> Callable[[Mapping[str, Any], At], Identified]:
    """Return a reader of objects that refuses the second of two with one id."""
    ids = Unique("an id that is there once")

    def read_once(entry: Mapping[str, Any], at: At) -> Identified:
        one = read(entry, at)
        ids.add(one.id, (at, "id"), one.id)
        return one

    return read_once


def _sorted(found: list[Identified] | None) -> tuple[Identified, ...] | None:
    return None if found is None else tuple(sorted(found, key=attrgetter("id")))


def _forwarding_ips(value: object, at: At) -> tuple[ForwardingIp, ...]:
    found = []
    for index, item in enumerate(array(value if value is not None else [], at)):
        here: At = (at, index)
        entry = mapping(item, here)
        found.append(
            ForwardingIp(
                values.uuid(entry.get("id", MISSING), (here, "id")),
                values.address4(entry.get("floating_ip_address", MISSING), (here, "floating_ip_address")),
                values.optional_uuid(entry.get("floating_network_id"), (here, "floating_network_id")),
                values.optional_uuid(entry.get("qos_policy_id"), (here, "qos_policy_id")),
            )
        )
    return tuple(sorted(found, key=lambda one: int(one.address)))


def _port_forwardings(
    router: Mapping[str, Any],
    envelope: Mapping[str, Any],
    listed: Iterable[ForwardingIp],
    around: Surroundings,
    omitted: list[Omission],
) -> tuple[PortForwarding, ...] | None:
    addresses = {one.id: one for one in listed}
    plain = {fip.address for fip in around.floating_ips}
    taken: list[PortForwarding] = []

    def read(entry: Mapping[str, Any], at: At) -> PortForwarding:
        _of_router(entry, at, router)
        one = _port_forwarding(entry, at, addresses)
        if one.address in plain:
            expected = "an address without port forwardings, or one that no port is associated with"
            raise Invalid((at, "floating_ip_address"), str(one.address), expected)
        _check_addresses(one, at, around)
        for other in taken:
            same = (other.address, other.protocol) == (one.address, one.protocol)
            if same and other.external.overlaps(one.external):
                expected = f"{one.protocol} ports of {one.address} that port forwarding {other.id} does not have"
                raise Invalid((at, "external_port_range"), Verbatim(one.external.text), expected)
        taken.append(one)
        return one

    here: At = (None, "port_forwardings")
    return _sorted(_each(envelope.get("port_forwardings", []), here, Extension.PORT_FORWARDING, _once(read), omitted))


def _port_forwarding(entry: Mapping[str, Any], at: At, listed: Mapping[str, ForwardingIp]) -> PortForwarding:
    fip_id = values.uuid(entry.get("floatingip_id", MISSING), (at, "floatingip_id"))
    known = listed.get(fip_id)
    text = entry.get("floating_ip_address", MISSING) if known is None else str(known.address)
    external = _ports(entry, "external_port", at)
    internal = _ports(entry, "internal_port", at)
    if internal.size > 1 and external.size > MOST_TURNS * internal.size:
        expected = f"one port, or at least {-(-external.size // MOST_TURNS)}, since {external.text} has {external.size}"
        raise Invalid((at, "internal_port_range"), Verbatim(internal.text), expected)
    return PortForwarding(
        id=values.uuid(entry.get("id", MISSING), (at, "id")),
        floating_ip_id=fip_id,
        address=values.address4(text, (at, "floating_ip_address")),
        fixed_address=values.address4(entry.get("internal_ip_address", MISSING), (at, "internal_ip_address")),
        protocol=_protocol(entry.get("protocol", MISSING), (at, "protocol")),
        external=external,
        internal=internal,
    )


def _check_addresses(one: PortForwarding, at: At, around: Surroundings) -> None:
    """Check that the addresses can be those of a port forwarding of the router.

    Without a gateway there is nothing to compare them with, and nothing is built.

    :raises Invalid: one of them cannot be
    """
    if around.gateway is None:
        return
    reason = around.rules.why_not_floating(around.gateway.network_id, one.address)
    if reason:
        expected = f"an address that a floating IP can have; this one is {reason}"
        raise Invalid((at, "floating_ip_address"), str(one.address), expected)
    reason = around.rules.why_not_inside(one.fixed_address)
    if reason:
        expected = f"the address of an instance in a subnet of the router's interfaces; this one is {reason}"
        raise Invalid((at, "internal_ip_address"), str(one.fixed_address), expected)


def _of_router(entry: Mapping[str, Any], at: At, router: Mapping[str, Any]) -> None:
    """Check that an object names this router, or none.

    :raises Invalid: it is of another router
    """
    owner = values.optional_uuid(entry.get("router_id"), (at, "router_id"))
    router_id = values.canonical_id(router.get("id"))
    if owner not in (None, router_id):
        raise Invalid((at, "router_id"), owner, f"the id of the router, {router_id}")


def _protocol(value: object, at: At) -> str:
    name = value.lower() if isinstance(value, str) else value
    if name not in PROTOCOLS:
        raise Invalid(at, value, f"one of {', '.join(PROTOCOLS)}, which have ports")
    return str(name)


def _ports(entry: Mapping[str, Any], key: str, at: At) -> PortRange:
    """Read ``<key>_range`` (``first:last`` or one port), or ``<key>``, which Neutron has for single ports only."""
    text = entry.get(f"{key}_range")
    if text is None:
        port = values.number(entry.get(key, MISSING), (at, key), 1, MAX_PORT)
        return PortRange(port, port)
    here: At = (at, f"{key}_range")
    match = _RANGE.fullmatch(str(text))
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 < first <= last <= MAX_PORT:
        raise Invalid(here, text, f"a port or two ports a:b, from 1 to {MAX_PORT}")
    return PortRange(first, last)


def _qos_policy(entry: Mapping[str, Any], at: At) -> QosPolicy:
    """Read a policy; rules of other kinds are ignored, they are for the ports of instances."""
    limits: dict[str, BandwidthLimit] = {}
    here: At = (at, "rules")
    for index, item in enumerate(array(entry.get("rules", []), here)):
        place: At = (here, index)
        rule = mapping(item, place)
        if rule.get("type", "bandwidth_limit") == "bandwidth_limit" and "max_kbps" in rule:
            limits.setdefault(_direction(rule, place), _limit(rule, place))
    return QosPolicy(values.uuid(entry.get("id", MISSING), (at, "id")), limits.get("egress"), limits.get("ingress"))


def _direction(rule: Mapping[str, Any], at: At) -> str:
    value = rule.get("direction", "egress")
    if value not in ("egress", "ingress"):
        raise Invalid((at, "direction"), value, "egress or ingress")
    return str(value)


def _limit(rule: Mapping[str, Any], at: At) -> BandwidthLimit:
    rate = values.number(rule["max_kbps"], (at, "max_kbps"), 1, MAX_KBPS)
    burst = values.number(rule.get("max_burst_kbps") or 0, (at, "max_burst_kbps"), 0, MAX_KBPS)
    return BandwidthLimit(rate, burst or max(1, int(rate * DEFAULT_BURST)))


def _gateway_policy(value: object, at: At) -> str | None:
    if value is None:
        return None
    return values.optional_uuid(mapping(value, at).get("qos_policy_id"), (at, "qos_policy_id"))


def _ndp_proxies(
    router: Mapping[str, Any], envelope: Mapping[str, Any], omitted: list[Omission]
) -> tuple[NdpProxy, ...] | None:
    addresses = Unique("an address that is there once")

    def read(entry: Mapping[str, Any], at: At) -> NdpProxy:
        _of_router(entry, at, router)
        one = _ndp_proxy(entry, at)
        addresses.add(one.address, (at, "ip_address"), str(one.address))
        return one

    here: At = (None, "ndp_proxies")
    return _sorted(_each(envelope.get("ndp_proxies", []), here, Extension.NDP_PROXY, _once(read), omitted))


def _helpers(
    router: Mapping[str, Any], at: At, envelope: Mapping[str, Any], omitted: list[Omission]
) -> tuple[ConntrackHelper, ...]:
    """Read the helpers of the router's own list and of the envelope's; of two for one port the first counts."""
    found: dict[tuple[str, int], ConntrackHelper] = {}

    def read(entry: Mapping[str, Any], here: At) -> ConntrackHelper:
        one = _helper(entry, here)
        other = found.setdefault((one.protocol, one.port), one)
        if other != one:
            raise Invalid((here, "helper"), one.helper, f"one helper for {one.protocol} port {one.port}")
        return one

    for value, place in ((router.get(HELPERS), (at, HELPERS)), (envelope.get(HELPERS), (None, HELPERS))):
        _each(value, place, Extension.CONNTRACK_HELPER, read, omitted)
    return tuple(sorted(found.values()))


def _ndp_proxy(entry: Mapping[str, Any], at: At) -> NdpProxy:
    place: At = (at, "ip_address")
    address = values.host_address(entry.get("ip_address", MISSING), place)
    if not isinstance(address, IPv6Address) or address.is_link_local:
        raise Invalid(place, str(address), "an IPv6 address that is not link-local")
    return NdpProxy(
        values.uuid(entry.get("id", MISSING), (at, "id")),
        values.uuid(entry.get("port_id", MISSING), (at, "port_id")),
        address,
        values.optional_name(entry.get("host"), (at, "host")),
        values.optional_name(entry.get("agent_mode"), (at, "agent_mode")),
    )


def _helper(entry: Mapping[str, Any], at: At) -> ConntrackHelper:
    name = entry.get("helper", MISSING)
    if not isinstance(name, str) or name is MISSING or not _HELPER.fullmatch(name):
        raise Invalid((at, "helper"), name, "the name of a conntrack helper of the kernel, such as ftp")
    protocol = _protocol(entry.get("protocol", MISSING), (at, "protocol"))
    return ConntrackHelper(protocol, values.number(entry.get("port", MISSING), (at, "port"), 1, MAX_PORT), name)
