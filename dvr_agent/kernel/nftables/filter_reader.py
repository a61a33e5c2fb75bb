"""Read the tables ``ip dvr`` and ``ip6 dvr`` of a namespace; nothing is read that has not changed.

The kernel numbers the rule sets of a namespace (generation), so an unchanged namespace costs one question.  The number
is remembered together with the namespace's cookie, since a namespace that was made anew counts from one again.
Changes in tables of other programs move the number too: ours are read then, and decoded only if their bytes differ.
Used by :mod:`.filter_manager`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from dvr_agent.errors import KernelError
from dvr_agent.kernel.netlink.message import AF_OF_FAMILY
from dvr_agent.kernel.netlink.schema import Data
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
from dvr_agent.kernel.nftables.ruleset import PLACES, TABLE, Element, NftRule, NftSet, Ruleset, family_text, tables_of
from dvr_agent.kernel.nftables.transaction import read_generation
from dvr_agent.state.filter import Family, Table, TableKey

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

    def table(self, key: TableKey) -> Table:
        """Return a table; an empty one without it."""
        return self.tables.get(key) or _empty(key)

    def then(self, rulesets: dict[Family, Ruleset], written: Iterable[Table]) -> Found:
        """Return what is there after a transaction: the tables as they were written are not made from rulesets again.

        The kernel has taken all of it, and has counted one generation more.
        """
        tables = {**self.tables, **{one.key: replace(one, nft=_empty(one.key).nft) for one in written}}
        generation = None if self.generation is None else self.generation + 1
        return Found(generation, rulesets, {key: one for key, one in tables.items() if one.chains})


@functools.cache
def _empty(key: TableKey) -> Table:
    """Return the same table each time: the table check knows an unchanged table by that."""
    return Table(*key, nft=f"{family_text(key[0])} {TABLE}")


def found_of(generation: int | None, rulesets: dict[Family, Ruleset]) -> Found:
    """Make what is found of rulesets."""
    tables = {key: table for ruleset in rulesets.values() for key, table in tables_of(ruleset).items()}
    return Found(generation, rulesets, tables)


@dataclass(slots=True)
class _Raw:
    """The table of one family, undecoded as far as possible.

    :ivar chains: ours
    :ivar sets: without their elements
    :ivar elements: by set
    """

    chains: list[ChainInfo] = field(default_factory=list)
    rules: list[Data] = field(default_factory=list)
    sets: list[NftSet] = field(default_factory=list)
    elements: dict[str, list[Data]] = field(default_factory=dict)
    helpers: list[Data] = field(default_factory=list)

    def add_to(self, digest: hashlib.blake2b) -> None:
        """Add everything to a digest."""
        digest.update(repr((self.chains, self.sets)).encode("utf-8", "surrogateescape"))
        for part in (self.rules, *self.elements.values(), self.helpers):
            digest.update(len(part).to_bytes(4, "big"))
            for data in part:
                digest.update(memoryview(data)[BODY:])  # the header has the generation


class FilterReader:
    """Reads, and remembers what it has read by namespace, with its cookie and the digest of the bytes."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Found, bytes]] = {}

    def read(self, sock: NetlinkSocket) -> Found:
        """Return what the socket's namespace has.

        :raises KernelError: it could not be read
        """
        generation, cookie = read_generation(sock), _cookie(sock)
        known = self._known.get(sock.namespace)
        if known is not None and known[0] == cookie and known[1].generation == generation:
            return known[1]
        raw = _read_all(sock)
        digest = hashlib.blake2b(digest_size=16)
        for one in raw.values():
            one.add_to(digest)
        if known is not None and (known[0], known[2]) == (cookie, digest.digest()):
            found = replace(known[1], generation=generation)
        else:
            found = found_of(generation, {family: _decode(family, one) for family, one in raw.items()})
        self.remember(sock, found, digest.digest())
        return found

    def remember(self, sock: NetlinkSocket, found: Found, digest: bytes = b"") -> None:
        """Remember what a named namespace has, if the kernel tells its generation.

        :param digest: of the bytes that were read; empty: it was written
        """
        cookie = _cookie(sock)
        if not sock.namespace or cookie is None or found.generation is None:
            return
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[sock.namespace] = (cookie, found, digest)


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


def _read_all(sock: NetlinkSocket) -> dict[Family, _Raw]:
    try:
        chains = [decode_chain(data) for data in sock.dump(dump(GET_CHAIN, "chains of nf_tables"))]
    except KernelError as exc:
        if exc.code not in MISSING:
            raise
        chains = []
    return {family: _read_family(sock, family, chains) for family in FAMILIES}


def _read_family(sock: NetlinkSocket, family: Family, chains: Iterable[ChainInfo]) -> _Raw:
    af, messages = AF_OF_FAMILY[family], MESSAGES[family]
    ours = [chain for chain in chains if chain.family == af and chain.table == TABLE]
    if not ours:
        return _Raw()
    rules, sets = sock.dump(dump_rules(af, TABLE)), _sets(sock, family)
    elements = {one.name: sock.dump(messages.dump_elements(one.name)) for one in sets}
    return _Raw(ours, rules, sets, elements, sock.dump(messages.dump_helpers()))


def _decode(family: Family, raw: _Raw) -> Ruleset:
    if not raw.chains:
        return Ruleset(family)
    strange = [chain.name for chain in raw.chains if not _is_at_its_place(chain)]
    rules: dict[str, list[NftRule]] = {chain.name: [] for chain in raw.chains if chain.name not in strange}
    for rule in map(decode_rule, raw.rules):
        if rule.chain in rules:
            rules[rule.chain].append(_noted(decode(family, bytes(rule.expressions)), comment_of(bytes(rule.user_data))))
    sets = {one.name: _with_elements(one, raw.elements[one.name]) for one in raw.sets}
    strange += [name for name, one in sets.items() if not one.keys]
    helpers = frozenset(one for data in raw.helpers if (one := decode_helper(data, BODY)) is not None)
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
    dump_elements = MESSAGES[family].dump_elements
    return {one.name: _with_elements(one, sock.dump(dump_elements(one.name))) for one in _sets(sock, family)}


def _with_elements(one: NftSet, found: Iterable[Data]) -> NftSet:
    elements: dict[bytes, Element] = {}
    for data in found:
        elements.update((bytes(key), element) for key, element, _ in decode_elements(data, BODY))
    return replace(one, elements=elements)
