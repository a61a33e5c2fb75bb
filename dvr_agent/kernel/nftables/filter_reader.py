"""Read the tables ``ip dvr`` and ``ip6 dvr`` of a namespace; nothing is read that has not changed.

The kernel numbers the rule sets of a namespace (generation), so an unchanged namespace costs one question.  The number
is remembered together with the namespace's cookie, since a namespace that was made anew counts from one again.
Used by :mod:`.filter_manager`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dvr_agent.errors import KernelError
from dvr_agent.kernel.netlink.message import AF_OF_FAMILY
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.filter_diff import MESSAGES
from dvr_agent.kernel.nftables.filter_messages import Counters, comment_of, decode_elements, decode_helper, decode_set
from dvr_agent.kernel.nftables.message import (
    BODY,
    GET_CHAIN,
    MISSING,
    ChainInfo,
    decode_chain,
    decode_rule,
    dump,
    dump_rules,
)
from dvr_agent.kernel.nftables.rule_codec import decode
from dvr_agent.kernel.nftables.ruleset import PLACES, TABLE, Element, NftRule, NftSet, Ruleset, tables_of
from dvr_agent.kernel.nftables.transaction import read_generation
from dvr_agent.state.filter import Family, Table, TableKey, Transport

FAMILIES: tuple[Family, ...] = (4, 6)
KNOWN_MAX = 1 << 14
"""Namespaces of which the last reading is kept."""


@dataclass(frozen=True, slots=True)
class Found:
    """The packet filter of a namespace as it was read.

    :ivar generation: of its rule set; None: the kernel has no nf_tables
    :ivar rulesets: of both families
    :ivar tables: the same as the reconciler knows it
    """

    generation: int | None
    rulesets: dict[Family, Ruleset]
    tables: dict[TableKey, Table]


def found_of(generation: int | None, rulesets: dict[Family, Ruleset]) -> Found:
    """Make what is found of rulesets."""
    tables = {key: table for ruleset in rulesets.values() for key, table in tables_of(ruleset).items()}
    return Found(generation, rulesets, tables)


class FilterReader:
    """Reads, and remembers what it has read by namespace, with its cookie."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Found]] = {}

    def read(self, sock: NetlinkSocket) -> Found:
        """Return what the socket's namespace has.

        :raises KernelError: it could not be read
        """
        generation, cookie = read_generation(sock), _cookie(sock)
        known = self._known.get(sock.namespace)
        if known is not None and known[0] == cookie and known[1].generation == generation:
            return known[1]
        found = found_of(generation, _read_all(sock))
        self.remember(sock, found)
        return found

    def remember(self, sock: NetlinkSocket, found: Found) -> None:
        """Remember what a named namespace has, if the kernel tells its generation."""
        cookie = _cookie(sock)
        if not sock.namespace or cookie is None or found.generation is None:
            return
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[sock.namespace] = (cookie, found)


def _cookie(sock: NetlinkSocket) -> int | None:
    """Return the cookie of a socket's namespace; None: the kernel is older than 5.14."""
    try:
        return sock.cookie()
    except OSError:
        return None


def read_counters(sock: NetlinkSocket, family: Family, names: Iterable[str]) -> dict[str, dict[bytes, Counters]]:
    """Return what the elements of the named sets have counted, by set and key."""
    messages = MESSAGES[family]
    return {
        name: {
            key: counters
            for data in sock.dump(messages.dump_elements(name))
            for key, _, counters in decode_elements(data, BODY)
            if counters is not None
        }
        for name in names
    }


def _read_all(sock: NetlinkSocket) -> dict[Family, Ruleset]:
    try:
        chains = [decode_chain(data) for data in sock.dump(dump(GET_CHAIN, "chains of nf_tables"))]
    except KernelError as exc:
        if exc.code not in MISSING:
            raise
        chains = []
    return {family: _read_family(sock, family, chains) for family in FAMILIES}


def _read_family(sock: NetlinkSocket, family: Family, chains: Iterable[ChainInfo]) -> Ruleset:
    af = AF_OF_FAMILY[family]
    ours = [chain for chain in chains if chain.family == af and chain.table == TABLE]
    if not ours:
        return Ruleset(family)
    strange = [chain.name for chain in ours if not _is_at_its_place(chain)]
    rules: dict[str, list[NftRule]] = {chain.name: [] for chain in ours if chain.name not in strange}
    for rule in map(decode_rule, sock.dump(dump_rules(af, TABLE))):
        if rule.chain in rules:
            rules[rule.chain].append(_noted(decode(family, bytes(rule.expressions)), comment_of(bytes(rule.user_data))))
    sets = read_sets(sock, family)
    strange += [name for name, one in sets.items() if not one.keys]
    helpers = (
        _helpers(sock, family) if any(rule.rule.protocol for found in rules.values() for rule in found) else frozenset()
    )
    return Ruleset(family, {name: tuple(found) for name, found in rules.items()}, sets, helpers, tuple(strange))


def _noted(one: NftRule, note: str) -> NftRule:
    return one._replace(rule=replace(one.rule, note=note)) if note else one


def _is_at_its_place(chain: ChainInfo) -> bool:
    place = PLACES.get(chain.name)
    return place is not None and chain.accepts and (chain.hook, chain.priority, chain.type) == place[2:]


def _sets(sock: NetlinkSocket, family: Family) -> list[NftSet]:
    return [decode_set(data, BODY) for data in sock.dump(MESSAGES[family].dump_sets())]


def read_sets(sock: NetlinkSocket, family: Family) -> dict[str, NftSet]:
    """Read the sets of our table of a family, with their elements, by name."""
    return {one.name: _with_elements(sock, family, one) for one in _sets(sock, family)}


def _with_elements(sock: NetlinkSocket, family: Family, one: NftSet) -> NftSet:
    elements: dict[bytes, Element] = {}
    for data in sock.dump(MESSAGES[family].dump_elements(one.name)):
        elements.update((bytes(key), element) for key, element, _ in decode_elements(data, BODY))
    return replace(one, elements=elements)


def _helpers(sock: NetlinkSocket, family: Family) -> frozenset[tuple[str, Transport]]:
    found = (decode_helper(data, BODY) for data in sock.dump(MESSAGES[family].dump_helpers()))
    return frozenset(one for one in found if one is not None)
