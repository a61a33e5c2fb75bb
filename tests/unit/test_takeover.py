"""Taking over from neutron-l3-agent, on the fake kernel: marks, tracked connections, what the log says."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent import config
from dvr_agent.cli.render import Renderer, as_lines
from dvr_agent.desired.build import desired_router
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.scope_marks import SCOPE_MASK, known_marks, scope_marks
from dvr_agent.reconcile.api import RefusedError
from dvr_agent.reconcile.handover import find_own_objects, missing_effects, remove_own_objects
from dvr_agent.reconcile.inventory import floating_ips
from dvr_agent.reconcile.post_commit import Released, released_by_takeover
from dvr_agent.reconcile.takeover import marks_in_use
from dvr_agent.state.diff import TableChange
from dvr_agent.state.filter import Chain, Dnat, FilterRule, Jump, NoTrack, SetMark, Snat, Table
from dvr_agent.state.neighbour import Neighbour
from tests.support.desired_state import desired
from tests.support.reconciler_rig import Bench
from tests.support.recorded_documents import load

ROUTER = load("b2_dvr_snat_node_with_vms", "compute1")
SCOPES = load("i_address_scope", "compute1")
QROUTER, SNAT = f"qrouter-{ROUTER.id}", f"snat-{ROUTER.id}"
FIP, FIXED = "203.0.113.183", "10.1.0.112"
A, B, C = (f"{n:08x}-0000-4000-8000-000000000000" for n in range(3))


def nat(*rules: FilterRule) -> Table:
    chain = Chain("neutron-l3-agent-PREROUTING", rules)
    return Table(4, "nat", (chain,), (("PREROUTING", chain.name),), nft="ip nat")


def dnat(fip: str, fixed: str) -> FilterRule:
    return FilterRule(Dnat(fixed), dst=f"{fip}/32", iif="rfp-1")


def snat(fip: str, fixed: str) -> FilterRule:
    return FilterRule(Snat(fip), src=f"{fixed}/32")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """In sync, and then the other agent's chains come into the router's namespace; a new process starts."""
    bench = Bench(tmp_path)
    bench.reconciler.reconcile(ROUTER)
    bench.fake[QROUTER].nft_tables.append(nat(dnat(FIP, FIXED), snat(FIP, FIXED)))
    bench.restart()
    bench.fake.forget_calls()
    return bench


def test_its_chains_go_once_and_are_not_looked_for_again(bench: Bench) -> None:
    outcome = bench.reconciler.reconcile(ROUTER)
    assert outcome.plan.counts() == {"nft table": 1}
    assert bench.fake[QROUTER].nft_tables == []
    assert not bench.reconciler.reconcile(ROUTER).plan
    bench.fake.forget_calls()
    assert not bench.reconciler.reconcile(ROUTER).plan
    assert bench.fake.calls("nftables") == []


@pytest.mark.parametrize("removed_by", ["remove", "remove_stale"])
def test_its_chains_are_looked_for_again_in_a_namespace_that_was_removed(bench: Bench, removed_by: str) -> None:
    for _ in range(2):
        bench.reconciler.reconcile(ROUTER)
    if removed_by == "remove":
        bench.reconciler.remove(ROUTER.id)
    else:
        bench.reconciler.remove_stale(())
    for namespace in (QROUTER, SNAT, f"fip-{ROUTER.gateway.network_id if ROUTER.gateway else ''}"):
        assert not bench.kernel.namespaces.exists(namespace)
        bench.kernel.namespaces.create(namespace)
        bench.fake[namespace].nft_tables.append(nat(dnat(FIP, FIXED)))
    bench.reconciler.reconcile(ROUTER)
    assert [bench.fake[name].nft_tables for name in bench.namespaces()] == [[], [], []]


def test_plan_says_it_in_one_line(bench: Bench) -> None:
    lines = list(as_lines(Renderer().section(bench.reconciler.planner.plan(ROUTER))))
    assert lines[-1].strip() == "- 1 chain of neutron-l3-agent in nft table ip nat"
    assert bench.fake[QROUTER].nft_tables


def switched(bench: Bench, table: Table, name: str = "legacy") -> Table:
    """Our rules of a table are in the packet filter of before when a new process starts."""
    left = replace(table, nft="" if name == "legacy" else "ip dvr")
    del bench.fake[QROUTER].tables[table.key]
    bench.fake[QROUTER].nft_tables[:] = [left]
    bench.restart()
    return left


@pytest.mark.parametrize(("was", "text"), [("legacy", "iptables table nat"), ("nftables", "nft table ip dvr")])
def test_our_rules_in_the_packet_filter_of_before_go_and_plan_and_log_say_so(
    bench: Bench, caplog: pytest.LogCaptureFixture, was: str, text: str
) -> None:
    left = switched(bench, bench.fake[QROUTER].tables[4, "nat"], was)
    plan = bench.reconciler.planner.plan(ROUTER)
    lines = [line.strip() for line in as_lines(Renderer().section(plan))]
    assert lines[-1] == f"- {len(left.chains)} stale chains of dvr-agent in {text}"
    assert plan.counts() == {"table": 1, "nft table" if was == "nftables" else "legacy table": 1}
    bench.fake.forget_calls()
    with caplog.at_level(logging.INFO):
        assert bench.reconciler.reconcile(ROUTER).conntrack_deleted == 0
    order = [call.method for call in bench.fake.calls("iptables.commit", "nftables.remove")]
    assert order == ["iptables.commit", "nftables.remove"]
    assert bench.fake[QROUTER].nft_tables == []
    ways = "from legacy tables to nf_tables" if was == "legacy" else "from nf_tables to legacy tables"
    told = f"packet filter changed {ways}; chains removed: {QROUTER}: {text} {len(left.chains)}"
    assert f"router {ROUTER.id}: {told}" in caplog.messages
    assert not any("neutron-l3-agent" in message for message in caplog.messages)


def test_chains_of_both_in_one_table_are_counted_apart(bench: Bench) -> None:
    ours, theirs = bench.fake[QROUTER].tables[4, "nat"], nat(dnat(FIP, FIXED))
    switched(bench, replace(ours, chains=(*ours.chains, *theirs.chains)))
    lines = [line.strip() for line in as_lines(Renderer().section(bench.reconciler.planner.plan(ROUTER)))]
    assert lines[-2:] == [
        "- 1 chain of neutron-l3-agent in iptables table nat",
        f"- {len(ours.chains)} stale chains of dvr-agent in iptables table nat",
    ]


def test_floating_ips_in_the_packet_filter_of_before_are_known(bench: Bench) -> None:
    switched(bench, bench.fake[QROUTER].tables[4, "nat"])
    assert floating_ips(bench.kernel, ROUTER.id) == [FIP]


def test_a_handover_takes_our_chains_in_both_packet_filters_and_leaves_those_of_the_other_agent(bench: Bench) -> None:
    left = switched(bench, bench.fake[QROUTER].tables[4, "nat"])
    theirs = nat(dnat(FIP, FIXED), snat(FIP, FIXED))
    both = replace(left, chains=(*left.chains, *theirs.chains), jumps=(*left.jumps, *theirs.jumps))
    bench.fake[QROUTER].nft_tables[:] = [both]
    (own,) = [one for one in find_own_objects(bench.kernel) if one.namespace == QROUTER]
    assert f"iptables table nat: {len(left.chains)} chains" in own.lines()
    assert f"ip: DNAT of {FIP}/32 to {FIXED}" not in missing_effects(bench.kernel, own)
    bench.fake[QROUTER].nft_tables[:] = [left, replace(theirs, chains=(replace(theirs.chains[0], rules=()),))]
    assert f"ip: DNAT of {FIP}/32 to {FIXED}" in missing_effects(bench.kernel, own)
    bench.fake[QROUTER].nft_tables[:] = [both]
    remove_own_objects(bench.kernel, find_own_objects(bench.kernel))
    assert find_own_objects(bench.kernel) == []
    assert [table.chains for table in bench.fake[QROUTER].nft_tables] == [theirs.chains]


def test_they_go_last_and_only_after_ours_are_there(bench: Bench) -> None:
    del bench.fake[QROUTER].tables[4, "nat"]
    bench.reconciler.reconcile(ROUTER)
    order = [call.method for call in bench.fake.calls("iptables.commit", "interfaces.apply", "nftables.remove")]
    assert order == ["iptables.commit", "nftables.remove"]


def test_a_try_that_could_not_commit_ours_leaves_theirs(bench: Bench) -> None:
    del bench.fake[QROUTER].tables[4, "nat"]
    bench.fake.fail("iptables.commit", times=None)
    with pytest.raises(RefusedError):
        bench.reconciler.reconcile(ROUTER)
    assert bench.fake[QROUTER].nft_tables
    bench.fake.heal()
    bench.reconciler.reconcile(ROUTER)
    assert bench.fake[QROUTER].nft_tables == []


def test_a_try_that_could_not_remove_theirs_is_repeated_and_costs_no_connection(bench: Bench) -> None:
    bench.fake[QROUTER].connections.append((FIP, FIXED, "192.0.2.1", FIXED))
    bench.fake.fail("nftables.remove", times=2)
    for _ in range(2):
        with pytest.raises(RefusedError):
            bench.reconciler.reconcile(ROUTER)
    assert bench.reconciler.reconcile(ROUTER).conntrack_deleted == 0
    assert bench.fake[QROUTER].connections
    assert bench.fake[QROUTER].nft_tables == []


def test_connections_of_a_floating_ip_that_it_leaked_go(bench: Bench) -> None:
    bench.fake[QROUTER].nft_tables[:] = [nat(dnat(FIP, FIXED), dnat("203.0.113.9", "10.1.0.9"))]
    there = bench.fake[QROUTER].connections
    there += [(FIP, FIXED, "192.0.2.1", FIXED), ("203.0.113.9", "10.1.0.9", "192.0.2.1", "10.1.0.9")]
    assert bench.reconciler.reconcile(ROUTER).conntrack_deleted == 1
    assert [connection[0] for connection in there] != ["203.0.113.9"]


def test_the_log_tells_what_was_taken_over_and_what_it_had_leaked(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    device = next(name for name in bench.fake[QROUTER].links if name.startswith("qr-"))
    stale = Neighbour("10.1.0.77", device, "fa:16:3e:00:00:77")
    bench.fake[QROUTER].neighbours[stale.key] = stale
    with caplog.at_level(logging.DEBUG):
        bench.reconciler.reconcile(ROUTER)
        bench.reconciler.reconcile(ROUTER)
    leaks = "stale objects removed: neighbour: 1"
    told = [record.getMessage() for record in caplog.records if "neutron-l3-agent" in record.getMessage()]
    assert told == [
        f"router {ROUTER.id}: taken over from neutron-l3-agent; chains removed: {QROUTER}: nft table ip nat 1; {leaks}",
        f"{QROUTER}: removed stale object of neutron-l3-agent: {stale.text}",
    ]


def test_its_chains_in_legacy_tables_that_we_do_not_use_go_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.reconciler.reconcile(ROUTER)
    left = Table(6, "raw", (Chain("neutron-l3-agent-OUTPUT"),), (("OUTPUT", "neutron-l3-agent-OUTPUT"),))
    foreign = Table(4, "raw", (), (("OUTPUT", "operators"),))
    bench.fake[SNAT].tables |= {left.key: left}
    bench.fake[QROUTER].tables |= {foreign.key: foreign}
    bench.restart()
    assert bench.reconciler.reconcile(ROUTER).plan.counts() == {"table": 1}
    assert bench.fake[SNAT].tables[left.key] == Table(6, "raw")
    assert bench.fake[QROUTER].tables[foreign.key] == foreign


def test_marks_that_are_in_use_stay_over_restarts(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    view, state = desired(SCOPES, "compute1")
    scope = next(port.scope4 for port in SCOPES.interfaces if port.scope4)
    own = view.marks[scope]
    device = next(f"qr-{port.id}"[:14] for port in SCOPES.interfaces if port.scope4 == scope)
    bench.fake.world.create(state.qrouter.name)
    theirs = Chain("neutron-l3-agent-scope", (FilterRule(SetMark(0x4010000, SCOPE_MASK), iif=device),))
    bench.fake[state.qrouter.name].nft_tables.append(Table(4, "mangle", (theirs,)))
    bench.restart()
    for _ in range(3):
        bench.reconciler.reconcile(SCOPES)
        rules = [rule for chain in bench.fake[state.qrouter.name].tables[4, "mangle"].chains for rule in chain.rules]
        assert FilterRule(SetMark(0x4010000, SCOPE_MASK), iif=device) in rules
        assert own not in [rule.target.value for rule in rules if isinstance(rule.target, SetMark)]
        assert not bench.reconciler.planner.plan(SCOPES)
        bench.restart()


def test_marks_like_ours_are_no_news() -> None:
    view, state = desired(SCOPES, "compute1")
    assert marks_in_use(view, state.qrouter, state.snat) == ()


@pytest.mark.parametrize(
    ("pairs", "known"),
    [
        ([(A, 0x4010000), (A, 0x4010000)], {A: 0x4010000}),
        ([(A, 0x4010000), (B, 0x4010000)], {}),
        ([(A, 0x4010000), (A, 0x4020000), (B, 0x4020000)], {A: 0x4010000}),
        ([(A, 0x4000000), (B, 0x8000000), (C, 0x4010001)], {}),
    ],
)
def test_marks_that_contradict_themselves_are_not_kept(pairs: list[tuple[str, int]], known: dict[str, int]) -> None:
    assert known_marks(pairs) == known


def test_new_scopes_keep_clear_of_marks_in_use() -> None:
    own = scope_marks([A, B])
    marks = scope_marks([A, B, None], {A: own[B]})
    assert marks[A] == own[B]
    assert len(set(marks.values())) == 3


@pytest.mark.parametrize(
    ("theirs", "mine", "gone"),
    [
        ([dnat(FIP, FIXED), snat(FIP, FIXED)], [dnat(FIP, FIXED), snat(FIP, FIXED)], []),
        ([dnat(FIP, FIXED), snat(FIP, FIXED)], [dnat(FIP, "10.1.0.9"), snat(FIP, "10.1.0.9")], [FIP]),
        ([dnat(FIP, FIXED)], [], [FIP]),
        ([FilterRule(Snat("203.0.113.1"), oif="qg-1")], [FilterRule(Snat("203.0.113.1"))], []),
        ([FilterRule(Snat("203.0.113.1"), oif="qg-1")], [], ["203.0.113.1"]),
    ],
)
def test_only_what_nobody_translates_any_more_is_forgotten(
    theirs: list[FilterRule], mine: list[FilterRule], gone: list[str]
) -> None:
    assert released_by_takeover([TableChange(nat(*theirs), nat(*mine))]) == set(map(Released, gone))


def test_the_other_agent_is_ready_when_it_does_what_ours_do(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.reconciler.reconcile(ROUTER)
    kernel, fip = bench.kernel, next(name for name in bench.namespaces() if name.startswith("fip-"))
    (leaving,) = [one for one in find_own_objects(kernel) if one.namespace == fip]
    assert missing_effects(kernel, leaving) == ["its chains"]
    there = bench.fake[fip].nft_tables
    chain = Chain("neutron-l3-agent-PREROUTING", (FilterRule(NoTrack()),))
    there[:] = [Table(4, "raw", (chain,))]
    assert missing_effects(kernel, leaving) == ["ip: packets are not tracked"], "nothing leads to the chain"
    there[:] = [Table(4, "raw", (chain,), (("PREROUTING", chain.name),))]
    assert missing_effects(kernel, leaving) == []
    first = Chain("neutron-l3-agent-first", (FilterRule(Jump(chain.name)),))
    there[:] = [Table(4, "raw", (first, chain), (("PREROUTING", first.name),))]
    assert missing_effects(kernel, leaving) == []
    remove_own_objects(kernel, find_own_objects(kernel))
    assert find_own_objects(kernel) == []


def test_metadata_rules_are_for_neutron_unless_the_option_says_otherwise(tmp_path: Path) -> None:
    def settings(*lines: str) -> tuple[bool, int]:
        path = tmp_path / "agent.conf"
        path.write_text("\n".join(["[DEFAULT]", "agent_mode = dvr", *lines]))
        found = config.host_settings(config.load(["--config-file", str(path)]))
        return found.metadata, found.metadata_port

    neutron = "transport_url = rabbit://127.0.0.1/"
    assert settings() == (False, 9697)
    assert settings("enable_metadata_proxy = true", "metadata_port = 8775") == (True, 8775)
    assert settings(neutron) == (True, 9697)
    assert settings(neutron, "enable_metadata_proxy = false") == (False, 9697)


def test_metadata_rules_are_those_of_the_contract() -> None:
    view, _ = desired(ROUTER, "compute1")
    settings = replace(view.settings, metadata=True)
    state = desired_router(replace(view, settings=settings, agent_gateway=None), HostAllocations())
    rules = {
        f"{table.text}: {chain.name} {rule.text}"
        for table in state.qrouter.tables
        for chain in table.chains
        for rule in chain.rules
    }
    for command, address in (("iptables", "169.254.169.254/32"), ("ip6tables", "fe80::a9fe:a9fe/128")):
        request = f"-d {address} -i qr-+ -p tcp -m tcp --dport 80"
        assert {
            f"{command} table mangle: dvr-PREROUTING {request} -j MARK --set-xmark 0x1/0xffff",
            f"{command} table nat: dvr-PREROUTING {request} -j REDIRECT --to-ports 9697",
            f"{command} table filter: dvr-INPUT -m mark --mark 0x1/0xffff -j ACCEPT",
            f"{command} table filter: dvr-INPUT -p tcp -m tcp --dport 9697 -j DROP",
            f"{command} table filter: dvr-FORWARD -m mark --mark 0x1/0xffff -j DROP",
        } <= rules


def test_connections_of_floating_ips_that_it_translated_are_no_business_of_ours(bench: Bench) -> None:
    bench.fake[QROUTER].connections.append((FIXED, "192.0.2.1", "192.0.2.1", FIXED))
    bench.reconciler.reconcile(ROUTER)
    assert bench.fake.calls("conntrack.drop_untranslated") == []
    assert len(bench.fake[QROUTER].connections) == 1
