"""The takeover from neutron-l3-agent, and from our other packet filter: find stale chains, keep marks, log what went.

The chains of neutron-l3-agent may be in nf_tables (iptables-nft) or in the legacy tables; where the option
``packet_filter`` was changed, our own chains are in the other packet filter.  :class:`PacketFilterReader` reads both
until a namespace has no such chains, and only our tables after that, since no other agent makes new chains while this
one runs.  Marks of address scopes are kept (:func:`marks_in_use`), since connections carry them.
Used by the planner and, for the log, by the reconciler.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dvr_agent.desired import names
from dvr_agent.desired.host_view import HostView
from dvr_agent.desired.scope_marks import SCOPE_MASK, known_marks
from dvr_agent.kernel.l3_agent_chains import is_l3_agent_chain
from dvr_agent.kernel.other_filters import ALL_TABLES
from dvr_agent.reconcile.api import Plan
from dvr_agent.reconcile.chain_counts import (
    ChainCounts,
    has_l3_agent_chains,
    has_own_chains,
    l3_agent_chains,
    own_chains,
)
from dvr_agent.reconcile.reader import KernelReader
from dvr_agent.state.diff import Action
from dvr_agent.state.filter import Dnat, FilterRule, Foreign, SetMark, Table
from dvr_agent.state.namespace import NamespaceState

LOG = logging.getLogger(__name__)


class PacketFilterReader:
    """Reads the packet filter tables of a namespace: all of them until no chains are stale, then the desired ones only.

    Stale are those of neutron-l3-agent, and ours in a table that is not desired any more: an option was changed.
    """

    def __init__(self, kernel: KernelReader) -> None:
        self._kernel = kernel
        self._clean: set[str] = set()

    def with_tables(self, state: NamespaceState, desired: Sequence[Table]) -> NamespaceState:
        """Return the observed state with its packet filter tables.

        :param desired: the tables that may have chains of ours
        :raises KernelError: a table could not be read
        """
        packet_filter, keys = self._kernel.packet_filter, [table.key for table in desired]
        if state.name in self._clean:
            return replace(state, tables=packet_filter.observe(state.name, keys, desired))
        wanted = frozenset(keys)
        all_keys = (*keys, *(key for key in ALL_TABLES if key not in wanted))
        found = packet_filter.observe(state.name, all_keys, desired)
        tables = tuple(table for table in found if table.key in wanted or table.chains)
        stale_tables = self._kernel.nftables.observe(state.name)
        is_ours = all(table.key in wanted and not has_l3_agent_chains(table) for table in tables)
        if is_ours and not stale_tables:
            self._clean.add(state.name)
        return replace(state, tables=tables, stale_tables=stale_tables)

    def forget(self, namespaces: Iterable[str]) -> None:
        """Forget namespaces that were removed."""
        self._clean.difference_update(namespaces)


def marks_in_use(view: HostView, *states: NamespaceState | None) -> tuple[tuple[str, int], ...]:
    """Return (address scope, mark) that packets get in the router's namespaces now; ambiguous marks are left out.

    Our rules come first: after a handover that stopped half way the namespaces have rules of both agents.

    :returns: sorted; empty if all marks are those that this agent would choose
    """
    scopes = _scopes_by_device(view)
    found = [state for state in states if state is not None]
    tables = [
        *(table for state in found for table in state.tables),
        *(one for state in found for one in state.stale_tables),
    ]
    tables.sort(key=has_l3_agent_chains)
    pairs = [
        (scope, mark)
        for table in tables
        if table.name == "mangle"
        for device, mark in _marked_devices(table)
        if (scope := scopes.get((device, table.family))) is not None
    ]
    known = known_marks(pairs)
    return tuple(sorted(known.items())) if any(view.marks.get(scope) != mark for scope, mark in known.items()) else ()


def forwardings_in_use(view: HostView, *states: NamespaceState | None) -> tuple[FilterRule, ...]:
    """Return the rules by which ports of the router's forwarding IPs are translated now.

    Ours where there are any: neutron-l3-agent's may still be there beside them.
    """
    wanted = {f"{fip.address}/32" for fip in view.forwarding_ips}
    found = [state for state in states if state is not None]
    tables = [table for state in found for table in (*state.tables, *state.stale_tables) if table.key == (4, "nat")]
    chains = [chain for table in tables for chain in table.chains]
    for ours in (True, False):
        rules = [rule for chain in chains if is_l3_agent_chain(chain.name) != ours for rule in chain.rules]
        kept = {rule: None for rule in rules if rule.dst in wanted and _is_forwarding(rule)}
        if kept:
            return tuple(kept)
    return ()


def _is_forwarding(rule: FilterRule) -> bool:
    """True for a rule that translates ports, and that can be written again."""
    is_known = not any(isinstance(match, Foreign) for match in rule.matches)
    return isinstance(rule.target, Dnat) and rule.target.ports is not None and is_known


def log_takeover(plan: Plan) -> None:
    """Log the stale chains that a job has removed, and the stale objects of neutron-l3-agent, if it had chains."""
    _log_switch(plan)
    removed = [
        (changes.namespace, l3_agent_chains(change.old for change in (*changes.stale_tables, *changes.tables)))
        for changes in plan.changes
    ]
    taken = [(namespace, counts) for namespace, counts in removed if counts]
    if not taken:
        return
    leaked = Counter(
        change.kind for changes in plan.changes for change in changes.items if change.action is Action.REMOVE
    )
    leaks = ", ".join(f"{kind}: {number}" for kind, number in sorted(leaked.items())) or "none"
    where = "; ".join(f"{namespace}: {_chains_text(counts)}" for namespace, counts in taken)
    LOG.info("%s: taken over from neutron-l3-agent; chains removed: %s; stale objects removed: %s",
             plan.subject, where, leaks)  # fmt: skip
    if LOG.isEnabledFor(logging.DEBUG):
        for changes in plan.changes:
            for change in changes.items:
                if change.action is Action.REMOVE:
                    LOG.debug("%s: removed stale object of neutron-l3-agent: %s", changes.namespace, change.item.text)


def _log_switch(plan: Plan) -> None:
    """Log the chains of ours that a job has removed from the packet filter of before, if there were any."""
    stale = [(one.namespace, [change.old for change in one.stale_tables]) for one in plan.changes if one.stale_tables]
    switched = [(namespace, counts) for namespace, tables in stale if (counts := own_chains(tables))]
    if switched:
        was_nft = any(table.nft and has_own_chains(table) for _, tables in stale for table in tables)
        ways = "from nf_tables to legacy tables" if was_nft else "from legacy tables to nf_tables"
        where = "; ".join(f"{namespace}: {_chains_text(counts)}" for namespace, counts in switched)
        LOG.info("%s: packet filter changed %s; chains removed: %s", plan.subject, ways, where)


def _chains_text(counts: ChainCounts) -> str:
    """Return counted chains as text: ``nft table ip nat 6, iptables table mangle 9``."""
    return ", ".join(f"{table.text} {number}" for table, number in counts)


def _scopes_by_device(view: HostView) -> dict[tuple[str, int], str]:
    """Return (device, IP version) → address scope of its network, for every device that the router may have here."""
    router = view.router
    ports = [
        *((names.device(names.INTERNAL, port.id), port) for port in router.interfaces),
        *((names.device(names.CSNAT, port.id), port) for port in router.snat_interfaces),
    ]
    if router.gateway is not None:
        ports += [(names.device(names.GATEWAY, router.gateway.id), router.gateway), (view.rfp, router.gateway)]
    return {
        (device, family): scope
        for device, port in ports
        for family, scope in ((4, port.scope4), (6, port.scope6))
        if scope is not None
    }


def _marked_devices(table: Table) -> list[tuple[str, int]]:
    """Return (device, mark) of the rules that mark all packets of a device by its address scope."""
    return [
        (rule.iif, rule.target.value)
        for chain in table.chains
        for rule in chain.rules
        if isinstance(rule.target, SetMark)
        and rule.target.mask == SCOPE_MASK
        and isinstance(rule.iif, str)
        and rule.dst is None
        and rule.src is None
        and not rule.matches
    ]
