"""Rules and routes of other programs that take the subject's packets before ours."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.checks.networks import covers_any, is_of_others, network_of
from dvr_agent.cli.why.facts import Facts, NamespaceFacts, RouteFacts, RuleFacts
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong
from dvr_agent.desired import names
from dvr_agent.plural import count
from dvr_agent.state.route import MAIN_TABLE, Route
from dvr_agent.state.rule import Rule

MAIN_PRIORITY = 32766
"""Of the kernel's rule for the table main."""
KERNEL_PRIORITIES = frozenset({0, MAIN_PRIORITY, 32767})
DISCARDING = frozenset({"blackhole", "unreachable", "prohibit"})
_NAMES = {"main": MAIN_TABLE, "default": 253, "local": 255}
_BY_KERNEL = frozenset({"local", "broadcast", "multicast", "anycast"})
_SELECTORS = frozenset({"from", "to", "iif", "oif", "lookup"})
"""Words of a rule that are judged here; any other makes it conditional."""

_EVERYTHING = ("default", "0.0.0.0/0", "::/0")
_SILENT = frozenset({"FAILED", "INCOMPLETE"})
_LINK_LOCAL = IPv4Network("169.254.0.0/16")
"""Of the veth pairs to fip namespaces."""
_SHOWN = 3
"""Routes of another program's table that are shown."""


def table_number(name: str) -> int:
    """Return the number of a table as ``ip`` prints it; -1 for a name that only the host's rt_tables has."""
    return _NAMES.get(name, int(name) if name.isdigit() else -1)


def rules(facts: Facts) -> Iterator[Step]:
    """Judge foreign rules that come before the last of ours."""
    for there in facts.places:
        if "rules" in there.unread:
            yield unknown("rule", f"in {there.name}: {there.unread['rules']}")
        found = [_judged_rule(facts, there, rule) for rule in _foreign_rules(facts, there)]
        yield from found
        if not found and "rules" not in there.unread:
            yield ok("rule", f"no rule of others before ours in {there.name}")


def _foreign_rules(facts: Facts, there: NamespaceFacts) -> Iterator[RuleFacts]:
    ours = {
        (rule.family, rule.priority, rule.table)
        for state in facts.plan.desired.get(there.name, ())
        for rule in state.rules
    }
    stale = {
        (change.item.family, change.item.priority, change.item.table)
        for changes in facts.plan.changes
        for change in changes.items
        if changes.namespace == there.name and isinstance(change.item, Rule)
    }
    # Rules of other routers in a shared fip namespace choose by their device.
    last = max((priority for _, priority, _ in ours), default=MAIN_PRIORITY)
    for rule in there.rules:
        if rule.priority in KERNEL_PRIORITIES or rule.priority > last or _is_in(rule, ours | stale):
            continue
        if _may_match(facts, there.name, rule):
            yield rule


def _is_in(rule: RuleFacts, known: set[tuple[int, int, int]]) -> bool:
    """True if a rule is one of (family, priority, table); of a table with a name of the host's, priority decides."""
    table = table_number(rule.words.get("lookup", ""))
    if table < 0 and "lookup" in rule.words:
        return any((family, priority) == (rule.family, rule.priority) for family, priority, _ in known)
    return (rule.family, rule.priority, table) in known


def _may_match(facts: Facts, namespace: str, rule: RuleFacts) -> bool:
    for word in ("from", "to"):
        if not _covers_any(rule.words.get(word, "all"), facts.path.addresses, facts.path.is_whole, word == "to"):
            return False
    iif = rule.words.get("iif")
    if iif is None:
        return True
    is_others = iif.startswith(names.FIP_TO_ROUTER) and iif not in facts.path.devices(namespace)
    return not is_others and (iif in facts.path.devices(namespace) or facts.path.is_whole)


def _covers_any(prefix: str, addresses: frozenset[str], is_whole: bool, is_destination: bool) -> bool:
    """True if a prefix has one of the addresses; ``to`` may also be any destination outside."""
    if prefix in ("all", "default") or is_whole:
        return True
    return is_destination or covers_any(prefix, addresses)


def _judged_rule(facts: Facts, there: NamespaceFacts, rule: RuleFacts) -> Step:
    if "lookup" in rule.words and not _routes_of(there, rule):
        return ok("rule", f"of another program in {there.name}, before ours; its table is empty", rule.text)
    text = f"{rule.text}, of another program, comes before ours in {there.name}; {rule_effect(there, rule)}"
    to = rule.words.get("to", "all")
    scope = "" if to == "all" or covers_any(to, facts.path.addresses) else f" (only for {to})"
    effect = f"{rule_effect(there, rule)}{scope}"
    values = {"namespace": there.name, "effect": effect, "command": rule_command(there.name, rule)}
    if set(rule.words) - _SELECTORS - DISCARDING:
        return unknown("rule", f"{text}; it takes some packets", rule.text, causes.RULE_BEFORE, **values)
    return wrong("rule", text, rule.text, causes.RULE_BEFORE, **values)


def _routes_of(there: NamespaceFacts, rule: RuleFacts) -> list[RouteFacts]:
    """Return the routes of the table that a rule names, by its number or the host's name for it."""
    name = rule.words.get("lookup", "")
    number = table_number(name)
    routes_there = [route for route in there.routes if route.family == rule.family]
    return [one for one in routes_there if one.table == name or table_number(one.table) == number >= 0]


def rule_effect(there: NamespaceFacts, rule: RuleFacts) -> str:
    """Return what a rule does with the packets that it matches."""
    table = _routes_of(there, rule)
    action = next((word for word in rule.words if word in DISCARDING), None)
    if action is not None:
        return f"it discards the packets ({action})"
    if "goto" in rule.words:
        return f"it skips the rules up to priority {rule.words['goto']}"
    if not table:
        return "its action is not known here"
    default = next((route for route in table if route.dst in ("default", "0.0.0.0/0", "::/0")), None)
    if default is not None:
        found = f"a {default.type} default route" if default.type in DISCARDING else f"the route {default.text}"
        return f"its table {rule.words['lookup']} has {found}"
    shown = ", ".join(route.text for route in table[:_SHOWN])
    return f"its table {rule.words['lookup']} has {count(len(table), 'route')}: {shown}"


def rule_command(namespace: str, rule: RuleFacts) -> str:
    """Return the whole command that removes a rule."""
    words = rule.text.partition(":")[2].split()
    kept = [word for word in words if not word.startswith("[")]  # [detached], [unresolved]
    family = " -6" if rule.family == 6 else ""
    return f"ip{family} -n {namespace} rule del priority {rule.priority} {' '.join(kept)}"


def routes(facts: Facts) -> Iterator[Step]:
    """Judge foreign routes that discard the subject's packets, or lead them elsewhere."""
    for there in facts.places:
        if "routes" in there.unread:
            yield unknown("route", f"in {there.name}: {there.unread['routes']}")
        for route in there.routes:
            yield from _judged_route(facts, there, route)


def _judged_route(facts: Facts, there: NamespaceFacts, route: RouteFacts) -> Iterator[Step]:
    table = table_number(route.table)
    if route.type in _BY_KERNEL or table not in _tables(facts, there.name) or route.words.get("proto") == "kernel":
        return
    if not _is_on_way(facts, there.name, route, table):
        return
    scope = _scope(facts, route)
    place = f"in {there.name}, table {route.table}{scope}{_silent_hop(there, route)}"
    values = {"namespace": there.name, "route": _command(route), "scope": scope, "hop": _silent_hop(there, route)}
    if route.type in DISCARDING:
        yield wrong("route", place, route.text, causes.BLACKHOLE, **values)
    elif route.type == "throw" or _is_followed(facts, there.name, route, table):
        yield wrong("route", place, route.text, causes.FOREIGN_ROUTE, **values)


def _scope(facts: Facts, route: RouteFacts) -> str:
    """Return which destinations alone a route is for; empty: it takes everything, or what comes to the subject."""
    if route.dst in _EVERYTHING or covers_any(route.dst, facts.path.addresses):
        return ""
    return f", only for {route.dst}"


def _silent_hop(there: NamespaceFacts, route: RouteFacts) -> str:
    """Return that the route's next hop does not answer, where its neighbour entry says so."""
    hop = (route.words.get("via", ""), route.words.get("dev", ""))
    is_silent = any((one.address, one.device) == hop and one.state in _SILENT for one in there.neighbours)
    return f"; its next hop {hop[0]} does not answer" if is_silent else ""


def _tables(facts: Facts, namespace: str) -> set[int]:
    """Return the tables by which the subject's packets are routed."""
    return {MAIN_TABLE, *(route.table for route in _desired(facts, namespace))}


def _desired(facts: Facts, namespace: str) -> list[Route]:
    """Return all routes of ours, those that VRRP holds too."""
    states = facts.plan.desired.get(namespace, ())
    held = [route for state in states if state.virtual_router is not None for route in state.virtual_router.routes]
    return [*(route for state in states for route in state.routes), *held]


def _is_on_way(facts: Facts, namespace: str, route: RouteFacts, table: int) -> bool:
    """True if packets of the subject may take the route: to its addresses, or from it to somewhere outside.

    The rules of ours come after the one of the table main, so that its routes take what leaves, too.
    """
    if facts.path.is_whole:
        return not is_of_others(facts, namespace, route.dst)
    if route.dst in _EVERYTHING or table != MAIN_TABLE or covers_any(route.dst, facts.path.addresses):
        return True
    network = network_of(route.dst)
    near = [subnet.cidr for leg in facts.path.legs for subnet in leg.port.subnets]
    return network is not None and not any(
        one.version == network.version and one.supernet_of(network)  # type: ignore[arg-type]  # of one version
        for one in (*near, _LINK_LOCAL)
    )


def _is_known(facts: Facts, namespace: str, route: RouteFacts, table: int) -> bool:
    """True if the route, or one with its destination and table, is ours, or is a difference already."""
    key = (_network(route), table)
    desired = {one.key for one in _desired(facts, namespace)}
    changed = {
        change.item.key
        for changes in facts.plan.changes
        for change in changes.items
        if changes.namespace == namespace and isinstance(change.item, Route)
    }
    return key in desired | changed or route.words.get("dev", "").startswith(names.FIP_TO_ROUTER)


def _is_followed(facts: Facts, namespace: str, route: RouteFacts, table: int) -> bool:
    """True if the route is not ours, and no route of ours in the table is as specific: that one would be followed."""
    mine = network_of(_network(route))
    if mine is None or _is_known(facts, namespace, route, table):
        return False
    ours = [network_of(one.dst) for one in _desired(facts, namespace) if one.table == table]
    same = [one for one in ours if one is not None and one.version == mine.version and one.prefixlen >= mine.prefixlen]
    return not any(one.subnet_of(mine) for one in same)  # type: ignore[arg-type]  # of one version


def _network(route: RouteFacts) -> str:
    """Return the destination as a network in canonical text."""
    if route.dst == "default":
        return "0.0.0.0/0" if route.family == 4 else "::/0"
    network = network_of(route.dst)
    return route.dst if network is None else str(network)


def _command(route: RouteFacts) -> str:
    kind = "" if route.type == "unicast" else f"{route.type} "
    table = "" if table_number(route.table) == MAIN_TABLE else f" table {route.table}"
    return f"{kind}{route.dst}{table}"
