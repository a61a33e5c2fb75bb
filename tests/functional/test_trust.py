"""Jobs read nothing that the kernel's events vouch for, and what they make is all that was needed.

After each job a plan is made that reads everything (``Planner.plan``): it must have nothing to do.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.attach.outer_ends import bridge_name, tap_name
from dvr_agent.desired import names
from dvr_agent.desired.table_ids import fip_index
from dvr_agent.errors import DvrError
from dvr_agent.kernel import netns
from dvr_agent.kernel.drift_events import DriftEvents
from dvr_agent.kernel.netlink.listener import OverflowedError
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.model.router import Router
from dvr_agent.reconcile.post_commit import PostCommit
from dvr_agent.reconcile.statefile import PAIRS_FILE
from tests.support import lab
from tests.support.small_routers import fip, make_router, qrouter
from tests.support.trusting_agent import FIP, MEDDLING, Agent, counting_agent, device, router_base, with_fips
from tests.support.waiting import wait_for


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
    with counting_agent(host, tmp_path, monkeypatch) as agent:
        yield agent


@pytest.fixture
def router() -> Router:
    return make_router("one", 1)


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


def test_a_trusted_router_that_is_unchanged_keeps_its_pair(agent: Agent, router: Router, tmp_path: Path) -> None:
    agent.twice(router)
    agent.reconciler.flush()
    before = (tmp_path / PAIRS_FILE).read_text()
    agent.reconciler.begin_resync()
    agent.once(router, in_resync=True)
    assert agent.reads == []
    agent.reconciler.flush()
    assert router.id in before
    assert (tmp_path / PAIRS_FILE).read_text() == before


@pytest.mark.parametrize("place", ["interfaces", "snat_interfaces"])
def test_a_port_whose_network_changes_is_moved_at_once(agent: Agent, router: Router, place: str) -> None:
    """Neither device nor addresses change, so that nothing but the outer side tells."""
    agent.twice(router)
    (before,) = getattr(router, place)
    after = replace(before, network_id="77777777" + before.network_id[8:])
    ports: Any = {place: (after,)}
    changed = replace(router, **ports)
    agent.once(changed)
    assert not agent.differs(changed)
    (link,) = lab.ip_json("link", "show", tap_name(after.id))
    assert link["master"] == bridge_name(after.network_id)


def test_what_a_job_has_made_is_trusted_at_once(agent: Agent, router: Router) -> None:
    """Its namespaces are heard since before their names were there."""
    agent.once(router)
    for wanted in (with_fips(router, 7), router):
        assert agent.once(wanted).plan
        assert agent.reads == []
        assert not agent.differs(wanted)


def add_foreign_rule(namespace: str) -> None:
    """As another program does; it may be there already."""
    words = ("rule", "add", "priority", "33000", "from", "192.0.2.1", "lookup", "16")
    lab.run("ip", "-n", namespace, *words, check=False)


def test_what_another_program_does_while_a_job_makes_a_router_is_found(
    agent: Agent, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespaces = agent.reconciler.kernel.namespaces
    create = namespaces.create

    def meddle(name: str) -> None:
        create(name)
        add_foreign_rule(name)

    with monkeypatch.context() as patch:
        patch.setattr(namespaces, "create", meddle)
        agent.once(router)
    assert agent.once(router).plan
    assert not agent.differs(router)


def test_a_namespace_that_has_lost_its_name_is_not_trusted(agent: Agent, router: Router) -> None:
    """No event tells of an unmount; a program in the namespace keeps it."""
    agent.twice(router)
    held = netns.open_namespace(qrouter(router))
    lab.run("umount", "--lazy", f"{netns.NETNS_DIR}/{qrouter(router)}")
    assert agent.once(router).plan
    os.close(held)
    agent.once(router)
    assert not agent.differs(router)


def test_a_namespace_that_is_replaced_while_a_job_runs_is_found_by_all_its_routers(
    agent: Agent, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in the namespace keeps it, and with it the links of the routers."""
    other = with_fips(make_router("two", 2), 7)
    agent.twice(other)
    held = netns.open_namespace(FIP)
    announce = PostCommit.announce

    def meddle(*args: Any) -> None:
        lab.run("ip", "netns", "delete", FIP)
        lab.run("ip", "netns", "add", FIP)
        announce(*args)

    with monkeypatch.context() as patch:
        patch.setattr(PostCommit, "announce", meddle)
        agent.once(router)
    for one in (other, router):
        agent.once(one)
    for one in (other, router):
        assert not agent.differs(one)
    os.close(held)


def fg_down_and_up(_router: Router) -> None:
    for state in ("down", "up"):
        lab.run("ip", "-n", FIP, "link", "set", device(FIP, "fg-"), state)


def set_link(name: str, word: str) -> None:
    lab.run("ip", "link", "set", name, word)


IN_A_JOB: dict[str, Callable[[Router], object]] = {
    "a bridge is down": lambda router: set_link(bridge_name(router.interfaces[0].network_id), "down"),
    "a tap has left its bridge": lambda router: set_link(tap_name(router.interfaces[0].id), "nomaster"),
    "a shared device was down": fg_down_and_up,
    "forwarding is off": lambda _router: lab.in_netns(FIP, "sysctl", "-qw", "net.ipv4.ip_forward=0"),
}


@pytest.mark.parametrize("whose", ["its own", "another router's"])
@pytest.mark.parametrize("change", IN_A_JOB)
def test_what_another_program_does_while_a_job_runs_is_found(
    agent: Agent, router: Router, monkeypatch: pytest.MonkeyPatch, change: str, whose: str
) -> None:
    """Of events without author it counts what they leave behind; a link that was down has lost its routes."""
    other = with_fips(make_router("two", 2), 7)
    for one in (router, other):
        agent.twice(one)
    announce = PostCommit.announce

    def meddle(*args: Any) -> None:
        IN_A_JOB[change](router)
        announce(*args)

    with monkeypatch.context() as patch:
        patch.setattr(PostCommit, "announce", meddle)
        agent.once(with_fips(router, 8) if whose == "its own" else other)
    for one in (with_fips(router, 8), other):
        agent.once(one)
        assert not agent.differs(one)


def test_a_namespace_that_another_program_made_is_not_trusted(
    agent: Agent, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between the plan, which has seen that it was not there, and the first write."""
    namespaces = agent.reconciler.kernel.namespaces
    create = namespaces.create

    def too_late(name: str) -> None:
        lab.run("ip", "netns", "add", name, check=False)
        add_foreign_rule(name)
        create(name)

    with monkeypatch.context() as patch:
        patch.setattr(namespaces, "create", too_late)
        with contextlib.suppress(DvrError):
            agent.once(router)
    agent.once(router)
    assert {qrouter(router), FIP} <= set(agent.reads)
    assert not agent.differs(router)


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


@pytest.mark.parametrize("is_known", [True, False], ids=["audit", "first resync"])
@pytest.mark.parametrize("words", ["route del {}/32", "route flush table {}"])
def test_what_changes_in_a_slice_after_a_resync_has_copied_it_is_repaired(
    agent: Agent, router: Router, tmp_path: Path, is_known: bool, words: str
) -> None:
    router, other = with_fips(router, 8), with_fips(make_router("two", 2), 7)
    with started_again(agent, tmp_path, router, other) as again:
        for one in (router, other) if is_known else ():
            again.once(one)
        again.reconciler.begin_resync(trusting=False)
        again.once(router, in_resync=True, trusting=False)
        pair = again.reconciler.memory.allocations.pair(other.id)
        assert pair is not None
        changed = other.floating_ips[0].address if "del" in words else fip_index(pair.subnet.fip_address)
        lab.run("ip", "-n", FIP, *words.format(changed).split())
        again.once(other, in_resync=True, trusting=False)
        assert not again.differs(other)


def test_what_has_no_event_is_left_to_audits(agent: Agent, router: Router) -> None:
    agent.twice(router)
    lab.in_netns(qrouter(router), "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0")
    assert not agent.once(router).plan
    assert agent.once(router, trusting=False).plan
    assert not agent.differs(router)


def test_a_link_local_address_that_comes_after_a_plan_has_missed_it_is_no_reason_to_write(
    agent: Agent, router: Router
) -> None:
    """The kernel makes it some time after the device came up."""
    agent.once(router)
    name = device(qrouter(router), "qr-")

    def found() -> list[str]:
        shown = lab.ip_json("-6", "address", "show", "dev", name, netns=qrouter(router))
        return [
            f"{one['local']}/{one['prefixlen']}"
            for link in shown
            for one in link["addr_info"]
            if one["scope"] == "link"
        ]

    (address,) = wait_for(found)
    lab.run("ip", "-n", qrouter(router), "address", "del", address, "dev", name)
    assert not agent.differs(router)  # and what is missing is noted
    lab.run("ip", "-n", qrouter(router), "address", "add", address, "dev", name)
    assert not agent.once(router).plan
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
    """Rules, routes, addresses and neighbours of the fip namespace; IPv6 routes of link-local addresses come late."""
    routes, addresses = ("-4", "route", "show", "table", "all"), ("-o", "-4", "address")
    asked = (("rule",), routes, ("neighbour", "show", "proxy"), addresses)
    return [lab.run("ip", "-n", FIP, *words) for words in asked]


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
