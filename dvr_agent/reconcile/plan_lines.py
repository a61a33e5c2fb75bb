"""Renders plans as lines with a sign, grouped by namespace: ``+ route 10.1.0.0/16 via 10.0.0.9 dev qr-…``.

Pure: plans in, values out.  ``dvrctl plan`` prints them (:mod:`dvr_agent.cli.render`), the daemon logs them and keeps
them in its history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from dvr_agent.desired import names
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.kernel.nftables.difference_text import difference_text
from dvr_agent.kernel.nftables.ruleset import TABLE, family_text
from dvr_agent.plural import count
from dvr_agent.reconcile.api import Plan
from dvr_agent.reconcile.chain_counts import l3_agent_chains, own_chains
from dvr_agent.state.diff import Action, Change, Changes, TableChange
from dvr_agent.state.filter import Chain, FilterRule, Table

ADD: str = Action.ADD.value
REMOVE: str = Action.REMOVE.value
CHANGE: str = Action.CHANGE.value


class Line(NamedTuple):
    """One object that is added, removed or changed.

    :ivar sign: ``+``, ``-`` or ``~``
    :ivar kind: ``link``, ``address``, ``route``, ``rule``, ``neighbour``, ``sysctl``, ``iptables``,
        ``nftables``, ``port``, ``service``
    :ivar was: the old value of a changed object
    """

    sign: str
    kind: str
    text: str
    was: str = ""

    @property
    def full(self) -> str:
        """The line with its sign and, of a changed object, its old value."""
        return f"{self.sign} {self.text}" + (f" (was: {self.was})" if self.was else "")


@dataclass(frozen=True, slots=True)
class Group:
    """The changes in one place.

    :ivar name: of the namespace, or of a state file, or ``(host)``
    :ivar sign: ``+`` the namespace is created, ``-`` it is removed with all its objects, ``~`` it stays
    """

    name: str
    sign: str
    lines: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the group as JSON-ready values, as ``dvrctl -o json plan`` has them."""
        changes = [
            {"action": line.sign, "kind": line.kind, "text": line.text, "was": line.was or None} for line in self.lines
        ]
        return {"name": self.name, "action": self.sign, "changes": changes}


Fresh = Callable[[str, Line | str], bool]
"""(namespace, line or sign) → True if it was not shown before."""


def plan_groups(plan: Plan, is_fresh: Fresh | None = None) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """Turn a plan into groups, one for each place.

    :param is_fresh: asked for changes of fip namespaces, which are in the plan of each of their routers; default: all
        are shown
    :returns: (groups, names of the namespaces of which nothing is fresh)
    """
    lines: dict[str, list[Line]] = {}
    signs: dict[str, str] = {}
    shared: list[str] = []
    for changes in plan.changes:
        sign, found = _sign(changes), [*_item_lines(changes), *_table_lines(changes), *_stale_table_lines(changes)]
        if is_fresh is not None and changes.namespace.startswith(names.FIP):
            fresh = [line for line in found if is_fresh(changes.namespace, line)]
            shown = sign != CHANGE and not is_fresh(changes.namespace, sign)
            if not fresh and (shown or sign == CHANGE):
                shared.append(changes.namespace)
                continue
            found, sign = fresh, CHANGE if shown else sign
        lines.setdefault(changes.namespace, []).extend(found)
        if sign != CHANGE or changes.namespace not in signs:
            signs[changes.namespace] = sign
    for place, text in plan.ports:
        lines.setdefault(place, []).append(port_line(text))
    for change in plan.services:
        sign, _, text = change.text.partition(" ")
        lines.setdefault(names.QROUTER + change.router_id, []).append(Line(sign, "service", text))
    groups = tuple(Group(place, signs.get(place, CHANGE), tuple(found)) for place, found in lines.items())
    return groups, tuple(shared)


def _sign(changes: Changes) -> str:
    return ADD if changes.create else REMOVE if changes.remove else CHANGE


def port_line(text: str) -> Line:
    """Return the line of a change outside of namespaces' objects (``Plan.ports``)."""
    sign, _, rest = text.partition(" ")
    return Line(sign, "port", rest) if sign in (ADD, REMOVE, CHANGE) else Line(CHANGE, "port", text)


def _item_lines(changes: Changes) -> list[Line]:
    return [item_line(change) for change in changes.items]


def item_line(change: Change) -> Line:
    """Return the line of one object."""
    was = change.old.text if change.action is Action.CHANGE and change.old is not None else ""
    return Line(change.action.value, change.kind, change.item.text, was)


def _table_lines(changes: Changes) -> list[Line]:
    return [line for change in changes.tables for line in table_lines(change)]


def _stale_table_lines(changes: Changes) -> list[Line]:
    return stale_table_lines([change.old for change in changes.stale_tables])


def stale_table_lines(tables: Sequence[Table]) -> list[Line]:
    """Return a line for each table with stale chains of neutron-l3-agent, and of ours; their rules are not listed."""
    theirs = [(table, count(number, "chain") + " of neutron-l3-agent") for table, number in l3_agent_chains(tables)]
    ours = [(table, count(number, "stale chain") + " of dvr-agent") for table, number in own_chains(tables)]
    return [Line(REMOVE, table_kind(table), f"{text} in {table.text}") for table, text in (*theirs, *ours)]


def table_kind(table: Table) -> str:
    """Return the kind of the lines of an observed table."""
    return "nftables" if table.nft else "iptables"


def table_text(table: Table) -> str:
    """Return the name of a table of ours for people, as this host's packet filter has it."""
    if HostFilter.backend == "nftables":
        return f"nft table {family_text(table.family)} {TABLE} ({table.name})"
    return table.text


def table_lines(change: TableChange) -> list[Line]:
    """Return the difference between two versions of a table, rule by rule, as this host's packet filter is written."""
    if HostFilter.backend == "nftables":
        found = [Line(sign, "nftables", text) for sign, text in difference_text(change.old, change.new)]
        return found or [Line(CHANGE, "nftables", table_text(change.new))]
    had, has = _chains(change.old), _chains(change.new)
    found = [
        line
        for name in sorted(had.keys() | has.keys())
        for line in _chain_lines(_command(change.new), had.get(name), has.get(name))
    ]
    old, new = set(change.old.jumps), set(change.new.jumps)
    for sign, jumps in ((REMOVE, old - new), (ADD, new - old)):
        found += [
            Line(sign, "iptables", f"{_command(change.new)} -A {builtin} -j {chain}")
            for builtin, chain in sorted(jumps)
        ]
    return found or [Line(CHANGE, "iptables", change.new.text)]


def _command(table: Table) -> str:
    return f"{'iptables' if table.family == 4 else 'ip6tables'} -t {table.name}"


def _chains(table: Table) -> dict[str, Chain]:
    return {chain.name: chain for chain in table.chains}


def _chain_lines(command: str, old: Chain | None, new: Chain | None) -> Iterator[Line]:
    name = (old or new or Chain("")).name
    before, after = old.rules if old else (), new.rules if new else ()
    if old is None and not after:
        yield Line(ADD, "iptables", f"{command} -N {name}")
    if new is None and not before:
        yield Line(REMOVE, "iptables", f"{command} -X {name}")
    for sign, rule in _rule_changes(before, after):
        yield Line(sign, "iptables", f"{command} -A {name} {rule.text}")


def _rule_changes(before: Sequence[FilterRule], after: Sequence[FilterRule]) -> Iterator[tuple[str, FilterRule]]:
    """Yield (sign, rule) of removed and added rules, in order; a moved rule is removed and added.

    Equal rules at the beginning and at the end are cut off first, which is cheap.
    """
    start, end = 0, 0
    shorter = min(len(before), len(after))
    while start < shorter and before[start] == after[start]:
        start += 1
    while end < shorter - start and before[-1 - end] == after[-1 - end]:
        end += 1
    before, after = before[start : len(before) - end], after[start : len(after) - end]
    if not before or not after:
        yield from ((REMOVE, rule) for rule in before)
        yield from ((ADD, rule) for rule in after)
        return
    for _, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if before[i1:i2] != after[j1:j2]:
            yield from ((REMOVE, rule) for rule in before[i1:i2])
            yield from ((ADD, rule) for rule in after[j1:j2])
