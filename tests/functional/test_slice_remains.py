"""What is left of a slice whose device is gone: a rule and a table in the fip namespace, on the real kernel."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel import netns
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.small_routers import EXTERNAL, HOST, fip, make_router
from tests.support.waiting import wait_for

FIP = names.FIP + EXTERNAL
ONE, TWO = (
    replace(router, floating_ips=(fip(f"203.0.113.{77 + number}", f"10.{number}.0.9"),))
    for number, router in ((1, make_router("one", 1)), (2, make_router("two", 2)))
)


@pytest.fixture
def reconciler(host: lab.Host, tmp_path: Path) -> RouterReconciler:
    host.bridge("br-ext")
    made = make_reconciler(HostSettings(HOST, AgentMode.DVR_SNAT), {EXTERNAL: "br-ext"}, tmp_path)
    made.load()
    for router in (ONE, TWO):
        made.reconcile(router)
    return made


def picture() -> list[str]:
    """Rules and routes, without those that the kernel makes and removes with a device."""
    routes = lab.run("ip", "-n", FIP, "route", "show", "table", "all").splitlines()
    return sorted([*lab.run("ip", "-n", FIP, "rule").splitlines(), *(line for line in routes if "kernel" not in line)])


def restore(lines: list[str]) -> None:
    """Put back the rule and the default route of a slice that was removed: as if its removal had not found them."""
    device = names.device(names.FIP_TO_ROUTER, ONE.id)
    # It goes with the namespace of its other end, which the kernel tears down a moment later.
    wait_for(lambda: device not in lab.run("ip", "-n", FIP, "link"), f"{device} is gone")
    (rule,) = [line for line in lines if f"iif {device}" in line]
    table = rule.split()[-1]
    (route,) = [line for line in lines if line.startswith("default") and f"table {table} " in line]
    lab.run("ip", "-n", FIP, "rule", "add", "iif", device, "priority", table, "lookup", table)
    lab.run("ip", "-n", FIP, "route", "add", *route.split())


def test_the_rule_and_the_table_of_a_slice_without_device_are_stale(reconciler: RouterReconciler) -> None:
    whole = picture()
    reconciler.remove(ONE.id)
    clean = picture()
    restore(whole)
    assert picture() != clean
    (changes,) = reconciler.planner.plan_stale({TWO.id}).changes
    assert sorted(change.kind for change in changes.items) == ["route", "rule"]
    reconciler.remove_stale({TWO.id})
    assert picture() == clean
    assert not reconciler.planner.plan_stale({TWO.id}).changes


def test_they_are_stale_too_where_the_router_lives_and_has_left_the_network(reconciler: RouterReconciler) -> None:
    whole = picture()
    inside = replace(ONE, gateway=None, agent_gateways=(), floating_ips=(), gateway_host=None)
    reconciler.reconcile(inside)
    clean = picture()
    restore(whole)
    reconciler.remove_stale({ONE.id, TWO.id})
    assert picture() == clean


def test_a_slice_that_lacks_its_device_for_now_is_not_stale(reconciler: RouterReconciler) -> None:
    lab.run("ip", "-n", FIP, "link", "delete", names.device(names.FIP_TO_ROUTER, ONE.id))
    assert not reconciler.planner.plan_stale({ONE.id, TWO.id})
    reconciler.reconcile(ONE)
    assert not reconciler.planner.plan(ONE)


def test_a_namespace_that_is_listed_is_not_taken_for_gone(
    reconciler: RouterReconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call that says so, as strace can have it, is not enough."""
    opens = os.open

    def refuse(path: str, *rest: int, **more: int) -> int:
        if path == netns.path_of(FIP):
            raise FileNotFoundError(errno.ENOENT, "injected")
        return opens(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(KernelError) as caught:
            reconciler.remove(ONE.id)
    assert not isinstance(caught.value, NamespaceGoneError)
    reconciler.remove(ONE.id)
    wait_for(lambda: names.device(names.FIP_TO_ROUTER, ONE.id) not in "".join(picture()))
