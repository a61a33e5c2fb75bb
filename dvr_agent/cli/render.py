"""Renders plans as text and as JSON (``docs/dvrctl.md``): lines with a sign, grouped by namespace.

Pure: plans in, values out; ``plan``, ``apply`` and ``cleanup`` print the values.  The shared part of a fip namespace is
in the plan of each of its routers; a :class:`Renderer` shows its changes only once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from dvr_agent.desired import names
from dvr_agent.reconcile.api import Plan, Result
from dvr_agent.state.diff import Action, Change, Changes, TableChange
from dvr_agent.state.filter import Chain, FilterRule, Table

ADD: str = Action.ADD.value
REMOVE: str = Action.REMOVE.value
CHANGE: str = Action.CHANGE.value


@dataclass(frozen=True, slots=True)
class Line:
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


@dataclass(frozen=True, slots=True)
class Section:
    """One plan, ready to be printed.

    :ivar shared: namespaces of which all changes in this plan are shown in an earlier section
    :ivar result: of the job that carried the plan out, None for a mere plan
    :ivar omitted: objects that are left out, each as text with its document and the reason
    :ivar held: what VRRP adds and removes, empty if there is nothing of that kind
    :ivar outdated: why the router's newest document cannot be used, empty if it can: the plan is about an older one
    """

    subject: str
    name: str
    groups: tuple[Group, ...]
    shared: tuple[str, ...]
    warnings: tuple[str, ...]
    result: Result | None = None
    omitted: tuple[str, ...] = ()
    outdated: str = ""
    held: str = ""

    def counts(self) -> Counter[str]:
        """Count objects by sign; a namespace counts as one."""
        return Counter(
            sign
            for group in self.groups
            for sign in (*([] if group.sign == CHANGE else [group.sign]), *(line.sign for line in group.lines))
        )

    @property
    def in_sync(self) -> bool:
        """True if nothing differs from the newest document."""
        return not (self.differs or self.outdated)

    @property
    def differs(self) -> bool:
        """True if the plan has changes."""
        return bool(self.groups or self.shared)


class Renderer:
    """Turns plans into sections, in the order in which they are shown."""

    def __init__(self) -> None:
        self._shown: set[tuple[str, Line | str]] = set()

    def section(self, plan: Plan, name: str = "", result: Result | None = None, document: str = "") -> Section:
        """Turn a plan into a section.

        :param name: of the router
        :param document: name of the router's document
        """
        lines: dict[str, list[Line]] = {}
        signs: dict[str, str] = {}
        shared: list[str] = []
        for changes in plan.changes:
            sign, found = _sign(changes), [*_item_lines(changes), *_table_lines(changes), *_stale_table_lines(changes)]
            if changes.namespace.startswith(names.FIP):
                fresh = [line for line in found if self._first_time(changes.namespace, line)]
                shown = sign != CHANGE and not self._first_time(changes.namespace, sign)
                if not fresh and (shown or sign == CHANGE):
                    shared.append(changes.namespace)
                    continue
                found, sign = fresh, CHANGE if shown else sign
            lines.setdefault(changes.namespace, []).extend(found)
            if sign != CHANGE or changes.namespace not in signs:
                signs[changes.namespace] = sign
        for place, text in plan.ports:
            lines.setdefault(place, []).append(_port_line(text))
        for change in plan.services:
            sign, _, text = change.text.partition(" ")
            lines.setdefault(names.QROUTER + change.router_id, []).append(Line(sign, "service", text))
        groups = tuple(Group(place, signs.get(place, CHANGE), tuple(found)) for place, found in lines.items())
        omitted = tuple(f"{document}: {omission}" for omission in plan.omitted)
        return Section(plan.subject, name, groups, tuple(shared), plan.warnings, result, omitted, held=plan.held)

    def _first_time(self, namespace: str, what: Line | str) -> bool:
        if (namespace, what) in self._shown:
            return False
        self._shown.add((namespace, what))
        return True


def as_lines(section: Section) -> Iterator[str]:
    """Yield the section as lines of text, without colour."""
    title = f"{section.subject} ({section.name})" if section.name else section.subject
    yield f"{title}: {_status_text(section)}"
    for group in section.groups:
        sign = "" if group.sign == CHANGE else f"{group.sign} "
        kind = "namespace " if names.parse_namespace(group.name) else ""
        yield f"  {sign}{kind}{group.name}{' with all that is in it' if group.sign == REMOVE else ''}"
        for line in group.lines:
            yield f"    {line.full}"
    for namespace in section.shared:
        yield f"  namespace {namespace}: the changes to its shared part are shown above"
    if section.held:
        yield f"  {section.held}"
    for omission in section.omitted:
        yield f"  left out: {omission}"
    if section.outdated:
        yield f"  newest document: {section.outdated}"
    for warning in section.warnings:
        yield f"  warning: {warning}"


def as_json(section: Section) -> dict[str, Any]:
    """Return the section as JSON-ready values."""
    counts = section.counts()
    fields: dict[str, Any] = {
        "subject": section.subject,
        "name": section.name,
        "in_sync": section.in_sync,
        "counts": {"add": counts[ADD], "remove": counts[REMOVE], "change": counts[CHANGE]},
        "namespaces": [
            {
                "name": group.name,
                "action": group.sign,
                "changes": [
                    {"action": line.sign, "kind": line.kind, "text": line.text, "was": line.was or None}
                    for line in group.lines
                ],
            }
            for group in section.groups
        ],
        "shared": list(section.shared),
        "warnings": list(section.warnings),
    }
    if section.held:
        fields["held"] = section.held
    if section.omitted:
        fields["omitted"] = list(section.omitted)
    if section.outdated:
        fields["outdated"] = section.outdated
    if section.result is not None:
        fields["milliseconds"] = round(section.result.seconds * 1e3, 2)
        fields["announcements"] = len(section.result.announcements)
        fields["conntrack_deleted"] = section.result.conntrack_deleted
    return fields


def counts_text(counts: Counter[str], done: bool = False) -> str:
    """Return counts as text: ``3 to add, 1 to remove, 2 to change``; ``done``: ``3 added, 1 removed, 2 changed``."""
    future = {ADD: "to add", REMOVE: "to remove", CHANGE: "to change"}
    words = {ADD: "added", REMOVE: "removed", CHANGE: "changed"} if done else future
    return ", ".join(f"{counts[sign]} {word}" for sign, word in words.items() if counts[sign])


def omitted_text(number: int) -> str:
    """Return a number of omitted objects as text: ``1 object left out``."""
    return f"{number} object{'' if number == 1 else 's'} left out"


def _planned_text(section: Section) -> str:
    changes = counts_text(section.counts()) or ("shared changes only" if section.differs else "")
    outdated = "its newest document cannot be used" if section.outdated else ""
    return "; ".join(filter(None, (changes, outdated))) or "in sync"


def _status_text(section: Section) -> str:
    omitted = f"; {omitted_text(len(section.omitted))}" if section.omitted else ""
    return _done_text(section) + omitted


def _done_text(section: Section) -> str:
    counts = section.counts()
    result = section.result
    if result is None:
        return _planned_text(section)
    took = f"{result.seconds * 1e3:.1f} ms"
    if section.in_sync:
        return f"was in sync; {took}"
    done = [counts_text(counts, done=True)]
    if result.announcements:
        done.append(f"{len(result.announcements)} announced")
    if result.conntrack_deleted:
        done.append(f"{result.conntrack_deleted} connections dropped")
    return f"{', '.join(done)}; {took}"


def _sign(changes: Changes) -> str:
    return ADD if changes.create else REMOVE if changes.remove else CHANGE


def _port_line(text: str) -> Line:
    sign, _, rest = text.partition(" ")
    return Line(sign, "port", rest) if sign in (ADD, REMOVE, CHANGE) else Line(CHANGE, "port", text)


def _item_lines(changes: Changes) -> list[Line]:
    return [_item_line(change) for change in changes.items]


def _item_line(change: Change) -> Line:
    was = change.old.text if change.action is Action.CHANGE and change.old is not None else ""
    return Line(change.action.value, change.kind, change.item.text, was)


def _table_lines(changes: Changes) -> list[Line]:
    return [line for change in changes.tables for line in table_lines(change)]


def _stale_table_lines(changes: Changes) -> list[Line]:
    """Return one line for the chains of neutron-l3-agent in a namespace; their rules are not listed."""
    tables = [f"{change.old.nft_name}: {_chains_text(len(change.old.chains))}" for change in changes.stale_tables]
    text = f"chains of neutron-l3-agent in nft tables ({', '.join(tables)})"
    return [Line(REMOVE, "nftables", text)] if tables else []


def _chains_text(number: int) -> str:
    return "1 chain" if number == 1 else f"{number} chains"


def table_lines(change: TableChange) -> list[Line]:
    """Return the difference between two versions of a table, rule by rule, in iptables syntax."""
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
    for _, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if before[i1:i2] != after[j1:j2]:
            yield from ((REMOVE, rule) for rule in before[i1:i2])
            yield from ((ADD, rule) for rule in after[j1:j2])
