"""Policy rules and routes: which route a packet takes in a namespace (``fib_lookup`` of the kernel).

Sources: net/core/fib_rules.c, net/ipv4/fib_rules.c, net/ipv4/fib_trie.c, net/ipv6/fib6_rules.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dvr_agent.state.filter import Family
from dvr_agent.trace.addresses import is_in, length_of
from dvr_agent.trace.ends import unknown
from dvr_agent.trace.world import Namespace, NextHop, RouteEntry, RuleEntry

REFUSING = {
    "blackhole": "is discarded silently",
    "unreachable": "is answered with host unreachable",
    "prohibit": "is answered with prohibited",
}
"""Types of routes, and actions of rules, that refuse a packet."""
Choose = Callable[[Sequence[NextHop]], NextHop]
"""Chooses one of several next hops of equal cost."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What a lookup is about: the fields of the kernel's ``struct flowi`` that rules compare.

    :ivar src: empty for an unknown source
    :ivar iif: ``lo`` for what the namespace itself sends
    :ivar oif: device that the route must use; empty: any
    """

    family: Family
    src: str
    dst: str
    iif: str
    mark: int = 0
    oif: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a lookup.

    :ivar rule: the rule that led to the route, or that refuses; None: no rule matched
    :ivar route: None: there is no route, or the rule refuses
    :ivar hop: of a unicast route
    """

    rule: RuleEntry | None
    route: RouteEntry | None
    hop: NextHop | None = None

    @property
    def kind(self) -> str:
        """Type of the route, action of a rule that refuses, or empty."""
        if self.route is not None:
            return self.route.kind
        return self.rule.action if self.rule is not None else ""


def lookup(namespace: Namespace, flow: Flow, choose: Choose) -> Found:
    """Find the route of a packet.

    :raises EndOfWay: a rule is not understood
    """
    for rule in _tried(namespace, flow):
        if rule.action in REFUSING:
            return Found(rule, None)
        if rule.action != "lookup":
            raise unknown(f"the action of this rule is not understood: {rule.text}")
        found = _in_table(namespace, rule, flow, choose)
        if found is not None:
            return found
    return Found(None, None)


def _tried(namespace: Namespace, flow: Flow) -> Iterator[RuleEntry]:
    """Yield the rules that apply and act, in the order in which the kernel tries them (fib_rules_lookup)."""
    rules = [rule for rule in namespace.rules if rule.family == flow.family]
    target: int | None = None
    for rule in rules:
        if target is not None and rule.priority != target:
            continue
        target = None
        if not _applies(rule, flow):
            continue
        if rule.action == "goto":  # without its target it does nothing
            target = rule.goto if any(one.priority == rule.goto for one in rules) else None
        elif rule.action != "nop":
            yield rule


def _applies(rule: RuleEntry, flow: Flow) -> bool:
    matches = (
        _is_from(rule.src, flow.src)
        and (rule.dst is None or is_in(flow.dst, rule.dst))
        and (rule.iif is None or rule.iif == flow.iif)
        and (rule.oif is None or rule.oif == flow.oif)
        and not (rule.mark ^ flow.mark) & rule.mask
    )
    if rule.strange and matches != rule.invert:
        raise unknown(f"{', '.join(rule.strange)} of this rule is not understood: {rule.text}")
    return matches != rule.invert


def _in_table(namespace: Namespace, rule: RuleEntry, flow: Flow, choose: Choose) -> Found | None:
    """Find the route in the rule's table; None: go on with the next rule."""
    candidates = [
        (-length_of(route.dst), -length_of(route.src) if route.src else 0, route.metric, number, route)
        for number, route in enumerate(namespace.routes)
        if route.table == rule.table and is_in(flow.dst, route.dst) and _is_from(route.src, flow.src)
    ]
    for *_order, route in sorted(candidates, key=lambda one: one[:4]):
        if route.kind == "throw":
            return None
        if route.kind in REFUSING:
            return None if _is_suppressed(rule, route) else Found(rule, route)
        hops = [hop for hop in route.hops if not hop.dead and flow.oif in ("", hop.device)]
        if not hops:
            continue
        if _is_suppressed(rule, route):
            return None
        return Found(rule, route, choose(hops) if len(hops) > 1 else hops[0])
    return None


def _is_from(network: str | None, src: str) -> bool:
    return network is None or (bool(src) and is_in(src, network))


def _is_suppressed(rule: RuleEntry, route: RouteEntry) -> bool:
    return rule.suppress is not None and length_of(route.dst) <= rule.suppress


def first(hops: Sequence[NextHop]) -> NextHop:
    """Return the first of several next hops, where it does not matter which one is taken."""
    return hops[0]
