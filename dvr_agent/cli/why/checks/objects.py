"""Objects of ours that are missing or wrong, by the planner's difference between documents and kernel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.causes import Cause
from dvr_agent.cli.why.facts import Facts, Kind
from dvr_agent.cli.why.remedy import repair_text
from dvr_agent.cli.why.verdicts import Step, ok, wrong
from dvr_agent.desired import names
from dvr_agent.desired.host_view import left_alone_reason
from dvr_agent.reconcile.plan_lines import table_lines
from dvr_agent.state.address import ADDRESS_KIND, Address
from dvr_agent.state.diff import Action, Change, Changes, TableChange
from dvr_agent.state.filter import Table
from dvr_agent.state.kernel_route import KernelRoute
from dvr_agent.state.kind import AnyKind
from dvr_agent.state.limit import LIMIT_KIND, Limit
from dvr_agent.state.link import Link
from dvr_agent.state.namespace import KIND_OF, NamespaceState
from dvr_agent.state.neighbour import NEIGHBOUR_KIND, Neighbour
from dvr_agent.state.ownership import FIP_TABLE
from dvr_agent.state.route import DEFAULT_V4, ROUTE_KIND, Route
from dvr_agent.state.rule import RULE_KIND, Rule
from dvr_agent.state.sysctl import SYSCTL_KIND, Sysctl

_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+")


class _Found(NamedTuple):
    """A difference: step of the answer, what is said of it, the object, and its cause with values."""

    step: str
    text: str
    item: str
    cause: Cause
    values: dict[str, object]


def objects(facts: Facts) -> Iterator[Step]:
    """Judge every object of ours on the path; differences of other addresses are one line."""
    if facts.plan.view is None:
        yield from _not_compared(facts)
        return
    others = 0
    wrong_steps: list[Step] = []
    repair = repair_text(facts)
    for changes in facts.plan.changes:
        for found in _of_namespace(facts, changes):
            if found is None:
                others += 1
            else:
                wrong_steps.append(
                    wrong(found.step, found.text, found.item, found.cause,
                          namespace=changes.namespace, repair=repair, **found.values)
                )  # fmt: skip
    yield from _present(facts, {step.object for step in wrong_steps})
    yield from wrong_steps
    if others and facts.path.namespaces:
        text = f"{others} other object{'' if others == 1 else 's'} differ{'s' if others == 1 else ''} (dvrctl plan)"
        yield wrong("rest", text, "", causes.REST_DIFFERS, router=facts.subject.title, repair=repair)


def _not_compared(facts: Facts) -> Iterator[Step]:
    """Yield why there is no difference, unless nothing of the router is built here anyway."""
    router, reason = facts.subject.router, facts.plan.error
    if router is None or not reason or not router.admin_state_up or left_alone_reason(router, facts.settings):
        return
    yield wrong("objects", reason, "", causes.NOT_COMPARED, router=facts.subject.title, reason=reason)


def differs(facts: Facts) -> bool:
    """Return True if an object of ours that concerns the subject is not as it must be."""
    return any(found is not None for changes in facts.plan.changes for found in _of_namespace(facts, changes))


def _present(facts: Facts, lacking: set[str]) -> Iterator[Step]:
    """Yield the objects that are about the subject's addresses and that are in place, from the outside in."""
    for namespace in facts.path.namespaces:
        if any(changes.create and changes.namespace == namespace for changes in facts.plan.changes):
            continue
        yield ok("namespace", namespace)
        for state in facts.plan.desired.get(namespace, ()):
            for step, text in _texts(facts, state):
                if not any(one.startswith(text) for one in lacking):
                    yield ok(step, f"in {namespace}{_drops(facts, namespace, text)}", text)


def _drops(facts: Facts, namespace: str, text: str) -> str:
    """Return what is dropped by a limit, to follow its place; empty for other objects, and for nothing."""
    there = facts.namespaces.get(namespace)
    packets = sum(one.packets for one in there.drops if one.is_of(text)) if there is not None else 0
    return f"; limit drops packets: {packets} since the address is limited" if packets else ""


def _texts(facts: Facts, state: NamespaceState) -> Iterator[tuple[str, str]]:
    """Yield (step, text) of the objects of a desired state that are about the subject's addresses."""
    for step, kind, is_mine in _SHOWN:
        for item in sorted(state.of_kind(kind), key=str):
            if is_mine(facts, state.name, item):
                yield step, item.text
    for table in state.tables:
        for line in table_lines(TableChange(Table(*table.key), table)) if table.name == "nat" else ():
            if facts.path.addresses & set(_IPV4.findall(line.text)):
                yield "nat", line.text


def _has_address(facts: Facts, _namespace: str, item: Any) -> bool:
    text = item.src if isinstance(item, Rule) else getattr(item, "dst", None) or getattr(item, "address", None)
    return str(text or "").partition("/")[0] in facts.path.addresses


def _is_shown_route(facts: Facts, namespace: str, route: Route) -> bool:
    """True for a route to the subject, and for the default route that its packets take."""
    if _has_address(facts, namespace, route):
        return True
    is_default = route.dst == DEFAULT_V4 and {hop.device for hop in route.hops} <= facts.path.devices(namespace)
    is_redirect = namespace.startswith(names.QROUTER) and route.table != FIP_TABLE
    return is_default and not (is_redirect and facts.path.pair)


_SHOWN: tuple[tuple[str, AnyKind, Callable[[Facts, str, Any], bool]], ...] = (
    ("address", ADDRESS_KIND, lambda facts, _, item: item.ip in facts.path.addresses),
    ("rule", RULE_KIND, _has_address),
    ("route", ROUTE_KIND, _is_shown_route),
    ("proxy ARP", SYSCTL_KIND, lambda facts, _, item: item.key.endswith("/proxy_arp")),
    ("neighbour", NEIGHBOUR_KIND, _has_address),
    ("QoS", LIMIT_KIND, _has_address),
)
"""Kinds of objects of which those that are about the subject are shown, in the order of the lines."""


def _of_namespace(facts: Facts, changes: Changes) -> Iterator[_Found | None]:
    """Yield the differences in a namespace; None: one that does not concern the subject."""
    name, on_path = changes.namespace, changes.namespace in facts.path.namespaces
    if changes.create:
        is_mine = on_path or facts.path.is_whole
        yield _Found("namespace", "missing", name, causes.NAMESPACE_MISSING, {}) if is_mine else None
        return
    for change in changes.items:
        is_mine = facts.path.is_whole or (_concerns(facts, name, change) if on_path else _names_it(facts, change.text))
        yield _of_change(change) if is_mine else None
    for table in changes.tables:
        for line in table_lines(table):
            is_others = _is_of_others(facts, line.text) if on_path else not _names_it(facts, line.text)
            is_mine = facts.path.is_whole or not is_others
            yield _of_rule(table.new.name, line.sign, line.text) if is_mine else None


def _concerns(facts: Facts, namespace: str, change: Change) -> bool:
    """True if a difference may concern the subject's packets: it is of no other address and no other device."""
    if _is_of_others(facts, change.item.text):  # a route that leads to another instance concerns the subject
        return False
    item = change.item
    if isinstance(item, Neighbour):
        return item.dst in facts.path.addresses or item.device in facts.path.pair.values()
    devices = {device for device in KIND_OF[type(item)].devices(item) if device}
    return not devices or bool(devices & facts.path.devices(namespace))


def _names_it(facts: Facts, text: str) -> bool:
    """True for a difference that names the subject, in a namespace that its packets do not pass here."""
    return facts.subject.kind is Kind.FLOATING_IP and facts.subject.address in _IPV4.findall(text)


def _is_of_others(facts: Facts, text: str) -> bool:
    found = set(_IPV4.findall(text))
    return bool(found & facts.path.others) and not found & facts.path.addresses


def _of_change(change: Change) -> _Found:
    item, text = change.item, change.text[2:]
    says = {"+": "missing", "-": "wanted by no document", "~": "wrong"}[change.action.value]
    if change.action is Action.REMOVE:
        return _Found(change.kind, says, text, causes.STALE_OBJECT, {})
    return _judge(item, change, says, text)


def _judge(item: object, change: Change, says: str, text: str) -> _Found:
    match item:
        case Link():
            return _of_link(item, change, text)
        case Address():
            return _Found("address", says, text, causes.ADDRESS_MISSING, {})
        case Rule():
            return _Found("rule", says, text, causes.RULE_MISSING, {})
        case Route() | KernelRoute():
            cause = causes.ROUTE_WRONG if change.action is Action.CHANGE else causes.ROUTE_MISSING
            return _Found("route", text if cause is causes.ROUTE_WRONG else says, text, cause, {})
        case Neighbour():
            return _Found("neighbour", f"{says}: {text}", text, causes.NEIGHBOUR_WRONG, {"address": item.dst})
        case Sysctl():
            return _of_sysctl(item, text)
        case Limit():
            return _Found("QoS", f"{says}: {text}", text, causes.LIMIT_WRONG, {})
    return _Found(change.kind, f"{says}: {text}", text, causes.OTHER_CHANGE, {})


def _of_link(link: Link, change: Change, text: str) -> _Found:
    values: dict[str, object] = {"device": link.name}
    if change.action is Action.ADD:
        return _Found("link", "missing", text, causes.LINK_MISSING, values)
    old = change.old
    if isinstance(old, Link) and not old.up:
        return _Found("link", "down", text, causes.LINK_DOWN, values)
    return _Found("link", text, text, causes.LINK_WRONG, values)


def _of_sysctl(sysctl: Sysctl, text: str) -> _Found:
    if sysctl.key.endswith("/proxy_arp"):
        return _Found("proxy ARP", "off", text, causes.PROXY_ARP, {"device": sysctl.device or ""})
    if sysctl.key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        return _Found("forwarding", "off", text, causes.FORWARDING, {})
    return _Found("sysctl", text, text, causes.SYSCTL, {})


def _of_rule(table: str, sign: str, text: str) -> _Found:
    is_nat = table == "nat"
    if sign == "+" and is_nat:
        return _Found("nat", "missing", text, causes.NAT_MISSING, {})
    says = {"+": "missing", "-": "not ours, in a chain of ours"}.get(sign, "wrong")
    return _Found("nat" if is_nat else "filter", f"{says}: {text}", text, causes.FILTER_WRONG, {})
