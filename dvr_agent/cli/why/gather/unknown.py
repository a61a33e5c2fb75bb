"""Searches for an address that no good document has: in the kernel, in refused documents, in subnets nearby."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from oslo_config import cfg

from dvr_agent.cli.host_inventory import Host
from dvr_agent.cli.subjects import NotFoundError, find_router
from dvr_agent.cli.why.facts import Kind, Refusal, Subject
from dvr_agent.cli.why.subject import near
from dvr_agent.desired import names
from dvr_agent.desired.allocation import PAIR_POOL
from dvr_agent.errors import DocumentError
from dvr_agent.model.router import NEEDS_BINDING_HOST
from dvr_agent.state.ownership import Ownership

_LONGEST, _SHOWN = 80, 3
"""Characters of a value, and number of floating IPs, that are shown of a document that cannot be used."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of such an address.

    :ivar refusal: a document that has it and cannot be used
    """

    refusal: Refusal | None
    near: tuple[str, ...]
    in_kernel: tuple[str, ...]


def search(host: Host, address: str, directory: Path) -> Found:
    """Search for an address."""
    places = [*_translations(host, address), *_addresses(host, address)]
    refused = [error for error in host.documents.bad if _names(_path(directory, error.document), address)]
    refusal = None
    if refused:
        text = str(refused[0])
        ids = [router_id for router_id, error in host.documents.outdated.items() if error == text]
        refusal = _refusal(refused[0], ids[0] if ids else "", directory, address)
    elif places:
        refusal = _refusal_of_holder(host, [namespace for _, namespace in places], directory, address)
    in_kernel = dict.fromkeys(f"{text} in {namespace}" for text, namespace in places)
    return Found(refusal, tuple(near(address, host.routers)), tuple(in_kernel))


def _refusal_of_holder(host: Host, namespaces: Sequence[str], directory: Path, address: str) -> Refusal | None:
    """Return why the newest document of a router that has one of the namespaces cannot be used; None: it can."""
    for prefix, router_id in filter(None, map(names.parse_namespace, namespaces)):
        refusal = None if prefix == names.FIP else find_refusal(host, router_id, directory, address)
        if refusal is not None:
            return refusal
    return find_refusal_without_id(host, directory)


def find_refusal_without_id(host: Host, directory: Path) -> Refusal | None:
    """Return why a document of which no router id can be read, so that it may be of any router, cannot be used."""
    if host.documents.complete:
        return None
    known = set(host.documents.outdated.values())
    errors = [error for error in host.documents.bad if str(error) not in known]
    # A second document of a router has an id, and is among them.
    errors.sort(key=lambda error: "id" in _router_of(_path(directory, error.document)))
    return _refusal(errors[0], "", directory, "") if errors else None


def find_refusal(host: Host, router_id: str, directory: Path, address: str = "") -> Refusal | None:
    """Return why the newest document of a router cannot be used; None: it can.

    :param address: what the document says about it is in the result; empty: about the whole router
    """
    text = host.documents.outdated.get(router_id)
    if not text:
        return None
    for error in host.documents.bad:
        if str(error) == text:
            return _refusal(error, router_id, directory, address)
    document, router = host.routers.get(router_id, ("", None))
    return Refusal(document, text, router_id, router.name if router is not None else "")


def _refusal(error: DocumentError, router_id: str, directory: Path, address: str) -> Refusal:
    file = _path(directory, error.document)
    router = _router_of(file)
    found = f" is {error.value}" if error.value else ""
    reason = f"{error.path}{found}: expected {error.expected}"
    name = str(router.get("name") or "")
    return Refusal(error.document, reason, router_id, name, _wants(router, address), str(file) if file.exists() else "")


def _wants(router: Mapping[str, Any], address: str) -> str:
    """Return what a document that cannot be used says about an address, or about the floating IPs of its router."""
    listed = router.get("_floatingips")
    fips = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    keys = ("floating_ip_address", "fixed_ip_address")
    mine = [one for one in fips if not address or address in [one.get(key) for key in keys]]
    texts = [" → ".join(str(one.get(key))[:_LONGEST] for key in keys) + _on_host(one) for one in mine]
    more = [f"{len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return f"floating IP {', '.join([*texts[:_SHOWN], *more])}" if texts else ""


def _on_host(fip: Mapping[str, Any]) -> str:
    host = fip.get("host")
    return f" on host {str(host)[:_LONGEST]}" if host and host != NEEDS_BINDING_HOST else ""


def _router_of(file: Path) -> dict[str, Any]:
    """Return the router in a document that cannot be used, as far as it is JSON; else nothing."""
    try:
        document = json.loads(file.read_bytes())
        router = document.get("router", document)
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return router if isinstance(router, dict) else {}


def _path(directory: Path, document: str) -> Path:
    return directory / Path(document).name


def _translations(host: Host, address: str) -> Iterator[tuple[str, str]]:
    """Yield (text, namespace) of each translation of a floating IP."""
    for (_, floating), found in sorted(host.translations().items()):
        if floating == address:
            yield from ((f"DNAT to {fixed}", namespace) for fixed, namespace in found)


def _addresses(host: Host, address: str) -> Iterator[tuple[str, str]]:
    """Yield (text, namespace) of each address and route."""
    ours = Ownership(prefixes=(*names.PORT_PREFIXES, names.ROUTER_TO_FIP, names.FIP_TO_ROUTER))
    for namespace in host.namespaces:
        state = host.kernel.interfaces.observe(namespace.name, ours, ())
        if state is None:
            continue
        yield from ((one.text, namespace.name) for one in sorted(state.addresses) if one.ip == address)
        wanted = f"{address}/"
        yield from ((one.text, namespace.name) for one in state.routes if one.dst.startswith(wanted))


def documents_directory(conf: cfg.ConfigOpts) -> Path:
    """Return the directory of the documents, where the source is one."""
    return Path(conf.directory.path)


def _names(file: Path, address: str) -> bool:
    """True if the text of a document has the address."""
    try:
        return f'"{address}"'.encode() in file.read_bytes()
    except OSError:
        return False


def known_router(host: Host, text: str, directory: Path) -> str:
    """Return the id of a router without a good document: a bad one names it, or the kernel has it.

    :param text: its id, the beginning of it, or its name
    :returns: empty if there is none, or several
    """
    known = dict.fromkeys(host.documents.known | host.inventory.routers, "")
    for error in host.documents.bad:
        known |= dict.fromkeys(_id_by_name(_path(directory, error.document), text), text)
    try:
        return find_router(text, known)
    except NotFoundError:
        return ""


def _id_by_name(file: Path, name: str) -> set[str]:
    """Return the router id in a document whose router has this name; the document itself cannot be used."""
    router = _router_of(file)
    return {str(router["id"])} if router.get("name") == name and "id" in router else set()


def find_pair(host: Host, subject: Subject) -> Subject:
    """Return the subject as an address of a router's pair, if it is one; else unchanged."""
    address = ip_address(subject.address)
    if not isinstance(address, IPv4Address) or address not in PAIR_POOL:
        return subject
    for stems in host.inventory.slices.values():
        for stem, pair in stems.items():
            if pair is None or subject.address not in (pair.router_address, pair.fip_address):
                continue
            for document, router in host.routers.values():
                if names.router_stem(router.id) == stem:
                    is_inside = subject.address == pair.router_address
                    prefix = names.ROUTER_TO_FIP if is_inside else names.FIP_TO_ROUTER
                    device = names.device(prefix, router.id)
                    return replace(subject, kind=Kind.OWN, router=router, document=document, role="pair", device=device)
    return subject
