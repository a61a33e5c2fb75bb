"""A job that is stopped, or refused something, at any single write: every address is on its old path or the new one."""

from __future__ import annotations

import errno
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from dvr_agent.errors import DvrError, KernelError
from dvr_agent.kernel.fake import FakeKernel
from dvr_agent.model.router import FloatingIp, Router, RouterPort
from dvr_agent.reconcile.api import Plan, RefusedError
from dvr_agent.state.diff import Action
from dvr_agent.state.namespace import thing_of
from dvr_agent.state.neighbour import Neighbour
from tests.support.fake_paths import BROKEN, Way, dangling_rules, inbound, outbound
from tests.support.reconciler_rig import Bench
from tests.support.recorded_documents import load

WRITES = (
    "namespaces.create",
    "namespaces.remove",
    "interfaces.change",
    "iptables.commit",
    "conntrack.delete",
    "conntrack.drop_untranslated",
    "announcer.send",
)
ERRNOS = ("EPERM", "ENOMEM", "EBUSY", "EEXIST", "EINVAL", "ENETUNREACH", "ENODEV")
BASE = load("b2_dvr_snat_node_with_vms", "compute1")
ONE, TWO = "10.1.0.112", "10.1.0.113"
FIXED = (ONE, TWO, "10.1.0.114")
FIPS = ("203.0.113.183", "203.0.113.184", "203.0.113.185")


def fip(number: int, fixed: str, central: bool = False) -> FloatingIp:
    """The floating IP with this number, of an instance on this host."""
    address = FIPS[number]
    changed = {"id": f"{BASE.floating_ips[0].id[:-1]}{number}", "address": IPv4Address(address)}
    return replace(BASE.floating_ips[0], fixed_address=IPv4Address(fixed), snat_bound=central, **changed)  # type: ignore[arg-type]


def router(*fips: FloatingIp) -> Router:
    return replace(BASE, floating_ips=fips)


def other_gateway(value: Router, address: str = "203.0.113.194", gateway: str = "203.0.113.1") -> Router:
    """The router with another gateway address, and another gateway of the external subnet."""
    assert value.gateway is not None
    own = replace(value.gateway.fixed_ips[0], address=IPv4Address(address))
    agents = tuple(_by_gateway(port, gateway) for port in value.agent_gateways)
    return replace(value, gateway=_by_gateway(replace(value.gateway, fixed_ips=(own,)), gateway), agent_gateways=agents)


def _by_gateway(port: RouterPort, gateway: str) -> RouterPort:
    return replace(port, subnets=tuple(replace(one, gateway_ip=IPv4Address(gateway)) for one in port.subnets))


def other_gateway_port(value: Router) -> Router:
    """The router with another gateway port: a new device."""
    assert value.gateway is not None
    there = other_gateway(value)
    assert there.gateway is not None
    return replace(there, gateway=replace(there.gateway, id=f"9{value.gateway.id[1:]}"))


def another_network(value: Router) -> Router:
    """The router with one more network."""
    inside, central = _elsewhere(value.interfaces[0], 1), _elsewhere(value.snat_interfaces[0], 250)
    return replace(value, interfaces=(*value.interfaces, inside), snat_interfaces=(*value.snat_interfaces, central))


def _elsewhere(port: RouterPort, number: int) -> RouterPort:
    fixed = replace(port.fixed_ips[0], address=IPv4Address(f"10.9.0.{number}"), subnet_id=f"9{port.id[1:]}")
    subnet = replace(
        port.subnets[0], id=fixed.subnet_id, cidr=IPv4Network("10.9.0.0/24"), gateway_ip=IPv4Address("10.9.0.1")
    )
    changed = {"id": f"9{port.id[1:]}", "network_id": f"9{port.network_id[1:]}", "mac": f"{port.mac[:-2]}99"}
    return replace(port, fixed_ips=(fixed,), subnets=(subnet,), **changed)  # type: ignore[arg-type]


LOCAL, CENTRAL = fip(0, ONE), fip(0, ONE, central=True)
SCENARIOS: dict[str, tuple[Router | None, Router | None]] = {
    "build": (None, router(LOCAL, fip(1, TWO, central=True))),
    "first floating IP": (router(), router(LOCAL)),
    "another floating IP": (router(LOCAL), router(LOCAL, fip(1, TWO))),
    "central floating IP": (router(), router(CENTRAL)),
    "moved": (router(LOCAL), router(fip(0, TWO))),
    "replaced": (router(LOCAL), router(fip(1, ONE))),
    "removed": (router(LOCAL, fip(1, TWO)), router(fip(1, TWO))),
    "local to central": (router(LOCAL), router(CENTRAL)),
    "central to local": (router(CENTRAL), router(LOCAL)),
    "crossing": (
        router(LOCAL, fip(1, TWO, central=True)),
        router(CENTRAL, fip(1, TWO), fip(2, FIXED[2])),
    ),
    "gateway address": (router(LOCAL), other_gateway(router(LOCAL))),
    "gateway address and a network": (router(LOCAL), another_network(other_gateway(router(LOCAL)))),
    "gateway port": (router(LOCAL), other_gateway_port(router(LOCAL))),
    "gateway of the subnet": (router(LOCAL), other_gateway(router(LOCAL), "203.0.113.193", "203.0.113.2")),
    "router removed": (router(LOCAL, fip(1, TWO, central=True)), None),
}


MASQUERADED = Way("central", "203.0.113.193", "203.0.113.1")
"""The way of an instance without floating IP."""


class StoppedError(Exception):
    """The process is killed."""


@dataclass
class Ways:
    """All ways of one state of the kernel."""

    out: dict[str, Way]
    into: dict[str, set[Way]]

    @classmethod
    def of(cls, fake: FakeKernel) -> Ways:
        out = {fixed: outbound(fake, BASE.id, fixed) for fixed in FIXED}
        return cls(out, {address: inbound(fake, BASE.id, address) for address in FIPS})


@dataclass
class Scenario:
    """One change, with the ways before and after it."""

    path: Path
    before: Router | None
    after: Router | None

    def start(self, name: str) -> Bench:
        bench = Bench(self.path / name)
        if self.before is not None:
            bench.reconciler.reconcile(self.before)
        bench.fake.forget_calls()
        return bench

    def run(self, bench: Bench) -> None:
        if self.after is not None:
            bench.reconciler.reconcile(self.after)
        else:
            bench.reconciler.remove(BASE.id)


def fail_write(bench: Bench, number: int, error: Exception) -> Callable[[], tuple[str, object] | None]:
    """Let the n-th write fail, and a second try of it too; returns a function that tells which one it was."""
    seen: list[tuple[str, tuple[object, ...]]] = []

    def is_due(method: str) -> Callable[..., bool]:
        def due(*args: object) -> bool:
            seen.append((method, args))
            return len(seen) == number or (len(seen) > number and seen[number - 1] == (method, args))

        return due

    for method in WRITES:
        bench.fake.fail(method, error=error, when=is_due(method), times=None)
    return lambda: (seen[number - 1][0], seen[number - 1][1][-1]) if len(seen) >= number else None


def check(ways: Ways, old: Ways, new: Ways, label: str) -> None:
    for fixed, way in ways.out.items():
        was, will = old.out[fixed], new.out[fixed]
        # On the way to or from nothing, or from one side to the other.
        between = ("none" in (was.by, will.by) or was.by != will.by) and way == MASQUERADED
        assert between or way in (was, will), (label, fixed, way)
    for address, found in ways.into.items():
        before, after = old.into[address], new.into[address]
        assert not after or {way for way in found if way.by == BROKEN} == set(), (label, address, found)
        assert found or not before or not after, (label, address)
        assert {way for way in found if way.by != BROKEN} <= before | after, (label, address, found)


def numbers(scenario: Scenario) -> Iterator[int]:
    bench = scenario.start("count")
    scenario.run(bench)
    yield from range(1, len(bench.fake.calls(*WRITES)) + 1)


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest, tmp_path: Path) -> Scenario:
    return Scenario(tmp_path, *SCENARIOS[request.param])


def ends(scenario: Scenario) -> tuple[Ways, Ways, Bench]:
    first, last = scenario.start("old"), scenario.start("new")
    scenario.run(last)
    return Ways.of(first.fake), Ways.of(last.fake), last


def heals(scenario: Scenario, bench: Bench, reference: Bench) -> None:
    bench.fake.heal()
    scenario.run(bench)
    assert Ways.of(bench.fake) == Ways.of(reference.fake)
    if scenario.after is not None:
        assert not bench.reconciler.planner.plan(scenario.after)
        assert bench.namespaces() == reference.namespaces()


def test_a_job_that_is_killed_at_any_write_leaves_old_or_new_paths(scenario: Scenario) -> None:
    old, new, reference = ends(scenario)
    for number in numbers(scenario):
        bench = scenario.start(f"kill{number}")
        which = fail_write(bench, number, StoppedError())
        with pytest.raises(StoppedError):
            scenario.run(bench)
        check(Ways.of(bench.fake), old, new, f"killed at {number}: {which()}")
        assert dangling_rules(bench.fake) == [] or scenario.after is None, which()
        bench.restart()
        heals(scenario, bench, reference)


@pytest.mark.parametrize("name", ERRNOS)
def test_a_write_that_is_refused_leaves_old_or_new_paths_and_costs_nothing_else(name: str, scenario: Scenario) -> None:
    old, new, reference = ends(scenario)
    code = getattr(errno, name)
    for number in numbers(scenario):
        bench = scenario.start(f"fail{number}")
        which = fail_write(bench, number, KernelError("somewhere", "something", code))
        refused = ""
        try:
            scenario.run(bench)
        except DvrError as exc:
            refused = str(exc)
        label = f"refused {number}: {which()}"
        check(Ways.of(bench.fake), old, new, label)
        assert dangling_rules(bench.fake) == [] or scenario.after is None, label
        assert not refused or name in refused, label
        found = which()
        if refused and found is not None and scenario.before is None:
            check_rest(bench, reference, found)
        heals(scenario, bench, reference)


def check_rest(bench: Bench, reference: Bench, refused: tuple[str, object]) -> None:
    """A neighbour is all that is missing where a neighbour was refused."""
    method, change = refused
    if method != "interfaces.change" or not isinstance(getattr(change, "item", None), Neighbour):
        return
    for name, there in reference.fake.world.namespaces.items():
        mine = bench.fake[name]
        for kind, objects in there.objects.items():
            missing = [one for key, one in objects.items() if mine.objects[kind].get(key) != one]
            assert all(one == change.item for one in missing)  # type: ignore[attr-defined]
        assert mine.tables == there.tables


def things(plan: Plan) -> set[tuple[bool, Hashable]]:
    """(Removed, identity) of the namespaces and objects of a plan; a neighbour is planned again with its device."""
    items = {
        (change.action is Action.REMOVE, thing_of(changes.namespace, change.item))
        for changes in plan.changes
        for change in changes.items
        if not isinstance(change.item, Neighbour)
    }
    whole = {(one.remove, thing_of(one.namespace, None)) for one in plan.changes if one.create or one.remove}
    return items | whole


def test_what_a_job_says_it_has_made_is_made_though_something_was_refused(scenario: Scenario) -> None:
    checked = 0
    for number in numbers(scenario):
        bench = scenario.start(f"said{number}")
        which = fail_write(bench, number, KernelError("somewhere", "something", errno.EPERM))
        said: set[tuple[bool, Hashable]] = set()
        try:
            scenario.run(bench)
        except RefusedError as exc:
            said = things(exc.result.plan)
        except DvrError:
            continue
        bench.fake.heal()
        planner = bench.reconciler.planner
        left = planner.plan(scenario.after) if scenario.after is not None else planner.plan_remove(BASE.id)
        assert said.isdisjoint(things(left)), which()
        checked += bool(said)
    assert checked
