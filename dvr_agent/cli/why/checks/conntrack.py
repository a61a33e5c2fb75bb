"""Tracked connections that keep an old translation, and the size of the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.facts import ConnectionFacts, Facts, Kind
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong
from dvr_agent.plural import count

NEARLY_FULL = 0.95
"""Part of the table from which new connections may be dropped: the kernel evicts single ones before."""


def connections(facts: Facts) -> Iterator[Step]:
    """Judge the connections of a floating IP: each must be translated as the rules say now."""
    subject, view = facts.subject, facts.plan.view
    if view is None or subject.fip is None or subject.kind not in (Kind.FLOATING_IP, Kind.FIXED):
        return
    namespace = facts.path.inside[0].namespace if facts.path.inside else ""
    place = next((leg.namespace for leg in facts.path.legs if leg.device.startswith("qg-")), namespace)
    there = facts.namespaces.get(place)
    if there is None or not there.exists:
        return
    if "conntrack" in there.unread:
        yield unknown("conntrack", f"in {place}: {there.unread['conntrack']}")
        return
    address, fixed = str(subject.fip.address), str(subject.fip.fixed_address)
    inside = [ip_network(one) for state in facts.plan.desired.get(place, ()) for one in state.outbound.inside]
    old = [one for one in there.connections if _is_old(one, address, fixed, inside)]
    for one in old[:3]:
        alike = [other for other in old if _stale(other, address) == _stale(one, address)]
        selector = one.selector if len(alike) == 1 else _stale(one, address)
        number = f" and {len(alike) - 1} more like it" if len(alike) > 1 else ""
        values = {"namespace": place, "address": address, "selector": selector, "number": number}
        yield wrong("conntrack", f"in {place}", one.text, causes.CONNTRACK_OLD, what=_text(one, address), **values)
    if not old:
        yield ok("conntrack", f"{count(len(there.connections), 'connection')} of {address} in {place}")


def _stale(one: ConnectionFacts, address: str) -> str:
    """Return options of ``conntrack`` that select the connections with the same old translation."""
    return f"-d {one.dst} -r {one.reply_src}" if one.dst == address else f"-s {one.src} -q {one.reply_dst}"


def _text(one: ConnectionFacts, address: str) -> str:
    """Return a connection and its translation for people."""
    ports = (f" port {one.sport}", f" port {one.dport}") if one.has_ports else ("", "")
    protocol = f"{one.protocol} " if one.protocol else ""
    way = f"{protocol}from {one.src}{ports[0]} to {one.dst}{ports[1]}"
    return f"{way} still goes to {one.reply_src}" if one.dst == address else f"{way} still leaves as {one.reply_dst}"


def _is_old(one: ConnectionFacts, address: str, fixed: str, inside: Sequence[IPv4Network | IPv6Network]) -> bool:
    """True if a connection to the floating IP leads to another instance, or one of the instance leaves as another.

    :param inside: networks that an instance reaches untranslated; empty: they are not known
    """
    if one.dst == address:
        return one.reply_src != fixed
    if one.src != fixed or not one.dst or ip_address(one.dst).is_link_local:
        return False
    if one.reply_dst == fixed:
        return bool(inside) and not any(ip_address(one.dst) in network for network in inside)
    return one.reply_dst != address


def table_size(facts: Facts) -> Iterator[Step]:
    """Judge how full the table of tracked connections is."""
    for there in facts.places:
        if there.tracked is None:
            continue
        count, maximum = there.tracked
        item = f"net.netfilter.nf_conntrack_count = {count}, nf_conntrack_max = {maximum}"
        if maximum and count >= maximum * NEARLY_FULL:
            yield wrong("conntrack", f"full in {there.name}", item, causes.CONNTRACK_FULL, count=count, maximum=maximum)
        else:
            yield ok("conntrack", f"table of {there.name}", item)
