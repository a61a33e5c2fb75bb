"""Jobs read nothing that the kernel's events vouch for, and what they make is all that was needed.

After each job a plan is made that reads everything (``Planner.plan``): it must have nothing to do.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.kernel.drift_events import DriftEvents
from dvr_agent.kernel.netlink.listener import OverflowedError
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import Result
from dvr_agent.reconcile.factory import make_reconciler
from tests.support import lab
from tests.support.heard import hearing, reconcile_heard
from tests.support.small_routers import EXTERNAL, HOST, fip, make_router, qrouter
from tests.support.waiting import wait_for

FIP = names.FIP + EXTERNAL
READERS = ("observe", "limits")


class Agent:
    """A reconciler that hears events, and counts what it reads.

    :ivar reads: calls of the kernel's interfaces that read a namespace
    """

    def __init__(self, state_path: Path) -> None:
        self.reconciler = make_reconciler(HostSettings(HOST, AgentMode.DVR_SNAT), {EXTERNAL: "br-ext"}, state_path)
        self.reconciler.load()
        self.judge = hearing(self.reconciler)
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
def started_again(agent: Agent, state_path: Path, *routers: Router) -> Iterator[Agent]:
    """Build routers, and start another agent on them, which has begun its first resync."""
    for one in routers:
        agent.once(one)
    agent.reconciler.flush()
    again = Agent(state_path)
    again.reads = agent.reads
    try:
        again.reconciler.begin_resync([(one.id, one) for one in routers])
        yield again
    finally:
        again.judge.close()


@pytest.fixture
def agent(host: lab.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    host.bridge("br-ext")
    agent = Agent(tmp_path)
    interfaces = type(agent.reconciler.kernel.interfaces)
    for name in READERS:
        original: Callable[..., object] = getattr(interfaces, name)

        def spy(self: object, namespace: str, *args: object, _call: Callable[..., object] = original) -> object:
            agent.reads.append(namespace)
            return _call(self, namespace, *args)

        monkeypatch.setattr(interfaces, name, spy)
    yield agent
    agent.judge.close()


@pytest.fixture
def router() -> Router:
    return make_router("one", 1)


def with_fips(router: Router, *hosts: int) -> Router:
    found = tuple(fip(f"203.0.113.{100 + one}", f"{router.interfaces[0].fixed_ips[0].address.compressed[:-1]}{one}")
                  for one in hosts)  # fmt: skip
    return replace(router, floating_ips=found)


def test_a_floating_ip_comes_and_goes_without_a_read(agent: Agent, router: Router) -> None:
    agent.twice(router)
    for wanted in (with_fips(router, 7), with_fips(router, 7, 8), with_fips(router, 8), router):
        assert agent.once(wanted).plan
        assert agent.reads == []
        assert not agent.differs(wanted)


def test_a_resync_of_a_trusted_router_reads_nothing_and_an_audit_everything(agent: Agent, router: Router) -> None:
    agent.twice(router)
    agent.reconciler.begin_resync()
    assert not agent.once(router, in_resync=True).plan
    assert agent.reads == []
    assert not agent.once(router, in_resync=True, trusting=False).plan
    assert qrouter(router) in agent.reads


def test_a_router_is_not_trusted_before_its_namespaces_are_heard(agent: Agent, router: Router) -> None:
    agent.once(router)
    agent.once(router)
    assert qrouter(router) in agent.reads


def test_after_a_start_one_job_that_reads_is_enough(
    host: lab.Host, agent: Agent, router: Router, tmp_path: Path
) -> None:
    router, other = with_fips(router, 8), with_fips(make_router("two", 2), 7)
    with started_again(agent, tmp_path, router, other) as again:
        for one in (router, other):
            assert not again.once(one, in_resync=True).plan
            assert qrouter(one) in again.reads
        for one in (router, other):
            assert not again.once(one).plan
            assert again.reads == []
        lab.in_netns(FIP, "ip", "route", "del", f"{other.floating_ips[0].address}/32")
        assert again.once(other).plan
        assert not again.differs(other)


def test_a_copy_that_was_read_before_its_namespace_was_heard_vouches_for_nothing(
    host: lab.Host, agent: Agent, router: Router, tmp_path: Path
) -> None:
    """The fip namespace comes to be heard in the middle of a resync, after another program has changed a slice."""
    router, other = with_fips(router, 8), with_fips(make_router("two", 2), 7)
    with started_again(agent, tmp_path, router, other) as again:
        again.reconciler.reconcile(router, in_resync=True)
        lab.in_netns(FIP, "ip", "route", "del", f"{other.floating_ips[0].address}/32")
        again.once(other, in_resync=True)
        assert not again.differs(other)


def test_what_has_no_event_is_left_to_audits(agent: Agent, router: Router) -> None:
    agent.twice(router)
    lab.in_netns(qrouter(router), "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0")
    assert not agent.once(router).plan
    assert agent.once(router, trusting=False).plan
    assert not agent.differs(router)


def test_without_events_everything_is_read(agent: Agent, router: Router) -> None:
    reconciler = agent.reconciler
    for _ in range(3):
        agent.reads.clear()
        reconciler.reconcile(router)
        assert qrouter(router) in agent.reads


def test_a_resync_that_an_operator_asks_for_reads_everything(agent: Agent, router: Router) -> None:
    agent.twice(router)
    agent.reconciler.begin_resync(trusting=False)
    agent.once(router, in_resync=True)
    assert {qrouter(router), FIP} <= set(agent.reads)


def test_lost_events_end_all_trust(agent: Agent, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.twice(router)

    def overflow(_self: DriftEvents, _limit: int) -> None:
        raise OverflowedError

    with monkeypatch.context() as patch:
        patch.setattr(DriftEvents, "read", overflow)
        agent.judge.judge()
    agent.once(router)
    assert {qrouter(router), FIP} <= set(agent.reads)


def test_a_route_that_moves_to_another_router_ends_the_trust_in_the_first(agent: Agent, router: Router) -> None:
    agent.reconciler.memory.claims.newer_wins = True
    agent.reconciler.begin_resync()
    other = make_router("two", 2)
    agent.twice(with_fips(router, 7))
    agent.twice(other)
    claimant = replace(other, name="newer", floating_ips=(fip("203.0.113.107", "10.2.0.9"),))
    assert agent.once(claimant).affected == (router.id,)
    agent.once(with_fips(router, 7))
    assert not agent.differs(claimant)
    assert agent.once(replace(claimant, name="newest", floating_ips=())).affected == (router.id,)
    agent.once(with_fips(router, 7))
    assert not agent.differs(with_fips(router, 7))


def test_a_removal_reads_nothing_and_leaves_nothing_in_the_fip_namespace(agent: Agent, router: Router) -> None:
    others = make_router("two", 2)
    agent.twice(with_fips(others, 20))
    before = ip_of_fip()
    agent.twice(with_fips(router, 7))
    agent.reads.clear()
    agent.reconciler.remove(router.id)
    assert agent.reads == []
    agent.judge.job_ended(router.id)
    assert not agent.reconciler.memory.trust.hears(router.id, FIP)
    assert router.id not in agent.reconciler.memory.trust._entries
    wait_for(lambda: ip_of_fip() == before)  # the pair goes with the other namespace, in a while
    assert agent.reconciler.kernel.namespaces.list() == sorted([FIP, qrouter(others), names.SNAT + others.id])


def test_what_goes_of_a_slice_with_its_router_goes_in_one_send(
    agent: Agent, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.twice(with_fips(make_router("two", 2), 20))
    agent.twice(with_fips(router, 7, 8))
    send, sent = NetlinkSocket._send, list[tuple[str, list[str]]]()

    def count(sock: NetlinkSocket, requests: Sequence[Request], last: int) -> int:
        sent.append((sock.namespace, [request.text for request in requests]))
        return send(sock, requests, last)

    monkeypatch.setattr(NetlinkSocket, "_send", count)
    agent.reconciler.remove(router.id)
    ((namespace, texts),) = sent
    assert namespace == FIP
    assert texts[0].startswith("rule ")
    assert sum(text.startswith("route 203.0.113.") for text in texts) == 2


def ip_of_fip() -> list[str]:
    """Rules, routes, addresses and neighbours of the fip namespace."""
    asked = (("rule",), ("route", "show", "table", "all"), ("neighbour", "show", "proxy"), ("-o", "-4", "address"))
    return [lab.run("ip", "-n", FIP, *words) for words in asked]


MEDDLING: tuple[Callable[[Router], tuple[str, ...]], ...] = (
    lambda router: ("-n", qrouter(router), "address", "add", "10.77.0.1/24", "dev", device(qrouter(router), "qr-")),
    lambda router: ("-n", qrouter(router), "link", "set", device(qrouter(router), "rfp-"), "down"),
    lambda router: ("-n", qrouter(router), "rule", "add", "priority", "33000", "from", "192.0.2.1", "lookup", "16"),
    lambda router: ("-n", qrouter(router), "route", "flush", "table", "16"),
    lambda _router: ("-n", FIP, "address", "flush", "dev", device(FIP, "fg-"), "scope", "global"),
    lambda router: ("-n", FIP, "link", "delete", names.device(names.FIP_TO_ROUTER, router.id)),
    lambda router: ("netns", "delete", names.SNAT + router.id),
)


def device(namespace: str, prefix: str) -> str:
    """The first device of a namespace whose name begins so."""
    found = sorted(link["ifname"] for link in lab.ip_json("link", "show", netns=namespace))
    return next(name for name in found if name.startswith(prefix))


@pytest.mark.parametrize("seed", range(4))
def test_after_any_changes_and_meddling_a_plan_that_reads_all_has_nothing_to_do(agent: Agent, seed: int) -> None:
    """A walk: documents change, other programs meddle, and each job is enough."""
    dice = random.Random(seed)
    routers = [make_router(name, number) for number, name in enumerate(("one", "two", "three"), 1)]
    newest = {router.id: router for router in routers}
    for router in routers:
        agent.twice(router)
    for step in range(24):
        router = dice.choice(routers)
        if dice.random() < 0.3:
            lab.run("ip", *dice.choice(MEDDLING)(router), check=False)
        newest[router.id] = with_fips(router, *dice.sample(range(router_base(router), router_base(router) + 6), 2))
        for one in routers if dice.random() < 0.3 else [router]:
            agent.once(newest[one.id])
        agent.once(newest[router.id])
        assert not agent.differs(newest[router.id]), f"seed {seed}, step {step}"


def router_base(router: Router) -> int:
    """The first of the router's own numbers of floating IPs."""
    return 10 * int(router.interfaces[0].fixed_ips[0].address.compressed.split(".")[1])
