"""When the reconciler asks, serves and leaves a router's services; on the fake kernel, by services that take notes."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError, ServiceFatalError
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import RefusedError
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.services.bundle import Services
from tests.support.reconciler_rig import Bench
from tests.support.recorded_documents import load


class Notes:
    """A service whose work is to remember; what is in ``broken`` fails.

    :ivar served: router id → was its namespace there
    """

    def __init__(self, name: str, bench: Bench) -> None:
        self.name, self._bench = name, bench
        self.served: dict[str, bool] = {}
        self.left: dict[str, bool] = {}
        self.broken: set[str] = set()
        self.news: list[str] = []
        self.trouble = ""
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)

    def _there(self, router_id: str) -> bool:
        return f"qrouter-{router_id}" in self._bench.namespaces()

    def plan(self, router: Router) -> list[str]:
        if "plan" in self.broken:
            raise ServiceError(f"{self.name} cannot be looked at")
        return [] if router.id in self.served else [f"+ {self.name}"]

    def apply(self, router: Router) -> None:
        if "apply" in self.broken:
            raise ServiceError(f"{self.name} does not start")
        self.served[router.id] = self._there(router.id)

    def plan_remove(self, router_id: str) -> list[str]:
        return [f"- {self.name}"] if router_id in self.served else []

    def remove(self, router_id: str) -> None:
        if "remove" in self.broken and router_id in self.served:
            raise ServiceError(f"{self.name} does not end")
        if self.served.pop(router_id, None) is not None:
            self.left[router_id] = self._there(router_id)

    def routers(self) -> Collection[str]:
        return list(self.served)

    def ring(self, *router_ids: str) -> None:
        self.news += router_ids
        os.eventfd_write(self._bell, 1)

    def fileno(self) -> int:
        return self._bell

    def changed(self) -> Collection[str]:
        os.eventfd_read(self._bell)
        if "look" in self.broken:
            raise ServiceError(f"{self.name} cannot look")
        if "fatal" in self.broken:
            raise ServiceFatalError(f"{self.name} died")
        news, self.news = self.news, []
        return news

    def check(self) -> Collection[str]:
        return list(self.served)

    def status(self) -> dict[str, object]:
        return {"routers": len(self.served), "trouble": self.trouble}

    def close(self) -> None:
        os.close(self._bell)


class Served(Bench):
    """A bench with two services."""

    def __init__(self, state_path: Path) -> None:
        super().__init__(state_path)
        self.one, self.two = Notes("one", self), Notes("two", self)
        self.services = Services([self.one, self.two])
        self.reconciler = RouterReconciler(self.kernel, self.attach, self.settings, state_path, self.services)
        self.reconciler.load()


@pytest.fixture
def bench(tmp_path: Path) -> Served:
    return Served(tmp_path)


@pytest.fixture
def router() -> Router:
    return load("b2_dvr_snat_node_with_vms", "compute1")


def test_services_come_after_the_namespace_and_go_before_it(bench: Served, router: Router) -> None:
    outcome = bench.reconciler.reconcile(router)
    assert [change.text for change in outcome.plan.services] == ["+ one", "+ two"]
    assert outcome.plan.counts()["service"] == 2
    assert bench.one.served == bench.two.served == {router.id: True}
    assert not bench.reconciler.reconcile(router).plan
    planned = bench.reconciler.planner.plan_remove(router.id)
    outcome = bench.reconciler.remove(router.id)
    assert [change.text for change in outcome.plan.services] == ["- one", "- two"]
    assert planned.services == outcome.plan.services
    assert bench.one.left == bench.two.left == {router.id: True}
    assert f"qrouter-{router.id}" not in bench.namespaces()


def test_a_plan_serves_nobody(bench: Served, router: Router) -> None:
    assert [change.service for change in bench.reconciler.planner.plan(router).services] == ["one", "two"]
    assert bench.one.served == {}


def test_one_that_fails_is_told_and_keeps_neither_kernel_state_nor_the_other_away(
    bench: Served, router: Router
) -> None:
    bench.one.broken = {"plan", "apply"}
    outcome = bench.reconciler.reconcile(router)
    assert outcome.trouble == ("one does not start",)
    assert bench.two.served == {router.id: True}
    assert f"qrouter-{router.id}" in bench.namespaces()
    bench.one.broken = set()
    assert bench.reconciler.reconcile(router).trouble == ()
    assert bench.one.served == {router.id: True}


def test_without_kernel_state_nobody_is_served(bench: Served, router: Router) -> None:
    bench.fake.fail("namespaces.create", times=None)
    with pytest.raises(RefusedError):
        bench.reconciler.reconcile(router)
    assert bench.one.served == {}


def test_one_that_does_not_leave_keeps_the_namespace(bench: Served, router: Router) -> None:
    """Else the namespace would go on without a name, held by that service."""
    bench.reconciler.reconcile(router)
    bench.one.broken = {"remove"}
    with pytest.raises(ServiceError, match="one does not end"):
        bench.reconciler.remove(router.id)
    assert f"qrouter-{router.id}" in bench.namespaces()
    assert bench.two.served == {}, "all are tried"
    bench.one.broken = set()
    bench.reconciler.remove(router.id)
    assert f"qrouter-{router.id}" not in bench.namespaces()


def test_services_of_routers_that_nobody_knows_are_left_overs(bench: Served, router: Router) -> None:
    bench.reconciler.reconcile(router)
    bench.two.served["aaaaaaaa-0000-4000-8000-000000000001"] = True
    assert [change.text for change in bench.reconciler.planner.plan_stale([router.id]).services] == ["- two"]
    outcome = bench.reconciler.remove_stale([router.id])
    assert [change.text for change in outcome.plan.services] == ["- two"]
    assert bench.one.served == bench.two.served == {router.id: True}
    bench.reconciler.remove_stale([])
    assert bench.one.served == {}
    assert bench.one.left == {router.id: True}


def test_a_left_over_that_a_service_holds_keeps_no_other_away(bench: Served, router: Router) -> None:
    other = load("e_no_gateway", "compute1")
    for one in (router, other):
        bench.reconciler.reconcile(one)
    del bench.one.served[other.id]
    bench.one.broken = {"remove"}
    with pytest.raises(RefusedError, match="one does not end"):
        bench.reconciler.remove_stale([])
    assert bench.namespaces() == [f"qrouter-{router.id}"]
    bench.one.broken = set()
    bench.reconciler.remove_stale([])
    assert bench.namespaces() == []


def test_the_bundle_hears_only_who_has_something_to_say(bench: Served) -> None:
    assert bench.services.changed() == set()
    bench.two.ring("b")
    assert bench.services.changed() == {"b"}
    bench.one.ring("a")
    bench.two.ring("b", "c")
    assert bench.services.changed() == {"a", "b", "c"}
    bench.one.broken = {"look"}
    bench.one.ring("a")
    bench.two.ring("b")
    assert bench.services.changed() == {"b"}, "one that fails keeps the others' news from nobody"
    bench.one.broken = {"fatal"}
    bench.one.ring("a")
    with pytest.raises(ServiceFatalError, match="one died"):
        bench.services.changed()


def test_the_bundle_sums_up(bench: Served, router: Router) -> None:
    bench.reconciler.reconcile(router)
    bench.two.trouble = "it is away"
    assert bench.services.routers() == bench.services.check() == {router.id}
    assert bench.services.troubles == ["two: it is away"]
    assert set(bench.services.status()) == {"one", "two"}
    bench.services.close()
