"""Which connections are deleted after a job: what is found in the rules that differ is what whole tables say."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.reconcile.post_commit import Released, forwarded_ports, newly_translated, released_addresses
from dvr_agent.state.diff import Changes, TableChange
from dvr_agent.state.filter import Chain, Dnat, DportMatch, FilterRule, Snat, Table
from dvr_agent.state.namespace import Outbound
from dvr_agent.state.translations import Inbound, inbound, rules_of

FIPS, FIXED = ("203.0.113.1", "203.0.113.2", "203.0.113.3"), ("10.0.0.1", "10.0.0.2")
PORTS = st.sampled_from([(), (DportMatch("tcp", 80, 80),), (DportMatch("tcp", 90, 99),)])
DNAT = st.builds(
    lambda fip, fixed, ports: FilterRule(Dnat(fixed), dst=f"{fip}/32", matches=ports),
    st.sampled_from(FIPS), st.sampled_from(FIXED), PORTS,
)  # fmt: skip
SNAT = st.builds(
    lambda fip, fixed: FilterRule(Snat(fip), src=f"{fixed}/32"), st.sampled_from(FIPS), st.sampled_from(FIXED)
)
RULES = st.lists(DNAT | SNAT, max_size=6, unique=True).map(tuple)
TABLES = st.dictionaries(st.sampled_from(["dvr-one", "dvr-two"]), RULES.filter(len)).map(
    lambda chains: Table(4, "nat", tuple(Chain(name, rules) for name, rules in sorted(chains.items())))
)


def translations(tables: Iterable[Table]) -> set[Inbound]:
    return set(inbound(rules_of(tables)))


def sources(table: Table) -> set[tuple[str, str]]:
    rules = rules_of([table])
    return {(rule.target.address, str(rule.src)) for rule in rules if isinstance(rule.target, Snat)}


@given(TABLES, TABLES, st.lists(TABLES, max_size=1))
def test_what_differs_is_enough(old: Table, new: Table, stale: list[Table]) -> None:
    changed = [TableChange(one, new) for one in stale]
    changes = Changes(
        "ns", tables=(TableChange(old, new),), stale_tables=tuple(changed), outbound=Outbound(frozenset(FIXED))
    )
    before, after = translations([old]), translations([new])
    had = before | translations(stale)
    by_port = {one.address for one in after if one.ports is not None}
    gone = {Released(one.address, one.ports if one.address in by_port else None) for one in before - after}
    gone |= {Released(address) for address, _ in sources(old) - sources(new)}
    assert released_addresses(changes.tables) == (gone if old.chains else set())
    assert forwarded_ports(changes) == {Released(one.address, one.ports) for one in after - had if one.ports}
    pairs = {one[:2] for one in had}
    assert newly_translated(changes) == {one.fixed for one in after if one[:2] not in pairs}
