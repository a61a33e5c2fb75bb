"""Packet filter and NAT rules of other programs: in our namespaces, and on the host where it sees bridged packets."""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.attach.outer_ends import tap_name
from dvr_agent.cli.why import causes
from dvr_agent.cli.why.attachment import bridge_of
from dvr_agent.cli.why.checks.networks import covers_any, is_of_others, network_of
from dvr_agent.cli.why.facts import Facts, FilterFacts, NamespaceFacts
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong
from dvr_agent.plural import count

LOCAL_HOOKS = frozenset({"INPUT", "OUTPUT"})
"""Hooks that forwarded packets do not pass."""
DROPPING = frozenset({"DROP", "REJECT"})
TRANSLATING = frozenset({"DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"})
_L2_AGENT = " chain neutron"
"""Beginning of the chains of Neutron's L2 agents, which are security groups."""


def filters(facts: Facts) -> Iterator[Step]:
    """Judge foreign rules in the namespaces on the path, and what the planner found to stop their traffic."""
    for text in facts.plan.hindrances:
        if not text.startswith("bridge "):  # those are of layer 2
            yield _hindrance(facts, text)
    for there in facts.places:
        for what, why in sorted(there.unread.items()):
            if what in ("iptables", "nft"):
                yield unknown("filter", f"in {there.name}: {what}: {why}")
        found = [step for one in there.filters for step in _judged(facts, there, one)]
        yield from found
        if not found:
            yield ok("filter", f"no rule of others drops or translates in {there.name}")


def _hindrance(facts: Facts, text: str) -> Step:
    namespace = text.removeprefix("namespace ").partition(":")[0]
    if namespace not in facts.path.namespaces:
        return unknown("filter", text)
    if "rp_filter" in text:
        return wrong("sysctl", text, text.partition(": ")[2], causes.RP_FILTER, namespace=namespace)
    return wrong("filter", text, text.partition(": ")[2], causes.FILTER_POLICY, namespace=namespace)


def _judged(facts: Facts, there: NamespaceFacts, rule: FilterFacts) -> Iterator[Step]:
    is_local = rule.hook in LOCAL_HOOKS and rule.family != "arp"  # ARP is between neighbours
    if is_local or rule.family == "bridge" or not selects(facts, there.name, rule):
        return
    is_nat = rule.verdict in TRANSLATING
    cause = causes.FOREIGN_NAT if is_nat else causes.FILTER_DROP
    step = "nat" if is_nat else "filter"
    place = f"in {there.name}" + ("" if rule.text.startswith(rule.place) else f", {rule.place}")
    counted = "" if not rule.packets else f", {count(rule.packets, 'packet')} so far"
    if (rule.is_conditional or not _names_subject(facts, rule)) and not rule.packets:
        text = f"{place}: it takes some packets, none so far or not counted"
        yield unknown(step, text, rule.text, cause, namespace=there.name)
    else:
        yield wrong(step, f"{place}{counted}", rule.text, cause, namespace=there.name)


def selects(facts: Facts, namespace: str, rule: FilterFacts) -> bool:
    """Return True if a rule may select packets of the subject, by its addresses and devices."""
    devices = facts.path.devices(namespace)
    for key in ("iif", "oif"):
        if not _device_fits(rule.selects.get(key, ""), devices):
            return False
    if not _mac_fits(facts, rule):
        return False
    asked = [value for key in ("src", "dst") if (value := rule.selects.get(key, ""))]
    if facts.path.is_whole or not facts.path.addresses:
        return not asked or not all(is_of_others(facts, namespace, value) for value in asked)
    # One side is the subject, the other any address outside: one that is given and fits is enough.
    return not asked or any(_address_fits(value, facts) for value in asked)


def _names_subject(facts: Facts, rule: FilterFacts) -> bool:
    """True if a rule asks for no address, or for one of the subject; else it is about some addresses outside."""
    asked = [value for key in ("src", "dst") if (value := rule.selects.get(key, ""))]
    return facts.path.is_whole or not asked or any(covers_any(value, facts.path.addresses) for value in asked)


def _mac_fits(facts: Facts, rule: FilterFacts) -> bool:
    """True if a rule asks for no MAC address, or for one of the router, the instance or a neighbour on the path."""
    asked = [value for key in ("smac", "dmac") if (value := rule.selects.get(key, ""))]
    known = {leg.port.mac for leg in facts.path.legs} | {one.mac for there in facts.places for one in there.neighbours}
    if facts.subject.port is not None:
        known.add(facts.subject.port.mac)
    return not asked or any(one.startswith(("!", "@", "{")) or one in known for one in asked)


def _device_fits(asked: str, devices: frozenset[str]) -> bool:
    if not asked:
        return True
    name = asked.lstrip("!")
    stem = name.rstrip("+*")
    fits = any(one == name or (stem != name and one.startswith(stem)) for one in devices)
    return fits != asked.startswith("!") or (asked.startswith("!") and len(devices) > 1)


def _address_fits(asked: str, facts: Facts) -> bool:
    """True if a prefix has an address of the subject, or of somebody outside; a set or a range may."""
    network = network_of(asked)
    if network is None or covers_any(asked, facts.path.addresses):
        return True
    is_outside = not network.is_private and not covers_any(asked, facts.path.others)
    return is_outside and not asked.startswith("!")


def host_filter(facts: Facts) -> Iterator[Step]:
    """Judge the host's own packet filter, and that of its bridges."""
    for text in facts.plan.host_hindrances:
        yield from _host_hindrance(facts, text)
    for what, why in sorted(facts.host.here.unread.items()):
        if what in ("iptables", "nft"):
            yield unknown("host filter", f"{what}: {why}")
    for rule in facts.host.here.filters:
        yield from _judged_on_host(facts, rule)
    if not facts.host.filtered:
        yield ok("host filter", "iptables does not see bridged packets (net.bridge.bridge-nf-call-iptables is not 1)")


def _host_hindrance(facts: Facts, text: str) -> Iterator[Step]:
    if "packet filter sees" in text:
        yield wrong("host filter", text, text.rpartition(": ")[0], causes.HOST_FILTER)
    elif text.startswith("namespace "):
        yield _hindrance(facts, text)
    elif not text.startswith("bridge "):  # what is wrong with bridges ``layer2`` says
        yield unknown("host filter", text)


def _judged_on_host(facts: Facts, rule: FilterFacts) -> Iterator[Step]:
    is_seen = rule.family in ("bridge", "netdev") or (facts.host.filtered and rule.family != "arp")
    if rule.hook in LOCAL_HOOKS or rule.verdict not in DROPPING or not is_seen:
        return
    if _L2_AGENT in rule.place:
        if rule.packets and "sg-fallback" in rule.place:
            text = f"security groups have dropped {count(rule.packets, 'packet')} on this host, in {rule.place}"
            yield unknown("host filter", text, rule.text)
        return
    if not _on_host_way(facts, rule):
        return
    if rule.is_conditional and not rule.packets:
        yield unknown("host filter", f"{rule.place}: it takes some packets, none so far", rule.text, causes.HOST_FILTER)
        return
    text = rule.text if rule.text.startswith(rule.place) else f"{rule.place}: {rule.text}"
    yield wrong("host filter", text, rule.text, causes.HOST_FILTER)


def _on_host_way(facts: Facts, rule: FilterFacts) -> bool:
    """True if a rule of the host may select packets of the subject in a bridge."""
    asked = [value for key in ("src", "dst") if (value := rule.selects.get(key, ""))]
    if asked and not facts.path.is_whole and not any(_address_fits(value, facts) for value in asked):
        return False
    port, taps = facts.subject.port, {tap_name(leg.port.id) for leg in facts.path.legs}
    bridges = {bridge_of(facts, leg) for leg in facts.path.legs} - {""}
    others = {link.name for link in facts.host.here.links if link.master in bridges and not link.name.startswith("tap")}
    devices = frozenset(taps | ({tap_name(port.id)} if port is not None else set()) | bridges | others)
    return _mac_fits(facts, rule) and all(_device_fits(rule.selects.get(key, ""), devices) for key in ("iif", "oif"))
