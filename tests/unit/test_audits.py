"""When audits come, and how a table check finds the routers that one of them has to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.daemon.audits import CHEAP, LONGEST, SHARE, pause_after
from dvr_agent.desired import names
from dvr_agent.model.router import Router
from dvr_agent.state.filter import Table, TableKey
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


def changed(bench: Bench, router: Router) -> bool:
    """True if a table check finds the router."""
    assert bench.reconciler.find_changed_tables(["11111111-0000-0000-0000-000000000000"]) == []
    found = bench.reconciler.find_changed_tables([router.id])
    assert found in ([], [router.id])
    return bool(found)


def test_the_first_portion_comes_after_a_whole_interval() -> None:
    assert pause_after(60, 5, None) == 60


def test_cheap_portions_come_in_time() -> None:
    assert pause_after(60, 5, 0.9 * CHEAP) == 12
    assert pause_after(0.1, 1, 0.9 * CHEAP) == 0.1


def test_dear_portions_are_put_off_to_their_share_of_a_processor() -> None:
    assert pause_after(60, 5, 0.1) == pytest.approx(0.1 / SHARE)
    assert pause_after(600, 5, 0.1) == 120


def test_no_portion_is_put_off_for_ever() -> None:
    assert pause_after(60, 5, 1000) == LONGEST * 12


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
