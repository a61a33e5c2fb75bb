"""What one audited router costs does not depend on how many routers are on its network: counted, not timed."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from bench.reliability import cost, executor_share
from bench.reliability.api import Options
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.kernel import procfs
from dvr_agent.kernel.netlink.endpoint import NetlinkEndpoint
from dvr_agent.kernel.netlink.message import HEADER, Request
from dvr_agent.model.router import Router
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.small_routers import EXTERNAL, HOST, make_router

FEW, MANY = 3, 12
DIRECTORIES = {"sys/net/ipv4", "sys/net/ipv6", "sys/net/netfilter"}


@pytest.fixture
def reconciler(host: lab.Host, tmp_path: Path) -> RouterReconciler:
    host.bridge("br-ext")
    made = make_reconciler(HostSettings(HOST, AgentMode.DVR_SNAT), {EXTERNAL: "br-ext"}, tmp_path)
    made.load()
    return made


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is asked of the kernel: netlink requests, messages of the answers, opened files."""
    counts: Counter[str] = Counter()
    send, receive, opened = NetlinkEndpoint._send, NetlinkEndpoint._receive, os.open
    at_proc = procfs.ProcInstance.open

    def counting_send(self: NetlinkEndpoint, requests: list[Request], last: int) -> int:
        counts["requests"] += len(requests)
        return send(self, requests, last)

    def counting_receive(self: NetlinkEndpoint, what: str) -> int:
        size = receive(self, what)
        at = 0
        while at + HEADER.size <= size:
            counts["messages"] += 1
            at += (HEADER.unpack_from(self._buffer, at)[0] + 3) & ~3
        return size

    def counting_open(path: str, *arguments: int, **more: int) -> int:
        counts["files"] += 1
        assert not str(path).startswith("/proc/sys"), "it would pass by the directories of all namespaces"
        return opened(path, *arguments, **more)

    def counting_directory(self: procfs.ProcInstance, path: str, flags: int) -> int:
        counts[path] += 1
        return at_proc(self, path, flags)

    monkeypatch.setattr(NetlinkEndpoint, "_send", counting_send)
    monkeypatch.setattr(NetlinkEndpoint, "_receive", counting_receive)
    monkeypatch.setattr(os, "open", counting_open)
    monkeypatch.setattr(procfs.ProcInstance, "open", counting_directory)
    return counts


def cost_of_last(reconciler: RouterReconciler, routers: list[Router], counted: Counter[str]) -> Counter[str]:
    """Audit all routers; returns what was asked of the kernel for the last of them."""
    procfs._thread.instance = None  # whether it is replaced at this router is chance
    reconciler.begin_resync()
    for router in routers:
        counted.clear()
        assert not reconciler.reconcile(router, in_resync=True).plan
    return Counter(counted)


def test_an_audited_router_costs_the_same_with_few_and_with_many_routers(
    reconciler: RouterReconciler, counted: Counter[str]
) -> None:
    routers = [make_router(f"r{number}", number + 1) for number in range(MANY)]
    for router in routers[:FEW]:
        reconciler.reconcile(router)
    few = cost_of_last(reconciler, routers[:FEW], counted)
    for router in routers[FEW:]:
        reconciler.reconcile(router)
    many = cost_of_last(reconciler, routers, counted)
    assert many == few
    # Once in each of the router's two namespaces: there the kernel searches a list of namespaces.
    assert {path: many[path] for path in DIRECTORIES} == dict.fromkeys(DIRECTORIES, 2)


def test_the_program_behind_the_figure_runs_and_audits_write_nothing(
    host: lab.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "STATE_PATH", tmp_path)
    monkeypatch.setattr(cost, "sizes", lambda _options: (2, 6))
    figure = cost.measure_growth(Options(quick=True))
    assert figure.text.startswith("2 → 6 routers")
    assert not [line for line in figure.details if "writes" in line]


def test_the_program_behind_the_share_of_the_order_runs(host: lab.Host) -> None:
    figure = executor_share.measure(Options(quick=True))
    assert "of the processor time of a build" in figure.text
