"""Parses a router document: bytes in, one frozen ``Router`` out, or one ``DocumentError``.

A document is the router as Neutron's ``sync_routers`` returns it, or an envelope
``{"router": {…}, "ports_by_subnet": {"<subnet id>": [port, …]}}`` with the ports of ``get_ports_by_subnet``, and lists
of the objects that L3 agent extensions act on (``feature_objects``).
Unknown keys are ignored; required keys are those that every server sends.  The order of lists in the document does not
matter, but for the fixed IPs of a port of the router: the first IPv4 one of the gateway port is used for SNAT.

Objects that are well-formed and cannot be built are omitted: floating IPs and addresses of external ports
(``external``), IPv6 on ports with a small MTU (``ipv6_mtu``), extra routes (``extra_routes``).

This module reads the document as a whole, ``ports`` its ports, ``floating_ips`` its floating IPs, ``values`` single
values, ``reader`` JSON; ``recall`` remembers what was read of long lists.
Sources and ``dvrctl`` use :func:`parse_document` and :func:`peek_router_id`; the types are in ``router``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from dvr_agent.errors import DocumentError
from dvr_agent.model import values
from dvr_agent.model.checks import PlacedPort, RouterChecks
from dvr_agent.model.external import ExternalNetworks, FloatingIpRules
from dvr_agent.model.extra_routes import NextHopRules, extra_routes
from dvr_agent.model.feature_objects import LISTS, Surroundings, features
from dvr_agent.model.floating_ips import floating_ips
from dvr_agent.model.ipv6_mtu import fitting
from dvr_agent.model.peek import peek_router_id
from dvr_agent.model.ports import PortsBySubnet, agent_gateway_port, by_id, ports_by_subnet, router_port
from dvr_agent.model.reader import (
    MISSING,
    At,
    Invalid,
    array,
    boolean,
    decode,
    json_path,
    mapping,
    printable,
    show,
)
from dvr_agent.model.router import HaInterface, Omission, Router, RouterPort

__all__ = ["MAX_SIZE", "parse_document", "peek_router_id"]

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of the largest document, unless configured otherwise (``max_document_size``)."""

_ENVELOPE = frozenset({"router", "ports_by_subnet", *LISTS})
"""A document with one of these keys is an envelope."""

_PATH_LENGTH = 4096
"""Characters of a document's name in an error (PATH_MAX, limits.h)."""


def parse_document(data: bytes, name: str, max_size: int = MAX_SIZE) -> Router:
    """Parse one router document.

    :param data: UTF-8 JSON text
    :param name: file name or other label, for errors
    :param max_size: bytes; a larger document is rejected undecoded
    :raises DocumentError: the document is not acceptable; nothing else is raised, whatever the bytes
    """
    try:
        value = decode(data, max_size)
        with contextlib.suppress(Invalid):
            return _document(value, recall=True)
        return _document(value, recall=False)  # raises the error that is in the document first
    except Invalid as exc:
        found = (json_path(exc.at), show(exc.value), exc.expected)
    except (RecursionError, MemoryError):
        found = ("$", "", "a document that can be held in memory")
    raise DocumentError(printable(name, _PATH_LENGTH), *found)


def _document(value: object, recall: bool) -> Router:
    """Read a document.

    :param recall: take over what was read of the long lists of documents before
    """
    document = mapping(value, None)
    if not _ENVELOPE.intersection(document):
        return _router(document, None, {}, (), (), recall)
    at: At = (None, "router")
    router = mapping(document.get("router", MISSING), at)
    skipped: list[Omission] = []
    neighbours = ports_by_subnet(document.get("ports_by_subnet", {}), (None, "ports_by_subnet"), skipped, recall)
    return _router(router, at, document, neighbours, tuple(skipped), recall)


def _router(
    router: dict[str, Any],
    at: At,
    envelope: dict[str, Any],
    neighbours: PortsBySubnet,
    skipped: tuple[Omission, ...],
    recall: bool,
) -> Router:
    """Read the router; ``neighbours`` and ``skipped`` are results of :func:`ports_by_subnet`."""
    checks = RouterChecks()
    router_id = values.uuid(router.get("id", MISSING), (at, "id"))
    ports = _router_ports(router, at)
    checks.ports([*ports.all, *ports.ha])
    gateway = ports.gateway[0].port if ports.gateway else None
    rules = FloatingIpRules(ports.networks, ports.snat_lost, ports.all, _bare_ports(ports.interfaces))
    listed = router.get("_floatingips", [])
    fips = floating_ips(listed, (at, "_floatingips"), gateway, rules, checks, router_id if recall else "")
    found, no_features = features(router, at, envelope, Surroundings(gateway, fips.found, rules))
    routes, no_routes = extra_routes(router.get("routes", []), (at, "routes"), ports.next_hops)
    return Router(
        id=router_id,
        name=values.name(router.get("name", ""), (at, "name")),
        # A server without this key has no distributed routers; a guess would build the wrong router.
        distributed=boolean(router.get("distributed", MISSING), (at, "distributed")),
        ha=boolean(router.get("ha", False), (at, "ha")),
        admin_state_up=boolean(router.get("admin_state_up", True), (at, "admin_state_up")),
        gateway=gateway,
        gateway_host=values.optional_name(router.get("gw_port_host"), (at, "gw_port_host")),
        enable_snat=boolean(router.get("enable_snat", True), (at, "enable_snat")),
        interfaces=_sorted(ports.interfaces),
        snat_interfaces=_sorted(ports.snat_interfaces),
        agent_gateways=_sorted(ports.agent_gateways),
        floating_ips=fips.found,
        routes=routes,
        ports_by_subnet=neighbours,
        omitted=(*ports.omitted, *fips.omitted, *no_routes, *no_features),
        omitted_floating_ips=fips.refused,
        skipped=skipped,
        features=found,
        ha_interface=_ha_interface(router, at, ports.ha),
    )


class _RouterPorts(NamedTuple):
    """All ports of the router.

    :ivar gateway: at most one
    :ivar omitted: addresses of these ports that cannot be built
    :ivar next_hops: knows the addresses that these ports list, also those that are omitted
    :ivar networks: the external networks that these ports list
    :ivar snat_lost: all IPv4 addresses of the gateway port are omitted
    :ivar ha: at most one
    """

    gateway: list[PlacedPort]
    interfaces: list[PlacedPort]
    snat_interfaces: list[PlacedPort]
    agent_gateways: list[PlacedPort]
    omitted: tuple[Omission, ...]
    next_hops: NextHopRules
    networks: ExternalNetworks
    snat_lost: bool
    ha: list[PlacedPort]

    @property
    def all(self) -> list[PlacedPort]:
        """All of them in one list, but for the HA port, which has to do with no traffic."""
        return [*self.gateway, *self.interfaces, *self.snat_interfaces, *self.agent_gateways]


def _router_ports(router: dict[str, Any], at: At) -> _RouterPorts:
    here: At = (at, "gw_port")
    value = router.get("gw_port")
    omitted: list[Omission] = []
    gateways = [] if value is None else [_placed(router_port(value, here, omitted), here)]
    interfaces, snat_interfaces = (_ports(router, key, at) for key in ("_interfaces", "_snat_router_interfaces"))
    listed = _agent_gateways(router, at, omitted)
    networks = ExternalNetworks(placed.port for placed in (*gateways, *listed))
    agent_gateways = []
    for before in listed:
        placed, found = networks.usable(before)
        omitted += found
        # Without its IPv4 address no floating IP can be reached by it.
        if _has_ipv4(placed.port) or not _has_ipv4(before.port):
            agent_gateways.append(placed)
    gateway = []
    for before in gateways:
        placed, found = networks.usable(before, taken=agent_gateways)
        omitted += found
        gateway.append(placed)
    lost = any(map(_has_ipv4, _bare_ports(gateways))) and not any(map(_has_ipv4, _bare_ports(gateway)))
    next_hops = NextHopRules((*gateway, *interfaces, *snat_interfaces, *agent_gateways))
    gateway, interfaces, snat_interfaces, agent_gateways = (
        _fitting(ports, omitted) for ports in (gateway, interfaces, snat_interfaces, agent_gateways)
    )
    value = router.get("_ha_interface")
    here = (at, "_ha_interface")
    ha = [] if value is None else [_placed(router_port(value, here), here)]
    return _RouterPorts(
        gateway, interfaces, snat_interfaces, agent_gateways, tuple(omitted), next_hops, networks, lost, ha
    )


def _ha_interface(router: dict[str, Any], at: At, found: list[PlacedPort]) -> HaInterface | None:
    """Read what the hosts of an HA router have to agree on; None where this host takes no part in its VRRP."""
    if not found:
        return None
    port, here, _ = found[0]
    return HaInterface(
        port,
        is_active=mapping(router["_ha_interface"], here).get("status") == "ACTIVE",
        vr_id=values.number(router.get("ha_vr_id", MISSING), (at, "ha_vr_id"), 1, 255),
        priority=values.number(router.get("priority", 50), (at, "priority"), 1, 254),
        state=values.optional_name(router.get("_ha_state"), (at, "_ha_state")),
    )


def _fitting(ports: Iterable[PlacedPort], omitted: list[Omission]) -> list[PlacedPort]:
    """Return the ports without what their MTU does not allow; ``omitted`` gets the reasons."""
    kept = []
    for before in ports:
        placed, found = fitting(before)
        kept.append(placed)
        omitted += found
    return kept


def _ports(router: dict[str, Any], key: str, at: At) -> list[PlacedPort]:
    here: At = (at, key)
    return [
        _placed(router_port(item, (here, index)), (here, index))
        for index, item in enumerate(array(router.get(key, []), here))
    ]


def _agent_gateways(router: dict[str, Any], at: At, omitted: list[Omission]) -> list[PlacedPort]:
    here: At = (at, "_floatingip_agent_interfaces")
    return [
        _placed(agent_gateway_port(item, (here, index), omitted), (here, index))
        for index, item in enumerate(array(router.get("_floatingip_agent_interfaces", []), here))
    ]


def _placed(port: RouterPort, at: At) -> PlacedPort:
    return PlacedPort(port, at, tuple(range(len(port.fixed_ips))))


def _has_ipv4(port: RouterPort) -> bool:
    return any(fixed.address.version == 4 for fixed in port.fixed_ips)


def _bare_ports(placed: Iterable[PlacedPort]) -> list[RouterPort]:
    return [one.port for one in placed]


def _sorted(placed: Iterable[PlacedPort]) -> tuple[RouterPort, ...]:
    return tuple(sorted(_bare_ports(placed), key=by_id))
