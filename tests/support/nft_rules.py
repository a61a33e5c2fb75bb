"""Tables for tests of the nf_tables packet filter: everything that routers have, and any table that it can have."""

from __future__ import annotations

from dvr_agent.state.filter import (
    CommentMatch,
    CtHelper,
    CtStateMatch,
    Dnat,
    DportMatch,
    FilterRule,
    MarkMatch,
    SaveConnmark,
    SetMark,
    Snat,
    Table,
    Verdict,
)
from dvr_agent.state.filter_runs import canonical, make_table
from tests.support.filter_rules import SCOPE, qrouter_tables

STATUS = {"SNAT", "DNAT"}


def floating(*pairs: tuple[str, str]) -> Table:
    dnat = tuple(FilterRule(Dnat(fixed), dst=f"{fip}/32", iif="rfp-1") for fip, fixed in pairs)
    snat = tuple(FilterRule(Snat(fip, True), src=f"{fixed}/32") for fip, fixed in pairs)
    return canonical(make_table(4, "nat", {"PREROUTING": dnat, "POSTROUTING": snat}))


def of_every_kind() -> list[Table]:
    """Tables with everything that routers have, and runs that are sets or maps."""
    tcp, udp = (DportMatch("tcp", 100, 110),), (DportMatch("udp", 20, 31),)
    to = "203.0.113.1/32"
    forwarded = (
        FilterRule(Dnat("10.0.0.1", (8080, 8080)), dst=to, protocol="tcp", matches=(DportMatch("tcp", 80, 80),)),
        FilterRule(Dnat("10.0.0.1", (300, 310), 100), dst=to, protocol="tcp", matches=tcp),
        FilterRule(Dnat("10.0.0.1", (30, 30)), dst=to, protocol="udp", matches=(DportMatch("udp", 10, 11),)),
        FilterRule(Dnat("10.0.0.1", (30, 40)), dst=to, protocol="udp", matches=udp),
    )
    scoped = [FilterRule(SetMark(0x4000000, SCOPE), iif=f"qr-{n}", note="address scope") for n in range(5)]
    counting = [
        FilterRule(SetMark(0, 0), dst=f"203.0.113.{n}/32", iif="rfp-1", matches=(CommentMatch(f"bytes to {n}"),))
        for n in (1, 2)
    ]
    closed = [
        FilterRule(Verdict("DROP"), oif=f"qr-{n}", matches=(MarkMatch(0x4000000, SCOPE, True),)) for n in range(4)
    ]
    saved = FilterRule(SaveConnmark(SCOPE), src="10.0.0.1/32")
    helper = FilterRule(CtHelper("ftp"), protocol="tcp", matches=(DportMatch("tcp", 21, 21),))
    open_to = [FilterRule(Verdict("ACCEPT"), dst=f"2001:db8::{n}/128", iif="qg-1") for n in (3, 1)]
    nat, *others = qrouter_tables()
    found = [
        make_table(4, "nat", {"PREROUTING": (*nat.chains[1].rules, *forwarded), "POSTROUTING": nat.chains[0].rules}),
        *others,
        make_table(4, "mangle", {"PREROUTING": (*scoped, *counting), "FORWARD": (saved,)}),
        make_table(4, "filter", {"FORWARD": tuple(closed)}),
        make_table(4, "raw", {"PREROUTING": (helper,)}),
        make_table(6, "filter", {"FORWARD": (*open_to, FilterRule(Verdict("DROP"), dst="2001:db8::/64", iif="qg-1"))}),
    ]
    return [canonical(table) for table in found]


def expressible(table: Table) -> Table:
    """Without the rules that nf_tables cannot have: no router has them, and they are refused (tested on its own)."""
    chains = {chain.name.removeprefix("dvr-"): tuple(filter(_is_expressible, chain.rules)) for chain in table.chains}
    return canonical(make_table(table.family, table.name, chains))


def _is_expressible(rule: FilterRule) -> bool:
    for match in rule.matches:
        mixed = isinstance(match, CtStateMatch) and bool(match.states & STATUS) and not match.states <= STATUS
        if mixed or isinstance(match, CommentMatch):
            return False
    shifted = isinstance(rule.target, Dnat) and rule.target.base is not None
    return not (shifted or rule.target == SetMark(0, 0) or isinstance(rule.target, CtHelper))
