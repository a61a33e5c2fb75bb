"""``dvrctl show fips``: each floating IP, where it belongs, and whether all of it is in the kernel of this host."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from dvr_agent.cli.host_inventory import Host
from dvr_agent.cli.inputs import load_config
from dvr_agent.cli.output import BOLD, Output, complain
from dvr_agent.cli.render import Renderer, Section, as_json, as_lines
from dvr_agent.config import make_settings
from dvr_agent.desired.host_view import HostView
from dvr_agent.errors import DvrError
from dvr_agent.model.features import ForwardingIp
from dvr_agent.model.router import FloatingIp, Router
from dvr_agent.plural import count
from dvr_agent.reconcile.factory import open_planner
from dvr_agent.reconcile.floating_ip_plan import floating_ip_plan, is_built_here
from dvr_agent.reconcile.planner import Planner, RouterJob

COMPLETE, INCOMPLETE, STANDBY, ELSEWHERE, STALE = "complete", "incomplete", "standby", "elsewhere", "stale"
LEFT_OUT, LEFT_ALONE, DOWN, NOT_BUILT, UNKNOWN = "left out", "left alone", "router is down", "not built", "unknown"
WRONG = (INCOMPLETE, LEFT_OUT, NOT_BUILT)
"""States of a floating IP that this host should have as a whole, and does not."""

MOST_LINES = 20
"""Lines about one floating IP that the text has; JSON has all."""

Translations = dict[tuple[str, str], list[tuple[str, str]]]
"""(router id, floating IP) → (fixed IP, namespace) of each DNAT rule in the kernel."""


class Planned(NamedTuple):
    """A router with its plan.

    :ivar document: name of its document
    :ivar job: the state of its floating IPs where there is no plan
    """

    router: Router
    document: str
    job: RouterJob | str


class Entry(NamedTuple):
    """One line of the list.

    :ivar there: (fixed IP, namespace) of its DNAT rules in the kernel
    :ivar section: changes that the daemon would make of it; None: there are none
    """

    router_id: str
    address: str
    fixed: str
    belongs: str
    there: list[tuple[str, str]]
    state: str
    section: Section | None = None

    @property
    def places(self) -> list[str]:
        """The namespaces that translate it, with the address where it is another one."""
        return [name if inside == self.fixed else f"{name} (to {inside})" for inside, name in self.there]

    @property
    def changes(self) -> list[str]:
        """The changes as lines of a plan."""
        return list(as_lines(self.section))[1:] if self.section is not None else []


def fips(args: argparse.Namespace, out: Output) -> int:
    """Print the floating IPs of the documents, and those that the kernel translates without a document."""
    host = Host(load_config(args))
    found = sorted(_entries(host), key=lambda entry: (entry.router_id, entry.address))
    if out.json:
        out.document({"floating_ips": [_json(entry) for entry in found]})
    else:
        _print(found, out)
    return 0


def _entries(host: Host) -> Iterator[Entry]:
    kernel = host.translations()
    planner = open_planner(make_settings(host.conf))
    planner.load()
    planner.declare(host.documents.good)
    plans = {router.id: Planned(router, name, _plan(planner, router, name)) for name, router in host.routers.values()}
    for planned in plans.values():
        yield from _of_router(host, planned, kernel)
    for (router_id, address), there in kernel.items():
        fixed, _ = there[0]
        state, section = _judge_unknown(host, plans.get(router_id), router_id, IPv4Address(address), IPv4Address(fixed))
        yield Entry(router_id, address, fixed, "no document", there, state, section)


def _plan(planner: Planner, router: Router, document: str) -> RouterJob | str:
    """Return the plan of a router, or the state of its floating IPs where there is no plan."""
    if planner.why_left_alone(router):
        return LEFT_ALONE
    if not router.admin_state_up:
        return DOWN
    try:
        return planner.plan_router(router, document=document)
    except DvrError as exc:
        complain(f"warning: router {router.id}: {exc}")
        return UNKNOWN


def _of_router(host: Host, planned: Planned, kernel: Translations) -> Iterator[Entry]:
    """Yield the entries of one router; their translations are taken out of ``kernel``."""
    router = planned.router
    for fip in router.floating_ips:
        there = kernel.pop((router.id, str(fip.address)), [])
        state, section = _judge(fip, planned)
        yield Entry(router.id, str(fip.address), str(fip.fixed_address), host.place(fip, router), there, state, section)
    for fip in router.omitted_floating_ips:
        there = kernel.pop((router.id, str(fip.address)), [])
        _, section = _judge(fip, planned)
        yield Entry(router.id, str(fip.address), str(fip.fixed_address), LEFT_OUT, there, LEFT_OUT, section)
    for forwarding in router.features.forwarding_ips:
        there = kernel.pop((router.id, str(forwarding.address)), [])
        state, section = _judge(forwarding, planned)
        yield _forwarding(router, str(forwarding.address), there, state, section)


def _judge(fip: FloatingIp | ForwardingIp, planned: Planned) -> tuple[str, Section | None]:
    """Return the state of a floating IP, and the changes that the daemon would make of it."""
    job = planned.job
    if isinstance(job, str):
        return job, None
    plan = floating_ip_plan(job, fip)
    is_wrong = bool(plan or plan.omitted)
    section = Renderer().section(plan, document=planned.document) if is_wrong else None
    view, place = job.draft.view, job.draft.place
    if is_built_here(view, fip):
        is_standby = not is_wrong and place.state is not None and not place.is_master
        return (STANDBY if is_standby else INCOMPLETE if is_wrong else COMPLETE), section
    if not _is_wanted_here(view, fip):
        return (STALE if plan else ELSEWHERE), section
    granted = (*view.router.floating_ips, *view.router.features.forwarding_ips)
    return (NOT_BUILT if fip in granted else LEFT_OUT), section


def _judge_unknown(
    host: Host, planned: Planned | None, router_id: str, address: IPv4Address, fixed: IPv4Address
) -> tuple[str, Section | None]:
    """Return the state of a floating IP that no document has, and the changes that the daemon would make of it."""
    if planned is None:
        has_none = host.documents.complete and router_id not in host.documents.known
        return (STALE if has_none else UNKNOWN), None
    _, section = _judge(FloatingIp("", address, fixed, ""), planned)
    return STALE, section


def _is_wanted_here(view: HostView, fip: FloatingIp | ForwardingIp) -> bool:
    """True if the floating IP belongs on this host, by its kind and its host."""
    if isinstance(fip, FloatingIp) and not view.is_central(fip):
        return view.bound_here(fip)
    return view.gateway_here is not None


def _forwarding(
    router: Router, address: str, there: list[tuple[str, str]], state: str, section: Section | None
) -> Entry:
    """Return the entry of a floating IP that port forwardings use: it stands for ports of several addresses."""
    used = [one for one in router.features.port_forwardings or () if str(one.address) == address]
    fixed = ", ".join(sorted({str(one.fixed_address) for one in used}))
    places = dict.fromkeys(namespace for _, namespace in there)
    return Entry(
        router.id, address, fixed, "port forwardings", [(fixed, namespace) for namespace in places], state, section
    )


def _json(entry: Entry) -> dict[str, Any]:
    is_complete = True if entry.state == COMPLETE else False if entry.state in WRONG else None
    return {
        "floating_ip": entry.address,
        "fixed_ip": entry.fixed,
        "router": entry.router_id,
        "belongs": entry.belongs,
        "in_kernel": entry.places,
        "state": entry.state,
        "complete": is_complete,
        "namespaces": as_json(entry.section)["namespaces"] if entry.section is not None else [],
        "omitted": list(entry.section.omitted) if entry.section is not None else [],
    }


def _print(found: list[Entry], out: Output) -> None:
    header = ("FLOATING IP", "FIXED IP", "ROUTER", "BELONGS", "IN KERNEL", "STATE")
    rows = [(x.address, x.fixed, x.router_id, x.belongs, " ".join(x.places), x.state) for x in found]
    out.table(header, rows)
    for entry in found:
        lines = entry.changes
        if lines:
            out.line()
            out.line(f"{entry.address} of router {entry.router_id} is {entry.state}; the plan says of it:", BOLD)
        for text in lines[:MOST_LINES]:
            out.line(text)
        if len(lines) > MOST_LINES:
            out.line(f"    and {count(len(lines) - MOST_LINES, 'more line')} (see dvrctl plan)")
