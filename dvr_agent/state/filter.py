"""Packet filter rules as typed values: matches and a target, never text that has to be parsed.

``kernel/iptables`` encodes them; :attr:`FilterRule.text` prints them in iptables-save syntax.  The types are frozen
dataclasses, not tuples: two kinds of match with the same numbers must not compare equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Family = Literal[4, 6]
Transport = Literal["tcp", "udp", "sctp", "dccp"]
"""Protocols with ports."""

Ports = tuple[Transport, int, int]
"""Ports of a protocol: the first and the last one."""

CT_STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
"""States of connections, in the order in which iptables-save prints them."""


@dataclass(frozen=True, slots=True)
class Not:
    """Negation of an address or interface: ``Not("rfp-…")`` is ``! -o rfp-…``."""

    value: str


@dataclass(frozen=True, slots=True)
class MarkMatch:
    """``-m mark [!] --mark value/mask``."""

    value: int
    mask: int = 0xFFFFFFFF
    invert: bool = False

    @property
    def text(self) -> str:
        """The match in iptables-save syntax."""
        return f"-m mark {'! ' if self.invert else ''}--mark {_masked(self.value, self.mask)}"


@dataclass(frozen=True, slots=True)
class ConnmarkMatch:
    """``-m connmark [!] --mark value/mask``."""

    value: int
    mask: int = 0xFFFFFFFF
    invert: bool = False

    @property
    def text(self) -> str:
        """The match in iptables-save syntax."""
        return f"-m connmark {'! ' if self.invert else ''}--mark {_masked(self.value, self.mask)}"


@dataclass(frozen=True, slots=True)
class CtStateMatch:
    """``-m conntrack [!] --ctstate A,B``; states are a subset of :data:`CT_STATES`."""

    states: frozenset[str]
    invert: bool = False

    @property
    def text(self) -> str:
        """The match in iptables-save syntax."""
        names = ",".join(name for name in CT_STATES if name in self.states)
        return f"-m conntrack {'! ' if self.invert else ''}--ctstate {names}"


@dataclass(frozen=True, slots=True)
class DportMatch:
    """``-m tcp|udp|sctp|dccp --dport first[:last]``; the rule's protocol says which."""

    protocol: Transport
    first: int
    last: int

    @property
    def text(self) -> str:
        """The match in iptables-save syntax."""
        if (self.first, self.last) == (0, 0xFFFF) and self.protocol in ("tcp", "udp"):
            return f"-m {self.protocol}"
        ports = str(self.first) if self.first == self.last else f"{self.first}:{self.last}"
        return f"-m {self.protocol} --dport {ports}"


@dataclass(frozen=True, slots=True)
class CommentMatch:
    """``-m comment --comment …`` (at most 255 bytes)."""

    comment: str

    @property
    def text(self) -> str:
        """The match in iptables-save syntax."""
        return f"-m comment --comment {_quoted(self.comment)}"


Match = MarkMatch | ConnmarkMatch | CtStateMatch | DportMatch | CommentMatch


@dataclass(frozen=True, slots=True)
class Verdict:
    """``-j ACCEPT``, ``DROP`` or ``RETURN``."""

    name: Literal["ACCEPT", "DROP", "RETURN"]

    @property
    def text(self) -> str:
        """The target in iptables-save syntax."""
        return f"-j {self.name}"


@dataclass(frozen=True, slots=True)
class Jump:
    """``-j CHAIN`` to a chain of ours."""

    chain: str

    @property
    def text(self) -> str:
        """The target in iptables-save syntax."""
        return f"-j {self.chain}"


@dataclass(frozen=True, slots=True)
class Dnat:
    """``-j DNAT --to-destination ADDRESS[:PORTS[/BASE]]``.

    :ivar base: port that becomes the first of ``ports``, and so on in order; None: any of ``ports`` is taken
    """

    address: str
    ports: tuple[int, int] | None = None
    base: int | None = None

    @property
    def text(self) -> str:
        """The target in iptables-save syntax."""
        return f"-j DNAT --to-destination {self.endpoint}"

    @property
    def endpoint(self) -> str:
        """Address, ports and base port in iptables-save syntax."""
        return _endpoint(self.address, self.ports) + ("" if self.base is None else f"/{self.base}")


@dataclass(frozen=True, slots=True)
class Snat:
    """``-j SNAT --to-source ADDRESS [--random-fully]``."""

    address: str
    random_fully: bool = False

    @property
    def text(self) -> str:
        """The target in iptables-save syntax."""
        return f"-j SNAT --to-source {self.address}" + (" --random-fully" if self.random_fully else "")


@dataclass(frozen=True, slots=True)
class Redirect:
    """``-j REDIRECT --to-ports PORT``."""

    port: int

    @property
    def text(self) -> str:
        """The target in iptables-save syntax."""
        return f"-j REDIRECT --to-ports {self.port}"


@dataclass(frozen=True, slots=True)
class SetMark:
    """``-j MARK --set-xmark value/mask``."""

    value: int
    mask: int = 0xFFFFFFFF

    @property
    def text(self) -> str:
        """The target in iptables-save syntax."""
        return f"-j MARK --set-xmark 0x{self.value:x}/0x{self.mask:x}"


@dataclass(frozen=True, slots=True)
class SaveConnmark:
    """``-j CONNMARK --save-mark --nfmask MASK --ctmask MASK``: packet mark to connection mark."""

    mask: int = 0xFFFFFFFF

    @property
    def text(self) -> str:
        """The target in iptables-save syntax."""
        return f"-j CONNMARK --save-mark --nfmask 0x{self.mask:x} --ctmask 0x{self.mask:x}"


@dataclass(frozen=True, slots=True)
class RestoreConnmark:
    """``-j CONNMARK --restore-mark --nfmask MASK --ctmask MASK``: connection mark to packet mark."""

    mask: int = 0xFFFFFFFF

    @property
    def text(self) -> str:
        """The target in iptables-save syntax."""
        return f"-j CONNMARK --restore-mark --nfmask 0x{self.mask:x} --ctmask 0x{self.mask:x}"


@dataclass(frozen=True, slots=True)
class NoTrack:
    """``-j CT --notrack``."""

    @property
    def text(self) -> str:
        """The target in iptables-save syntax."""
        return "-j CT --notrack"


@dataclass(frozen=True, slots=True)
class CtHelper:
    """``-j CT --helper NAME``: a connection tracking helper reads the packets of the connections that begin here."""

    name: str

    @property
    def text(self) -> str:
        """The target in iptables-save syntax."""
        return f"-j CT --helper {self.name}"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A match or target read from the kernel that no other class here describes.

    It never equals a desired one, so a rule with it in one of our chains is removed.
    """

    data: bytes

    @property
    def text(self) -> str:
        """The first bytes in hexadecimal, for messages."""
        return f"(not ours: {self.data[:24].hex()})"


Target = (
    Verdict | Jump | Dnat | Snat | Redirect | SetMark | SaveConnmark | RestoreConnmark | NoTrack | CtHelper | Foreign
)


class _HashOnce:
    """Keeps the hash of a value that is looked up often."""

    __slots__ = ("_hash",)
    _hash: int


@dataclass(frozen=True, slots=True)
class FilterRule(_HashOnce):
    """One rule.  Addresses are networks (``10.0.0.1/32``); an interface may end in ``+`` (prefix match).

    A router has thousands of rules, which are compared and looked up again and again.

    :ivar note: what the rule is for; written as the rule's comment where that costs packets nothing (nf_tables)
    """

    target: Target
    src: str | Not | None = None
    dst: str | Not | None = None
    iif: str | Not | None = None
    oif: str | Not | None = None
    protocol: Transport | None = None
    matches: tuple[Match | Foreign, ...] = ()
    note: str = field(default="", compare=False)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, FilterRule):
            return NotImplemented
        return (  # what rules mostly differ in comes first
            self.dst == other.dst
            and self.src == other.src
            and self.target == other.target
            and self.matches == other.matches
            and (self.iif, self.oif, self.protocol) == (other.iif, other.oif, other.protocol)
        )

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            found = hash((self.target, self.src, self.dst, self.iif, self.oif, self.protocol, self.matches))
            object.__setattr__(self, "_hash", found)
            return found

    @property
    def text(self) -> str:
        """The rule in iptables-save syntax, without ``-A CHAIN``."""
        protocol = f"-p {self.protocol}" if self.protocol else ""
        options = [
            _opt("-s", self.src),
            _opt("-d", self.dst),
            _opt("-i", self.iif),
            _opt("-o", self.oif),
            protocol,
        ]
        return " ".join(part for part in (*options, *(match.text for match in self.matches), self.target.text) if part)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of ours with its rules in order."""

    name: str
    rules: tuple[FilterRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Our part of one table: our chains and one jump to each from a built-in chain.

    :ivar family: 4 or 6
    :ivar name: ``nat``, ``mangle``, ``filter`` or ``raw``
    :ivar chains: sorted by name
    :ivar jumps: (built-in chain, our chain) pairs, sorted; kept at the head of the built-in chain
    :ivar nft: only in observed tables: family and name of the table of nf_tables that it was read from, e.g. ``ip nat``
    :ivar dropping: only in observed tables: built-in chains whose policy is DROP; it is not ours and never changed

    A desired table without chains: none of our chains may be left in it.
    """

    family: Family
    name: str
    chains: tuple[Chain, ...] = ()
    jumps: tuple[tuple[str, str], ...] = ()
    dropping: tuple[str, ...] = field(default=(), compare=False)
    nft: str = field(default="", compare=False)

    @property
    def key(self) -> tuple[Family, str]:
        """Identity: family and name."""
        return (self.family, self.name)

    @property
    def text(self) -> str:
        """The table's name for people."""
        legacy = f"{'iptables' if self.family == 4 else 'ip6tables'} table {self.name}"
        return f"nft table {self.nft}" if self.nft else legacy


TableKey = tuple[Family, str]

CHAIN_PREFIX = "dvr-"
"""Prefix of all our chains; ``PREROUTING`` jumps to ``dvr-PREROUTING``, and so on."""


_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def _masked(value: int, mask: int) -> str:
    return f"0x{value:x}" if mask == 0xFFFFFFFF else f"0x{value:x}/0x{mask:x}"


def _quoted(text: str) -> str:
    """Quote a text as libxtables' xtables_save_string() does, where it has other characters than :data:`_BARE`."""
    if text and all(char in _BARE for char in text):
        return text
    return '"' + "".join("\\" + char if char in "\\\"'" else char for char in text) + '"'


def _endpoint(address: str, ports: tuple[int, int] | None) -> str:
    if ports is None:
        return address
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{ports[0]}" if ports[0] == ports[1] else f"{host}:{ports[0]}-{ports[1]}"


def _opt(flag: str, value: str | Not | None) -> str:
    if value is None:
        return ""
    return f"! {flag} {value.value}" if isinstance(value, Not) else f"{flag} {value}"
