"""The handover to neutron-l3-agent: find and remove objects of ours that it would not remove, once it is ready.

These objects are our chains in the packet filter with the jumps to them (in legacy tables, in nf_tables, or in both
where the option ``packet_filter`` was changed), the IPv6 rules before the main table, the IPv6 rules of fip namespaces,
and our bandwidth limits (``docs/dataplane.md``, "What is ours").  Everything else (namespaces, devices, addresses,
routes, neighbours, the other rules, the state files) is as neutron-l3-agent makes it, and stays.

neutron-l3-agent is ready in a namespace when its packet filter rules have every effect that ours have there.
Used by ``dvrctl handover``; reads and writes the kernel by :mod:`dvr_agent.kernel.api`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvr_agent.desired import names
from dvr_agent.desired.scope_marks import SCOPE_MASK
from dvr_agent.errors import NamespaceGoneError
from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.l3_agent_chains import is_l3_agent_chain
from dvr_agent.kernel.other_filters import ALL_TABLES
from dvr_agent.plural import count
from dvr_agent.reconcile.allocation_files import AllocationFiles
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.reconcile.chain_counts import has_l3_agent_chains, has_own_chains, own_chains
from dvr_agent.reconcile.inventory import adopt_inventory, nat_tables
from dvr_agent.reconcile.plan_lines import CHANGE, REMOVE, Group, Line, table_kind
from dvr_agent.reconcile.reader import KernelReader
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.filter import (
    CtHelper,
    Dnat,
    FilterRule,
    Jump,
    NoTrack,
    Redirect,
    SetMark,
    Snat,
    Table,
    Verdict,
)
from dvr_agent.state.kind import KernelObject
from dvr_agent.state.limit import Limit
from dvr_agent.state.ownership import (
    FIP_TABLE,
    V6_CONNECTED_PRIORITY,
    V6_PROXIED_PRIORITY,
    V6_REDIRECT_PRIORITY,
    Ownership,
    RuleOwner,
)
from dvr_agent.state.rule import Rule
from dvr_agent.state.translations import dnat_pairs, ports_of

NO_CHAINS = "its chains"
"""neutron-l3-agent has no chains at all in the namespace."""
NDP_CHAIN = "neutron-l3-agent-NDP"
"""Accepts packets to proxied addresses and drops all others; packets to an internal IPv6 subnet are sent there."""
_RULES = Ownership(rules=RuleOwner.QROUTER)
_LIMITS = Ownership(limited=names.LIMITED)
_FIP_RULES = Ownership(prefixes=(names.FIP_TO_ROUTER,), rules=RuleOwner.BY_IIF)
_GATEWAYS = Ownership(prefixes=(names.GATEWAY,))
_BEFORE_MAIN = (V6_PROXIED_PRIORITY, V6_CONNECTED_PRIORITY, V6_REDIRECT_PRIORITY)


@dataclass(frozen=True, slots=True)
class OwnObjects:
    """Objects of ours in one namespace that neutron-l3-agent would not remove.

    :ivar tables: tables with our chains (and with neutron-l3-agent's, where it uses the same ones)
    :ivar stale_tables: likewise, in the packet filter that this host does not use
    :ivar rules: IPv6 rules that neutron-l3-agent does not make
    :ivar limits: bandwidth limits, which would limit in addition to its own
    """

    namespace: str
    tables: tuple[Table, ...]
    rules: tuple[Rule, ...]
    limits: tuple[Limit, ...] = ()
    stale_tables: tuple[Table, ...] = ()

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """The tables of both packet filters."""
        return (*self.tables, *self.stale_tables)

    def lines(self) -> list[str]:
        """Return the objects as lines of text."""
        return [line.text for line in self.removal.lines]

    @property
    def removal(self) -> Group:
        """The removal of the objects as a group of lines."""
        tables = [
            (table_kind(table), f"{table.text}: {count(number, 'chain')}")
            for table, number in own_chains(self.all_tables)
        ]
        rules, limits = [("rule", one.text) for one in self.rules], [("limit", one.text) for one in self.limits]
        return Group(self.namespace, CHANGE, tuple(Line(REMOVE, *one) for one in (*tables, *rules, *limits)))


def find_own_objects(kernel: KernelReader) -> list[OwnObjects]:
    """Return the objects of ours that have to be removed, namespace by namespace.

    :raises KernelError: a namespace could not be read
    """
    found = []
    for name in kernel.namespaces.list():
        if names.parse_namespace(name) is not None:
            own = read_own_objects(kernel, name)
            if own is not None:
                found.append(own)
    return found


def read_own_objects(kernel: KernelReader, namespace: str) -> OwnObjects | None:
    """Return the objects of ours in a namespace; None if there are none, or no such namespace."""
    try:
        tables = tuple(filter(has_own_chains, kernel.packet_filter.observe(namespace, ALL_TABLES)))
        stale_tables = tuple(filter(has_own_chains, kernel.nftables.observe(namespace)))
        rules = _own_rules(kernel, namespace)
        limited = not namespace.startswith(names.FIP)
        limits = tuple(sorted(kernel.interfaces.limits(namespace, _LIMITS))) if limited else ()
    except NamespaceGoneError:
        return None
    found = OwnObjects(namespace, tables, rules, limits, stale_tables)
    return found if found.all_tables or rules or limits else None


def _own_rules(kernel: KernelReader, namespace: str) -> tuple[Rule, ...]:
    """Return the IPv6 rules of ours in a namespace that neutron-l3-agent does not make."""
    if namespace.startswith(names.QROUTER):
        state = kernel.interfaces.observe(namespace, _RULES, ())
        return tuple(sorted(rule for rule in state.rules if rule.priority in _BEFORE_MAIN)) if state else ()
    if namespace.startswith(names.FIP):
        state = kernel.interfaces.observe(namespace, _FIP_RULES, ())
        return tuple(sorted(rule for rule in state.rules if rule.family == 6)) if state else ()
    return ()


def missing_effects(kernel: KernelReader, own: OwnObjects) -> list[str]:
    """Describe the effects of our rules that neutron-l3-agent's rules lack in this namespace; empty: it is ready.

    :raises NamespaceGoneError: the namespace is gone
    """
    theirs = [*kernel.nftables.observe(own.namespace), *kernel.packet_filter.observe(own.namespace, ALL_TABLES)]
    if not any(map(has_l3_agent_chains, theirs)):
        return [NO_CHAINS]
    present = {effect for table in theirs for describe in _DESCRIBERS for effect in describe(table, ours=False)}
    wanted = dict.fromkeys(
        effect for table in own.all_tables for describe in _DESCRIBERS for effect in describe(table, ours=True)
    )
    if _is_central(kernel, own.namespace):  # neutron-l3-agent has no helpers for distributed floating IPs
        wanted |= dict.fromkeys(effect for table in own.all_tables for effect in _helpers(table, ours=True))
        present |= {effect for table in theirs for effect in _helpers(table, ours=False)}
    return [effect for effect in wanted if effect not in present]


def _is_central(kernel: KernelReader, namespace: str) -> bool:
    """True for the namespace of a gateway port: a snat namespace, or the one of a legacy router."""
    if not namespace.startswith(names.QROUTER):
        return namespace.startswith(names.SNAT)
    state = kernel.interfaces.observe(namespace, _GATEWAYS, ())
    return state is not None and bool(state.links)


def remove_own_objects(kernel: Kernel, own: Sequence[OwnObjects]) -> None:
    """Remove the objects of ours from these namespaces.

    :raises KernelError: some objects are left, and the call may be repeated
    """
    with kernel.packet_filter.defer_apply() as pending:
        for one in own:
            if kernel.namespaces.exists(one.namespace):
                for table in one.tables:
                    pending.withdraw(one.namespace, table.key)
    for one in own:
        if one.stale_tables and kernel.namespaces.exists(one.namespace):
            kernel.nftables.withdraw(one.namespace)
        if (one.rules or one.limits) and kernel.namespaces.exists(one.namespace):
            items: tuple[KernelObject, ...] = (*one.rules, *one.limits)
            gone = [Change(Action.REMOVE, item, item) for item in items]
            kernel.interfaces.apply(one.namespace, gone)


def correct_state_files(kernel: KernelReader, state_path: Path, writable: bool) -> bool:
    """Make the state files agree with the kernel: neutron-l3-agent starts from them.

    :param writable: False: only compare
    :returns: True if they differed
    :raises StateFileError: a file can be neither read nor written
    """
    allocations = Allocations(state_path)
    inventory = adopt_inventory(kernel, allocations)
    for router_id in sorted(inventory.routers):
        name = names.QROUTER + router_id
        state = kernel.interfaces.observe(name, _RULES, ())
        if state is None:
            continue
        priorities = {rule.src: rule.priority for rule in state.rules if rule.table == FIP_TABLE and rule.src}
        for table in nat_tables(kernel, name):
            for fip, fixed in dnat_pairs(_rules(table, ours=True)):
                if f"{fixed}/32" in priorities:
                    allocations.adopt_priority(fip, priorities[f"{fixed}/32"])
    wrong = allocations.dirty
    if writable:
        files = AllocationFiles(state_path)
        files.check(allocations)
        files.flush(allocations)
    return wrong


def _effects(table: Table, ours: bool) -> Iterator[str]:
    """Describe the effects of our chains, or of neutron-l3-agent's, that must be the same for a handover.

    Marks that only the same agent's rules match may differ, and so may the marks of address scopes.
    """
    command = "ip" if table.family == 4 else "ip6"
    for rule in _rules(table, ours):
        match rule.target:
            case Dnat():
                yield f"{command}: DNAT of {_destination(rule)} to {rule.target.endpoint}"
            case Snat(address):
                yield f"{command}: SNAT of {rule.src or rule.oif or 'what was DNATed here'} to {address}"
            case Redirect(port):
                yield f"{command}: redirection of {rule.dst} to port {port}"
            case NoTrack():
                yield f"{command}: packets are not tracked"
            case SetMark(_, mask) if mask == SCOPE_MASK and rule.iif is not None and rule.dst is None:
                yield f"{command}: address scope of {rule.iif}"
            case Verdict("DROP") if rule.oif is not None:
                yield f"{command}: address scopes are kept apart on {rule.oif}"


def _closed_subnets(table: Table, ours: bool) -> Iterator[str]:
    """Describe the subnets whose addresses neighbours outside do not reach, but for NDP proxies."""
    command = "ip" if table.family == 4 else "ip6"
    for rule in _rules(table, ours):
        if rule.iif is not None and rule.dst is not None and rule.target in (Verdict("DROP"), Jump(NDP_CHAIN)):
            yield f"{command}: {rule.dst} is closed on {rule.iif}"


def _destination(rule: FilterRule) -> str:
    ports = ports_of(rule)
    return str(rule.dst) if ports is None else f"{rule.dst} {ports[0]} port {ports[1]}-{ports[2]}"


def _helpers(table: Table, ours: bool) -> Iterator[str]:
    """Describe the connection tracking helpers of our chains, or of neutron-l3-agent's."""
    command = "ip" if table.family == 4 else "ip6"
    for rule in _rules(table, ours):
        if isinstance(rule.target, CtHelper):
            ports = ", ".join(match.text for match in rule.matches)
            yield f"{command}: conntrack helper {rule.target.name} for {ports}"


_DESCRIBERS = (_effects, _closed_subnets)


def _rules(table: Table, ours: bool) -> Iterator[FilterRule]:
    """Yield the rules that a packet can reach in our chains, or in those of neutron-l3-agent."""
    chains = {chain.name: chain.rules for chain in table.chains if is_l3_agent_chain(chain.name) != ours}
    ahead = [chain for _, chain in table.jumps]
    seen: set[str] = set()
    while ahead:
        name = ahead.pop()
        if name in seen or name not in chains:
            continue
        seen.add(name)
        yield from chains[name]
        ahead += [rule.target.chain for rule in chains[name] if isinstance(rule.target, Jump)]
