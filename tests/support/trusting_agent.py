"""An agent without daemon that hears events and counts what it reads, for tests of trust; and who meddles with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.kernel.drift_events import Kept
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import Result
from dvr_agent.reconcile.factory import make_reconciler
from tests.support import lab
from tests.support.heard import hearing, reconcile_heard
from tests.support.small_routers import EXTERNAL, HOST, fip, qrouter

FIP = names.FIP + EXTERNAL
READERS = ("observe", "limits")


class Agent:
    """A reconciler that hears events, and counts what it reads.

    :ivar reads: calls of the kernel's interfaces that read a namespace
    """

    def __init__(self, state_path: Path, kept: Kept | None = None) -> None:
        self.reconciler = make_reconciler(HostSettings(HOST, AgentMode.DVR_SNAT), {EXTERNAL: "br-ext"}, state_path)
        self.reconciler.load()
        self.judge = hearing(self.reconciler, kept)
        self.reads: list[str] = []

    def once(self, router: Router, in_resync: bool = False, trusting: bool = True) -> Result:
        self.reads.clear()
        return reconcile_heard(self.judge, self.reconciler, router, in_resync, trusting)

    def twice(self, router: Router) -> None:
        """Until the router is trusted: its namespaces are heard when the first job has made them."""
        for _ in range(2):
            self.once(router)

    def differs(self, router: Router) -> bool:
        return bool(self.reconciler.planner.plan(router))


@contextlib.contextmanager
def counting_agent(host: lab.Host, state_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """An agent on a host with an external bridge; its ``judge`` is closed at the end."""
    host.bridge("br-ext")
    agent = Agent(state_path)
    interfaces = type(agent.reconciler.kernel.interfaces)
    for name in READERS:
        original: Callable[..., object] = getattr(interfaces, name)

        def spy(self: object, namespace: str, *args: object, _call: Callable[..., object] = original) -> object:
            agent.reads.append(namespace)
            return _call(self, namespace, *args)

        monkeypatch.setattr(interfaces, name, spy)
    yield agent
    agent.judge.close()


def with_fips(router: Router, *hosts: int) -> Router:
    found = tuple(fip(f"203.0.113.{100 + one}", f"{router.interfaces[0].fixed_ips[0].address.compressed[:-1]}{one}")
                  for one in hosts)  # fmt: skip
    return replace(router, floating_ips=found)


def router_base(router: Router) -> int:
    """The first of the router's own numbers of floating IPs."""
    return 10 * int(router.interfaces[0].fixed_ips[0].address.compressed.split(".")[1])


Meddling = Callable[[Router], tuple[str, ...]]
MEDDLING: tuple[Meddling, ...] = (
    lambda router: ("-n", qrouter(router), "address", "add", "10.77.0.1/24", "dev", device(qrouter(router), "qr-")),
    lambda router: ("-n", qrouter(router), "link", "set", device(qrouter(router), "rfp-"), "down"),
    lambda router: ("-n", qrouter(router), "rule", "add", "priority", "33000", "from", "192.0.2.1", "lookup", "16"),
    lambda router: ("-n", qrouter(router), "route", "flush", "table", "16"),
    lambda _router: ("-n", FIP, "address", "flush", "dev", device(FIP, "fg-"), "scope", "global"),
    lambda router: ("-n", FIP, "link", "delete", names.device(names.FIP_TO_ROUTER, router.id)),
    lambda router: ("-n", qrouter(router), "route", "flush", "dev", device(qrouter(router), "rfp-")),
    lambda router: ("-n", qrouter(router), "-6", "route", "flush", "dev", device(qrouter(router), "qr-")),
    lambda router: ("-n", FIP, "route", "flush", "dev", names.device(names.FIP_TO_ROUTER, router.id)),
    lambda _router: ("-n", FIP, "route", "flush", "dev", device(FIP, "fg-"), "proto", "kernel"),
    lambda router: ("netns", "delete", names.SNAT + router.id),
)


def device(namespace: str, prefix: str) -> str:
    """The first device of a namespace whose name begins so."""
    found = sorted(link["ifname"] for link in lab.ip_json("link", "show", netns=namespace))
    return next(name for name in found if name.startswith(prefix))
