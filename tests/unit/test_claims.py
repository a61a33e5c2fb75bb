"""Two documents that claim one thing: one of them has it, the other goes without, and nothing depends on the order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.claims import claims_anywhere, claims_here
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.desired.rivals import find_rivals
from dvr_agent.errors import KernelError, NotSupportedError
from dvr_agent.model.router import Router
from dvr_agent.reconcile.api import Result
from tests.support.reconciler_rig import Bench
from tests.support.recorded_documents import MODES, RECORDED, load
from tests.support.rival_documents import CASES, SHARED, with_fip
from tests.support.small_routers import EXTERNAL, HOST, make_router, port

SETTINGS = HostSettings(HOST, AgentMode.DVR_SNAT)


@pytest.fixture
def one() -> Router:
    return make_router("one", 1)


@pytest.fixture
def two() -> Router:
    return make_router("two", 2)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def omitted(result: Result) -> str:
    return "; ".join(result.plan.omitted)


# --- what is claimed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", sorted(MODES))
def test_documents_of_a_real_server_claim_nothing_twice(host: str) -> None:
    for name in (name for name in RECORDED if name.endswith(host)):
        router = load(name.removesuffix(f"-{host}"), host)
        assert not find_rivals([(name, router)])
        keys = [claim.key for claim in claims_anywhere(router) if not claim.key.startswith("bridge")]
        assert len(keys) == len(set(keys)), name


def test_a_host_claims_what_it_builds(one: Router) -> None:
    everywhere = {claim.key for claim in claims_anywhere(with_fip(one))}
    here = {claim.key for claim in claims_here(make_view(with_fip(one), SETTINGS))}
    elsewhere = replace(with_fip(one), gateway_host="another")
    without_snat = {claim.key for claim in claims_here(make_view(elsewhere, SETTINGS))}
    assert here < everywhere  # the agent gateway port is the network's, not the router's
    assert f"address {EXTERNAL} {SHARED}" in without_snat
    assert f"address {EXTERNAL} 203.0.113.1" in here - without_snat


def test_routers_share_the_agent_gateway_port_and_internal_networks(one: Router, two: Router) -> None:
    inside = port("second", one.interfaces[0].network_id, "10.1.0.3/24")
    two = replace(two, interfaces=(*two.interfaces, inside))
    assert not find_rivals([("a", one), ("b", two)])


# --- who has it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_holder_keeps_it_and_the_rest_of_the_other_router_is_built(bench: Bench, name: str, restart: bool) -> None:
    one, (two, key) = with_fip(make_router("one", 1)), CASES[name]
    bench.reconciler.reconcile(one, document="a.json")
    found = bench.reconciler.reconcile(two, document="b.json")
    assert key in omitted(found)
    assert f"document a.json of router {one.id} has it" in omitted(found)
    assert names.QROUTER + two.id in bench.namespaces()
    for first, second in ((one, two), (two, one)):
        if restart:
            bench.reconciler.flush()
            bench.restart()
            bench.reconciler.begin_resync([("z.json", first), ("a.json", second)])
        writes = bench.writes()
        for router in (first, second):
            result = bench.reconciler.reconcile(router, in_resync=True)
            assert not result.plan
            assert bool(result.plan.omitted) == (router is two)
        assert bench.writes() == writes


@pytest.mark.parametrize("name", CASES)
def test_the_other_gets_it_as_soon_as_the_holder_has_gone(bench: Bench, name: str) -> None:
    one, (two, _) = with_fip(make_router("one", 1)), CASES[name]
    bench.reconciler.reconcile(one)
    assert bench.reconciler.reconcile(two).plan.omitted
    assert bench.reconciler.remove(one.id).affected == (two.id,)
    assert not bench.reconciler.reconcile(two).plan.omitted
    assert not bench.reconciler.planner.plan(two)
    bench.reconciler.remove(two.id)
    assert bench.namespaces() == []


@pytest.mark.parametrize("name", CASES)
def test_an_authority_s_newer_document_wins_and_the_older_is_asked_for_again(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path, newer_wins=True)
    one, (two, _) = with_fip(make_router("one", 1)), CASES[name]
    bench.reconciler.begin_resync([("one", one)])
    bench.reconciler.reconcile(one, in_resync=True)
    found = bench.reconciler.reconcile(two)
    assert not found.plan.omitted
    assert found.affected == found.rivals == (one.id,)
    holder = "the agent gateway port" if name == "fg is port" else f"router {two.id} has it"
    assert holder in omitted(bench.reconciler.reconcile(one))
    for router in (one, two, one):  # and so it stays
        result = bench.reconciler.reconcile(router)
        assert not result.plan
        assert result.affected == result.rivals == ()
    assert not bench.reconciler.planner.plan(two)


def test_the_older_router_is_asked_for_though_a_round_declared_the_newer_document_first(tmp_path: Path) -> None:
    bench, one, two = Bench(tmp_path, newer_wins=True), with_fip(make_router("one", 1)), make_router("two", 2)
    bench.reconciler.begin_resync([("one", one), ("two", two)])
    for router in (one, two):
        bench.reconciler.reconcile(router, in_resync=True)
    bench.reconciler.begin_resync([("one", one), ("two", with_fip(two))])  # its own job waits
    found = [*bench.reconciler.reconcile(one).rivals, *bench.reconciler.reconcile(with_fip(two)).rivals]
    assert found == [one.id]


def test_documents_that_were_there_at_the_start_are_decided_by_id_if_the_kernel_has_neither(tmp_path: Path) -> None:
    routers = [with_fip(make_router(name, number)) for number, name in enumerate(("one", "two", "three"), 1)]
    lowest = min(routers, key=lambda router: router.id)
    for number, order in enumerate(itertools.permutations(routers)):
        bench = Bench(tmp_path / str(number))
        bench.reconciler.begin_resync([(router.name, router) for router in order])
        for router in order:
            assert bool(bench.reconciler.reconcile(router, in_resync=True).plan.omitted) == (router is not lowest)


def test_who_is_known_to_have_it_does_not_lose_it_to_a_router_whose_namespace_cannot_be_read(bench: Bench) -> None:
    first, second = sorted((make_router("one", 1), make_router("two", 2)), key=lambda router: router.id)
    holder, other = with_fip(second), with_fip(first)  # of two equals the lower id would have it
    bench.reconciler.reconcile(first)
    bench.reconciler.reconcile(holder)
    bench.reconciler.flush()
    bench.restart()
    bench.fake.fail("interfaces.observe", when=lambda name, *_: name == names.QROUTER + other.id, times=1)
    bench.reconciler.begin_resync([("a.json", other), ("b.json", holder)])
    bench.fake.heal()
    assert not bench.reconciler.reconcile(holder, in_resync=True).plan
    assert omitted(bench.reconciler.reconcile(other, in_resync=True))


def test_a_router_without_a_good_document_keeps_what_it_has(bench: Bench, one: Router, two: Router) -> None:
    one = with_fip(one)
    bench.reconciler.reconcile(one)
    bench.restart()
    for claimant in (with_fip(two), with_fip(two, "203.0.113.1"), CASES["port stem"][0], CASES["router stem"][0]):
        bench.restart()
        bench.reconciler.begin_resync([("b", claimant)])
        assert f"router {one.id} has it" in omitted(bench.reconciler.reconcile(claimant, in_resync=True))
        bench.reconciler.remove(claimant.id)
    bench.restart()
    bench.reconciler.begin_resync([("b", with_fip(two))])
    bench.reconciler.reconcile(with_fip(two), in_resync=True)
    assert bench.reconciler.reconcile(one).plan.omitted == ()  # its document is good again
    assert bench.reconciler.reconcile(with_fip(two)).plan.omitted


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_router_that_is_left_alone_keeps_what_it_has_until_its_namespaces_go(
    bench: Bench, name: str, restart: bool
) -> None:
    one, (two, key) = with_fip(make_router("one", 1)), CASES[name]
    bench.reconciler.reconcile(one)
    left_alone = replace(one, distributed=False, ha=True)
    if restart:
        bench.restart()
        bench.reconciler.begin_resync([("b", two), ("a", left_alone)])
    for _ in range(2):
        with pytest.raises(NotSupportedError):
            bench.reconciler.reconcile(left_alone, in_resync=restart)
    found = bench.reconciler.reconcile(two, in_resync=restart)
    assert key in omitted(found)
    for namespace in (names.QROUTER, names.SNAT):
        bench.kernel.namespaces.remove(namespace + one.id)
    with pytest.raises(NotSupportedError) as left:
        bench.reconciler.reconcile(left_alone)
    if name != "fg is port":  # that one is the network's
        assert left.value.affected == (two.id,)
        assert not bench.reconciler.reconcile(two).plan.omitted


def test_a_router_that_is_left_alone_claims_nothing_that_the_kernel_does_not_have(bench: Bench, one: Router) -> None:
    left_alone = replace(with_fip(one), distributed=False, ha=True)
    with pytest.raises(NotSupportedError):
        bench.reconciler.reconcile(left_alone)
    assert not bench.reconciler.reconcile(with_fip(make_router("two", 2))).plan.omitted


def test_a_router_that_is_left_alone_chooses_no_agent_gateway_port(bench: Bench, one: Router, two: Router) -> None:
    bench.reconciler.reconcile(one)
    other = port("fg2", EXTERNAL, "203.0.113.201/24")
    with pytest.raises(NotSupportedError):
        bench.reconciler.reconcile(replace(two, distributed=False, ha=True, agent_gateways=(other,)))
    assert not bench.reconciler.planner.plan(one)


def test_stale_routers_free_what_they_had(bench: Bench, one: Router, two: Router) -> None:
    bench.reconciler.reconcile(with_fip(one))
    bench.restart()
    bench.reconciler.begin_resync([("b", with_fip(two))])
    assert bench.reconciler.reconcile(with_fip(two), in_resync=True).plan.omitted
    assert bench.reconciler.remove_stale({two.id}).affected == (two.id,)
    assert not bench.reconciler.reconcile(with_fip(two)).plan.omitted


def test_a_floating_ip_that_a_document_gives_up_goes_to_the_one_that_waits_longest(bench: Bench) -> None:
    one, two, three = (with_fip(make_router(name, number)) for number, name in enumerate(("one", "two", "three"), 1))
    bench.reconciler.begin_resync()
    for router in (one, three, two):
        bench.reconciler.reconcile(router)
    found = bench.reconciler.reconcile(replace(one, floating_ips=()))
    assert found.affected == (three.id,)
    assert not bench.reconciler.reconcile(three).plan.omitted
    assert bench.reconciler.reconcile(two).plan.omitted


def test_an_unchanged_router_is_not_compared_again(bench: Bench, one: Router) -> None:
    claims = bench.reconciler.memory.claims
    assert claims.grant(one, bench.settings) is one
    again = replace(one)
    assert claims.grant(again, bench.settings) is again


def test_the_agent_gateway_port_in_use_keeps_its_address(bench: Bench, one: Router, two: Router) -> None:
    """The second document lists another agent gateway port, so that its own does not tell it whose address it takes."""
    gateway = str(one.agent_gateways[0].fixed_ips[0].address)
    listed = port("fg2", EXTERNAL, "203.0.113.201/24")
    two = with_fip(replace(two, agent_gateways=(listed,)), gateway)
    bench.reconciler.reconcile(one)
    found = bench.reconciler.reconcile(two)
    assert f"the agent gateway port {one.agent_gateways[0].id} of network {EXTERNAL} has it" in omitted(found)
    assert not bench.reconciler.planner.plan(one)


def test_no_router_of_a_network_gets_an_agent_gateway_port_that_a_router_excludes(bench: Bench) -> None:
    one, (two, _) = make_router("one", 1), CASES["fg is port"]
    assert two.gateway is not None
    three = make_router("three", 3)
    assert three.gateway is not None
    network = two.gateway.network_id
    three = replace(three, gateway=replace(three.gateway, network_id=network), agent_gateways=two.agent_gateways)
    for router in (one, two, three):
        bench.reconciler.reconcile(router)
    assert not bench.reconciler.planner.plan(one)
    assert names.FIP + network not in bench.namespaces()
    assert bench.reconciler.remove(one.id).affected == tuple(sorted((two.id, three.id)))
    for router in (two, three):
        assert not bench.reconciler.reconcile(router).plan.omitted
    assert names.FIP + network in bench.namespaces()


def test_a_job_that_fails_tells_who_has_gained_something(bench: Bench, one: Router, two: Router) -> None:
    bench.reconciler.reconcile(with_fip(one))
    bench.reconciler.reconcile(with_fip(two))
    bench.fake.fail("interfaces.apply")
    with pytest.raises(KernelError) as failed:
        bench.reconciler.reconcile(one)
    bench.fake.heal()
    assert failed.value.affected == (two.id,)
    assert bench.reconciler.reconcile(make_router("three", 3)).affected == ()


def test_a_holder_whose_namespaces_cannot_be_read_keeps_what_it_claims(bench: Bench, one: Router, two: Router) -> None:
    """Also against a lower id, which decides where the kernel has neither's."""
    higher, lower = sorted((with_fip(one), with_fip(two)), key=lambda router: router.id, reverse=True)
    bench.reconciler.reconcile(higher)
    bench.restart()
    bench.fake.fail("interfaces.observe", when=lambda name, *_: name == names.QROUTER + higher.id, times=1)
    bench.reconciler.begin_resync([("a.json", lower), ("b.json", higher)])
    assert bench.reconciler.reconcile(lower, in_resync=True).plan.omitted
    assert not bench.reconciler.reconcile(higher, in_resync=True).plan


@pytest.mark.parametrize("ha", [False, True])
def test_check_compares_documents_of_any_host(one: Router, two: Router, ha: bool) -> None:
    one, two = replace(one, ha=ha), replace(two, ha=ha)
    found = find_rivals([("a.json", with_fip(replace(one, gateway_host="x"))), ("b.json", with_fip(two))])
    assert sorted(found) == ["a.json", "b.json"]
    (rival,) = found["b.json"]
    assert rival.other == "a.json"
    assert rival.omission.value == f'"{SHARED}"'
    assert "floating_ip_address" in rival.omission.path
    assert not find_rivals([("a.json", with_fip(one)), ("b.json", replace(with_fip(two), admin_state_up=False))])


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("what", ["mac", "hop", "address"])
def test_after_a_restart_the_agent_gateway_port_is_as_the_kernel_has_it(
    bench: Bench, one: Router, two: Router, what: str, order: int
) -> None:
    """Two documents describe one port differently: the one in force before the restart is in force after it."""
    listed = one.agent_gateways[0]
    different = {
        "mac": replace(listed, mac="fa:16:3e:66:66:66"),
        "hop": replace(listed, subnets=(replace(listed.subnets[0], gateway_ip=ip_address("203.0.113.66")),)),
        "address": replace(listed, fixed_ips=port("fg", EXTERNAL, "203.0.113.202/24").fixed_ips),
    }[what]
    two = replace(two, agent_gateways=(different,))
    for router in (one, two):
        bench.reconciler.reconcile(router)
    bench.restart()
    documents = [("a.json", one), ("b.json", two)][:: -1 if order else 1]
    bench.reconciler.begin_resync(documents)
    writes = bench.writes()
    for _, router in documents:
        assert not bench.reconciler.reconcile(router, in_resync=True).plan
    assert bench.writes() == writes
