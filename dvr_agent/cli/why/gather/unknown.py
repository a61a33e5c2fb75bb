"""Searches for an address that no good document has: in the kernel, in refused documents, in subnets nearby."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from oslo_config import cfg

from dvr_agent.cli.host_inventory import Host
from dvr_agent.cli.subjects import NotFoundError, find_router
from dvr_agent.cli.why.facts import Kind, Subject
from dvr_agent.cli.why.subject import near
from dvr_agent.desired import names
from dvr_agent.desired.allocation import PAIR_POOL
from dvr_agent.state.ownership import Ownership


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of such an address.

    :ivar refused: error of a document that has it and cannot be used
    :ivar refused_of: id of that document's router, empty if it cannot be read
    """

    refused: str
    refused_of: str
    near: tuple[str, ...]
    in_kernel: tuple[str, ...]


def search(host: Host, address: str, directory: Path) -> Found:
    """Search for an address."""
    places = [*_translations(host, address), *_addresses(host, address)]
    refused = [str(error) for error in host.documents.bad if _names(directory / Path(error.document).name, address)]
    ids = [router_id for router_id, error in host.documents.outdated.items() if refused and error == refused[0]]
    near_it, in_kernel = tuple(near(address, host.routers)), tuple(dict.fromkeys(places))
    return Found(refused[0] if refused else "", ids[0] if ids else "", near_it, in_kernel)


def _translations(host: Host, address: str) -> Iterator[str]:
    for (_, floating), found in sorted(host.translations().items()):
        if floating == address:
            yield from (f"DNAT to {fixed} in {namespace}" for fixed, namespace in found)


def _addresses(host: Host, address: str) -> Iterator[str]:
    ours = Ownership(prefixes=(*names.PORT_PREFIXES, names.ROUTER_TO_FIP, names.FIP_TO_ROUTER))
    for namespace in host.namespaces:
        state = host.kernel.interfaces.observe(namespace.name, ours, ())
        if state is None:
            continue
        yield from (f"{one.text} in {namespace.name}" for one in sorted(state.addresses) if one.ip == address)
        wanted = f"{address}/"
        yield from (f"{one.text} in {namespace.name}" for one in state.routes if one.dst.startswith(wanted))


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
        known |= dict.fromkeys(_id_by_name(directory / Path(error.document).name, text), text)
    try:
        return find_router(text, known)
    except NotFoundError:
        return ""


def _id_by_name(file: Path, name: str) -> set[str]:
    """Return the router id in a document whose router has this name; the document itself cannot be used."""
    try:
        document = json.loads(file.read_bytes())
        router = document.get("router", document)
        return {str(router["id"])} if router.get("name") == name else set()
    except (OSError, ValueError, AttributeError, KeyError, RecursionError):
        return set()


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
