"""Renders plans as text and as JSON (``docs/dvrctl.md``), from the lines of ``reconcile.plan_lines``.

Pure: plans in, values out; ``plan``, ``apply`` and ``cleanup`` print the values.  The shared part of a fip namespace is
in the plan of each of its routers; a :class:`Renderer` shows its changes only once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dvr_agent.desired import names
from dvr_agent.plural import count
from dvr_agent.reconcile.api import Plan, Result
from dvr_agent.reconcile.plan_lines import ADD, CHANGE, REMOVE, Group, Line, plan_groups


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
        groups, shared = plan_groups(plan, self._first_time)
        omitted = tuple(f"{document}: {omission}" for omission in plan.omitted)
        return Section(plan.subject, name, groups, shared, plan.warnings, result, omitted, held=plan.held)

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
        yield from group_lines(group)
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


def group_lines(group: Group) -> Iterator[str]:
    """Yield the changes in one place as lines of text."""
    sign = "" if group.sign == CHANGE else f"{group.sign} "
    kind = "namespace " if names.parse_namespace(group.name) else ""
    yield f"  {sign}{kind}{group.name}{' with all that is in it' if group.sign == REMOVE else ''}"
    for line in group.lines:
        yield f"    {line.full}"


def as_json(section: Section) -> dict[str, Any]:
    """Return the section as JSON-ready values."""
    counts = section.counts()
    fields: dict[str, Any] = {
        "subject": section.subject,
        "name": section.name,
        "in_sync": section.in_sync,
        "counts": {"add": counts[ADD], "remove": counts[REMOVE], "change": counts[CHANGE]},
        "namespaces": [group.to_json() for group in section.groups],
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
    return f"{count(number, 'object')} left out"


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
        done.append(f"{count(result.conntrack_deleted, 'connection')} dropped")
    return f"{', '.join(done)}; {took}"
