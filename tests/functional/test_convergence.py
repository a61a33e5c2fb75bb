"""After any change the jobs that follow from it are enough: no router waits for a resync or an audit.

Routers share external networks: what one document changes may concern other routers, whose documents stay as they are.
"""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.attach.bridge import BridgeDriver
from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import KernelError
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.model.router import Router, RouterPort
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.memory import HostMemory
from dvr_agent.reconcile.planner import Planner
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.services.bundle import Services
from dvr_agent.state.diff import Change
from dvr_agent.state.missing import Missing
from tests.support import lab
from tests.support.daemon_jobs import DaemonJobs
from tests.support.daemon_site import comparable, snapshot
from tests.support.random_documents import BRIDGES, VARIANTS, RandomDocuments, gateway_port
from tests.support.small_routers import EXTERNAL, HOST, fip, make_router, port
from tests.support.trusting_agent import FIP, MEDDLING

PORTS = [gateway_port(EXTERNAL, name) for name in "ab"]
ADDRESS = "203.0.113.150"


class Daemon:
    """A daemon's jobs on a host with external bridges; it may be started again."""

    def __init__(
        self,
        state_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        mode: AgentMode = AgentMode.DVR_SNAT,
        hears: bool = True,
        newer_wins: bool = False,
    ) -> None:
        self._state_path, self._monkeypatch = state_path, monkeypatch
        self._settings, self.hears, self._newer_wins = HostSettings(HOST, mode), hears, newer_wins
        self.jobs = self._start()

    def _start(self, *routers: Router) -> DaemonJobs:
        reconciler = make_reconciler(self._settings, BRIDGES, self._state_path)
        reconciler.memory.claims.newer_wins = self._newer_wins
        jobs = DaemonJobs(reconciler, self._monkeypatch, self.hears)
        jobs.put(*routers)
        jobs.resync()
        return jobs

    def restart(self, is_reverse: bool = False) -> None:
        """Start another process on what this one has built; the order of the documents must not matter."""
        routers = self.jobs.routers[:: -1 if is_reverse else 1]
        self.jobs.reconciler.flush()
        self.jobs.close()
        self.jobs = self._start(*routers)

    def do(self, *routers: Router) -> list[str]:
        """Give it documents, and carry out what follows; returns the names of the routers that had a job."""
        self.jobs.put(*routers)
        known = {router.id: router.name for router in self.jobs.routers}
        self.jobs.run()
        assert not self.jobs.differing()
        return [known[router_id] for router_id, _ in self.jobs.results if router_id in known]

    @property
    def omitted(self) -> list[str]:
        """What is left out of the documents."""
        return [text for one in self.jobs.built for text in self.jobs.reconciler.planner.plan(one).omitted]

    def differing_beside(self) -> object:
        """What ``dvrctl plan`` would say, which knows documents, state files and kernel only."""
        kernel = open_kernel()
        self.jobs.reconciler.flush()
        memory = HostMemory.empty(kernel, self._state_path, self._newer_wins)
        planner = Planner(kernel, BridgeDriver(BRIDGES, kernel.counters), Services(), self._settings, memory)
        planner.load()
        planner.declare([(router.name, router) for router in self.jobs.routers])
        return self.jobs.differing(planner)

    def built(self) -> list[Router]:
        """The routers without what others have, and with the agent gateway port in use."""
        memory = self.jobs.reconciler.memory
        listed = {port.id: port for router in self.jobs.routers for port in router.agent_gateways}
        found = []
        for router in self.jobs.built:
            granted = memory.claims.grant(router, self._settings)
            desired = memory.router(router.id).desired
            gateway = desired[1] if desired is not None else None
            assert gateway is None or gateway.id in listed
            found.append(replace(granted, agent_gateways=(gateway,)) if gateway is not None else granted)
        return found


@pytest.fixture
def daemon(host: lab.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    for bridge in BRIDGES.values():
        host.bridge(bridge)
    made = Daemon(tmp_path, monkeypatch)
    yield made
    made.jobs.close()


def routers_with(gateway: RouterPort, number: int = 3) -> list[Router]:
    made = [make_router(name, count) for count, name in enumerate(("one", "two", "three")[:number], 1)]
    return [replace(one, agent_gateways=(gateway,)) for one in made]


def two_with_different_ports() -> list[Router]:
    return [replace(one, agent_gateways=(own,)) for one, own in zip(routers_with(PORTS[0], 2), PORTS, strict=True)]


def fg(*gateways: RouterPort) -> list[str]:
    return sorted(names.device(names.AGENT_GATEWAY, gateway.id) for gateway in gateways)


def fg_devices() -> list[str]:
    return sorted(link["ifname"] for link in lab.ip_json("link", netns=FIP) if link["ifname"].startswith("fg-"))


# --- the agent gateway port ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [PORTS[1], *(gateway_port(EXTERNAL, "a", variant) for variant in VARIANTS[1:])])
def test_all_routers_follow_the_port_of_the_newest_document(daemon: Daemon, new: RouterPort) -> None:
    """Their documents may learn of it much later."""
    one, two, three = routers_with(PORTS[0])
    daemon.do(one, two, three)
    assert daemon.do(replace(one, agent_gateways=(new,))) == ["one", "three", "two"]
    assert fg_devices() == fg(new)
    assert not daemon.differing_beside()
    assert daemon.do(replace(two, agent_gateways=(new,))) == ["two"]


def test_they_follow_also_where_the_job_of_that_document_fails(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = routers_with(PORTS[0], 2)
    daemon.do(one, two)
    interfaces = type(daemon.jobs.reconciler.kernel.interfaces)
    apply = interfaces.apply

    def fail(this: Any, namespace: str, changes: Sequence[Change], missing: Missing) -> None:
        if any(names.router_stem(one.id) in change.text for change in changes):
            raise KernelError(namespace, "anything", errno.EMFILE)
        apply(this, namespace, changes, missing)

    changed = replace(with_fip(one), agent_gateways=(PORTS[1],))
    with monkeypatch.context() as patch:
        patch.setattr(interfaces, "apply", fail)
        daemon.jobs.put(changed)
        with pytest.raises(AssertionError):  # it is tried again and again
            daemon.jobs.run()
        assert two.id in [router_id for router_id, _ in daemon.jobs.results]
    daemon.jobs.run()
    assert not daemon.jobs.differing()


def test_a_port_that_no_document_lists_any_more_is_used_no_more(daemon: Daemon) -> None:
    one, two, three = routers_with(PORTS[0])
    daemon.do(one, two, replace(three, agent_gateways=(PORTS[1],)))
    assert fg_devices() == fg(PORTS[1])
    daemon.jobs.delete(three)
    daemon.do()
    assert fg_devices() == fg(PORTS[0])


def test_the_port_of_a_document_that_went_before_its_first_job_is_forgotten(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = two_with_different_ports()
    with monkeypatch.context() as patch:
        interfaces = type(daemon.jobs.reconciler.kernel.interfaces)
        patch.setattr(interfaces, "observe", raise_shortage)
        daemon.jobs.put(one)
        with pytest.raises(AssertionError):
            daemon.jobs.run()
    daemon.jobs.delete(one)
    daemon.do(two)
    assert fg_devices() == fg(PORTS[1])


def raise_shortage(_self: object, namespace: str, *_: object) -> None:
    raise KernelError(namespace, "anything", errno.EMFILE)


def test_the_device_of_an_earlier_port_goes_with_the_last_router_that_uses_it(daemon: Daemon) -> None:
    one, two = routers_with(PORTS[0], 2)
    reconciler = daemon.jobs.reconciler
    for router in (one, two, changed := replace(one, agent_gateways=(PORTS[1],))):
        result = reconciler.reconcile(router)
    assert result.affected == (two.id,)
    assert fg_devices() == fg(*PORTS)
    assert reconciler.remove(two.id).affected == (one.id,)
    reconciler.reconcile(changed)
    assert fg_devices() == fg(PORTS[1])


def test_a_router_that_comes_later_brings_the_newest_port(daemon: Daemon) -> None:
    """Neutron deletes the port with the last floating IP, and makes another one with the next."""
    one, two, three = routers_with(PORTS[0])
    daemon.do(one, two)
    daemon.do(replace(three, agent_gateways=(PORTS[1],)))
    assert fg_devices() == fg(PORTS[1])


def test_a_router_that_is_down_decides_nothing_at_a_start(daemon: Daemon) -> None:
    one, two = two_with_different_ports()
    daemon.jobs.put(replace(one, admin_state_up=False), two)
    for is_reverse in (False, True):
        daemon.restart(is_reverse)
        daemon.do()
        assert fg_devices() == fg(PORTS[1])
        daemon.jobs.delete(two)
        daemon.do()
        daemon.jobs.put(two)


@pytest.mark.parametrize("variants", [("mac",), ("address",), ("hop",), ("extra",), ("mac", "address")])
def test_after_a_restart_the_port_is_as_the_kernel_has_it(daemon: Daemon, variants: Sequence[str]) -> None:
    """After a change of the MAC address the device has a link-local address of ours."""
    one, two = routers_with(PORTS[0], 2)
    daemon.do(one, two)
    for variant in variants:
        daemon.do(replace(two, agent_gateways=(gateway_port(EXTERNAL, "a", variant),)))
    for is_reverse in (False, True):
        daemon.restart(is_reverse)
        daemon.do()
        assert not any(result.changes for _, result in daemon.jobs.results)


def test_after_a_restart_the_plugged_one_of_several_listed_ports_stays(daemon: Daemon) -> None:
    one, two = routers_with(PORTS[0], 2)
    daemon.do(replace(two, agent_gateways=(PORTS[1],)), replace(one, agent_gateways=(PORTS[1], PORTS[0])))
    daemon.do(replace(two, agent_gateways=(gateway_port(EXTERNAL, "c"),)))
    daemon.do(replace(one, agent_gateways=(PORTS[1], gateway_port(EXTERNAL, "c"))))
    daemon.restart()
    daemon.do()
    assert not any(result.changes for _, result in daemon.jobs.results)


# --- what several routers claim -----------------------------------------------------------------------------------


def with_fip(router: Router, address: str = ADDRESS) -> Router:
    inside = router.interfaces[0].fixed_ips[0].address.compressed
    return replace(router, floating_ips=(*router.floating_ips, fip(address, f"{inside[:-1]}9")))


def test_what_a_router_frees_that_is_not_distributed_any_more_is_given_to_the_next(
    host: lab.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another host has it now; here it is removed."""
    host.bridge(BRIDGES[EXTERNAL])
    daemon = Daemon(tmp_path, monkeypatch, AgentMode.DVR)
    with contextlib.closing(daemon.jobs):
        one, two = (with_fip(router) for router in routers_with(PORTS[0], 2))
        daemon.do(one)
        daemon.do(two)
        assert daemon.omitted
        assert daemon.do(replace(one, distributed=False)) == ["one", "two"]
        assert lab.ip_json("route", "show", ADDRESS, netns=FIP)


def test_a_floating_ip_with_the_address_of_its_own_agent_gateway_port_costs_nothing_else(daemon: Daemon) -> None:
    one, two = routers_with(PORTS[0], 2)
    gateway = port("fg-of-one", EXTERNAL, f"{ADDRESS}/24")
    daemon.do(two)
    daemon.do(replace(with_fip(with_fip(one), "203.0.113.151"), agent_gateways=(gateway,)))
    assert fg_devices() == fg(gateway)
    assert lab.ip_json("route", "show", "203.0.113.151", netns=FIP)
    assert not lab.ip_json("route", "show", ADDRESS, netns=FIP)


def test_a_router_whose_port_is_out_of_date_uses_the_one_in_use(daemon: Daemon) -> None:
    """Neutron has given the address of the deleted port to a floating IP; after a restart the kernel decides."""
    one, two = routers_with(PORTS[0], 2)
    old = port("fg-old", EXTERNAL, f"{ADDRESS}/24")
    daemon.do(with_fip(replace(one, agent_gateways=(old,)), "203.0.113.151"), two)
    daemon.do(with_fip(two))
    for _ in range(2):
        assert fg_devices() == fg(PORTS[0])
        for address in (ADDRESS, "203.0.113.151"):
            assert lab.ip_json("route", "show", address, netns=FIP)
        daemon.restart()
        daemon.do()


def test_a_document_decides_by_its_ports_and_not_by_what_others_leave_of_them(daemon: Daemon) -> None:
    daemon.jobs.reconciler.memory.claims.newer_wins = True
    one, two, three = routers_with(PORTS[1])
    daemon.do(replace(one, agent_gateways=(port("fg-old", EXTERNAL, f"{ADDRESS}/24"), PORTS[0])))
    daemon.do(two)
    daemon.do(with_fip(three))
    daemon.do(with_fip(two))
    daemon.jobs.resync(trusting=False)
    daemon.do()
    assert fg_devices() == fg(PORTS[1])


# --- all of it at random ------------------------------------------------------------------------------------------


def fail_once(reconciler: RouterReconciler, monkeypatch: pytest.MonkeyPatch, dice: random.Random) -> None:
    """Have one of the next writes fail half way, as where the process has no descriptor left."""
    interfaces = type(reconciler.kernel.interfaces)
    apply, left = interfaces.apply, [dice.randrange(1, 6)]

    def failing(this: Any, namespace: str, changes: Sequence[Change], missing: Missing) -> None:
        left[0] -= 1
        if left[0] == 0:
            apply(this, namespace, changes[: dice.randrange(len(changes) + 1)], missing)
            raise KernelError(namespace, "anything", errno.EMFILE)
        apply(this, namespace, changes, missing)

    monkeypatch.setattr(interfaces, "apply", failing)


def meddle(routers: Sequence[Router], dice: random.Random) -> None:
    """As another program does; what it would change may not be there."""
    with contextlib.suppress(StopIteration, AssertionError):
        lab.run("ip", *dice.choice(MEDDLING)(dice.choice(routers)), check=False)


@contextlib.contextmanager
def host_with_bridges() -> Iterator[None]:
    with lab.fresh_host() as host:
        for bridge in BRIDGES.values():
            host.bridge(bridge)
        yield


SEEDS = [*range(4), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(4, 64))]


@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_changes_the_jobs_that_follow_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A walk; at its end the kernel is as a new agent makes it on a new host.

    Which of several documents has a thing, and which of several agent gateway ports is in use, memory may decide: the
    new agent gets what the old one has granted.  Nobody else has anything, and a restart changes nothing.
    """
    dice = random.Random(seed)
    mode = dice.choice([AgentMode.DVR, AgentMode.DVR_SNAT])
    with host_with_bridges():
        (tmp_path / "walk").mkdir()
        daemon = Daemon(tmp_path / "walk", monkeypatch, mode, hears=dice.random() < 0.7, newer_wins=dice.random() < 0.5)
        walk = Walk(daemon, dice, monkeypatch)
        for step in range(24):
            walk.step()
            where = f"seed {seed}, step {step}"
            if dice.random() < 0.5:  # a plan notes what it reads, which must not be what makes the next job enough
                assert not daemon.jobs.differing(), where
                if not daemon.omitted:
                    assert not daemon.differing_beside(), where
        assert not daemon.jobs.differing()
        routers, walked = daemon.built(), comparable(snapshot())
        daemon.jobs.close()
    with host_with_bridges():
        (tmp_path / "new").mkdir()
        new = make_reconciler(HostSettings(HOST, mode), BRIDGES, tmp_path / "new")
        new.load()
        new.begin_resync([(router.name, router) for router in routers])
        for router in [*routers, *routers]:
            new.reconcile(router)
        assert comparable(snapshot()) == walked


class Walk:
    """Random steps, each with the jobs that follow from it."""

    def __init__(self, daemon: Daemon, dice: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self._daemon, self._dice, self._monkeypatch = daemon, dice, monkeypatch
        self._documents = RandomDocuments(dice, self._put, lambda router: daemon.jobs.delete(router))

    def step(self) -> None:
        choices: dict[Callable[[], None], float] = {
            self._documents.change: 20, self._fault: 1.5, self._meddle: 2, self._resync: 1, self._restart: 1,
        }  # fmt: skip
        (make,) = self._dice.choices([*choices], [*choices.values()])
        make()
        self._daemon.jobs.run()

    def _put(self, router: Router) -> None:
        self._daemon.jobs.put(router)
        if self._dice.random() < 0.5:  # else its job begins after further documents have come
            self._daemon.jobs.run()

    def _fault(self) -> None:
        with self._monkeypatch.context() as patch:
            fail_once(self._daemon.jobs.reconciler, patch, self._dice)
            self._documents.change()
            self._daemon.jobs.run()

    def _meddle(self) -> None:
        if self._daemon.jobs.routers:
            meddle(self._daemon.jobs.routers, self._dice)
        if not self._daemon.hears:
            self._daemon.jobs.resync(trusting=False)

    def _resync(self) -> None:
        self._daemon.jobs.resync(trusting=self._dice.random() < 0.5)

    def _restart(self) -> None:
        # A device that the kernel is still tearing down would keep its /31 subnet from a router of the new process.
        assert not self._daemon.jobs.differing()
        self._daemon.restart(self._dice.random() < 0.5)
