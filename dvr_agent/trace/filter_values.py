"""Whole packet filter tables: the rules of everybody, as far as they are understood.

A rule is a :class:`~dvr_agent.state.filter.FilterRule` where that can express it.  What other programs write may have
matches and targets for which ``state.filter`` has no type: here they are named, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dvr_agent.state.filter import Family, FilterRule, Foreign, Match, Not, Target, Transport, Verdict


@dataclass(frozen=True, slots=True)
class UnknownMatch:
    """A match that is not understood, by its name (``set``, ``limit`` …)."""

    name: str

    @property
    def text(self) -> str:
        """The match with a remark."""
        return f"-m {self.name} (not understood)"


@dataclass(frozen=True, slots=True)
class SportMatch:
    """``-m tcp|udp [--sport a:b] [--dport c:d]``, with source ports."""

    protocol: str
    sports: tuple[int, int]
    dports: tuple[int, int]

    @property
    def text(self) -> str:
        """The match in iptables-save syntax."""
        parts = [f"-m {self.protocol}"]
        for flag, (first, last) in (("--sport", self.sports), ("--dport", self.dports)):
            if (first, last) != (0, 0xFFFF):
                parts.append(f"{flag} {first}" if first == last else f"{flag} {first}:{last}")
        return " ".join(parts)


Effect = Literal["none", "drop", "goto", "masquerade", "unknown"]
"""What a target that ``state.filter`` has no type for does to the way of a packet."""

EFFECTS: Mapping[str, Effect] = {
    "": "none",
    "LOG": "none",
    "NFLOG": "none",
    "AUDIT": "none",
    "TRACE": "none",
    "CHECKSUM": "none",
    "TCPMSS": "none",
    "DSCP": "none",
    "TOS": "none",
    "CLASSIFY": "none",
    "SET": "none",
    "REJECT": "drop",
    "MASQUERADE": "masquerade",
}
"""Effect of these targets of iptables-extensions(8); "": no target, the rule only counts."""


@dataclass(frozen=True, slots=True)
class OtherTarget:
    """A target that ``state.filter`` has no type for.

    :ivar name: empty for a rule without a target; the chain, where ``effect`` is ``goto``
    """

    name: str
    effect: Effect

    @property
    def text(self) -> str:
        """The target in iptables-save syntax, without its options."""
        if self.effect == "goto":
            return f"-g {self.name}"
        return f"-j {self.name}" if self.name else ""


@dataclass(frozen=True, slots=True)
class SourceRange:
    """``-j SNAT --to-source FIRST-LAST[:LOW-HIGH]``: the kernel chooses address and port.

    :ivar ports: None: the port stays if it can
    """

    first: str
    last: str
    ports: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        """The target in iptables-save syntax, without ``--random`` and ``--persistent``."""
        return f"-j SNAT --to-source {self.choice}"

    @property
    def choice(self) -> str:
        """The addresses and ports."""
        addresses = self.first if self.first == self.last else f"{self.first}-{self.last}"
        if self.ports is None:
            return addresses
        ports = str(self.ports[0]) if self.ports[0] == self.ports[1] else f"{self.ports[0]}-{self.ports[1]}"
        return f"[{addresses}]:{ports}" if ":" in self.first else f"{addresses}:{ports}"


WholeTarget = Target | OtherTarget | SourceRange


@dataclass(frozen=True, slots=True)
class WholeRule:
    """A rule of anybody.

    :ivar protocol: number; 0: any
    :ivar text: in iptables-save syntax, without ``-A CHAIN``
    :ivar handle: of a rule of nf_tables; 0 for others
    """

    target: WholeTarget
    text: str
    src: str | Not | None = None
    dst: str | Not | None = None
    iif: str | Not | None = None
    oif: str | Not | None = None
    protocol: int = 0
    not_protocol: bool = False
    matches: tuple[Match | UnknownMatch | SportMatch, ...] = ()
    handle: int = 0


PROTOCOL_NUMBERS: Mapping[Transport, int] = {"tcp": 6, "udp": 17, "sctp": 132, "dccp": 33}
_PROTOCOL = b"protocol "
"""Begins a match that names a protocol by its number (``kernel/nftables/rules.py``)."""
_NO_TARGET, _NOTHING = Foreign(b"no target"), OtherTarget("", "none")
_EXPRESSIONS: Mapping[bytes, OtherTarget] = {
    b"log": OtherTarget("", "none"),
    b"reject": OtherTarget("REJECT", "drop"),
    b"masq": OtherTarget("MASQUERADE", "masquerade"),
}
"""Expressions of nf_tables that act, by name; the decoder of rules leaves them among the matches."""
_ACTING = frozenset({
    b"nat", b"redir", b"tproxy", b"queue", b"notrack", b"meta set", b"ct", b"lookup", b"dynset", b"objref", b"payload",
    b"dup", b"fwd", b"synproxy", b"flow_offload", b"exthdr",
})  # fmt: skip
"""Expressions that may act in a rule without a verdict: a map of verdicts (``lookup``), ``ct mark set`` and so on."""


def whole_rule(rule: FilterRule) -> WholeRule:
    """Convert a rule of ``state.filter``; what that could not express is named."""
    protocol, inverted = PROTOCOL_NUMBERS[rule.protocol] if rule.protocol else 0, False
    target: WholeTarget = _NOTHING if rule.target == _NO_TARGET else rule.target
    matches: list[Match | UnknownMatch] = []
    for one in rule.matches:
        if not isinstance(one, Foreign):
            matches.append(one)
        elif one.data.startswith(_PROTOCOL):
            name = one.data.removeprefix(_PROTOCOL)
            protocol, inverted = int(name.removeprefix(b"! ")), name.startswith(b"! ")
        elif one.data in _EXPRESSIONS:
            target = _EXPRESSIONS[one.data] if target == _NOTHING else target
        elif one.data in _ACTING and target == _NOTHING:
            target = OtherTarget(one.data.decode(), "unknown")
        else:
            matches.append(UnknownMatch(one.data.decode() if one.data.isalnum() else "?"))
    text = _text(rule, target, matches, f"{'! ' if inverted else ''}-p {protocol}" if protocol else "")
    return WholeRule(target, text, rule.src, rule.dst, rule.iif, rule.oif, protocol, inverted, tuple(matches))


def _text(rule: FilterRule, target: WholeTarget, matches: Sequence[Match | UnknownMatch], protocol: str) -> str:
    """Return the text of a rule: its own where ``state.filter`` expresses all of it."""
    if target is rule.target and len(matches) == len(rule.matches) and tuple(matches) == rule.matches:
        return rule.text
    named = f"-p {rule.protocol}" if rule.protocol else protocol
    plain = selectors_text(rule.src, rule.dst, rule.iif, rule.oif)
    return " ".join(part for part in (plain, named, *(one.text for one in matches), target.text) if part)


def selectors_text(src: str | Not | None, dst: str | Not | None, iif: str | Not | None, oif: str | Not | None) -> str:
    """Return addresses and devices of a rule in iptables-save syntax."""
    return FilterRule(Verdict("ACCEPT"), src, dst, iif, oif).text.removesuffix("-j ACCEPT").strip()


@dataclass(frozen=True, slots=True)
class WholeChain:
    """A chain.

    :ivar policy: ``ACCEPT`` or ``DROP`` of a built-in chain (a base chain), None for other chains
    """

    name: str
    rules: tuple[WholeRule, ...] = ()
    policy: str | None = None


class Base(NamedTuple):
    """A chain that a hook calls.

    :ivar priority: chains with lower ones are called first
    :ivar is_nat: it decides about translation: only the first packet of a connection passes it
    """

    hook: str
    chain: str
    priority: int
    is_nat: bool = False


RAW, CONNTRACK, MANGLE, NAT_DST, FILTER, NAT_SRC = -300, -200, -150, -100, 0, 100
"""``NF_IP_PRI_…`` of include/uapi/linux/netfilter_ipv4.h."""
_PRIORITIES = {"raw": RAW, "mangle": MANGLE, "filter": FILTER}


def legacy_bases(name: str, chains: Iterable[str]) -> tuple[Base, ...]:
    """Return the built-in chains of a legacy table with the hooks that call them."""
    if name != "nat":
        return tuple(Base(chain, chain, _PRIORITIES[name]) for chain in chains) if name in _PRIORITIES else ()
    return tuple(
        Base(chain, chain, NAT_DST if chain in ("PREROUTING", "OUTPUT") else NAT_SRC, True) for chain in chains
    )


@dataclass(frozen=True, slots=True)
class WholeTable:
    """A table with all its chains.

    :ivar families: of the packets that it sees: both for family ``inet`` of nf_tables
    :ivar name: ``raw``, ``mangle``, ``nat`` or ``filter``; of nf_tables family and name (``inet firewalld``)
    :ivar bases: the chains that hooks call
    :ivar nft: a table of nf_tables
    :ivar plain: its rules are written as nft prints them, not as iptables-save does
    """

    families: tuple[Family, ...]
    name: str
    chains: Mapping[str, WholeChain]
    bases: tuple[Base, ...] = ()
    nft: bool = False
    plain: bool = False

    @property
    def title(self) -> str:
        """The table's name for people."""
        return f"nft {self.name}" if self.nft else self.name

    def rule_text(self, chain: str, rule: str) -> str:
        """Return a rule with its chain, as iptables-save or nft prints it."""
        return f"{chain} {rule}" if self.plain else f"-A {chain} {rule}"
