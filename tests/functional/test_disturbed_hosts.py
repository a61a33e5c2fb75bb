"""Whatever happens to a host between documents: an audit makes it what the documents say, whole and no more.

Other programs remove and change objects, the agent is killed at a write, the kernel refuses one, options change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.reliability.gate import Gate, StoppedError, behind
from dvr_agent.attach.api import AttachDriver
from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.extensions import Extension
from dvr_agent.kernel.api import Kernel
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.daemon_site import comparable, snapshot
from tests.support.disturbances import disturb
from tests.support.document_walk import Host, Walk

STEPS = 8
SEEDS = [*range(5), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(5, 60))]
WRITES = (1, 1, 2, 2, 3, 3, 5, 5, 8, 13, 21, 34, 55)
"""The write of a job that something happens to."""
REFUSALS = (1, 12, 16, 22, 105)
"""EPERM, ENOMEM, EBUSY, EINVAL, ENOBUFS."""


class DisturbedWalk(Walk):
    """A walk in which more happens than that documents change.

    :ivar gate: stands before each write
    """

    def __init__(self, seed: int, state_path: Path, monkeypatch: pytest.MonkeyPatch, has_ovs: bool) -> None:
        super().__init__(seed, state_path, monkeypatch, has_ovs)
        self.gate = Gate()
        self._first = (self._settings, HostFilter.backend, self._use_veth)
        self._steps: tuple[Callable[[Host], None], ...] = (
            self.disturb, self.disturb, self.kill, self.refuse, self.change_options, self.change_document, self.restart,
        )  # fmt: skip

    def _reconciler(self, kernel: Kernel, driver: AttachDriver, path: Path) -> RouterReconciler:
        return super()._reconciler(*behind(self.gate, kernel, driver), path)

    @contextlib.contextmanager
    def host(self, name: str) -> Iterator[Host]:
        with self.gate.installed(), super().host(name) as host:
            yield host

    def step(self, host: Host) -> None:
        step = self.dice.choice(self._steps)
        self.log.append(step.__name__)
        step(host)

    def disturb(self, host: Host) -> None:
        """Another program does something; what the agent hears of it is worked on first, now and then."""
        self.log += [f"  {command}" for command in disturb(self.dice)]
        if self.dice.random() < 0.7:
            self._run(host)
        self.audit(host)

    def kill(self, host: Host) -> None:
        """The agent is killed before a write of a job."""
        router = self.next()
        if router is None:
            return
        self.gate.close(stop_at=self.dice.choice(WRITES))
        try:
            self.put(host.jobs, router)
        except StoppedError:
            self.log.append(f"  killed before {self.gate.met}")
            self.gate.open()
            self._begin(host, killed=True)
        self.gate.open()

    def refuse(self, host: Host) -> None:
        """The kernel refuses a write, and no longer when the agent has tried it for a while."""
        router = self.next()
        if router is None:
            return
        self.gate.close(refuse_at=self.dice.choice(WRITES), code=self.dice.choice(REFUSALS))
        host.jobs.put(router)
        self._run(host)
        self.log.append(f"  refused with {self.gate.code}: {self.gate.met}")
        self.gate.open()
        if self.dice.random() < 0.5:
            self._begin(host, killed=self.dice.random() < 0.5)
        self.audit(host)

    def change_options(self, host: Host) -> None:
        """The agent is started again with other options."""
        if self.dice.random() < 0.6:
            self._settings = replace(
                self._settings,
                mode=self.dice.choice([*AgentMode]),
                extensions=frozenset(one for one in Extension if self.dice.random() < 0.6),
                metadata=self.dice.random() < 0.3,
            )
        HostFilter.backend = self.dice.choice(["legacy", "nftables"])
        self._use_veth = self.dice.random() < 0.5
        self._begin(host, killed=self.dice.random() < 0.5)

    def change_document(self, host: Host) -> None:
        router = self.next()
        if router is not None:
            self.put(host.jobs, router)

    def restart(self, host: Host) -> None:
        self._begin(host, killed=self.dice.random() < 0.5)

    def end(self, host: Host) -> None:
        """Give the options and documents of the beginning, and have the agent look at everything."""
        self._settings, HostFilter.backend, self._use_veth = self._first
        self._begin(host, killed=False)
        self.put(host.jobs, *self.routers)
        self.audit(host)

    def audit(self, host: Host) -> None:
        host.jobs.resync(trusting=False)
        self._run(host)
        host.jobs.sweep()
        self.put(host.jobs)

    def _begin(self, host: Host, killed: bool) -> None:
        mode = self._settings.mode.value
        self.log.append(f"  {'killed' if killed else 'stopped'}, started with {mode}, {HostFilter.backend}")
        host.restart(killed)
        self._run(host)
        host.jobs.sweep()
        self.put(host.jobs)

    @staticmethod
    def _run(host: Host) -> None:
        with contextlib.suppress(AssertionError):  # what is refused is tried for ever
            host.jobs.run()


def seen() -> Any:
    """All that matters, and the parameters, nf_tables and proxied neighbours of each namespace."""
    found: Any = snapshot()
    for name, state in found.items():
        lines = lab.in_netns(name, "sysctl", "-a", "-r", r"^net\.ipv[46]\.(conf|ip_)", check=False).splitlines()
        state["parameters"] = sorted(line for line in lines if not any(word in line for word in UNSTEADY))
        state["nftables"] = sorted(map(str.strip, lab.in_netns(name, "nft", "list", "ruleset").splitlines()))
        proxied = [lab.run("ip", family, "-n", name, "neigh", "show", "proxy") for family in ("-4", "-6")]
        state["proxied"] = sorted(line for text in proxied for line in text.splitlines())
    return comparable(found)


UNSTEADY = (".mtu", "stable_secret", "hop_limit", ".default.", ".lo.", "promote_secondaries", "proxy_ndp")
"""Parameters that an extension leaves when it goes, that a job leaves when it is killed, and those of others."""


def differences(one: Any, other: Any) -> list[str]:
    """Return what only one of two hosts has."""
    found = [f"{name} is on one host only" for name in one.keys() ^ other.keys()]
    for name in one.keys() & other.keys():
        for part, value in one[name].items():
            first, second = ({str(item) for item in _items(both)} for both in (value, other[name][part]))
            found += [f"{name} {part} {'before' if item in first else 'new'}: {item}" for item in first ^ second]
    return found


def _items(value: Any) -> Any:
    return value.items() if isinstance(value, dict) else value


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("has_ovs", [False, True], ids=["bridge", "openvswitch"])
def test_an_audit_makes_any_host_what_the_documents_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_ovs: bool, seed: int
) -> None:
    walk = DisturbedWalk(seed, tmp_path, monkeypatch, has_ovs)
    try:
        with walk.host("walk") as host:
            walk.put(host.jobs, *walk.routers)
            for _ in range(STEPS):
                walk.step(host)
            walk.end(host)
            walked, built = seen(), host.jobs.built
        # Which of two routers has which /31 depends on what was before; one that is left alone keeps what it has.
        if len(walk.routers) == len(built) == 1:
            with walk.host("new") as host:
                walk.put(host.jobs, *walk.routers)
                found = differences(walked, seen())
                assert not found, "\n".join(found)
    except AssertionError as exc:
        raise AssertionError("\n".join([*walk.log, str(exc)])) from None
