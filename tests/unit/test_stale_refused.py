"""A removal of stale objects of which something is refused: all else goes, and all errors are named."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.errors import KernelError
from dvr_agent.reconcile.api import RefusedError
from tests.support.packet_documents import uid
from tests.support.reconciler_rig import Bench
from tests.support.small_routers import EXTERNAL, HOST, fip, make_router

ROUTERS = [make_router(name, number) for number, name in enumerate(("one", "two", "three", "stays"), start=1)]
*STALE, STAYS = ROUTERS
FIP = names.FIP + EXTERNAL


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Four routers with a floating IP each."""
    bench = Bench(tmp_path, HOST)
    for number, router in enumerate(ROUTERS):
        fixed = str(router.interfaces[0].fixed_ips[0].address + 8)
        bench.reconciler.reconcile(replace(router, floating_ips=(fip(f"203.0.113.{77 + number}", fixed),)))
    return bench


def pairs(bench: Bench) -> set[str]:
    """Ids of the routers with an allocated pair."""
    return set(bench.reconciler.memory.allocations.stale_entries(())[0])


def refused_sweep(bench: Bench) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        bench.reconciler.remove_stale({STAYS.id})
    return caught.value


def test_a_namespace_that_cannot_be_removed_keeps_no_other(bench: Bench) -> None:
    kept = names.QROUTER + STALE[1].id
    refusal = KernelError(kept, "namespace", errno.EBUSY, "cannot be removed")
    bench.fake.fail("namespaces.remove", error=refusal, when=lambda name: name == kept, times=None)
    error = refused_sweep(bench)
    assert str(error) == str(refusal)
    assert bench.namespaces() == sorted({FIP, kept, names.QROUTER + STAYS.id, names.SNAT + STAYS.id})
    assert error.result.staying == {STALE[1].id}
    assert not any(changes.namespace == kept for changes in error.result.plan.changes if changes.remove)


def test_each_slice_goes_by_itself_and_the_pair_of_one_that_stays_is_not_given_away(bench: Bench) -> None:
    stem = names.router_stem(STALE[0].id)
    refusal = KernelError(FIP, f"link fpr-{stem}", errno.EPERM)
    bench.fake.fail(
        "interfaces.change",
        error=refusal,
        times=None,
        when=lambda _name, change: change.item.text.startswith(f"link fpr-{stem}"),
    )
    error = refused_sweep(bench)
    assert "EPERM" in str(error)
    assert not {router.id for router in STALE} & {name.partition("-")[2] for name in bench.namespaces()}
    assert pairs(bench) >= {STALE[0].id, STAYS.id}
    bench.fake.heal()
    bench.reconciler.remove_stale({STAYS.id})
    assert pairs(bench) == {STAYS.id}


def test_all_errors_are_named(bench: Bench) -> None:
    for router in STALE[:2]:
        name = names.QROUTER + router.id
        error = KernelError(name, "namespace", errno.EBUSY)
        bench.fake.fail("namespaces.remove", error=error, when=lambda found, name=name: found == name, times=None)
    text = str(refused_sweep(bench))
    assert all(router.id in text for router in STALE[:2])


def test_outer_sides_and_names_go_one_by_one(bench: Bench) -> None:
    ours = [names.FIP + uid("network", name) for name in ("gone", "gone too")]
    bench.fake.world.empty_files |= set(ours)
    refusal = KernelError(ours[0], "namespace file", errno.EPERM)
    bench.fake.fail("namespaces.remove_file", error=refusal, when=lambda name: name == ours[0], times=None)
    error = refused_sweep(bench)
    assert str(error) == str(refusal)
    assert bench.fake.world.empty_files == {ours[0]}
    lines = [text for _where, text in error.result.plan.ports if "without a namespace" in text]
    assert lines == [f"- name {ours[1]} without a namespace"]
    assert bench.namespaces() == sorted({FIP, names.QROUTER + STAYS.id, names.SNAT + STAYS.id})
