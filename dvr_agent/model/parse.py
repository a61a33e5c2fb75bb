"""Router documents: bytes in, one frozen ``Router`` out, or one ``DocumentError``.

A document is the router as Neutron's ``sync_routers`` returns it, or an envelope
``{"router": {…}, "ports_by_subnet": {"<subnet id>": [port, …]}}`` with the ports of ``get_ports_by_subnet``.
Unknown keys are ignored; what must be there is what every server sends.  The order of lists in the document does not
matter, fixed IPs of a port of the router apart: the first IPv4 one of the gateway port is the one used for SNAT.

Here is the shape of the whole; ports are read in ``ports``, single values in ``values``, JSON in ``reader``.
Sources and ``dvrctl`` use :func:`parse_document` and :func:`peek_router_id`; the types are in ``router``.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from dvr_agent.errors import DocumentError
from dvr_agent.model import values
from dvr_agent.model.checks import RouterChecks
from dvr_agent.model.peek import peek_router_id
from dvr_agent.model.ports import PortsBySubnet, by_id, network_order, ports_by_subnet, router_port
from dvr_agent.model.reader import (
    MISSING,
    At,
    Invalid,
    Verbatim,
    array,
    boolean,
    decode,
    json_path,
    mapping,
    printable,
    show,
)
from dvr_agent.model.router import ExtraRoute, FloatingIp, Router, RouterPort

__all__ = ["MAX_SIZE", "parse_document", "peek_router_id"]

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of the largest document, unless configured otherwise (``max_document_size``)."""

_PATH_LENGTH = 4096
"""Characters of a document's name in an error (PATH_MAX, limits.h)."""

_PORT_LISTS = ("_interfaces", "_snat_router_interfaces", "_floatingip_agent_interfaces")


def parse_document(data: bytes, name: str, max_size: int = MAX_SIZE) -> Router:
    """Parse one router document.

    :param data: UTF-8 JSON text
    :param name: file name or other label, for errors
    :param max_size: bytes; a larger document is rejected undecoded
    :raises DocumentError: the document is not acceptable; nothing else is raised, whatever the bytes
    """
    try:
        return _document(decode(data, max_size))
    except Invalid as exc:
        found = (json_path(exc.at), show(exc.value), exc.expected)
    except (RecursionError, MemoryError):
        found = ("$", "", "a document that can be held in memory")
    raise DocumentError(printable(name, _PATH_LENGTH), *found)


def _document(value: object) -> Router:
    document = mapping(value, None)
    if "router" not in document and "ports_by_subnet" not in document:
        return _router(document, None, ())
    at: At = (None, "router")
    router = mapping(document.get("router", MISSING), at)
    return _router(router, at, ports_by_subnet(document.get("ports_by_subnet", {}), (None, "ports_by_subnet")))


def _router(router: dict[str, Any], at: At, ports: PortsBySubnet) -> Router:
    """The router itself; ``ports`` is what :func:`ports_by_subnet` made."""
    checks = RouterChecks()
    router_id = values.uuid(router.get("id", MISSING), (at, "id"))
    gateway = _gateway(router, at, checks)
    interfaces, snat_interfaces, agent_gateways = (_ports(router, key, at, checks) for key in _PORT_LISTS)
    return Router(
        id=router_id,
        name=values.name(router.get("name", ""), (at, "name")),
        # Without it the server does not know distributed routers at all; a guess would build the wrong thing.
        distributed=boolean(router.get("distributed", MISSING), (at, "distributed")),
        ha=boolean(router.get("ha", False), (at, "ha")),
        admin_state_up=boolean(router.get("admin_state_up", True), (at, "admin_state_up")),
        gateway=gateway,
        gateway_host=values.optional_name(router.get("gw_port_host"), (at, "gw_port_host")),
        enable_snat=boolean(router.get("enable_snat", True), (at, "enable_snat")),
        interfaces=interfaces,
        snat_interfaces=snat_interfaces,
        agent_gateways=agent_gateways,
        floating_ips=_floating_ips(router.get("_floatingips", []), (at, "_floatingips"), gateway, checks),
        routes=_routes(router.get("routes", []), (at, "routes")),
        ports_by_subnet=ports,
    )


def _gateway(router: dict[str, Any], at: At, checks: RouterChecks) -> RouterPort | None:
    value = router.get("gw_port")
    if value is None:
        return None
    here: At = (at, "gw_port")
    gateway = router_port(value, here)
    checks.ports([(gateway, here)])
    return gateway


def _ports(router: dict[str, Any], key: str, at: At, checks: RouterChecks) -> tuple[RouterPort, ...]:
    here: At = (at, key)
    places: list[At] = []
    found = []
    for index, item in enumerate(array(router.get(key, []), here)):
        places.append((here, index))
        found.append(router_port(item, places[-1]))
    checks.ports(zip(found, places, strict=True))
    return tuple(sorted(found, key=by_id))


def _floating_ips(value: object, at: At, gateway: RouterPort | None, checks: RouterChecks) -> tuple[FloatingIp, ...]:
    """The associated floating IPs; those without fixed address are nobody's and left out."""
    found = []
    for index, item in enumerate(array(value, at)):
        here: At = (at, index)
        entry = mapping(item, here)
        if entry.get("fixed_ip_address") is None:
            continue
        fip = _floating_ip(entry, here)
        checks.floating_ip(fip, gateway, here)
        found.append(fip)
    return tuple(sorted(found, key=attrgetter("address")))


def _floating_ip(entry: dict[str, Any], at: At) -> FloatingIp:
    scope_at: At = (at, "fixed_ip_address_scope")
    return FloatingIp(
        id=values.uuid(entry.get("id", MISSING), (at, "id")),
        address=values.host_address4(entry.get("floating_ip_address", MISSING), (at, "floating_ip_address")),
        fixed_address=values.host_address4(entry["fixed_ip_address"], (at, "fixed_ip_address")),
        network_id=values.uuid(entry.get("floating_network_id", MISSING), (at, "floating_network_id")),
        host=values.optional_name(entry.get("host"), (at, "host")),
        dest_host=values.optional_name(entry.get("dest_host"), (at, "dest_host")),
        snat_bound=boolean(entry.get("dvr_snat_bound", False), (at, "dvr_snat_bound")),
        fixed_scope=values.optional_uuid(entry.get("fixed_ip_address_scope"), scope_at),
    )


def _routes(value: object, at: At) -> tuple[ExtraRoute, ...]:
    """The extra routes; the same route twice is one."""
    found = set()
    for index, item in enumerate(array(value, at)):
        here: At = (at, index)
        entry = mapping(item, here)
        destination = values.network(entry.get("destination", MISSING), (here, "destination"))
        nexthop = values.host_address(entry.get("nexthop", MISSING), (here, "nexthop"))
        if nexthop.version != destination.version:
            raise Invalid((here, "nexthop"), Verbatim(str(nexthop)), f"an address of the family of {destination}")
        found.add(ExtraRoute(destination, nexthop))
    return tuple(sorted(found, key=lambda route: (network_order(route.destination), int(route.nexthop))))
