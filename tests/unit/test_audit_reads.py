"""What an audit of a router reads, now and then also neighbours that nobody wants; and what a table check finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.model.router import Router
from dvr_agent.reconcile.memory import ROUNDS
from dvr_agent.state.adverse import DISABLE_IPV6
from dvr_agent.state.filter import Table, TableKey
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership
from tests.support.reconciler_rig import Bench
from tests.support.recorded_documents import load


@pytest.fixture
def router() -> Router:
    return load("b2_dvr_snat_node_with_vms", "compute1")


@pytest.fixture
def bench(tmp_path: Path, router: Router) -> Bench:
    """A router that was just built."""
    made = Bench(tmp_path)
    made.reconciler.reconcile(router)
    return made


def neighbours(bench: Bench, router: Router) -> dict[object, Neighbour]:
    return bench.fake[names.QROUTER + router.id].neighbours


def stray(bench: Bench, router: Router) -> Neighbour:
    """Add a neighbour that nobody wants."""
    present = neighbours(bench, router)
    one = next(one for one in present.values() if ":" not in one.dst)._replace(dst="10.255.255.9")
    present[one.key] = one
    return one


def audit(bench: Bench, router: Router) -> bool:
    """True if it changed something."""
    bench.reconciler.begin_resync()
    return bool(bench.reconciler.reconcile(router, in_resync=True).plan)


def test_one_audit_of_ten_looks_for_neighbours_that_nobody_wants(bench: Bench, router: Router) -> None:
    bench.fake.forget_calls()
    for _ in range(2 * ROUNDS):
        audit(bench, router)
    asked = [call.args for call in bench.fake.calls("interfaces.observe") if call.args[0] == names.QROUTER + router.id]
    wanted = frozenset(neighbours(bench, router).values())
    assert [args[3] for args in asked] == 2 * [*(ROUNDS - 1) * [wanted], None]


def test_a_neighbour_that_nobody_wants_goes_within_ten_audits(bench: Bench, router: Router) -> None:
    one = stray(bench, router)
    assert any(audit(bench, router) for _ in range(ROUNDS))
    assert one not in neighbours(bench, router).values()


def test_a_job_of_its_own_finds_it_at_once(bench: Bench, router: Router) -> None:
    audit(bench, router)
    one = stray(bench, router)
    bench.reconciler.reconcile(router)
    assert one not in neighbours(bench, router).values()


def test_the_first_resync_of_a_process_finds_it(bench: Bench, router: Router) -> None:
    one = stray(bench, router)
    bench.restart()
    audit(bench, router)
    assert one not in neighbours(bench, router).values()


@pytest.mark.parametrize("wrong", [True, False], ids=["wrong", "lost"])
def test_each_audit_repairs_neighbours_that_are_wanted(bench: Bench, router: Router, wrong: bool) -> None:
    audit(bench, router)
    present = neighbours(bench, router)
    before = dict(present)
    key, one = next(iter(present.items()))
    del present[key]
    if wrong:
        present[key] = one._replace(mac="fa:16:3e:ff:ff:ff")
    assert audit(bench, router)
    assert neighbours(bench, router) == before


def test_a_document_that_changed_is_compared_with_all_neighbours(bench: Bench, router: Router) -> None:
    audit(bench, router)
    instances = {one.dst for one in neighbours(bench, router).values()}
    fewer = replace(router, ports_by_subnet=())
    audit(bench, fewer)
    left = {one.dst for one in neighbours(bench, router).values()}
    assert left < instances
    assert not bench.reconciler.reconcile(fewer).plan


def test_an_audit_reads_no_more_where_ipv6_is_off(bench: Bench, router: Router) -> None:
    asked = []
    for value in ("0", "1"):
        for namespace in bench.namespaces():
            bench.fake[namespace].sysctls[DISABLE_IPV6.key] = value
        bench.reconciler.reconcile(router)
        bench.fake.forget_calls()
        assert not audit(bench, router)
        calls = bench.fake.calls("interfaces.observe")
        # A parameter alone is read where a namespace has no link-local address: the fake kernel never has one.
        asked.append([(call.args[0], call.args[3] is None) for call in calls if call.args[1] != Ownership()])
    assert asked[0] == asked[1]
    assert len(asked[0]) == len(set(asked[0])) + 1  # the fip namespace has a shared part, and a snapshot
    bench.fake[bench.namespaces()[0]].sysctls[DISABLE_IPV6.key] = "0"
    bench.reconciler.reconcile(router)
    assert not bench.reconciler.planner.plan(router)


# --- table checks ----------------------------------------------------------------------------------------------


def changed(bench: Bench, router: Router) -> bool:
    """True if a table check finds the router."""
    assert bench.reconciler.find_changed_tables(["11111111-0000-0000-0000-000000000000"]) == []
    found = bench.reconciler.find_changed_tables([router.id])
    assert found in ([], [router.id])
    return bool(found)


def test_a_table_check_reads_tables_only(bench: Bench, router: Router) -> None:
    bench.fake.forget_calls()
    assert not changed(bench, router)
    assert {call.method for call in bench.fake.calls()} == {"iptables.observe"}


@pytest.mark.parametrize("prefix", [names.QROUTER, names.SNAT])
@pytest.mark.parametrize("key", [(4, "nat"), (4, "mangle"), (6, "mangle")])
def test_a_table_check_finds_a_table_that_was_flushed(bench: Bench, router: Router, prefix: str, key: TableKey) -> None:
    tables = bench.fake[prefix + router.id].tables
    assert tables[key].chains
    tables[key] = Table(*key)
    assert changed(bench, router)
    bench.reconciler.reconcile(router)
    assert not changed(bench, router)


def test_a_table_check_finds_the_shared_table_of_a_fip_namespace(bench: Bench, router: Router) -> None:
    state = bench.reconciler.memory.desired_of(router.id)
    assert state is not None
    assert state.base is not None
    bench.fake[state.base.name].tables[(4, "raw")] = Table(4, "raw")
    assert changed(bench, router)


def test_a_table_check_tells_once_that_a_policy_drops_packets(bench: Bench, router: Router) -> None:
    tables = bench.fake[names.QROUTER + router.id].tables
    before = tables[(4, "filter")]
    tables[(4, "filter")] = replace(before, dropping=("FORWARD",))
    assert [changed(bench, router), changed(bench, router)] == [True, False]
    tables[(4, "filter")] = before
    assert [changed(bench, router), changed(bench, router)] == [True, False]


def test_no_earlier_desired_state_is_kept_for_the_next_table_check(bench: Bench, router: Router) -> None:
    assert not changed(bench, router)
    assert bench.reconciler.memory.router(router.id).checked_tables
    bench.reconciler.reconcile(replace(router, floating_ips=()))
    assert not bench.reconciler.memory.router(router.id).checked_tables


def test_a_table_check_finds_a_router_whose_namespace_is_gone(bench: Bench, router: Router) -> None:
    bench.kernel.namespaces.remove(names.QROUTER + router.id)
    assert changed(bench, router)
