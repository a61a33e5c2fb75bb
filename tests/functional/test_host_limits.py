"""A host that is full: what fits is built, what works goes on, and the limit is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.allocation import PAIRS
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import AllocationError
from dvr_agent.reconcile.api import RefusedError
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.reconcile.statefile import PAIRS_FILE, PRIORITIES_FILE
from dvr_agent.state.ownership import FIP_PRIORITIES, FIP_TABLE
from tests.support import lab
from tests.support.small_routers import EXTERNAL, HOST, fip, make_router

BRIDGE_PORTS = 1023
"""BR_MAX_PORTS of the kernel, less number 0."""


def agent(state_path: Path) -> RouterReconciler:
    """A process that has just started."""
    found = make_reconciler(HostSettings(HOST, AgentMode.DVR_SNAT), {EXTERNAL: "br-ext"}, state_path)
    found.load()
    return found


def priorities(router_id: str) -> list[int]:
    rules = lab.ip_json("rule", netns=names.QROUTER + router_id)
    return sorted(rule["priority"] for rule in rules if rule["table"] == str(FIP_TABLE))


def test_floating_ips_share_priorities_with_other_routers_once_all_are_used_up(host: lab.Host, tmp_path: Path) -> None:
    host.bridge("br-ext")
    text = "".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255},{priority}\n" for n, priority in enumerate(FIP_PRIORITIES))
    (tmp_path / PRIORITIES_FILE).write_text(text)
    plain = make_router("many", 1)
    router = replace(plain, floating_ips=(fip("203.0.113.51", "10.1.0.5"), fip("203.0.113.52", "10.1.0.6")))
    reconciler = agent(tmp_path)
    reconciler.reconcile(router)
    reconciler.flush()
    found = priorities(router.id)
    assert len(set(found)) == 2
    assert set(found) <= set(FIP_PRIORITIES)
    assert not agent(tmp_path).planner.plan(router)
    reconciler.reconcile(replace(plain, floating_ips=router.floating_ips[1:]))
    assert len(priorities(router.id)) == 1
    assert (tmp_path / PRIORITIES_FILE).read_text().count("\n") == len(FIP_PRIORITIES)


def test_a_router_for_which_no_subnet_is_left_is_told(host: lab.Host, tmp_path: Path) -> None:
    host.bridge("br-ext")
    lines = (f"{number:08x}-0000-4000-8000-000000000000,{pair}\n" for number, pair in enumerate(PAIRS))
    (tmp_path / PAIRS_FILE).write_text("".join(lines))
    router = make_router("late", 1)
    with pytest.raises(AllocationError, match=f"none is left for {router.id}: all 8192 values from 169.254.64.0/31 to"):
        agent(tmp_path).reconcile(router)


def test_a_bridge_without_a_free_port_is_told_and_the_rest_of_the_router_built(host: lab.Host, tmp_path: Path) -> None:
    host.bridge("br-ext")
    taken = len(lab.ip_json("link", "show", "master", "br-ext"))
    lines = [
        f"link add p{number} type veth peer name q{number}\nlink set p{number} master br-ext"
        for number in range(BRIDGE_PORTS - 1 - taken)  # one is left, for fg
    ]
    lab.run("ip", "-batch", "-", text="\n".join(lines), timeout=600)
    reconciler, router = agent(tmp_path), make_router("full", 1)
    with pytest.raises(RefusedError, match=r"port qg-.*EXFULL .*the bridge has 1,023 ports, as many as Linux allows"):
        reconciler.reconcile(router)
    lab.run("ip", "link", "del", "p0")
    reconciler.reconcile(router)
    assert not reconciler.planner.plan(router)
    assert names.SNAT + router.id in reconciler.kernel.namespaces.list()
