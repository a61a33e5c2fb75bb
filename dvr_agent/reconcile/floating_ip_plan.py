"""Selects from a router's plan what concerns one floating IP: what of it or of its way is not as desired.

Used by ``dvrctl show fips``.  The way of a floating IP is the devices that its packets pass on this host, with
addresses, routes and parameters of these, and the rules that lead to them.  Objects of other floating IPs and other
instances on the same devices do not count.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface

from dvr_agent.desired import names
from dvr_agent.desired.host_view import HostView
from dvr_agent.extensions import Extension
from dvr_agent.model.features import ForwardingIp
from dvr_agent.model.router import FloatingIp, RouterPort
from dvr_agent.reconcile.api import Plan
from dvr_agent.reconcile.draft import Draft
from dvr_agent.reconcile.namespace_job import NamespaceJob
from dvr_agent.reconcile.planner import RouterJob
from dvr_agent.state.address import Address
from dvr_agent.state.dependency import subject
from dvr_agent.state.diff import Action, Change, Changes, TableChange
from dvr_agent.state.filter import FilterRule, Table
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.limit import Limit
from dvr_agent.state.namespace import KIND_OF
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import FIP_TABLE
from dvr_agent.state.route import MAIN_TABLE, Route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl
from dvr_agent.state.table_steps import subjects


@dataclass(frozen=True, slots=True)
class _Way:
    """What the packets of a floating IP pass on this host.

    :ivar own: the floating IP and its fixed IPs
    :ivar fixed: the fixed IPs
    :ivar namespaces: that it passes
    :ivar devices: that it passes, in all of them
    :ivar is_redirected: outbound packets go to the snat namespace as those of instances without a floating IP do
    """

    own: frozenset[str]
    fixed: frozenset[str]
    namespaces: frozenset[str]
    devices: frozenset[str]
    is_redirected: bool


def floating_ip_plan(job: RouterJob, fip: FloatingIp | ForwardingIp) -> Plan:
    """Return the part of a router's plan that concerns a floating IP; empty: all of it is as desired.

    On the master of an HA router, addresses that VRRP has to add and that the kernel lacks are in it, too.  Its
    ``omitted`` has what of the floating IP cannot be built: no plan makes it.
    """
    way = _way(job.draft.view, fip)
    jobs = [part for part in (_of_job(one, way) for one in job.jobs) if part]
    plan = Plan(f"floating IP {fip.address}", tuple(one.changes for one in jobs if one.changes))
    held = _held(job.draft, str(fip.address))
    return replace(
        plan,
        changes=(*plan.changes, *([held] if held is not None else [])),
        ports=tuple(line for one in jobs for line in one.port_lines),
        omitted=tuple(_omitted(job, fip)),
    )


def is_built_here(view: HostView, fip: FloatingIp | ForwardingIp) -> bool:
    """Return True if this host builds the floating IP."""
    built = {one.id for one in (*view.local_fips, *view.central_fips)} | {one.id for one in view.forwarding_ips}
    return fip.id in built


def _omitted(job: RouterJob, fip: FloatingIp | ForwardingIp) -> Iterator[str]:
    """Yield the texts of omitted objects that name the floating IP; bandwidth limits are counted there, not named."""
    view, named = job.draft.view, [str(fip.address)]
    if isinstance(fip, FloatingIp) and fip not in view.router.floating_ips:
        named.append(str(fip.fixed_address))  # it may be the fault
    either = "|".join(map(re.escape, named))
    address = re.compile(rf"(?<![\d.])({either})(?![\d.]*\d)")
    yield from (text for text in job.plan.omitted if address.search(text))
    no_limits = view.settings.no_limits
    is_limited = fip.qos_policy_id is not None and Extension.FIP_QOS in view.settings.extensions
    if no_limits and is_limited and is_built_here(view, fip):
        yield f"{Extension.FIP_QOS.value}: it is not limited: {no_limits}"


# --- the way of a floating IP --------------------------------------------------------------------------------------


def _way(view: HostView, fip: FloatingIp | ForwardingIp) -> _Way:
    fixed = _fixed(view, fip)
    is_local = fip.id in {one.id for one in view.local_fips}
    inside = [(names.device(names.INTERNAL, port.id), port) for port in view.interfaces]
    namespaces, devices = {view.qrouter}, set[str]()
    if is_local and view.agent_gateway is not None and view.fip is not None:
        namespaces.add(view.fip)
        devices |= {view.rfp, view.fpr, names.device(names.AGENT_GATEWAY, view.agent_gateway.id)}
    elif view.central is not None and view.gateway_here is not None:
        namespaces.add(view.central.name)
        devices.add(names.device(names.GATEWAY, view.gateway_here.id))
        inside += view.central.inside
    devices |= {device for device, port in inside if any(_is_in(address, port) for address in fixed)}
    own = frozenset({str(fip.address)}) | fixed
    return _Way(own, fixed, frozenset(namespaces), frozenset(devices), not is_local)


def _fixed(view: HostView, fip: FloatingIp | ForwardingIp) -> frozenset[str]:
    if isinstance(fip, FloatingIp):
        return frozenset({str(fip.fixed_address)})
    used = view.router.features.port_forwardings or ()
    return frozenset(str(one.fixed_address) for one in used if one.address == fip.address)


def _is_in(address: str, port: RouterPort) -> bool:
    return any(ip_address(address) in ip_interface(fixed.cidr).network for fixed in port.fixed_ips)


# --- changes that concern it ---------------------------------------------------------------------------------------


def _of_job(job: NamespaceJob, way: _Way) -> NamespaceJob:
    changes = job.changes
    on_way = changes.namespace in way.namespaces
    reduced = Changes(
        changes.namespace,
        create=changes.create and on_way,
        items=tuple(one for one in changes.items if _concerns(one.item, way, on_way)),
        tables=tuple(filter(None, (_of_table(one, way, on_way) for one in changes.tables))),
    )
    first = tuple(one for one in job.first if _concerns(one.item, way, on_way))
    repair = tuple(one for one in job.repair if one[0].device in way.devices)
    return NamespaceJob(reduced, first, repair, job.port_prefixes)


def _concerns(item: KernelObject, way: _Way, on_way: bool) -> bool:
    """True if a change of the object concerns the floating IP."""
    if isinstance(item, Limit):
        return item.address in way.own
    about = subject(item)
    if about in way.own:
        return True
    if not on_way or _is_ipv6(item):
        return False
    if isinstance(item, Rule) and item.src is not None:
        redirects = way.is_redirected and item.table != FIP_TABLE
        return redirects and any(ip_address(one) in ip_interface(item.src).network for one in way.fixed)
    if isinstance(item, Route) and _is_redirect(item) and not way.is_redirected:
        return False
    if isinstance(item, Neighbour) and not _is_of_pair(item):
        return item.dst in way.fixed
    devices = KIND_OF[type(item)].devices(item)
    if not devices:  # of the namespace as a whole: parameters, the rule for main
        return True
    return way.devices.issuperset(devices) and not _is_of_another(item)


def _is_ipv6(item: KernelObject) -> bool:
    """True for an object that packets of IPv4 do not need."""
    if isinstance(item, Sysctl):
        return item.key.startswith("ipv6/")
    if isinstance(item, Rule):
        return item.family == 6
    return ":" in (item.cidr if isinstance(item, Address) else item.dst if isinstance(item, Neighbour | Route) else "")


def _is_redirect(item: Route) -> bool:
    """True for the route of a redirect to the snat namespace."""
    return item.table != MAIN_TABLE and item.hops[0].device.startswith(names.INTERNAL)


def _is_of_pair(item: Neighbour) -> bool:
    return item.device.startswith((names.ROUTER_TO_FIP, names.FIP_TO_ROUTER))


def _is_of_another(item: KernelObject) -> bool:
    """True for an address, or a route to an address, of another floating IP on the same device."""
    return isinstance(item, Address | Route) and subject(item) is not None and "/32" in item.text


def _of_table(change: TableChange, way: _Way, on_way: bool) -> TableChange | None:
    """Return a change of a table with the rules that concern the floating IP only; None: none does."""
    if change.new.family == 6:
        return None
    old, new = _of_rules(change.old, way, on_way), _of_rules(change.new, way, on_way)
    # A jump that both tables have is no change, even if only one of them has rules of the floating IP in the chain.
    chains = {chain.name for table in (old, new) for chain in table.chains}
    old, new = _with_jumps(old, change.old, chains), _with_jumps(new, change.new, chains)
    return TableChange(old, new) if (old.chains, old.jumps) != (new.chains, new.jumps) else None


def _of_rules(table: Table, way: _Way, on_way: bool) -> Table:
    rules_in = ((chain, tuple(rule for rule in chain.rules if _applies(rule, way, on_way))) for chain in table.chains)
    return replace(table, chains=tuple(replace(chain, rules=rules) for chain, rules in rules_in if rules))


def _with_jumps(reduced: Table, table: Table, chains: Container[str]) -> Table:
    """Return a reduced table with the whole table's jumps to these chains."""
    return replace(reduced, jumps=tuple(jump for jump in table.jumps if jump[1] in chains))


def _applies(rule: FilterRule, way: _Way, on_way: bool) -> bool:
    """True for a rule about the floating IP, or about everything that passes one of its devices, or the namespace."""
    if subjects(rule) & way.own:
        return True
    if not on_way or subjects(rule):
        return False
    devices = {device for device in (rule.iif, rule.oif) if isinstance(device, str)}
    return not devices or bool(devices & way.devices)


# --- HA routers ----------------------------------------------------------------------------------------------------


def _held(draft: Draft, address: str) -> Changes | None:
    """Return the addition of the floating IP's address, which VRRP makes, if the kernel of the master lacks it."""
    state = draft.state.shared_by_hosts
    if state is None or state.virtual_router is None or not draft.place.is_master:
        return None
    observed = draft.observed(state.name)
    present = observed.addresses if observed is not None else frozenset()
    lacking = [one for one in state.virtual_router.addresses if one.ip == address and one not in present]
    return Changes(state.name, items=tuple(Change(Action.ADD, one) for one in lacking)) if lacking else None
