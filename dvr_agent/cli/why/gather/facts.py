"""Reads all facts about a subject, each thing once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from oslo_config import cfg

from dvr_agent.cli.admin_client import AdminClient
from dvr_agent.cli.host_inventory import Host
from dvr_agent.cli.subjects import NotFoundError
from dvr_agent.cli.why.address_path import (
    NO_PATH,
    AddressPath,
    central_path,
    fixed_path,
    local_path,
    own_path,
    whole_path,
)
from dvr_agent.cli.why.attachment import find_attachment
from dvr_agent.cli.why.checks.neighbours import gateway_address
from dvr_agent.cli.why.facts import Facts, Kind, PlanFacts, ProbeFacts, Subject
from dvr_agent.cli.why.gather.daemon import read_daemon
from dvr_agent.cli.why.gather.host import read_host, read_learned
from dvr_agent.cli.why.gather.namespace import read_namespace
from dvr_agent.cli.why.gather.plan import read_plan
from dvr_agent.cli.why.gather.probe import ask_arp, hear_masters
from dvr_agent.cli.why.gather.rivals import read_rivals
from dvr_agent.cli.why.gather.unknown import (
    documents_directory,
    find_pair,
    find_refusal,
    find_refusal_without_id,
    known_router,
    search,
)
from dvr_agent.cli.why.subject import find_subject
from dvr_agent.config import make_settings, source_settings
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.host_view import HostView, is_left_alone, make_view
from dvr_agent.model.router import Router
from dvr_agent.reconcile.factory import open_planner


def read_facts(
    conf: cfg.ConfigOpts, text: str, router: str = "", probe: bool = False, client: AdminClient | None = None
) -> Facts:
    """Read everything that the checks judge.

    :param text: what the operator asks about
    :param router: the router to look at; empty: all
    :param probe: send packets, too
    :param client: of the daemon; None: one for this call
    :raises NotFoundError: no router, or more than one thing, is meant
    """
    host, directory, client = Host(conf), documents_directory(conf), client or AdminClient.of(conf)
    try:
        subject = find_subject(text, host.routers, router)
    except NotFoundError:
        router_id = known_router(host, text, directory)
        if not router_id:
            raise
        refusal = find_refusal(host, router_id, directory) or find_refusal_without_id(host, directory)
        places = tuple(host.namespaces_of(router_id))
        subject = Subject(refusal.title if refusal is not None and refusal.router_id else router_id, Kind.ROUTER)
        return Facts(subject, host.settings, refusal, in_kernel=places, daemon=read_daemon(client, router_id))
    if subject.kind is Kind.NOTHING:
        subject = find_pair(host, subject)
    if subject.router is None:
        found = search(host, subject.address, directory)
        return Facts(
            subject,
            host.settings,
            refusal=found.refusal,
            near=found.near,
            in_kernel=found.in_kernel,
            daemon=read_daemon(client, found.refusal.router_id if found.refusal is not None else ""),
        )
    settings = make_settings(conf)
    planner = open_planner(settings)
    planner.load()
    planner.declare(host.documents.good)
    plan = read_plan(planner, subject.router, subject.document)
    path = choose_path(subject, plan.view) if plan.view is not None else NO_PATH
    ids = {leg.port.id for leg in path.legs} | ({subject.port.id} if subject.port is not None else set())
    layer2 = read_host(path, settings.attach, ids)
    facts = Facts(
        subject,
        host.settings,
        find_refusal(host, subject.router.id, directory, subject.address),
        rivals=read_rivals(host, subject),
        newest_counts=source_settings(conf).kind == "neutron",
        path=path,
        outside_fips=_fips_outside(path, [router for _, router in host.routers.values()], host.settings),
        plan=plan,
        namespaces={name: read_namespace(host.kernel, name, path.addresses) for name in path.namespaces},
        host=layer2,
        daemon=read_daemon(client, subject.router.id),
    )
    if not probe:
        return facts
    answers = _probe(facts)  # bridges learn where those are that answer
    return replace(facts, probe=answers, host=replace(layer2, fdb=read_learned()))


def _fips_outside(path: AddressPath, routers: Iterable[Router], settings: HostSettings) -> int:
    """Return how many floating IPs this host has in the external network of a path."""
    if path.outside is None:
        return 0
    network = path.outside.port.network_id
    mine = [one for one in routers if one.admin_state_up and one.gateway and one.gateway.network_id == network]
    views = [make_view(router, settings) for router in mine if not is_left_alone(router, settings)]
    return sum(len(view.local_fips) + len(view.central_fips) + len(view.forwarding_ips) for view in views)


def choose_path(subject: Subject, view: HostView) -> AddressPath:
    """Return the path of the subject's packets on this host."""
    if subject.kind is Kind.ROUTER:
        return whole_path(view)
    if subject.kind is Kind.OWN:
        return own_path(view, subject.address, subject.device)
    if subject.kind is Kind.FORWARDED:
        return central_path(view, subject.address, subject.fixed)
    if subject.fip is None:
        return fixed_path(view, subject.fixed)
    address, fixed = str(subject.fip.address), str(subject.fip.fixed_address)
    make: Callable[[HostView, str, str], AddressPath] = central_path if view.is_central(subject.fip) else local_path
    if not view.is_central(subject.fip) and not view.bound_here(subject.fip):
        return NO_PATH
    return make(view, address, fixed)


def _probe(facts: Facts) -> ProbeFacts:
    """Ask by ARP for the instance, for the gateway, and for others that have the address; listen for VRRP."""
    subject, path = facts.subject, facts.path
    inside, outside = path.inside[-1] if path.inside and _is_here(facts) else None, path.outside
    gateway = gateway_address(outside) if outside is not None else ""
    is_outside = subject.kind in (Kind.FLOATING_IP, Kind.FORWARDED, Kind.OWN)
    return ProbeFacts(
        ask_arp(inside.namespace, inside.device, subject.fixed) if inside is not None and subject.fixed else None,
        ask_arp(outside.namespace, outside.device, gateway) if outside is not None and gateway else None,
        ask_arp(outside.namespace, outside.device, subject.address) if outside is not None and is_outside else None,
        _masters(facts.plan),
    )


def _is_here(facts: Facts) -> bool:
    """Return True if the instance is on this host.

    Another host's is not asked: a distributed router has one MAC address on all hosts, so that the answer goes to the
    router on the instance's own host.
    """
    view, subject = facts.plan.view, facts.subject
    if view is not None and subject.fip is not None and not view.is_central(subject.fip):
        return view.bound_here(subject.fip)
    if view is not None and not view.router.distributed:
        return True
    return find_attachment(facts) is not None


def _masters(plan: PlanFacts) -> tuple[str, ...] | None:
    """Listen for other hosts that are the VRRP master of the router, if it is an HA router of this host."""
    states = [state for one in plan.desired.values() for state in one if state.virtual_router is not None]
    if not states or states[0].virtual_router is None:
        return None
    return hear_masters(states[0].name, states[0].virtual_router)
