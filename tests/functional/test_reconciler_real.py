"""Routers that are odd but legal, changes that are awkward, and drift: on a real kernel one reconcile is enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.errors import KernelError
from dvr_agent.model.router import ExtraRoute, FixedIp, Router, RouterPort
from dvr_agent.reconcile.api import Plan, RefusedError, Result
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from dvr_agent.state.address import kernel_link_local
from dvr_agent.state.diff import Change
from dvr_agent.state.missing import Missing
from dvr_agent.state.sysctl import Sysctl
from tests.support import lab
from tests.support.filter_tools import uses_nftables
from tests.support.heard import hearing, reconcile_heard
from tests.support.packet_documents import uid
from tests.support.small_routers import EXTERNAL, HOST, fip, make_router, port, qrouter


class Agent:
    """A reconciler on the test's host, which checks that each reconcile is enough.

    :param hears: it hears the kernel's events as the daemon does, and so reads little
    """

    def __init__(self, state_path: Path, mode: AgentMode = AgentMode.DVR_SNAT, hears: bool = False) -> None:
        self.state_path = state_path
        self.reconciler: RouterReconciler = make_reconciler(HostSettings(HOST, mode), {EXTERNAL: "br-ext"}, state_path)
        self.reconciler.load()
        self.judge = hearing(self.reconciler) if hears else None

    def reconcile(self, router: Router) -> Result:
        outcome = self.once(router)
        written = self.reconciler.kernel.counters.total()
        assert not self.reconciler.planner.plan(router)
        assert not self.once(router).plan
        assert self.reconciler.kernel.counters.total() == written
        return outcome

    def once(self, router: Router, in_resync: bool = False) -> Result:
        if self.judge is None:
            return self.reconciler.reconcile(router, in_resync)
        return reconcile_heard(self.judge, self.reconciler, router, in_resync)

    def namespaces(self) -> list[str]:
        return self.reconciler.kernel.namespaces.list()


@pytest.fixture(params=[False, True], ids=["reads", "hears"])
def agent(request: pytest.FixtureRequest, host: lab.Host, tmp_path: Path) -> Iterator[Agent]:
    host.bridge("br-ext")
    agent = Agent(tmp_path, hears=request.param)
    yield agent
    if agent.judge is not None:
        agent.judge.close()


@pytest.fixture
def router() -> Router:
    return make_router("one", 1)


def internal(router: Router) -> str:
    return names.device(names.INTERNAL, router.interfaces[0].id)


def with_routes(router: Router, *routes: tuple[str, str]) -> Router:
    return replace(router, routes=tuple(ExtraRoute(ip_network(dst), ip_address(via)) for dst, via in routes))


def test_networks_with_an_mtu_too_small_for_ipv6_are_routed(agent: Agent) -> None:
    router = make_router("small", 3, mtu=1000, ipv6=False)
    agent.reconcile(router)
    assert {link["mtu"] for link in lab.ip_json("link", netns=qrouter(router)) if link["ifname"] != "lo"} == {1000}
    assert not [route for route in lab.ip_json("-6", "route", netns=qrouter(router)) if route["dst"] == "default"]


@pytest.mark.parametrize(
    ("destination", "nexthop"), [("10.1.0.0/24", "203.0.113.77"), ("203.0.113.0/24", "10.1.0.9")], ids=["in", "out"]
)
def test_an_extra_route_to_a_subnet_connected_elsewhere_in_the_namespace_leaves_it_connected(
    agent: Agent, router: Router, destination: str, nexthop: str
) -> None:
    agent.reconcile(with_routes(router, (destination, nexthop)))
    routes = [one for one in lab.ip_json("route", netns=names.SNAT + router.id) if one["dst"] == destination]
    assert [(one["protocol"], one.get("gateway")) for one in routes] == [("kernel", None)]


def test_an_interface_with_another_mac_keeps_its_neighbours(agent: Agent, router: Router) -> None:
    agent.reconcile(router)
    agent.reconcile(replace(router, interfaces=(replace(router.interfaces[0], mac="fa:16:3e:77:77:77"),)))
    neighbours = lab.ip_json("neigh", "show", "nud", "permanent", "dev", internal(router), netns=qrouter(router))
    assert {"10.1.0.9", "10.1.0.2"} <= {one["dst"] for one in neighbours}


def test_an_ipv6_address_gets_another_prefix_length(agent: Agent, router: Router) -> None:
    agent.reconcile(router)
    port = router.interfaces[0]
    fixed = tuple(replace(one, prefixlen=80) if one.address.version == 6 else one for one in port.fixed_ips)
    agent.reconcile(replace(router, interfaces=(replace(port, fixed_ips=fixed),)))
    [device] = lab.ip_json("-6", "addr", "show", "dev", internal(router), "scope", "global", netns=qrouter(router))
    found = [one for one in device["addr_info"] if one]
    assert [(one["local"], one["prefixlen"]) for one in found] == [("2001:db8:1::1", 80)]


def test_routes_that_somebody_appended_to_ours_go(agent: Agent, router: Router) -> None:
    router = with_routes(router, ("192.0.2.0/24", "10.1.0.9"))
    agent.reconcile(router)
    inside, gateway = internal(router), names.device(names.GATEWAY, router.gateway.id if router.gateway else "")
    lab.run("ip", "-n", qrouter(router), "route", "append", "192.0.2.0/24", "via", "10.1.0.8", "proto", "static")
    ours = ("default", "dev", inside, "proto", "static", "metric", "1024")
    lab.run("ip", "-n", qrouter(router), "-6", "route", "append", *ours)
    snat = names.SNAT + router.id
    lab.run("ip", "-n", snat, "route", "append", "default", "dev", gateway, "proto", "static")
    agent.reconcile(router)
    assert [one["gateway"] for one in lab.ip_json("route", "show", "192.0.2.0/24", netns=qrouter(router))] == [
        "10.1.0.9"
    ]
    assert len(lab.ip_json("-6", "route", "show", "default", netns=qrouter(router))) == 1
    assert [one["gateway"] for one in lab.ip_json("route", "show", "default", netns=snat)] == ["203.0.113.1"]


def test_a_renamed_outer_end_is_made_anew_with_all_that_was_on_the_inner_one(agent: Agent, router: Router) -> None:
    agent.reconcile(router)
    outer = f"tap{router.interfaces[0].id[:11]}"
    lab.run("ip", "link", "set", outer, "down")
    lab.run("ip", "link", "set", outer, "name", "elsewhere")
    agent.reconcile(router)
    [device] = lab.ip_json("-4", "addr", "show", "dev", internal(router), netns=qrouter(router))
    assert [one["local"] for one in device["addr_info"] if one] == ["10.1.0.1"]
    assert "elsewhere" not in {link["ifname"] for link in lab.ip_json("link")}


@pytest.mark.parametrize("end", ["rfp", "fpr"])
def test_a_changed_mac_between_router_and_fip_namespace_is_put_back(agent: Agent, router: Router, end: str) -> None:
    agent.reconcile(router)
    namespace = qrouter(router) if end == "rfp" else names.FIP + EXTERNAL
    device = names.device(f"{end}-", router.id)
    [before] = lab.ip_json("link", "show", device, netns=namespace)
    lab.run("ip", "-n", namespace, "link", "set", device, "address", "02:00:00:00:00:09")
    agent.reconcile(router)
    [after] = lab.ip_json("link", "show", device, netns=namespace)
    assert after["address"] == before["address"]


@pytest.mark.parametrize("restart", [False, True])
def test_a_floating_ip_goes_from_one_router_to_another_in_either_order(agent: Agent, restart: bool) -> None:
    one, two = make_router("one", 1), make_router("two", 2)
    address = "203.0.113.150"
    agent.reconcile(replace(one, floating_ips=(fip(address, "10.1.0.9"),)))
    agent.reconcile(two)
    if restart:
        agent = Agent(agent.state_path)
    two = replace(two, floating_ips=(fip(address, "10.2.0.9"),))
    agent.reconcile(two)
    agent.reconcile(one)
    agent.reconcile(two)
    [route] = lab.ip_json("route", "show", address, netns=names.FIP + EXTERNAL)
    assert route["dev"] == names.device(names.FIP_TO_ROUTER, two.id)
    agent.reconciler.flush()
    assert (agent.state_path / "fip-priorities").read_text().startswith(f"{address},")
    agent.reconcile(replace(two, floating_ips=()))
    assert not lab.ip_json("route", "show", address, netns=names.FIP + EXTERNAL)
    agent.reconcile(replace(one, floating_ips=(fip(address, "10.1.0.9"),)))


def test_a_router_that_failed_half_way_counts_as_a_user_of_the_fip_namespace(
    agent: Agent, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = make_router("two", 2)
    agent.reconcile(router)
    interfaces = agent.reconciler.kernel.interfaces
    original = interfaces.apply

    def apply(namespace: str, changes: Sequence[Change], missing: Missing) -> None:
        original(namespace, changes, missing)
        if namespace == names.FIP + EXTERNAL:
            raise KernelError(namespace, "anything", 5)

    with monkeypatch.context() as patch:
        patch.setattr(type(interfaces), "apply", lambda _self, *args: apply(*args))
        with pytest.raises(KernelError):
            agent.once(failing)
    agent.reconciler.remove(router.id)
    fpr = names.device(names.FIP_TO_ROUTER, failing.id)
    assert fpr in {link["ifname"] for link in lab.ip_json("link", netns=names.FIP + EXTERNAL)}
    agent.reconciler.remove(failing.id)
    assert agent.namespaces() == []


def test_a_fip_namespace_that_vanished_in_the_middle_of_a_pass_is_made_whole(agent: Agent, router: Router) -> None:
    agent.reconcile(router)
    lab.run("ip", "netns", "del", names.FIP + EXTERNAL)
    agent.once(router, in_resync=True)
    assert not agent.reconciler.planner.plan(router)


def test_a_floating_ip_in_two_documents_stays_with_its_holder(agent: Agent) -> None:
    address = "203.0.113.150"
    one = replace(make_router("one", 1), floating_ips=(fip(address, "10.1.0.9"),))
    two = replace(make_router("two", 2), floating_ips=(fip(address, "10.2.0.9"),))
    agent.reconciler.begin_resync()
    agent.reconcile(one)
    agent.reconcile(two)
    for _ in range(2):
        assert not agent.reconcile(one).plan.omitted
        assert agent.reconcile(two).plan.omitted
    assert agent.reconcile(replace(one, floating_ips=())).affected == (two.id,)
    assert not agent.reconcile(two).plan.omitted
    assert agent.reconcile(one).plan.omitted


def test_of_two_documents_of_an_authority_the_newer_has_a_floating_ip_at_once(agent: Agent) -> None:
    """Back and forth, before and after the other router's own job: the route in the fip namespace follows."""
    agent.reconciler.memory.claims.newer_wins = True
    agent.reconciler.begin_resync()
    address = "203.0.113.150"
    one, two = make_router("one", 1), make_router("two", 2)
    agent.reconcile(one)
    agent.reconcile(two)
    for number, (router, fixed) in enumerate([(one, "10.1.0.9"), (two, "10.2.0.9")] * 3):
        claimant = replace(router, name=f"change {number}", floating_ips=(fip(address, fixed),))
        assert not agent.once(claimant).plan.omitted
        (route,) = lab.ip_json("route", "show", address, netns=names.FIP + EXTERNAL)
        assert route["dev"] == names.device(names.FIP_TO_ROUTER, router.id)
        assert not agent.reconciler.planner.plan(claimant)


def test_the_kernel_wins_over_a_state_file_that_gives_its_priority_to_another_floating_ip(agent: Agent) -> None:
    address = "203.0.113.150"
    router = replace(make_router("one", 1), floating_ips=(fip(address, "10.1.0.9"),))
    agent.reconcile(router)
    agent.reconciler.flush()
    file = agent.state_path / "fip-priorities"
    before = file.read_text()
    file.write_text(before.replace(address, "203.0.113.151") + f"{address},50000\n")
    again = Agent(agent.state_path)
    assert not again.reconcile(router).plan
    again.reconciler.flush()
    assert file.read_text() == before


@pytest.mark.parametrize("neighbour", [False, True])
def test_a_router_is_made_anew_while_the_kernel_still_tears_its_predecessor_down(
    agent: Agent, router: Router, neighbour: bool
) -> None:
    if neighbour:
        agent.reconcile(make_router("two", 2))
    for _ in range(5):
        agent.reconcile(replace(router, floating_ips=(fip("203.0.113.150", "10.1.0.9"),)))
        agent.reconciler.remove(router.id)
    assert not [name for name in agent.namespaces() if router.id in name]


def test_a_host_that_changes_its_mode_gets_rid_of_what_only_the_old_mode_had(host: lab.Host, tmp_path: Path) -> None:
    host.bridge("br-ext")
    router = replace(make_router("one", 1), floating_ips=(fip("203.0.113.150", "10.1.0.9"),))
    qrouter_, snat, shared = names.QROUTER + router.id, names.SNAT + router.id, names.FIP + EXTERNAL
    for mode, expected in (
        (AgentMode.DVR_SNAT, [shared, qrouter_, snat]),
        (AgentMode.DVR, [shared, qrouter_]),
        (AgentMode.DVR_NO_EXTERNAL, [qrouter_]),
        (AgentMode.DVR_SNAT, [shared, qrouter_, snat]),
    ):
        agent = Agent(tmp_path, mode)
        agent.reconcile(router)
        assert agent.namespaces() == expected


def gateway_port(
    name: str, address: str = "203.0.113.200/24", gateway: str | None = None, **more: object
) -> RouterPort:
    """An agent gateway port; ``gateway``: that of its subnet, if it is not the first address."""
    found = port(name, EXTERNAL, address)
    if gateway is not None:
        found = replace(found, subnets=tuple(replace(one, gateway_ip=ip_address(gateway)) for one in found.subnets))
    return found


def fg_devices() -> list[str]:
    links = lab.ip_json("link", netns=names.FIP + EXTERNAL)
    return sorted(link["ifname"] for link in links if link["ifname"].startswith("fg-"))


def fg(one: RouterPort) -> str:
    return names.device(names.AGENT_GATEWAY, one.id)


@pytest.mark.parametrize(
    ("address", "gateway"),
    [
        ("203.0.113.200/24", None),
        ("203.0.113.200/24", "198.51.100.1"),
        ("2001:db8:ff::200/64", "fe80::1"),
        ("2001:db8:ff::200/64", "2001:db8:ee::1"),
    ],
)
@pytest.mark.parametrize("restart", [False, True])
def test_an_agent_gateway_port_is_replaced(
    agent: Agent, router: Router, address: str, gateway: str | None, restart: bool
) -> None:
    ports = [gateway_port(name, address, gateway) for name in ("fg", "other")]
    agent.reconcile(replace(router, agent_gateways=(ports[0],)))
    if restart:
        agent = Agent(agent.state_path)
    agent.reconcile(replace(router, agent_gateways=(ports[1],)))
    assert fg_devices() == [fg(ports[1])]


def test_an_agent_gateway_port_stays_until_no_router_uses_it(agent: Agent) -> None:
    old, new = (gateway_port(name, gateway="198.51.100.1") for name in ("fg", "other"))
    first, second = (
        replace(
            make_router(name, number), agent_gateways=(old,), floating_ips=(fip(f"203.0.113.{number}0", "10.0.0.9"),)
        )
        for name, number in (("one", 4), ("two", 5))
    )
    agent.reconcile(first)
    agent.reconcile(second)

    def defaults() -> set[str]:
        routes = lab.ip_json("route", "show", "table", "all", netns=names.FIP + EXTERNAL)
        return {route["dev"] for route in routes if route["dst"] == "default"}

    changed = replace(first, agent_gateways=(new,))
    agent.reconcile(changed)
    assert fg_devices() == sorted([fg(old), fg(new)])
    assert defaults() == {fg(old), fg(new)}
    agent.reconcile(second)  # its document still names the old one
    assert fg_devices() == [fg(new)]
    assert defaults() == {fg(new)}
    assert text(agent.reconciler.planner.plan(changed)) == []
    agent.reconcile(replace(second, agent_gateways=(new,)))
    assert not agent.reconciler.planner.plan_stale([first.id, second.id])


def test_a_left_agent_gateway_device_is_seen_by_a_new_process(agent: Agent, router: Router) -> None:
    agent.reconcile(router)
    lab.in_netns(names.FIP + EXTERNAL, "ip", "link", "add", "fg-11111111-11", "type", "veth", "peer", "name", "x")
    other = Agent(agent.state_path)
    assert "- link fg-11111111-11" in " ".join(text(other.reconciler.planner.plan(router)))
    other.reconciler.reconcile(router)
    assert fg_devices() == [fg(router.agent_gateways[0])]


def text(plan: Plan) -> list[str]:
    return [change.text for changes in plan.changes for change in changes.items]


def test_other_external_subnets_are_on_link_by_external_ports_only(agent: Agent, router: Router) -> None:
    extra = (ip_network("198.18.0.0/24"), ip_network("2001:db8:77::/64"))
    inside = replace(router.interfaces[0], extra_subnets=(ip_network("8.8.8.0/24"), ip_network("2001:db8:88::/64")))
    csnat = replace(router.snat_interfaces[0], extra_subnets=inside.extra_subnets)
    assert router.gateway is not None
    router = replace(
        router,
        interfaces=(inside,),
        snat_interfaces=(csnat,),
        gateway=replace(router.gateway, extra_subnets=extra),
        agent_gateways=(replace(router.agent_gateways[0], extra_subnets=extra),),
    )
    agent.reconcile(router)
    on_link = {
        (namespace[:4], route["dst"], route["dev"][:3])
        for namespace in (names.QROUTER + router.id, names.SNAT + router.id, names.FIP + EXTERNAL)
        for family in ("-4", "-6")
        for route in lab.ip_json(family, "route", netns=namespace)
        if route.get("protocol") == "static" and "gateway" not in route and "via" not in route
    }
    wanted = {(space, str(net), device) for space, device in (("snat", "qg-"), ("fip-", "fg-")) for net in extra}
    assert on_link == wanted


@pytest.mark.parametrize("name", ["fg", "other"])
def test_external_ports_go_from_one_subnet_of_their_network_to_another(agent: Agent, router: Router, name: str) -> None:
    """The subnet that was connected is on-link now, and the kernel's route of it stands in the way."""

    def on(here: str, there: str, name: str) -> Router:
        other = (ip_network(f"{there}.0/24"),)
        qg, fg_port = (port(one, EXTERNAL, f"{here}.{end}/24") for one, end in (("one-qg", 9), (name, 200)))
        return replace(
            router,
            gateway=replace(qg, extra_subnets=other),
            agent_gateways=(replace(fg_port, extra_subnets=other),),
            floating_ips=(fip("203.0.113.50", "10.1.0.9"),),
        )

    agent.reconcile(on("203.0.113", "198.18.0", "fg"))
    moved = on("198.18.0", "203.0.113", name)
    agent.reconcile(moved)
    assert moved.gateway is not None
    devices = {names.FIP + EXTERNAL: fg(moved.agent_gateways[0])}
    devices[names.SNAT + router.id] = names.device(names.GATEWAY, moved.gateway.id)
    for namespace, device in devices.items():
        for subnet, protocol in (("203.0.113.0/24", "static"), ("198.18.0.0/24", "kernel")):
            found = lab.ip_json("route", "show", subnet, netns=namespace)
            assert [(one["dev"], one["protocol"]) for one in found] == [(device, protocol)]
    agent.reconcile(on("203.0.113", "198.18.0", "fg"))


def test_a_subnet_that_was_connected_is_reached_by_an_extra_route(agent: Agent, router: Router) -> None:
    inside = port("one-qr2", uid("network", "more"), "10.7.0.1/24", "2001:db8:7::1/64")
    csnat = port("one-sg2", uid("network", "more"), "10.7.0.2/24", "2001:db8:7::2/64")
    both = replace(
        router,
        interfaces=(*router.interfaces, inside),
        snat_interfaces=(*router.snat_interfaces, csnat),
    )
    for _ in range(2):
        agent.reconcile(both)
        agent.reconcile(with_routes(router, ("10.7.0.0/24", "10.1.0.9"), ("2001:db8:7::/64", "2001:db8:1::9")))
        for namespace in (qrouter(router), names.SNAT + router.id):
            for subnet, via in (("10.7.0.0/24", "10.1.0.9"), ("2001:db8:7::/64", "2001:db8:1::9")):
                family = "-6" if ":" in subnet else "-4"
                found = lab.ip_json(family, "route", "show", subnet, netns=namespace)
                assert [one.get("gateway") for one in found] == [via]


@pytest.mark.parametrize("subnet", ["203.0.113.50/32", "198.18.0.7/32"])
def test_a_floating_ip_of_an_external_subnet_of_one_address_has_its_route(
    agent: Agent, router: Router, subnet: str
) -> None:
    extra = (ip_network(subnet), ip_network("198.19.0.8/31"))
    address = subnet.partition("/")[0]
    router = replace(
        router,
        agent_gateways=(replace(router.agent_gateways[0], extra_subnets=extra),),
        floating_ips=(fip(address, "10.1.0.9"),),
    )
    agent.reconcile(replace(router, floating_ips=()))
    agent.reconcile(router)
    (route,) = lab.ip_json("route", "show", address, netns=names.FIP + EXTERNAL)
    assert route["dev"] == names.device(names.FIP_TO_ROUTER, router.id)
    assert lab.ip_json("route", "show", "198.19.0.8/31", netns=names.FIP + EXTERNAL)


@pytest.mark.parametrize("connected", [False, True])
def test_a_subnet_of_the_external_network_is_not_a_routers_inside(
    agent: Agent, router: Router, connected: bool
) -> None:
    """A document of a router with such a subnet in the external address scope: the network keeps it."""
    router = same_scope(router, address="10.50.0.2")
    if connected:
        outside = port("fg", EXTERNAL, "10.50.0.200/24")
    else:
        outside = replace(router.agent_gateways[0], extra_subnets=(ip_network("10.50.0.0/24"),))
    agent.reconcile(router)
    agent.reconcile(replace(router, agent_gateways=(outside,)))
    found = lab.ip_json("route", "show", "10.50.0.0/24", netns=names.FIP + EXTERNAL)
    assert {one["dev"] for one in found} == {fg(outside)}
    agent.reconcile(router)


def same_scope(router: Router, *, address: str) -> Router:
    """The router with its only network on a subnet that it shares, in the external address scope."""
    scope, network = uid("scope", "both"), uid("network", "shared")
    inside, csnat = (
        replace(port(f"{router.name}-{what}", network, f"{host}/24"), scope4=scope)
        for what, host in (("qr", address), ("sg", f"{address}0"))
    )
    assert router.gateway is not None
    return replace(
        router,
        interfaces=(inside,),
        snat_interfaces=(csnat,),
        gateway=replace(router.gateway, scope4=scope),
        ports_by_subnet=(),
    )


def test_of_routers_on_one_subnet_in_the_external_scope_the_lowest_id_has_its_route(agent: Agent) -> None:
    first, second = sorted(
        (same_scope(make_router(name, number), address=f"10.50.0.{number}") for name, number in (("a", 2), ("b", 3))),
        key=lambda router: router.id,
    )

    def route_by() -> list[str]:
        return [route["dev"] for route in lab.ip_json("route", "show", "10.50.0.0/24", netns=names.FIP + EXTERNAL)]

    def device(router: Router) -> list[str]:
        return [names.device(names.FIP_TO_ROUTER, router.id)]

    agent.reconcile(second)
    assert route_by() == device(second)
    agent.reconcile(first)
    assert route_by() == device(first)
    agent.reconcile(second)
    assert any("10.50.0.0/24" in warning for warning in agent.reconciler.planner.plan(second).warnings)
    for order in ((first, second), (second, first)):
        agent = Agent(agent.state_path)
        for router in order:
            assert not agent.reconcile(router).plan
        assert route_by() == device(first)
    for without in (replace(first, gateway=None), replace(first, interfaces=())):
        outcome = agent.reconcile(without)
        assert outcome.affected == (second.id,)
        agent.reconcile(second)
        assert route_by() == device(second)
        agent.reconcile(first)
        agent.reconcile(second)
        assert route_by() == device(first)
    assert agent.reconciler.remove(first.id).affected == (second.id,)
    agent.reconcile(second)
    assert route_by() == device(second)


@pytest.mark.parametrize("dad", [(), ("nodad",)])
def test_a_link_local_fixed_ip_that_is_there_already_is_taken_over(
    agent: Agent, router: Router, dad: tuple[str, ...]
) -> None:
    inside = router.interfaces[0]
    more = port("linklocal", inside.network_id, "fe80::5/64")
    extra = replace(inside, fixed_ips=(*inside.fixed_ips, *more.fixed_ips), subnets=(*inside.subnets, *more.subnets))
    agent.reconcile(router)
    lab.in_netns(qrouter(router), "ip", "addr", "add", "fe80::5/64", "dev", internal(router), *dad)
    agent.reconcile(replace(router, interfaces=(extra,)))
    assert "fe80::5/64" in link_locals(internal(router), qrouter(router))


def test_a_router_that_lost_a_subnets_route_gets_it_back_before_its_next_audit(agent: Agent) -> None:
    """Three routers: the one that had the route until the lowest came has had no job since then."""
    made = (make_router(name, number) for name, number in (("a", 2), ("b", 3), ("c", 4)))
    routers = (same_scope(one, address=f"10.50.0.{number}") for number, one in enumerate(made, 2))
    first, second, third = sorted(routers, key=lambda router: router.id)
    for router in (third, second, third, first):
        agent.reconcile(router)
    assert agent.once(replace(first, interfaces=())).affected == (second.id, third.id)
    agent.reconcile(third)
    agent.reconcile(second)
    agent.reconcile(first)
    assert agent.reconciler.remove(first.id).affected == (second.id, third.id)


@pytest.mark.parametrize("address", ["fe80::5/64", "own"])
def test_a_link_local_fixed_ip_is_an_address_like_any_other(agent: Agent, router: Router, address: str) -> None:
    inside = router.interfaces[0]
    if address == "own":
        address = kernel_link_local("qr-", inside.mac).cidr
    more = port("linklocal", inside.network_id, address)
    extra = replace(inside, fixed_ips=(*inside.fixed_ips, *more.fixed_ips), subnets=(*inside.subnets, *more.subnets))
    agent.reconcile(router)
    agent.reconcile(replace(router, interfaces=(extra,)))
    assert address in link_locals(internal(router), qrouter(router))
    agent.reconcile(router)
    own = kernel_link_local("qr-", inside.mac).cidr
    assert link_locals(internal(router), qrouter(router)) == [own]


@pytest.mark.parametrize("prefixlen", [10, 65, 128])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_fixed_ip_that_is_the_devices_own_link_local_address_has_its_prefix_length(
    agent: Agent, router: Router, prefixlen: int, fresh: bool
) -> None:
    inside = router.interfaces[0]
    own = kernel_link_local("", inside.mac)
    fixed = FixedIp(ip_address(own.ip), prefixlen, uid("subnet", "linklocal"))
    wanted = replace(router, interfaces=(replace(inside, fixed_ips=(*inside.fixed_ips, fixed)),))
    if not fresh:
        agent.reconcile(router)
    agent.reconcile(wanted)
    assert link_locals(internal(router), qrouter(router)) == [f"{own.ip}/{prefixlen}"]
    agent.reconcile(router)
    assert link_locals(internal(router), qrouter(router)) == [own.cidr]


def link_locals(device: str, namespace: str) -> list[str]:
    (link,) = lab.ip_json("-6", "addr", "show", device, netns=namespace)
    return [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if one["scope"] == "link"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_device_that_gets_another_mac_gets_its_link_local_address(agent: Agent, router: Router, times: int) -> None:
    agent.reconcile(router)
    for number in range(times):
        other = f"fa:16:3e:00:00:0{number + 1}"
        ports = tuple(replace(one, mac=other) for one in router.interfaces)
        agent.reconcile(replace(router, interfaces=ports))
        assert link_locals(internal(router), qrouter(router)) == [kernel_link_local("", other).cidr]


def test_a_link_local_address_of_an_earlier_mac_is_found_later(agent: Agent, router: Router) -> None:
    agent.reconcile(router)
    namespace, device = qrouter(router), internal(router)
    lab.in_netns(namespace, "ip", "link", "set", device, "address", "fa:16:3e:99:99:99")
    lab.in_netns(namespace, "ip", "link", "set", device, "address", router.interfaces[0].mac)
    lab.in_netns(namespace, "ip", "addr", "flush", "dev", device, "scope", "link")
    lab.in_netns(namespace, "ip", "addr", "add", "fe80::f816:3eff:fe99:9999/64", "dev", device, "scope", "link")
    lab.in_netns(namespace, "ip", "addr", "add", "fe80::1/64", "dev", device, "scope", "link")  # an operator's
    agent.reconcile(router)
    own = kernel_link_local("", router.interfaces[0].mac).cidr
    assert sorted(link_locals(device, namespace)) == sorted(["fe80::1/64", own])


@pytest.mark.parametrize("prefix", [names.QROUTER, names.SNAT, names.FIP])
def test_lo_is_raised_in_a_namespace_that_somebody_made(agent: Agent, router: Router, prefix: str) -> None:
    agent.reconcile(router)
    namespace = prefix + (EXTERNAL if prefix == names.FIP else router.id)
    lab.run("ip", "netns", "del", namespace)
    lab.run("ip", "netns", "add", namespace)
    agent.reconcile(router)
    (lo,) = lab.ip_json("link", "show", "lo", netns=namespace)
    assert "UP" in lo["flags"]


def test_an_ipv6_default_route_by_an_instance_is_followed_as_an_ipv4_one_is(agent: Agent, router: Router) -> None:
    """Both with a link to the fip namespace: what ``ip route get`` finds for a packet of an instance."""
    router = replace(router, floating_ips=(fip("203.0.113.50", "10.4.0.9"),))
    number = str(router.interfaces[0].fixed_ips[0].address).split(".")[1]
    hops = {"8.8.8.8": f"10.{number}.0.9", "2001:db8:99::1": f"2001:db8:{number}::9"}
    sources = {"8.8.8.8": f"10.{number}.0.8", "2001:db8:99::1": f"2001:db8:{number}::8"}

    def way(to: str) -> str | None:
        args = ("route", "get", to, "from", sources[to], "iif", internal(router))
        (found,) = lab.ip_json(*args, netns=qrouter(router))
        return found.get("gateway")

    agent.reconcile(router)
    assert way("2001:db8:99::1") == f"2001:db8:{number}::2"
    changed = with_routes(router, ("0.0.0.0/0", hops["8.8.8.8"]), ("::/0", hops["2001:db8:99::1"]))
    agent.reconcile(changed)
    assert {to: way(to) for to in hops} == hops
    warnings = [one for one in agent.reconciler.planner.plan(changed).warnings if "replies of floating IPs" in one]
    assert len(warnings) == 1
    assert "0.0.0.0/0" in warnings[0]
    assert "203.0.113.50" in warnings[0]
    agent.reconcile(router)
    assert way("2001:db8:99::1") == f"2001:db8:{number}::2"


DISABLE = "net.ipv6.conf.all.disable_ipv6"


def with_ipv6_outside(router: Router) -> Router:
    """The router, with IPv6 subnets on its external network too."""
    gateway = port("one-qg", EXTERNAL, "203.0.113.1/24", "2001:db8:e::5/64")
    agent_gateway = port("fg", EXTERNAL, "203.0.113.200/24", "2001:db8:e::6/64")
    return replace(router, gateway=gateway, agent_gateways=(agent_gateway,))


DISABLE_NEW = "net.ipv6.conf.default.disable_ipv6"


def test_namespaces_whose_new_devices_have_no_ipv6_get_the_ipv4_part(agent: Agent, router: Router) -> None:
    router = with_ipv6_outside(router)
    names = [qrouter(router), f"snat-{router.id}", f"fip-{EXTERNAL}"]
    for name in names:
        lab.run("ip", "netns", "add", name)
        lab.in_netns(name, "sysctl", "-qw", f"{DISABLE_NEW}=1")
    with contextlib.suppress(RefusedError):  # nobody can tell before the devices are there
        agent.reconcile(router)
    left_out = agent.reconcile(router).plan.omitted
    assert len(left_out) == 3
    assert all("2001:db8:" in text and text.endswith(f"{DISABLE_NEW} is 1 there") for text in left_out)
    assert not agent.reconcile(router).plan
    for name in names:
        assert "inet6" not in lab.run("ip", "-n", name, "-o", "address", "show", "up", "scope", "global")
        lab.in_netns(name, "sysctl", "-qw", f"{DISABLE_NEW}=0", f"{DISABLE}=0")
    assert not agent.reconcile(router).plan.omitted
    assert "2001:db8:" in lab.run("ip", "-n", qrouter(router), "-o", "address")


def test_ipv6_that_works_stays_though_new_devices_would_have_none(agent: Agent, router: Router) -> None:
    router = with_ipv6_outside(router)
    agent.reconcile(router)
    for name in agent.namespaces():
        lab.in_netns(name, "sysctl", "-qw", f"{DISABLE_NEW}=1")
    result = agent.reconcile(router)
    assert not result.plan
    assert not result.plan.omitted


def test_namespaces_without_ipv6_get_the_ipv4_part_and_the_rest_once_it_is_back(agent: Agent, router: Router) -> None:
    router = with_ipv6_outside(router)
    agent.reconcile(router)
    whole = [lab.run("ip", "-n", name, "-o", "address") for name in agent.namespaces()]
    for name in agent.namespaces():
        lab.in_netns(name, "sysctl", "-qw", f"{DISABLE}=1")
    left_out = agent.reconcile(router).plan.omitted
    assert [text for text in left_out if f"namespace {qrouter(router)}: {DISABLE} is 1 there" in text]
    assert len(left_out) == 3
    assert all("2001:db8:" in text for text in left_out)
    agent.reconcile(replace(router, floating_ips=(fip("203.0.113.50", "10.1.0.9"),)))
    for name in agent.namespaces():
        lab.in_netns(name, "sysctl", "-qw", f"{DISABLE}=0")
    assert not agent.reconcile(router).plan.omitted
    now = [lab.run("ip", "-n", name, "-o", "address") for name in agent.namespaces()]
    assert [text.count("2001:db8:") for text in now] == [text.count("2001:db8:") for text in whole]


ADVERSE = {"ipv4/conf/{}/forwarding": "0", "ipv6/conf/{}/forwarding": "0", "ipv6/conf/{}/disable_ipv6": "1"}


def read(agent: Agent, router: Router) -> list[str]:
    """Reconcile with a look at everything; returns the names of the parameters that were changed."""
    agent.reconciler.begin_resync(trusting=False)
    changed = [change for one in agent.once(router, in_resync=True).plan.changes for change in one.items]
    return [f"net/{change.item.key}" for change in changed if isinstance(change.item, Sysctl)]


def test_parameters_of_devices_that_stop_a_router_are_put_right(agent: Agent, router: Router) -> None:
    router = replace(with_ipv6_outside(router), floating_ips=(fip("203.0.113.50", "10.1.0.9"),))
    agent.reconcile(router)
    for space in (qrouter(router), f"snat-{router.id}", f"fip-{EXTERNAL}"):
        for device in [link["ifname"] for link in lab.ip_json("link", netns=space) if link["ifname"] != "lo"]:
            for key, value in ADVERSE.items():
                name = f"net/{key}".format(device)
                before = lab.in_netns(space, "sysctl", "-n", name)
                lab.in_netns(space, "sysctl", "-qw", f"{name}={value}")
                assert read(agent, router) == [name]
                assert lab.in_netns(space, "sysctl", "-n", name) == before
                assert not read(agent, router)
    agent.reconcile(router)


def test_forwarding_that_is_off_in_a_namespace_is_one_change(agent: Agent, router: Router) -> None:
    agent.reconcile(router)
    for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        for space in (qrouter(router), f"snat-{router.id}", f"fip-{EXTERNAL}"):
            lab.in_netns(space, "sysctl", "-qw", f"{key}=0")
            assert set(read(agent, router)) == {key} | (
                {"net/ipv4/conf/default/forwarding"} if "ipv4" in key else set()
            )
    agent.reconcile(router)


def test_a_device_that_comes_to_a_namespace_whose_new_devices_do_not_forward_does(agent: Agent, router: Router) -> None:
    """A new namespace takes this parameter over from the host."""
    agent.reconcile(replace(router, interfaces=(), snat_interfaces=()))
    for space in (qrouter(router), f"snat-{router.id}"):
        lab.in_netns(space, "sysctl", "-qw", "net.ipv4.conf.default.forwarding=0")
    read(agent, replace(router, interfaces=(), snat_interfaces=()))
    agent.reconcile(router)
    assert lab.in_netns(qrouter(router), "sysctl", "-n", f"net.ipv4.conf.{internal(router)}.forwarding") == "1\n"


HARMS: dict[str, tuple[str, ...]] = (
    {
        "flushed": ("nft", "flush ruleset"),
        "chain": ("nft", "flush chain ip dvr mangle_prerouting"),
        "foreign rule": ("nft", "insert rule ip6 dvr filter_forward drop"),
    }
    if uses_nftables()
    else {
        "flushed": ("iptables-legacy", "-t", "mangle", "-F"),
        "jump": ("iptables-legacy", "-t", "mangle", "-D", "PREROUTING", "-j", "dvr-PREROUTING"),
        "foreign rule": ("ip6tables-legacy", "-t", "filter", "-I", "dvr-FORWARD", "-j", "DROP"),
        "policy": ("iptables-legacy", "-t", "filter", "-P", "FORWARD", "DROP"),
    }
)


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_table_check_finds_what_another_program_changed(agent: Agent, harm: tuple[str, ...]) -> None:
    routers = [make_router("one", 1), make_router("two", 2)]
    for router in routers:
        agent.reconcile(router)
    check = partial(agent.reconciler.find_changed_tables, [router.id for router in routers])
    assert check() == []
    lab.in_netns(qrouter(routers[1]), "iptables-legacy", "-A", "INPUT", "-s", "192.0.2.99", "-j", "ACCEPT")
    assert check() == [], "rules of other programs in built-in chains are none of ours"
    lab.in_netns(qrouter(routers[1]), *harm)
    assert check() == [routers[1].id]
    agent.once(routers[1])
    assert check() == []
