"""Finds other documents that claim the subject's address."""

from __future__ import annotations

from dvr_agent.cli.host_inventory import Host
from dvr_agent.cli.why.facts import Rival, Subject
from dvr_agent.desired.rivals import Rivals, find_rivals
from dvr_agent.model.router import Router


def read_rivals(host: Host, subject: Subject) -> tuple[Rival, ...]:
    """Return the documents that claim the subject's address, or its floating IP, beside its own."""
    routers = dict(host.documents.good)
    wanted = {subject.address, str(subject.fip.address) if subject.fip is not None else ""} - {""}
    found = find_rivals(host.documents.good).get(subject.document, ())
    return tuple(_rival(host, routers[one.other], one) for one in found if one.claim.value in wanted)


def _rival(host: Host, router: Router, rivals: Rivals) -> Rival:
    address, path = rivals.claim.value, rivals.theirs.path
    in_kernel = frozenset(router_id for router_id, found in host.translations() if found == address)
    title = router.name or router.id
    return Rival(address, title, router.id, rivals.other, path, _place(host, router, path), in_kernel)


def _place(host: Host, router: Router, path: str) -> str:
    """Return the other host that builds the address; empty: this one, or it is not known."""
    for fip in router.floating_ips:
        if f'"{fip.id}"' in path:
            place = host.place(fip, router)
            return place if place.startswith("host ") else ""
    return ""
