"""A restart of the daemon reads no router that nobody has changed meanwhile: its sockets have heard on (ADR 25)."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.errors import KernelError
from dvr_agent.kernel.drift_events import DriftEvents, Event, Kept
from dvr_agent.kernel.host_filter import HostFilter
from dvr_agent.model.router import Router
from dvr_agent.reconcile.drift import Judgement
from tests.support import lab
from tests.support.heard import left_by
from tests.support.small_routers import make_router, qrouter
from tests.support.trusting_agent import (
    FIP,
    MEDDLING,
    Agent,
    Meddling,
    counting_agent,
    device,
    router_base,
    with_fips,
)
from tests.support.waiting import wait_for


@pytest.fixture
def agent(host: lab.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    with counting_agent(host, tmp_path, monkeypatch) as agent:
        yield agent


@pytest.fixture
def routers() -> list[Router]:
    return [with_fips(make_router(name, number), 10 * number) for number, name in enumerate(("one", "two"), 1)]


class Restart:
    """Ends an agent as the daemon's stop does, and starts another one.

    :ivar agent: the one that is there
    """

    def __init__(self, agent: Agent, state_path: Path) -> None:
        self.agent, self._state_path = agent, state_path

    @contextlib.contextmanager
    def away(self, *documents: Router) -> Iterator[None]:
        """No agent is there in the ``with`` block; a new one begins its first resync with these documents after it."""
        self.agent.reconciler.flush()
        kept = left_by(self.agent.judge)
        assert kept is not None
        self.agent.judge.close()
        reads = self.agent.reads
        yield
        self.agent = Agent(self._state_path, kept)
        self.agent.reads = reads
        self.agent.reconciler.begin_resync([(one.id, one) for one in documents])

    def reads(self, router: Router) -> bool:
        """Carry out a router's job in the resync; True if it has read what the kernel has."""
        self.agent.once(router, in_resync=True)
        return bool(self.agent.reads)


@pytest.fixture
def restart(agent: Agent, routers: list[Router], tmp_path: Path) -> Iterator[Restart]:
    for router in routers:
        agent.twice(router)
    restart = Restart(agent, tmp_path)
    yield restart
    agent.judge = restart.agent.judge  # which the fixture closes


def test_a_restart_reads_nothing_and_a_change_after_it_neither(restart: Restart, routers: list[Router]) -> None:
    for _ in range(2):  # a restart that read nothing is handed on, too
        with restart.away(*routers):
            pass
        assert not any(map(restart.reads, routers))
        counters = restart.agent.reconciler.kernel.counters
        assert not counters.total()
    changed = with_fips(routers[0], 11)
    assert restart.agent.once(changed).plan
    assert restart.agent.reads == [FIP]  # its shared part
    assert not restart.agent.differs(changed)


HARMLESS: tuple[Meddling, ...] = (
    lambda router: ("-n", qrouter(router), "link", "set", device(qrouter(router), "qr-"), "up"),
    lambda router: ("-n", qrouter(router), "link", "add", "other", "type", "veth"),
)


@pytest.mark.parametrize("meddling", MEDDLING)
def test_what_another_program_has_changed_meanwhile_is_read_and_repaired(
    restart: Restart, routers: list[Router], meddling: Meddling
) -> None:
    with restart.away(*routers):
        lab.run("ip", *meddling(routers[0]))
    assert restart.reads(routers[0])
    restart.reads(routers[1])
    for router in routers:
        assert not restart.agent.differs(router)


@pytest.mark.parametrize("meddling", HARMLESS)
def test_what_contradicts_nothing_is_no_reason_to_read(
    restart: Restart, routers: list[Router], meddling: Meddling
) -> None:
    with restart.away(*routers):
        lab.run("ip", *meddling(routers[0]))
    assert not any(map(restart.reads, routers))


def test_only_the_router_that_was_changed_is_read(restart: Restart, routers: list[Router]) -> None:
    with restart.away(*routers):
        lab.run("ip", "-n", FIP, "route", "del", f"{routers[0].floating_ips[0].address}/32")
    assert [restart.reads(router) for router in routers] == [True, False]
    assert not restart.agent.differs(routers[0])


def test_a_tap_that_is_down_is_found(restart: Restart, routers: list[Router]) -> None:
    port = routers[0].interfaces[0].id
    with restart.away(*routers):
        lab.run("ip", "link", "set", f"tap{port[:11]}", "down")
    assert [restart.reads(router) for router in routers] == [True, False]
    assert not restart.agent.differs(routers[0])


def test_a_namespace_that_was_made_anew_is_read(restart: Restart, routers: list[Router]) -> None:
    """Its inode may be the same as that of the one before."""
    name = qrouter(routers[0])
    with restart.away(*routers):
        lab.run("ip", "netns", "delete", name)
        lab.run("ip", "netns", "add", name)
    assert restart.reads(routers[0])
    assert not restart.agent.differs(routers[0])


def test_a_document_that_has_changed_meanwhile_is_made(restart: Restart, routers: list[Router]) -> None:
    changed = with_fips(routers[0], 17)
    with restart.away(changed, routers[1]):
        pass
    assert [restart.reads(router) for router in (changed, routers[1])] == [True, False]
    assert not restart.agent.differs(changed)


def test_events_between_the_start_and_a_routers_first_job_count(restart: Restart, routers: list[Router]) -> None:
    with restart.away(*routers):
        pass
    assert not restart.reads(routers[0])
    lab.run("ip", "-n", qrouter(routers[1]), "route", "flush", "table", "16")
    assert restart.reads(routers[1])
    assert not restart.agent.differs(routers[1])


def test_too_many_events_have_all_read(
    restart: Restart, routers: list[Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvr_agent.reconcile.drift.STORM", 1)
    monkeypatch.setattr("dvr_agent.reconcile.drift.BATCH", 4)
    with restart.away(*routers):
        for number in range(12):
            lab.run("ip", "-n", qrouter(routers[1]), "route", "add", f"198.51.100.{number}", "dev", "lo")
    assert all(map(restart.reads, routers))
    for router in routers:
        assert not restart.agent.differs(router)


def test_a_resync_that_an_operator_asks_for_trusts_nothing_that_was_kept(
    restart: Restart, routers: list[Router]
) -> None:
    with restart.away(*routers):
        pass
    restart.agent.reconciler.begin_resync(trusting=False)
    assert all(map(restart.reads, routers))


def test_a_router_without_document_is_removed(restart: Restart, routers: list[Router]) -> None:
    with restart.away(routers[1]):
        pass
    assert not restart.reads(routers[1])
    restart.agent.reconciler.remove_stale([routers[1].id])
    assert restart.agent.reconciler.memory.trust.kept is None
    wait_for(lambda: restart.agent.reconciler.kernel.namespaces.list()
             == sorted([FIP, qrouter(routers[1]), names.SNAT + routers[1].id]))  # fmt: skip
    assert not restart.agent.differs(routers[1])


def test_marks_of_address_scopes_stay(restart: Restart, routers: list[Router], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are known from reading, so that the desired state would be another one without them."""
    memory = restart.agent.reconciler.memory
    memory.router(routers[0].id).scope_marks = (("4:scope", 0x4000000),)
    with restart.away(*routers):
        pass
    assert restart.agent.reconciler.memory.router(routers[0].id).scope_marks == (("4:scope", 0x4000000),)


def test_after_the_sockets_were_left_nothing_is_read_from_them(agent: Agent, routers: list[Router]) -> None:
    agent.twice(routers[0])
    kept = left_by(agent.judge)
    assert kept is not None
    lab.run("ip", "-n", qrouter(routers[0]), "route", "flush", "table", "16")
    assert agent.judge.judge() == Judgement()
    again = DriftEvents(HostFilter.backend == "nftables", kept._replace(record=kept.record["events"]))
    events, _more = again.read(100)
    again.close()
    assert any(isinstance(event, Event) and event.namespace == qrouter(routers[0]) for event in events)


@pytest.mark.parametrize("damage", ["a socket is missing", "the record is another one"])
def test_what_cannot_be_used_is_refused_and_closed(agent: Agent, routers: list[Router], damage: str) -> None:
    agent.twice(routers[0])
    kept = left_by(agent.judge)
    assert kept is not None
    record, descriptors = kept.record["events"], dict(kept.descriptors)
    if damage == "a socket is missing":
        os.close(descriptors.pop("all"))
    else:
        record = {"last_number": 1, "namespaces": {"qrouter-1": [3]}}
    with pytest.raises(KernelError):
        DriftEvents(HostFilter.backend == "nftables", Kept(record, descriptors))
    for descriptor in descriptors.values():
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)


@pytest.mark.parametrize("seed", range(3))
def test_after_any_restart_a_plan_that_reads_all_has_nothing_to_do(
    restart: Restart, routers: list[Router], seed: int
) -> None:
    """A walk: documents change and other programs meddle while the agent is there, and while it is away."""
    dice = random.Random(seed)
    newest = {router.id: router for router in routers}

    def change() -> None:
        router = dice.choice(routers)
        if dice.random() < 0.5:
            lab.run("ip", *dice.choice((*MEDDLING, *HARMLESS))(router), check=False)
        else:
            base = router_base(router)
            newest[router.id] = with_fips(router, *dice.sample(range(base, base + 6), 2))

    for step in range(8):
        changes = dice.randrange(3)
        if dice.random() < 0.5:
            change()
            restart.agent.once(dice.choice([*newest.values()]))
        with restart.away(*newest.values()):
            for _ in range(changes):
                change()
        for router in newest.values():
            restart.agent.once(router, in_resync=True)
        for router in newest.values():
            assert not restart.agent.differs(router), f"seed {seed}, step {step}"


def test_routers_are_recognised_in_any_order(restart: Restart, routers: list[Router]) -> None:
    swapped = [replace(router, floating_ips=router.floating_ips[::-1]) for router in reversed(routers)]
    with restart.away(*swapped):
        pass
    assert not any(map(restart.reads, swapped))
