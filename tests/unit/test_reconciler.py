"""The reconciler on the fake kernel: convergence, idempotence, order of writes, and every way to fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from dvr_agent.attach.api import OuterPort
from dvr_agent.cli.render import Renderer
from dvr_agent.desired import names
from dvr_agent.errors import DvrError, KernelError, NotSupportedError
from dvr_agent.kernel.fake import FakeKernel
from dvr_agent.kernel.fake.faults import METHODS
from dvr_agent.model.router import ExtraRoute, Router, RouterPort
from dvr_agent.reconcile.api import RefusedError
from dvr_agent.state.diff import Action
from dvr_agent.state.link import Port
from dvr_agent.state.route import Route
from dvr_agent.state.rule import Rule
from dvr_agent.state.sysctl import Sysctl
from tests.support.fake_attach import FakeAttach
from tests.support.reconciler_rig import Bench
from tests.support.recorded_documents import DOCUMENTS, load

SCENARIOS = sorted(path.stem for path in DOCUMENTS.glob("[a-jlp]*.json"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def router() -> Router:
    return load("b2_dvr_snat_node_with_vms", "compute1")


def changes(fake: FakeKernel, action: Action, kind: type) -> list[object]:
    found = [call.args[1] for call in fake.calls("interfaces.change")]
    return [change.item for change in found if change.action is action and isinstance(change.item, kind)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_second_run_and_a_restart_write_nothing(scenario: str, tmp_path: Path) -> None:
    host = scenario.rpartition("-")[2]
    bench = Bench(tmp_path, host)
    router = load(scenario.rpartition("-")[0], host)
    assert bench.reconciler.reconcile(router).plan
    bench.reconciler.flush()
    written = bench.writes()
    assert not bench.reconciler.reconcile(router).plan
    bench.restart()
    assert not bench.reconciler.reconcile(router).plan
    assert bench.writes() == written


def test_a_restart_without_state_files_adopts_what_the_kernel_holds(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    written = bench.writes()
    bench.restart()
    assert not list(bench.state_path.iterdir())
    assert not bench.reconciler.planner.plan(router)
    bench.reconciler.reconcile(router)
    bench.reconciler.flush()
    assert bench.writes() == written
    assert (bench.state_path / "fip-priorities").read_text().startswith("203.0.113.183,")
    assert router.id in (bench.state_path / "fip-linklocal-networks").read_text()


def test_where_file_and_kernel_disagree_the_kernel_wins(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    written = bench.writes()
    (bench.state_path / "fip-priorities").write_text("203.0.113.183,33333\n")
    (bench.state_path / "fip-linklocal-networks").write_text(f"{router.id},169.254.64.0/31\n")
    bench.restart()
    assert not bench.reconciler.reconcile(router).plan
    assert bench.writes() == written
    bench.reconciler.flush()
    assert "33333" not in (bench.state_path / "fip-priorities").read_text()
    assert "169.254.64.0/31" not in (bench.state_path / "fip-linklocal-networks").read_text()


def test_state_files_are_honoured_after_a_reboot(bench: Bench, router: Router) -> None:
    (bench.state_path / "fip-priorities").write_text("203.0.113.183,48862\n")
    (bench.state_path / "fip-linklocal-networks").write_text(f"{router.id},169.254.88.134/31\n")
    bench.restart()
    bench.reconciler.reconcile(router)
    assert Rule(4, 48862, 16, "10.1.0.112/32") in bench.fake["qrouter-" + router.id].rules
    tables = {route.table for route in bench.fake["fip-" + router.agent_gateways[0].network_id].routes.values()}
    assert 2852018311 in tables


def test_plan_writes_nothing_at_all(bench: Bench, router: Router) -> None:
    plan = bench.reconciler.planner.plan(router)
    assert {change.namespace.partition("-")[0] for change in plan.changes} == {"qrouter", "fip", "snat"}
    bench.reconciler.flush()
    assert bench.writes() == 0
    assert bench.namespaces() == []


def test_new_floating_ip_nat_first_then_route_and_rule_then_announcement(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(replace(router, floating_ips=()))
    bench.fake.forget_calls()
    bench.fake.sent.clear()
    outcome = bench.reconciler.reconcile(router)
    kinds = [call.method for call in bench.fake.calls("iptables.commit", "interfaces.change", "announcer.send")]
    assert kinds == ["iptables.commit", "interfaces.change", "interfaces.change", "announcer.send"]
    assert [a.address for _, a in outcome.announcements] == ["203.0.113.183"]


def test_removed_floating_ip_route_and_rule_first_then_nat_then_connections(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    bench.fake.forget_calls()
    bench.reconciler.reconcile(replace(router, floating_ips=()))
    calls = bench.fake.calls("iptables.commit", "interfaces.change", "conntrack.delete")
    assert [call.method for call in calls] == [
        "interfaces.change", "interfaces.change", "iptables.commit", "conntrack.delete",
    ]  # fmt: skip
    assert all(call.args[1].action is Action.REMOVE for call in calls[:2])
    assert calls[-1].args == ("qrouter-" + router.id, "203.0.113.183")


def test_moved_floating_ip_replaces_nat_and_forgets_its_connections(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    bench.fake.forget_calls()
    moved = replace(router.floating_ips[0], fixed_address=IPv4Address("10.1.0.16"))
    bench.reconciler.reconcile(replace(router, floating_ips=(moved,)))
    assert [call.args for call in bench.fake.calls("conntrack.delete")] == [("qrouter-" + router.id, "203.0.113.183")]
    assert changes(bench.fake, Action.ADD, Route) == [], "the way to the floating IP did not change"


def test_connections_and_announcements_that_a_failed_job_owes_are_made_up_for(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    moved = replace(router.floating_ips[0], address=IPv4Address("203.0.113.99"))
    bench.fake.fail("conntrack.delete")
    bench.fake.forget_calls()
    with pytest.raises(KernelError):
        bench.reconciler.reconcile(replace(router, floating_ips=(moved,)))
    plan = bench.reconciler.planner.plan(replace(router, floating_ips=(moved,)))
    assert not plan, "all of it is in the kernel already"
    outcome = bench.reconciler.reconcile(replace(router, floating_ips=(moved,)))
    assert [call.args[1] for call in bench.fake.calls("conntrack.delete")] == ["203.0.113.183", "203.0.113.183"]
    assert [announcement.address for _, announcement in outcome.announcements] == ["203.0.113.99"]
    assert bench.reconciler.reconcile(replace(router, floating_ips=(moved,))).announcements == ()


def test_an_announcement_that_fails_is_left_to_its_repetition(bench: Bench, router: Router) -> None:
    bench.fake.fail("announcer.announce", times=None)
    outcome = bench.reconciler.reconcile(router)
    assert "203.0.113.183" in [announcement.address for _, announcement in outcome.announcements]


def test_only_what_differs_is_touched(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    bench.fake.forget_calls()
    before = bench.writes()
    namespace = bench.fake["qrouter-" + router.id]
    lost = next(route for route in namespace.routes.values() if route.table == 16)
    del namespace.routes[lost.key]
    plan = bench.reconciler.reconcile(router).plan
    assert [(change.namespace, [item.item for item in change.items]) for change in plan.changes] == [
        ("qrouter-" + router.id, [lost])
    ]
    assert bench.writes() == before + 1


def test_what_is_not_ours_survives(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    name = "qrouter-" + router.id
    bench.fake.add_link(name, "adm0", "02:00:00:00:00:99")
    bench.reconciler.reconcile(replace(router, floating_ips=()))
    assert "adm0" in bench.fake[name].links


@pytest.mark.parametrize("method", [method for method in METHODS if method != "iptables.save"])
def test_after_any_failure_the_next_try_completes_and_nothing_was_destroyed(
    method: str, router: Router, tmp_path: Path
) -> None:
    reference = Bench(tmp_path / "reference")
    reference.reconciler.reconcile(router)
    for nth in range(1, 60):
        bench = Bench(tmp_path / f"{method}{nth}")
        bench.reconciler.reconcile(replace(router, floating_ips=(), routes=()))
        before = set(bench.namespaces())
        bench.fake.fail(method, nth)
        try:
            bench.reconciler.reconcile(router)
        except DvrError:
            failed = True
        else:
            failed = False
        bench.fake.heal()
        assert before <= set(bench.namespaces())
        bench.reconciler.reconcile(router)
        assert not bench.reconciler.planner.plan(router)
        for name in reference.namespaces():
            assert bench.fake[name].routes == reference.fake[name].routes
            assert bench.fake[name].tables == reference.fake[name].tables
        if not failed:
            break
    else:
        pytest.fail("it never stopped failing")


@pytest.mark.parametrize("method", ["namespaces.create", "interfaces.change", "iptables.commit"])
def test_a_build_from_nothing_completes_whatever_failed_on_the_way(method: str, router: Router, tmp_path: Path) -> None:
    for nth in range(1, 80):
        bench = Bench(tmp_path / str(nth))
        bench.fake.fail(method, nth, times=2)  # a table that was refused is tried once more, alone
        try:
            bench.reconciler.reconcile(router)
        except DvrError:
            bench.fake.heal()
            bench.restart()
            bench.reconciler.reconcile(router)
            assert not bench.reconciler.planner.plan(router)
        else:
            assert nth > 1
            return
    pytest.fail("it never stopped failing")


def test_a_port_that_cannot_be_plugged_is_tried_again(bench: Bench, router: Router) -> None:
    refused = names.device(names.INTERNAL, router.interfaces[0].id)
    bench.attach.unpluggable = {refused}
    with pytest.raises(RefusedError, match=f"port {refused}"):
        bench.reconciler.reconcile(router)
    assert refused not in bench.attach.plugged
    assert len(bench.attach.plugged) > 1, "the others are plugged"
    bench.attach.unpluggable = set()
    bench.reconciler.reconcile(router)
    assert not bench.reconciler.planner.plan(router)


def test_the_driver_hears_of_all_ports_of_a_router_before_the_first_is_plugged(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    (prepared,) = bench.attach.prepared
    assert sorted(device for devices in prepared.values() for device in devices) == sorted(bench.attach.plugged)
    assert len({device[:3] for device in bench.attach.plugged}) > 1
    bench.reconciler.reconcile(router)
    assert len(bench.attach.prepared) == 1


class _Watching(FakeAttach):
    """Notes which parameters a namespace has when its first ports are plugged."""

    def __init__(self, fake: FakeKernel) -> None:
        super().__init__(fake)
        self.seen: dict[str, list[Sysctl]] = {}

    def plug(self, namespace: str, ports: Sequence[Port]) -> None:
        written = parameters(self._fake, namespace)
        self.seen.setdefault(namespace, written)
        super().plug(namespace, ports)


def parameters(fake: FakeKernel, namespace: str) -> list[Sysctl]:
    """The parameters that were written in a namespace, in order."""
    calls = [call.args for call in fake.calls("interfaces.change")]
    return [change.item for name, change in calls if name == namespace and isinstance(change.item, Sysctl)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_parameters_of_a_namespace_are_written_once_and_before_its_ports(scenario: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, scenario.rpartition("-")[2])
    bench.attach = attach = _Watching(bench.fake)
    bench.restart()
    bench.reconciler.reconcile(load(scenario.rpartition("-")[0], scenario.rpartition("-")[2]))
    for namespace, seen in attach.seen.items():
        written = parameters(bench.fake, namespace)
        assert len(written) == len(set(written))
        assert seen == [item for item in written if item.device is None] != []


def test_a_broken_outer_side_is_repaired(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    device = names.device(names.INTERNAL, router.interfaces[0].id)
    bench.attach.plugged.clear()
    bench.attach.broken[device] = "tap is not on its bridge"
    assert bench.reconciler.planner.plan(router).ports == (
        ("qrouter-" + router.id, f"~ port {device}: tap is not on its bridge"),
    )
    bench.reconciler.reconcile(router)
    assert bench.attach.plugged == [device]
    assert not bench.reconciler.planner.plan(router)


@pytest.mark.parametrize("end", ["rfp", "fpr"])
def test_a_lost_link_to_the_fip_namespace_is_made_anew(end: str, bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    namespace = ("qrouter-" + router.id) if end == "rfp" else ("fip-" + router.agent_gateways[0].network_id)
    bench.fake.world.remove_link(namespace, f"{end}-{router.id}"[:14])
    assert bench.reconciler.reconcile(router).plan
    assert not bench.reconciler.planner.plan(router)


def test_removing_a_router_leaves_nothing_of_it(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    assert bench.reconciler.planner.plan_remove(router.id)
    bench.reconciler.remove(router.id)
    bench.reconciler.flush()
    assert bench.namespaces() == []
    assert (bench.state_path / "fip-priorities").read_text() == ""
    assert (bench.state_path / "fip-linklocal-networks").read_text() == ""
    assert not bench.reconciler.remove(router.id).plan


def test_a_new_process_that_removes_a_router_releases_its_floating_ips_too(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    bench.reconciler.flush()
    bench.restart()
    bench.reconciler.remove(router.id)
    bench.reconciler.flush()
    assert (bench.state_path / "fip-priorities").read_text() == ""


def second(router: Router) -> Router:
    """Another router on the same external network, with internal networks of its own."""
    assert router.gateway is not None
    (outside,) = router.gateway.fixed_ips
    return replace(
        router,
        id="bbbbbbbb-0000-4000-8000-000000000001",
        gateway=replace(
            router.gateway,
            id="bbbbbbbb-0000-4000-8000-000000000002",
            mac="fa:16:3e:bb:00:01",
            fixed_ips=(replace(outside, address=outside.address + 1),),
        ),
        interfaces=elsewhere(router.interfaces, "1111"),
        snat_interfaces=elsewhere(router.snat_interfaces, "2222"),
        floating_ips=tuple(replace(fip, address=IPv4Address("203.0.113.77")) for fip in router.floating_ips),
    )


def elsewhere(ports: tuple[RouterPort, ...], part: str) -> tuple[RouterPort, ...]:
    """The ports with other ids, in other networks."""
    return tuple(
        replace(
            port,
            id=f"bbbbbbb{number}-{part}-4000-8000-000000000001",
            network_id=f"bbbbbbb{number}-3333-4000-8000-000000000001",
        )
        for number, port in enumerate(ports)
    )


def test_routers_share_a_fip_namespace_and_only_the_last_takes_it_away(bench: Bench, router: Router) -> None:
    other = second(router)
    for one in (router, other):
        bench.reconciler.reconcile(one)
    fip = "fip-" + router.agent_gateways[0].network_id
    bench.reconciler.remove(router.id)
    assert fip in bench.namespaces()
    assert not bench.reconciler.planner.plan(other)
    bench.reconciler.remove(other.id)
    assert bench.namespaces() == []


def test_left_overs_are_found_and_removed_and_others_stay(bench: Bench, router: Router) -> None:
    other = second(router)
    for one in (router, other):
        bench.reconciler.reconcile(one)
    bench.reconciler.flush()
    bench.restart()
    assert bench.reconciler.planner.stale_routers({other.id}) == ([router.id], 2)
    assert bench.reconciler.planner.plan_stale({other.id})
    bench.reconciler.reconcile(other)
    bench.reconciler.remove_stale({other.id})
    assert not bench.reconciler.planner.plan_stale({other.id})
    assert not bench.reconciler.planner.plan(other)
    assert "qrouter-" + router.id not in bench.namespaces()
    bench.reconciler.flush()
    assert "203.0.113.183" not in (bench.state_path / "fip-priorities").read_text()
    assert "203.0.113.77" in (bench.state_path / "fip-priorities").read_text()


def test_an_outer_side_without_namespace_is_a_left_over(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    stray = OuterPort("dddddddd-0000-4000-8000-000000000001", "tapdddddddd-00", "qrouter-gone")
    bench.attach.outer[stray.port_id] = stray
    bench.attach.strays.append(stray)
    plan = bench.reconciler.planner.plan_stale({router.id})
    assert plan.ports == (("(host)", "- port tapdddddddd-00 of qrouter-gone"),)
    bench.reconciler.remove_stale({router.id})
    assert not bench.reconciler.planner.plan_stale({router.id})


def test_a_name_of_ours_without_a_namespace_is_a_left_over(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    ours = {f"snat-{router.id}", "fip-b23d8ed4-a3b7-4e82-8fd4-a409f6007fd4"} - set(bench.namespaces())
    bench.fake.world.empty_files |= {*ours, "qdhcp-b23d8ed4-a3b7-4e82-8fd4-a409f6007fd4", "qrouter-mine"}
    lines = tuple(("(host)", f"- name {name} without a namespace") for name in sorted(ours))
    assert lines
    assert bench.reconciler.planner.plan_stale({router.id}).ports == lines
    bench.reconciler.remove_stale({router.id})
    assert not bench.reconciler.planner.plan_stale({router.id})
    assert bench.fake.world.empty_files == {"qdhcp-b23d8ed4-a3b7-4e82-8fd4-a409f6007fd4", "qrouter-mine"}


def test_a_namespace_that_only_looks_like_ours_is_no_left_over(bench: Bench) -> None:
    for name in ("qrouter-mine", "snat-", "fip-test", "qdhcp-b23d8ed4-a3b7-4e82-8fd4-a409f6007fd4"):
        bench.kernel.namespaces.create(name)
    assert not bench.reconciler.planner.plan_stale(())


def test_router_that_loses_its_gateway_leaves_the_fip_namespace(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    bare = replace(router, gateway=None, gateway_host=None, floating_ips=(), snat_interfaces=(), agent_gateways=())
    bench.reconciler.reconcile(bare)
    assert bench.namespaces() == ["qrouter-" + router.id]
    assert not bench.reconciler.planner.plan(bare)
    bench.reconciler.flush()
    assert (bench.state_path / "fip-linklocal-networks").read_text() == ""


def test_router_that_moves_to_another_external_network(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    network = "cccccccc-0000-4000-8000-000000000001"
    assert router.gateway is not None
    moved = replace(
        router,
        gateway=replace(router.gateway, network_id=network),
        agent_gateways=tuple(
            replace(port, id="cccccccc-0000-4000-8000-000000000002", network_id=network)
            for port in router.agent_gateways
        ),
    )
    assert not bench.reconciler.reconcile(moved).affected
    assert not bench.reconciler.planner.plan(moved)
    assert [name for name in bench.namespaces() if name.startswith("fip-")] == ["fip-" + network]


def test_snat_that_moves_to_another_host_leaves_this_one(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    bench.reconciler.reconcile(replace(router, gateway_host="elsewhere"))
    assert "snat-" + router.id not in bench.namespaces()


def test_a_shared_part_is_checked_once_in_a_pass(bench: Bench, router: Router) -> None:
    other = second(router)
    for one in (router, other):
        bench.reconciler.reconcile(one)
    bench.reconciler.begin_resync()
    bench.fake.forget_calls()
    for one in (router, other):
        bench.reconciler.reconcile(one, in_resync=True)
    fip = "fip-" + router.agent_gateways[0].network_id
    observed = [call for call in bench.fake.calls("iptables.observe") if call.args[0] == fip]
    assert len(observed) == 1


def test_connections_of_the_gateway_address_go_with_it(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    bench.fake.forget_calls()
    bench.reconciler.reconcile(replace(router, enable_snat=False))
    # The hairpin rule still translates to the gateway address, but nothing that leaves does.
    assert [call.args[1] for call in bench.fake.calls("conntrack.delete")] == ["203.0.113.193"]
    assert not changes(bench.fake, Action.REMOVE, Route)


def test_a_pass_reads_a_fip_namespace_once_and_sees_each_slice_in_it(bench: Bench, router: Router) -> None:
    other = second(router)
    bench.reconciler.begin_resync()
    for one in (router, other):
        bench.reconciler.reconcile(one, in_resync=True)
    bench.reconciler.begin_resync()
    bench.fake.forget_calls()
    fip = bench.fake["fip-" + router.agent_gateways[0].network_id]
    lost = next(route for route in fip.routes.values() if route.dst == "203.0.113.77/32")
    del fip.routes[lost.key]
    plans = [bench.reconciler.reconcile(one, in_resync=True).plan for one in (router, other)]
    assert [[change.item for found in plan.changes for change in found.items] for plan in plans] == [[], [lost]]
    read = [call.args[1] for call in bench.fake.calls("interfaces.observe") if call.args[0].startswith("fip-")]
    assert len([ownership for ownership in read if ownership.prefixes]) == 1
    assert not [ownership for ownership in read if ownership.tables], "no slice was read by itself"


def test_an_update_in_the_middle_of_a_pass_is_not_undone_by_it(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(replace(router, floating_ips=()))
    other = second(router)
    bench.reconciler.begin_resync()
    bench.reconciler.reconcile(other, in_resync=True)
    bench.reconciler.reconcile(router)
    written = bench.writes()
    assert not bench.reconciler.reconcile(router, in_resync=True).plan
    assert bench.writes() == written


def test_a_router_that_is_not_supported_or_down_does_not_keep_stale_priorities(bench: Bench, router: Router) -> None:
    (bench.state_path / "fip-priorities").write_text("192.0.2.99,40000\n")
    bench.restart()
    other = replace(second(router), distributed=False, ha=True)
    bench.reconciler.reconcile(router)
    with pytest.raises(NotSupportedError):
        bench.reconciler.reconcile(other)
    down = "eeeeeeee-0000-4000-8000-000000000001"
    bench.reconciler.remove(down)
    bench.reconciler.remove_stale({router.id, other.id, down})
    bench.reconciler.flush()
    assert "192.0.2.99" not in (bench.state_path / "fip-priorities").read_text()


def test_rules_that_are_left_out_for_a_refused_port_are_not_told_as_made(bench: Bench, router: Router) -> None:
    assert router.gateway is not None
    bench.attach.unpluggable = {names.device(names.GATEWAY, router.gateway.id)}
    snat = f"--to-source {router.gateway.fixed_ips[0].address}"
    with pytest.raises(RefusedError) as first:
        bench.reconciler.reconcile(router)
    told = "\n".join(line.full for group in Renderer().section(first.value.result.plan).groups for line in group.lines)
    assert "-m conntrack ! --ctstate DNAT -j ACCEPT" in told
    assert snat not in told
    for _ in range(2):
        with pytest.raises(RefusedError) as again:
            bench.reconciler.reconcile(router)
        assert not again.value.result.plan.changes
    bench.attach.unpluggable = set()
    made = bench.reconciler.reconcile(router).plan
    assert snat in "\n".join(line.full for group in Renderer().section(made).groups for line in group.lines)


def test_a_plan_says_which_port_could_not_be_plugged(bench: Bench, router: Router) -> None:
    assert router.gateway is not None
    bench.attach.unreachable.add(router.gateway.network_id)
    warnings = bench.reconciler.planner.plan(router).warnings
    assert [warning.split()[0][:3] for warning in warnings] == ["fg-", "qg-"]
    assert all("its network is out of reach" in warning for warning in warnings)


def test_a_sweep_leaves_what_a_router_that_failed_half_way_goes_on_with(bench: Bench, router: Router) -> None:
    pair = names.device(names.ROUTER_TO_FIP, router.id)
    bench.fake.fail("interfaces.change", when=lambda _, change: getattr(change.item, "name", "") == pair)
    with pytest.raises(RefusedError):
        bench.reconciler.reconcile(router)
    before = bench.namespaces()
    assert any(name.startswith("fip-") for name in before)
    bench.fake.heal()
    bench.reconciler.remove_stale({router.id})
    assert bench.namespaces() == before


def test_new_floating_ip_ends_what_its_instance_began_without_it(bench: Bench, router: Router) -> None:
    namespace, fixed, outside = "qrouter-" + router.id, "10.1.0.112", "198.51.100.9"
    bench.reconciler.reconcile(replace(router, floating_ips=()))
    stays = [(fixed, "10.1.0.16", "10.1.0.16", fixed), (outside, fixed, fixed, outside)]
    bench.fake[namespace].connections = [(fixed, outside, outside, fixed), *stays]
    bench.fake.forget_calls()
    assert bench.reconciler.reconcile(router).conntrack_deleted == 1
    assert bench.fake[namespace].connections == stays
    (call,) = bench.fake.calls("conntrack.drop_untranslated")
    assert call.args == (namespace, (fixed,), ("10.1.0.0/24",))
    bench.reconciler.reconcile(router)
    assert len(bench.fake.calls("conntrack.drop_untranslated")) == 1


def test_new_namespace_has_no_connection_to_end(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(router)
    assert bench.fake.calls("conntrack.drop_untranslated") == []


def test_connections_that_a_failed_job_could_not_end_are_ended_by_the_next(bench: Bench, router: Router) -> None:
    bench.reconciler.reconcile(replace(router, floating_ips=()))
    bench.fake.fail("conntrack.drop_untranslated")
    bench.fake.forget_calls()
    with pytest.raises(KernelError):
        bench.reconciler.reconcile(router)
    bench.reconciler.reconcile(router)
    assert len(bench.fake.calls("conntrack.drop_untranslated")) == 2


def test_tenants_default_route_by_an_instance_leaves_nothing_to_translate(bench: Bench, router: Router) -> None:
    route = ExtraRoute(IPv4Network("0.0.0.0/0"), IPv4Address("10.1.0.16"))
    bench.reconciler.reconcile(replace(router, floating_ips=(), routes=(route,)))
    bench.fake.forget_calls()
    bench.reconciler.reconcile(replace(router, routes=(route,)))
    (call,) = bench.fake.calls("conntrack.drop_untranslated")
    assert "0.0.0.0/0" in call.args[2]
