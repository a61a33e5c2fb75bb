"""Mode ``dvr_no_external``: there is no recording, so what must be there is written down by hand from the contract."""

from __future__ import annotations

from pathlib import Path

from dvr_agent.desired.host_settings import AgentMode
from tests.support import lab
from tests.support.oracle_build import make_host, parse
from tests.support.oracle_normalise import normalised
from tests.support.oracle_reader import Neighbour, Route, Rule, Sysctl
from tests.support.oracle_recordings import Scenario


def test_scenario_d_on_its_own_host_has_the_redirect_only(host: lab.Host, tmp_path: Path) -> None:
    scenario = Scenario("d_dvr_no_external", "compute3")
    (interface,) = scenario.router["_interfaces"]
    (csnat,) = scenario.router["_snat_router_interfaces"]
    device, address = f"qr-{interface['id'][:11]}", interface["fixed_ips"][0]["ip_address"]
    number = int.from_bytes(bytes(map(int, address.split("."))), "big")

    reconciler = make_host(host, "compute3", [scenario], tmp_path, AgentMode.DVR_NO_EXTERNAL)
    reconciler.reconcile(parse(scenario))
    before = reconciler.kernel.counters.total()
    reconciler.reconcile(parse(scenario))
    assert reconciler.kernel.counters.total() == before

    assert [path.name for path in lab.NETNS.iterdir()] == [f"qrouter-{scenario.router['id']}"]
    (view,) = normalised(scenario.observe(), scenario.document).values()
    assert [(link.name, link.mac, link.mtu, link.up) for link in view.links] == [
        (device, interface["mac_address"], interface["mtu"], True)
    ]
    assert {(item.device, item.cidr) for item in view.addresses} == {(device, f"{address}/24")}
    gateway = csnat["fixed_ips"][0]["ip_address"]
    assert view.routes == {
        Route(254, "10.1.0.0/24", (f"dev {device}",), "kernel"),
        Route(number, "0.0.0.0/0", (f"via {gateway} dev {device}",), "static"),
    }
    assert view.rules == {Rule(number, f"{address}/24", "", number)}
    assert view.neighbours == {
        Neighbour(fixed["ip_address"], device, port["mac_address"])
        for ports in scenario.document["ports_by_subnet"].values()
        for port in ports
        for fixed in port["fixed_ips"]
        if port["id"] != interface["id"]
    }
    assert {
        Sysctl("net.ipv4.conf.all.send_redirects", "0"),
        Sysctl(f"net.ipv4.conf.{device}.send_redirects", "0"),
        Sysctl("net.ipv4.ip_forward", "1"),
        Sysctl("net.ipv4.conf.all.arp_ignore", "1"),
        Sysctl("net.ipv4.conf.all.arp_announce", "2"),
        Sysctl("net.ipv6.conf.all.forwarding", "1"),
        Sysctl("net.netfilter.nf_conntrack_tcp_be_liberal", "1"),
    } <= view.sysctls
    assert [fact for fact in view.filter if "becomes" in fact] == []


def test_ports_in_the_external_scope_are_redirected_too(host: lab.Host, tmp_path: Path) -> None:
    """Scenario i has one: elsewhere it leaves by the fip namespace, here there is none."""
    scenario = Scenario("i_address_scope", "compute2")
    router = scenario.router
    gateways = {
        fixed["subnet_id"]: fixed["ip_address"]
        for port in router["_snat_router_interfaces"]
        for fixed in port["fixed_ips"]
    }
    make_host(host, "compute2", [scenario], tmp_path, AgentMode.DVR_NO_EXTERNAL).reconcile(parse(scenario))

    (view,) = scenario.observe().values()
    rules, routes = set(), set()
    for port in router["_interfaces"]:
        for fixed in port["fixed_ips"]:
            number = int.from_bytes(bytes(map(int, fixed["ip_address"].split("."))), "big")
            rules.add(Rule(number, f"{fixed['ip_address']}/24", "", number))
            via = f"via {gateways[fixed['subnet_id']]} dev qr-{port['id'][:11]}"
            routes.add(Route(number, "0.0.0.0/0", (via,), "static"))
    assert len(rules) == 3
    assert view.rules == rules
    assert {route for route in view.routes if route.table != 254} == routes
    assert [link.name for link in view.links if not link.name.startswith("qr-")] == []
