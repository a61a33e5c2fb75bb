"""``dvrctl show``: prints the objects of :mod:`dvr_agent.cli.host_inventory`.  Reads only; all verbs return 0."""

from __future__ import annotations

import argparse
from typing import Any

from dvr_agent.cli.check import note
from dvr_agent.cli.host_inventory import Host
from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import BOLD, Output
from dvr_agent.cli.subjects import NotFoundError
from dvr_agent.cli.topology import DRAWERS, router_graph
from dvr_agent.desired import names
from dvr_agent.desired.host_view import left_alone_reason
from dvr_agent.model.router import Router, RouterPort
from dvr_agent.plural import count
from dvr_agent.state.namespace import KINDS, NamespaceState
from dvr_agent.topology.graph import as_json


def routers(args: argparse.Namespace, out: Output) -> int:
    """Print all routers that have a document or a namespace."""
    host = Host(load_config(args))
    found = []
    for router_id in sorted(host.routers.keys() | host.inventory.routers | host.documents.known):
        document, router = host.routers.get(router_id, ("", None))
        found.append(
            {
                "id": router_id,
                "name": router.name if router else "",
                "document": document,
                "namespaces": host.namespaces_of(router_id),
                "floating_ips": len(router.floating_ips) if router else 0,
                "note": _note(host, router_id, router),
            }
        )
    if out.json:
        out.document({"routers": found})
    else:
        header = ("ROUTER", "NAME", "DOCUMENT", "NAMESPACES", "FIPS", "NOTE")
        out.table(header, [(*_cells(entry), entry["note"]) for entry in found])
    return 0


def _cells(entry: dict[str, Any]) -> tuple[object, ...]:
    kinds = " ".join(name.partition("-")[0] for name in entry["namespaces"])
    return (entry["id"], entry["name"], entry["document"], kinds, entry["floating_ips"])


def _note(host: Host, router_id: str, router: Router | None) -> str:
    if router is not None:
        reason = left_alone_reason(router, host.settings)
        return f"{reason}: left alone" if reason else note(router)
    if router_id in host.documents.known:
        return "document is bad"
    return "stale: no document" if host.documents.complete else "no document that could be read"


def namespaces(args: argparse.Namespace, out: Output) -> int:
    """Print our network namespaces."""
    host = Host(load_config(args))
    found: list[dict[str, Any]] = [
        {
            "name": one.name,
            "of": f"network {one.uuid}" if one.prefix == names.FIP else _router_title(host, one.uuid),
            "devices": host.devices(one),
            "stale": host.is_stale(one),
        }
        for one in host.namespaces
    ]
    if out.json:
        out.document({"namespaces": found})
    else:
        rows = [(x["name"], x["of"], " ".join(x["devices"]), "stale" if x["stale"] else "") for x in found]
        out.table(("NAMESPACE", "OF", "DEVICES", "NOTE"), rows)
    return 0


def _router_title(host: Host, router_id: str) -> str:
    entry = host.routers.get(router_id)
    return f"router {entry[1].name}" if entry and entry[1].name else "router"


def rules(args: argparse.Namespace, out: Output) -> int:
    """Print our chains in a namespace, or in all namespaces of a router."""
    host = Host(load_config(args))
    namespace = _namespace(host, args.subject)
    if namespace:
        found = _rules(host, namespace)
        if out.json:
            out.document(found)
        _print_rules(out, found)
        return 0
    router_id = host.find_router(args.subject)
    all_found = [_rules(host, name) for name in host.namespaces_of(router_id)]
    if out.json:
        out.document({"router": router_id, "namespaces": all_found})
    for found in [] if out.json else all_found:
        out.line(f"# namespace {found['namespace']}", BOLD)
        _print_rules(out, found)
    return 0


def _print_rules(out: Output, found: dict[str, Any]) -> None:
    """Print the rules of a namespace; nft indents by tabs, which would be escaped as control characters."""
    for line in [] if out.json else found["rules"]:
        out.line(line.expandtabs())


def _namespace(host: Host, text: str) -> str:
    """Return the namespace that the text names, by its name or the beginning of it; empty: it names a router.

    :raises NotFoundError: it can only be a namespace, and there is none, or there are several
    """
    if host.kernel.namespaces.exists(text):
        return text
    if not text.startswith((names.QROUTER, names.SNAT, names.FIP)):
        return ""
    found = [one.name for one in host.namespaces if one.name.startswith(text)]
    if len(found) != 1:
        several = f"several namespaces begin with {text}: {', '.join(found)}"
        raise NotFoundError(several if found else f"no namespace {text} (see dvrctl show namespaces)")
    return found[0]


def _rules(host: Host, namespace: str) -> dict[str, Any]:
    return {"namespace": namespace, "rules": host.kernel.packet_filter.save(namespace).splitlines()}


def router(args: argparse.Namespace, out: Output) -> int:
    """Print one router: its document, and its objects in the kernel."""
    host = Host(load_config(args))
    router_id = host.find_router(args.router)
    if args.output in DRAWERS:
        out.text(DRAWERS[args.output](router_graph(host, router_id)))
        return 0
    states = list(host.contents(router_id))
    rules_in = {namespace: _rule_counts(host, namespace) for namespace, _ in states}
    if out.json:
        out.document(_router_json(host, router_id, states, rules_in))
        return 0
    name, document = host.routers.get(router_id, ("", None))
    out.line(f"router {router_id}" + (f" ({document.name})" if document and document.name else ""), BOLD)
    _line(out, "document", name)
    _line(out, "note", _note(host, router_id, document))
    if document is not None:
        _show_document(host, document, out)
    for namespace, state in states:
        out.line()
        out.line(f"namespace {namespace}", BOLD)
        for text in _texts(state):
            out.line(f"  {text}")
        for table, number in rules_in[namespace].items():
            out.line(f"  {table}: {count(number, 'rule')}")
    if states:
        out.line()
        out.line(f"The rules: dvrctl show rules {router_id}")
    return 0


def _router_json(
    host: Host, router_id: str, states: list[tuple[str, NamespaceState]], rules_in: dict[str, dict[str, int]]
) -> dict[str, Any]:
    name, document = host.routers.get(router_id, ("", None))
    return {
        "id": router_id,
        "name": document.name if document else "",
        "document": name,
        "note": _note(host, router_id, document),
        "gateway": _gateway(document) if document else None,
        "interfaces": [_port(port, names.INTERNAL) for port in document.interfaces] if document else [],
        "floating_ips": _fips(host, document) if document else [],
        "routes": _routes(document) if document else [],
        "omitted": [omission.text for omission in document.omitted] if document else [],
        "namespaces": [
            {"name": namespace, "objects": _texts(state), "rules": rules_in[namespace]} for namespace, state in states
        ],
        "topology": as_json(router_graph(host, router_id)),
    }


def _show_document(host: Host, router: Router, out: Output) -> None:
    if router.gateway is not None:
        port = _port(router.gateway, names.GATEWAY)
        where = f"network {port['network']}, {' '.join(port['addresses'])}, on host {router.gateway_host or 'none'}"
        _line(out, "gateway", f"{where}, SNAT {'on' if router.enable_snat else 'off'}")
    if router.interfaces:
        out.line("interfaces")
        ports = [_port(port, names.INTERNAL) for port in router.interfaces]
        rows = [(p["device"], " ".join(p["addresses"]), p["mac"], p["mtu"], p["network"]) for p in ports]
        out.table(("DEVICE", "ADDRESSES", "MAC", "MTU", "NETWORK"), rows, indent="  ")
    if router.floating_ips:
        out.line("floating IPs")
        rows_of = [(fip["floating_ip"], fip["fixed_ip"], fip["belongs"]) for fip in _fips(host, router)]
        out.table(("FLOATING IP", "FIXED IP", "BELONGS"), rows_of, indent="  ")
    for text in _routes(router):
        _line(out, "extra route", text)
    for omission in router.omitted:
        _line(out, "left out", omission.text)


def _line(out: Output, title: str, value: str) -> None:
    if value:
        out.line(f"{title:<12} {value}")


def _gateway(router: Router) -> dict[str, Any] | None:
    if router.gateway is None:
        return None
    port = _port(router.gateway, names.GATEWAY)
    return {**port, "host": router.gateway_host, "enable_snat": router.enable_snat}


def _port(port: RouterPort, prefix: str) -> dict[str, Any]:
    return {
        "device": names.device(prefix, port.id),
        "port": port.id,
        "network": port.network_id,
        "mac": port.mac,
        "mtu": port.mtu,
        "addresses": [fixed.cidr for fixed in port.fixed_ips],
    }


def _fips(host: Host, router: Router) -> list[dict[str, str]]:
    return [
        {"floating_ip": str(fip.address), "fixed_ip": str(fip.fixed_address), "belongs": host.place(fip, router)}
        for fip in router.floating_ips
    ]


def _routes(router: Router) -> list[str]:
    return [f"{route.destination} via {route.nexthop}" for route in router.routes]


def _texts(state: NamespaceState) -> list[str]:
    """Return every object as text in iproute2's syntax."""
    return [text for kind in KINDS for text in sorted(item.text for item in state.of_kind(kind))]


def _rule_counts(host: Host, namespace: str) -> dict[str, int]:
    """Map each table to the number of our rules in it."""
    found: dict[str, int] = {}
    for table in host.tables(namespace):  # several of them are in one table of nf_tables
        found[table.text] = found.get(table.text, 0) + sum(len(chain.rules) for chain in table.chains)
    return found
