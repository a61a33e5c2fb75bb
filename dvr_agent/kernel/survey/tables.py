"""Read the packet filter tables of a namespace, of all programs: legacy ones and those of nf_tables."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pyroute2.netlink import NETLINK_NETFILTER

from dvr_agent.errors import KernelError
from dvr_agent.kernel.iptables.layout import BUILTINS, HOOKS
from dvr_agent.kernel.iptables.reader import TableReader
from dvr_agent.kernel.iptables.whole_table import Counters, decode_counters, decode_whole
from dvr_agent.kernel.netlink.message import AF_OF_FAMILY
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.filter_reader import FAMILIES, read_sets
from dvr_agent.kernel.nftables.limit_messages import TABLE
from dvr_agent.kernel.nftables.message import (
    GET_CHAIN,
    MISSING,
    NFPROTO_INET,
    ChainInfo,
    RuleInfo,
    decode_chain,
    decode_rule,
    dump,
    dump_rules,
)
from dvr_agent.kernel.nftables.rule_codec import decode as decode_own
from dvr_agent.kernel.nftables.rules import OTHER_FAMILY, decode
from dvr_agent.kernel.nftables.ruleset import TABLE as FILTER_TABLE
from dvr_agent.kernel.nftables.ruleset import NftRule, NftSet, rules_of
from dvr_agent.kernel.nftables.ruleset_text import rule_text
from dvr_agent.state.filter import Family, TableKey
from dvr_agent.trace.filter_values import Base, WholeChain, WholeRule, WholeTable, whole_rule

_KEYS: tuple[TableKey, ...] = (*((4, name) for name in BUILTINS), *((6, name) for name in BUILTINS))
_FAMILIES: dict[int, tuple[str, tuple[Family, ...]]] = {
    int(socket.AF_INET): ("ip", (4,)),
    int(socket.AF_INET6): ("ip6", (6,)),
    NFPROTO_INET: ("inet", (4, 6)),
}
"""Family of nf_tables → its name, and the families of the packets that it sees."""


def read_legacy(reader: TableReader, namespace: str) -> list[WholeTable]:
    """Read the legacy tables that exist in a namespace.

    :raises NamespaceGoneError: there is no such namespace
    """
    with reader.open(namespace, _KEYS) as opened:
        return [decode_whole(key, *opened.read_bytes(key)) for key in _KEYS if key in opened.existing]


def read_counters(reader: TableReader, namespace: str) -> dict[TableKey, Counters]:
    """Read how many packets each rule of the legacy tables has matched.

    :raises NamespaceGoneError: there is no such namespace
    """
    with reader.open(namespace, _KEYS) as opened:
        return {key: decode_counters(key[0], *opened.read_bytes(key)) for key in _KEYS if key in opened.existing}


def read_nft(namespace: str) -> list[WholeTable]:
    """Read the tables of nf_tables that filter or translate IP packets; none where the kernel has no nf_tables.

    :raises NamespaceGoneError: there is no such namespace
    """
    try:
        with NetlinkSocket.open(namespace, None, NETLINK_NETFILTER) as sock:
            chains = [decode_chain(data) for data in sock.dump(dump(GET_CHAIN, "chains of nf_tables"))]
            places = sorted(
                {
                    (one.family, one.table)
                    for one in chains
                    if one.family in _FAMILIES and one.base and one.table != TABLE
                }
            )
            rules = {place: [decode_rule(data) for data in sock.dump(dump_rules(*place))] for place in places}
            sets = {family: read_sets(sock, family) for family in FAMILIES if _ours(family) in places}
    except KernelError as exc:
        if exc.code not in MISSING:
            raise
        return []
    return [
        _nft_table(family, place, [one for one in chains if one[:2] == place], _decoded(family, place, rules, sets))
        for place in places
        for family in _FAMILIES[place[0]][1]
    ]


def _ours(family: Family) -> tuple[int, str]:
    return AF_OF_FAMILY[family], FILTER_TABLE


def _decoded(
    family: Family,
    place: tuple[int, str],
    rules: Mapping[tuple[int, str], Sequence[RuleInfo]],
    sets: Mapping[Family, Mapping[str, NftSet]],
) -> Iterator[tuple[str, WholeRule]]:
    """Yield (chain, rule) as packets of one family see them; an element that our rules look up is a rule of its own."""
    for rule in rules[place]:
        if place == _ours(family):
            expanded = rules_of(decode_own(family, bytes(rule.expressions)), sets[family])
            found = [replace(whole_rule(one), text=rule_text(family, NftRule(one))) for one in expanded]
        else:
            known = decode(family, rule.expressions)
            found = [whole_rule(known)] if OTHER_FAMILY not in known.matches else []
        yield from ((rule.chain, replace(one, handle=rule.handle)) for one in found)


def _nft_table(
    family: Family, place: tuple[int, str], infos: list[ChainInfo], rules: Iterable[tuple[str, WholeRule]]
) -> WholeTable:
    """Make a table of its chains and rules."""
    found: dict[str, list[WholeRule]] = {}
    for chain, rule in rules:
        found.setdefault(chain, []).append(rule)
    chains = {
        info.name: WholeChain(
            info.name, tuple(found.get(info.name, ())), ("ACCEPT" if info.accepts else "DROP") if info.base else None
        )
        for info in infos
    }
    bases = tuple(
        Base(HOOKS[info.hook], info.name, info.priority, info.type == "nat")
        for info in infos
        if info.base and 0 <= info.hook < len(HOOKS)
    )
    return WholeTable(
        (family,), f"{_FAMILIES[place[0]][0]} {place[1]}", chains, bases, nft=True, plain=place == _ours(family)
    )
