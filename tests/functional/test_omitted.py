"""A document with objects that cannot be built: the rest of the router works, and everything says what is left out."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tests.support import lab
from tests.support.ctl import Ctl
from tests.support.daemon_site import FIP, FLOATING, OTHER_VM_IP, QROUTER, RECORDED, ROUTER, SNAT, Site, with_vms
from tests.support.filter_tools import rule_lines
from tests.support.recorded_documents import document as dual_document
from tests.support.waiting import wait_for

GATEWAY = "203.0.113.1"
PATH = "$.router._floatingips[1].floating_ip_address"
TEXT = f'{PATH} is "{GATEWAY}": expected an address that a floating IP can have'


def with_gateway_as_floating_ip() -> Any:
    """The recorded router, with a second floating IP: the address of the external network's gateway."""
    document = copy.deepcopy(RECORDED)
    (fip,) = document["router"]["_floatingips"]
    bad = {"id": "d0a7c0de-0000-4000-8000-00000000f001", "floating_ip_address": GATEWAY}
    document["router"]["_floatingips"].append({**fip, **bad, "fixed_ip_address": OTHER_VM_IP})
    return document


def told(site: Site) -> int:
    return site.daemon.out.count("left out: ")


def test_floating_ip_with_the_address_of_the_gateway_takes_nothing_down(site: Site, host: lab.Host) -> None:
    with_vms(site, host)
    site.daemon.start()
    site.write(with_gateway_as_floating_ip())
    wait_for(lambda: site.state() == "degraded")

    assert lab.ping("vm", GATEWAY)  # the other floating IP
    assert lab.ping("internet", FLOATING)
    assert lab.ping("vm2", GATEWAY)  # SNAT
    assert f"{GATEWAY}/32" not in str(rule_lines(QROUTER))
    assert f"{GATEWAY} via" not in lab.run("ip", "-n", FIP, "route")

    status = site.daemon.status()
    (router,) = status["routers"]
    assert status["state"] == "degraded"
    assert router["reason"].startswith(f"left out: {TEXT}")
    assert router["next_retry"] is None
    site.audited()
    assert told(site) == 1
    assert f"left out: one.json: {TEXT}" in site.daemon.out

    # Drift is repaired while it is so.
    lab.run("ip", "-n", FIP, "route", "del", f"{FLOATING}/32")
    wait_for(lambda: FLOATING in lab.run("ip", "-n", FIP, "route"))
    wait_for(lambda: site.daemon.status()["counters"]["drift_repaired"] >= 1)
    assert site.state() == "degraded"

    # Another document with the same fault says nothing new; one without it is well.
    document = with_gateway_as_floating_ip()
    document["router"]["name"] = "renamed"
    site.write(document)
    wait_for(lambda: site.daemon.status()["routers"][0]["name"] == "renamed" and site.state() == "degraded")
    assert told(site) == 1
    site.write(RECORDED)
    wait_for(lambda: site.state() == "in sync")
    wait_for(lambda: "recovered" in site.daemon.out)


def test_gateway_port_with_the_address_of_the_gateway_takes_no_other_path_down(
    site: Site,
    host: lab.Host,
) -> None:
    with_vms(site, host)
    document = copy.deepcopy(RECORDED)
    (fixed,) = document["router"]["gw_port"]["fixed_ips"]
    fixed["ip_address"] = GATEWAY
    site.daemon.start()
    site.write(document)
    wait_for(lambda: site.state() == "degraded")
    assert lab.ping("vm", OTHER_VM_IP)
    assert lab.ping("vm", GATEWAY)
    assert lab.ping("internet", FLOATING)
    addresses = [
        one["local"]
        for link in lab.ip_json("address", "show", netns=SNAT)
        for one in link["addr_info"]
        if link["ifname"].startswith("qg-")
    ]
    assert GATEWAY not in addresses
    assert "$.router.gw_port.fixed_ips[0].ip_address is" in site.daemon.status()["routers"][0]["reason"]


def document_for(ctl: Ctl) -> Path:
    path = ctl.routers / "one.json"
    path.write_text(json.dumps(with_gateway_as_floating_ip()).replace("compute1", ctl.host))
    return path


def test_check_names_what_is_left_out(ctl: Ctl) -> None:
    path = document_for(ctl)
    done = ctl.run("check", path)
    assert done.returncode == 1
    assert f"part {path}: router {ROUTER}" in done.stdout
    assert "1 object left out" in done.stdout
    assert f"left out: {TEXT}" in done.stdout
    (document,) = ctl.json("check", path, code=1)["documents"]
    assert document["ok"]
    (omitted,) = document["omitted"]
    assert (omitted["path"], omitted["value"]) == (PATH, f'"{GATEWAY}"')
    assert omitted["text"].startswith(TEXT)


def test_check_names_ports_that_give_no_neighbour_and_is_content(ctl: Ctl) -> None:
    document = copy.deepcopy(RECORDED)
    subnet, ports = next((subnet, ports) for subnet, ports in document["ports_by_subnet"].items() if ports)
    ports[0]["mac_address"] = "01:00:5e:00:00:01"
    path = ctl.routers / "one.json"
    path.write_text(json.dumps(document))
    done = ctl.run("check", path)
    assert done.returncode == 0
    assert f'warning: no neighbour: $.ports_by_subnet["{subnet}"][0].mac_address is "01:00:5e:00:00:01"' in done.stdout


def test_plan_apply_and_show_say_it(kernel_ctl: Ctl) -> None:
    path = document_for(kernel_ctl)
    applied = kernel_ctl.run("apply", path)
    assert applied.returncode == 1
    assert f"  left out: {path}: {TEXT}" in applied.stdout
    planned = kernel_ctl.run("plan", path)
    assert planned.returncode == 2
    assert "in sync; 1 object left out" in planned.stdout
    assert planned.stdout.splitlines()[-1] == "plan: 1 in sync, 1 object left out"
    found = kernel_ctl.json("plan", code=2)
    assert not found["in_sync"]
    (plan,) = found["plans"]
    assert plan["in_sync"]
    assert plan["omitted"][0].startswith(f"one.json: {TEXT}")
    shown = kernel_ctl.run("show", "router", ROUTER[:8])
    assert f"left out     {TEXT}" in shown.stdout
    fips = kernel_ctl.json("show", "fips")["floating_ips"]
    assert {fip["floating_ip"]: fip["belongs"] for fip in fips} == {FLOATING: "here", GATEWAY: "left out"}


def test_what_the_kernel_would_refuse_takes_nothing_else_along(site: Site, host: lab.Host) -> None:
    """A next hop that is the subnet's broadcast address, which Neutron accepts from any tenant, and IPv6 below 1280."""
    with_vms(site, host)
    document = copy.deepcopy(RECORDED)
    document["router"]["routes"] = [{"destination": "172.16.0.0/16", "nexthop": "10.1.0.255"}]
    site.daemon.start()
    site.write(document)
    dual = dual_document("h_dual_stack-compute1")
    for key in ("_interfaces", "_snat_router_interfaces", "_floatingip_agent_interfaces"):
        for port in dual["router"][key]:
            port["mtu"] = 1200
    dual["router"]["gw_port"]["mtu"] = 1200
    site.write(dual, "two")
    wait_for(lambda: {one["state"] for one in site.daemon.status()["routers"]} == {"degraded"})
    reasons = {one["id"]: (one["reason"], one["next_retry"]) for one in site.daemon.status()["routers"]}
    assert all(reason.startswith("left out: ") and again is None for reason, again in reasons.values()), reasons
    assert '$.router.routes[0].nexthop is "10.1.0.255"' in reasons[ROUTER][0]
    assert "mtu is 1200" in reasons[dual["router"]["id"]][0]
    assert lab.ping("internet", FLOATING)
    assert lab.ping("vm2", GATEWAY)  # SNAT
    assert "left out: one.json: $.router.routes[0].nexthop" in site.daemon.out
