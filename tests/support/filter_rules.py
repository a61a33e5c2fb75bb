"""Rules to test packet filter code with: a typical router's tables, and any rule at all (hypothesis)."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import strategies as st

from dvr_agent.state.filter import (
    CT_STATES,
    CommentMatch,
    ConnmarkMatch,
    CtHelper,
    CtStateMatch,
    Dnat,
    DportMatch,
    Family,
    FilterRule,
    MarkMatch,
    Not,
    NoTrack,
    Redirect,
    RestoreConnmark,
    SaveConnmark,
    SetMark,
    Snat,
    Table,
    Verdict,
)
from dvr_agent.state.filter_runs import make_table

SCOPE = 0xFFFF0000
BUILTINS = {
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "raw": ("PREROUTING", "OUTPUT"),
}


def qrouter_tables(number: int = 1) -> tuple[Table, ...]:
    """The five tables of a router with two floating IPs and three internal subnets."""
    rfp = f"rfp-{number:08x}-3"
    inside = [f"qr-{number:08x}-{port}" for port in range(3)]
    fips = [(f"172.24.{number % 256}.{host}", f"10.0.{number % 256}.{host}") for host in (5, 6)]
    dnat = tuple(FilterRule(Dnat(fixed), dst=f"{fip}/32", iif=rfp) for fip, fixed in fips)
    keep = FilterRule(Verdict("ACCEPT"), oif=Not(rfp), matches=(CtStateMatch(frozenset({"DNAT"}), invert=True),))
    snat = tuple(FilterRule(Snat(fip, random_fully=True), src=f"{fixed}/32") for fip, fixed in fips)
    return (
        make_table(4, "nat", {"PREROUTING": dnat, "POSTROUTING": (keep, *snat)}),
        _mangle(4, inside, "169.254.169.254/32"),
        _filter(4, inside),
        _mangle(6, inside, "fe80::a9fe:a9fe/128"),
        _filter(6, inside),
    )


def _mangle(family: Family, inside: list[str], metadata: str) -> Table:
    marks = tuple(FilterRule(SetMark(0x4000000, SCOPE), iif=name) for name in inside)
    restore = FilterRule(RestoreConnmark(SCOPE), matches=(ConnmarkMatch(0, SCOPE, invert=True),))
    port = (DportMatch("tcp", 80, 80),)
    access = FilterRule(SetMark(1, 0xFFFF), dst=metadata, iif="qr-+", protocol="tcp", matches=port)
    return make_table(family, "mangle", {"PREROUTING": (*marks, restore, access)})


def _filter(family: Family, inside: list[str]) -> Table:
    match = (MarkMatch(0x4000000, SCOPE, invert=True),)
    drops = tuple(FilterRule(Verdict("DROP"), oif=name, matches=match) for name in inside)
    return make_table(family, "filter", {"FORWARD": drops})


U32 = st.integers(0, 0xFFFFFFFF)
INTERFACES = st.from_regex(r"[a-z][a-z0-9.-]{0,13}[a-z0-9+]", fullmatch=True)
COMMENTS = st.text(
    st.characters(blacklist_categories=("C", "Z"), whitelist_characters=" "), max_size=60
)  # no blanks but the ordinary one


def addresses(family: Family) -> st.SearchStrategy[str]:
    """As text.  IPv6 ones in which iptables would print a part as dotted IPv4 are left out."""
    if family == 4:
        return st.ip_addresses(v=4).map(str)
    return st.ip_addresses(v=6).filter(lambda address: int(address) >> 64 != 0).map(str)


@st.composite
def networks(draw: Any, family: Family) -> str:
    bits = 32 if family == 4 else 128
    length = draw(st.integers(1, bits))
    address = int(ipaddress.ip_address(draw(addresses(family))))
    kept = address >> (bits - length) << (bits - length)
    cls = ipaddress.IPv4Network if family == 4 else ipaddress.IPv6Network
    if family == 6 and kept >> 64 == 0:
        return "2001:db8::/32"
    return str(cls((kept, length)))


def negatable(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[str | Not | None]:
    return st.none() | strategy | strategy.map(Not)


@st.composite
def shifted(draw: Any, targets: st.SearchStrategy[str]) -> Dnat:
    """DNAT of as many ports to as many others, in order."""
    first, last = draw(port_ranges())
    return Dnat(draw(targets), (first, last), draw(st.integers(1, 0xFFFF - (last - first))))


@st.composite
def port_ranges(draw: Any, least: int = 1) -> tuple[int, int]:
    first, last = sorted((draw(st.integers(least, 0xFFFF)), draw(st.integers(least, 0xFFFF))))
    return first, last


def _masked(word: Any) -> st.SearchStrategy[Any]:
    return st.builds(word, U32, U32, st.booleans())


def matches(protocol: str | None) -> st.SearchStrategy[Any]:
    words = [
        _masked(MarkMatch),
        _masked(ConnmarkMatch),
        st.builds(CtStateMatch, st.frozensets(st.sampled_from(CT_STATES), min_size=1), st.booleans()),
        st.builds(CommentMatch, COMMENTS),
    ]
    if protocol:
        words.append(port_ranges(0).map(lambda ports: DportMatch(protocol, *ports)))  # type: ignore[arg-type]
    return st.lists(st.one_of(words), max_size=3, unique_by=type).map(tuple)


def targets(family: Family, table: str, protocol: str | None) -> st.SearchStrategy[Any]:
    """What the kernel takes in this table; the chain decides too, for NAT."""
    words: list[st.SearchStrategy[Any]] = [st.sampled_from([Verdict("ACCEPT"), Verdict("RETURN")])]
    if table == "nat":
        return words[0]
    words.append(st.just(Verdict("DROP")))
    if table == "mangle":
        words += [st.builds(SetMark, U32, U32), st.builds(SaveConnmark, U32), st.builds(RestoreConnmark, U32)]
    if table == "raw":
        words.append(st.just(NoTrack()))
        if protocol in ("tcp", "udp"):
            words.append(st.just(CtHelper({"tcp": "ftp", "udp": "tftp"}[protocol])))
    return st.one_of(words)


def nat_targets(family: Family, chain: str, protocol: str | None) -> st.SearchStrategy[Any]:
    """What the kernel takes in this chain of the nat table."""
    words: list[st.SearchStrategy[Any]] = [st.sampled_from([Verdict("ACCEPT"), Verdict("RETURN")])]
    if chain in ("INPUT", "POSTROUTING"):
        words.append(st.builds(Snat, addresses(family), st.booleans()))
    else:
        ports = st.none() | port_ranges() if protocol else st.none()
        words.append(st.builds(Dnat, addresses(family), ports))
        if protocol:
            words.append(shifted(addresses(family)))
        if protocol:
            words.append(st.builds(Redirect, st.integers(1, 0xFFFF)))
    return st.one_of(words)


@st.composite
def rules(draw: Any, family: Family, table: str, chain: str) -> FilterRule:
    protocol = draw(st.sampled_from([None, "tcp", "udp", "sctp", "dccp"]))
    find = nat_targets(family, chain, protocol) if table == "nat" else targets(family, table, protocol)
    ins = chain in ("PREROUTING", "INPUT", "FORWARD")
    outs = chain in ("OUTPUT", "POSTROUTING", "FORWARD")
    return FilterRule(
        draw(find),
        src=draw(negatable(networks(family))),
        dst=draw(negatable(networks(family))),
        iif=draw(negatable(INTERFACES)) if ins else None,
        oif=draw(negatable(INTERFACES)) if outs else None,
        protocol=protocol,
        matches=draw(matches(protocol)),
    )


@st.composite
def tables(draw: Any) -> Table:
    """Any table that the kernel takes."""
    family: Family = draw(st.sampled_from([4, 6]))
    name = draw(st.sampled_from(sorted(BUILTINS)))
    chains = draw(st.lists(st.sampled_from(BUILTINS[name]), unique=True, max_size=3))
    return make_table(
        family, name, {chain: tuple(draw(st.lists(rules(family, name, chain), max_size=6))) for chain in chains}
    )


def any_rule() -> st.SearchStrategy[tuple[Family, FilterRule]]:
    """A rule of the whole vocabulary with its family."""
    families: tuple[Family, ...] = (4, 6)
    places = [(family, name, chain) for family in families for name, chains in BUILTINS.items() for chain in chains]
    return st.sampled_from(places).flatmap(lambda place: rules(*place).map(lambda rule: (place[0], rule)))
