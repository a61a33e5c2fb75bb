"""A second document that claims what belongs to a router: on the real kernel nothing is taken from the router."""

from __future__ import annotations

import copy
import json
import signal
from typing import Any

from dvr_agent.desired.claims import ADDRESS, EXPECTED
from tests.support import lab
from tests.support.ctl import Ctl
from tests.support.daemon_site import (
    EXTERNAL,
    FIP,
    FLOATING,
    QROUTER,
    RECORDED,
    ROUTER,
    SNAT,
    Site,
    neighbour_router,
    snapshot,
    with_vms,
)
from tests.support.probes import Pinger
from tests.support.waiting import wait_for

GATEWAY_IP = RECORDED["router"]["gw_port"]["fixed_ips"][0]["ip_address"]
RIVAL = neighbour_router(1)["router"]["id"]


def rival() -> Any:
    """Another router, whose document claims the first one's floating IP, gateway address, and device names."""
    document = copy.deepcopy(neighbour_router(1))
    router, theirs = document["router"], RECORDED["router"]
    router["_floatingips"][0]["floating_ip_address"] = FLOATING
    router["gw_port"]["fixed_ips"][0]["ip_address"] = GATEWAY_IP
    router["_interfaces"][0]["id"] = theirs["_interfaces"][0]["id"][:11] + router["_interfaces"][0]["id"][11:]
    return document


def of_the_first() -> dict[str, object]:
    """What the kernel has of the first router alone."""
    found = snapshot()
    (fip_route,) = (line for line in lab.run("ip", "-n", FIP, "route").splitlines() if line.startswith(FLOATING))
    return {"qrouter": found[QROUTER], "snat": found[SNAT], "route": fip_route}


def test_a_router_keeps_what_another_document_claims_and_the_other_gets_it_when_it_goes(
    site: Site, host: lab.Host
) -> None:
    with_vms(site, host)
    site.daemon.start()
    first = site.write(RECORDED)
    wait_for(lambda: site.state() == "in sync")
    assert lab.ping("internet", FLOATING)
    assert lab.ping("vm2", "203.0.113.1")
    before = of_the_first()
    with Pinger("internet", FLOATING) as to_floating_ip, Pinger("vm2", "203.0.113.1") as by_snat:
        site.write(rival(), "another")
        wait_for(lambda: site.state(RIVAL) == "degraded")
        site.audited()
        site.daemon.stop(signal.SIGKILL)
        # The name of the file decides nothing either: after the restart the other document is read first.
        (site.daemon.routers / "another.json").rename(site.daemon.routers / "a.json")
        site.daemon.start()
        wait_for(lambda: site.state(RIVAL) == "degraded")
        site.audited()
    assert (to_floating_ip.lost, by_snat.lost) == ([], [])
    assert of_the_first() == before
    assert site.state() == "in sync"
    assert "drift repaired" not in site.daemon.out
    (status,) = (one for one in site.daemon.status()["routers"] if one["id"] == RIVAL)
    for key, value in (("floating_ip_address", FLOATING), ("gw_port.fixed_ips.ip_address", GATEWAY_IP)):
        assert f'{key} is "{value}": expected {EXPECTED[ADDRESS]}' in status["reason"]
        assert "left out: a.json: $." in site.daemon.out
    assert status["reason"].count(f"document one.json of router {ROUTER} has it") == 3
    assert status["next_retry"] is None
    # The rest of it is built.
    assert f"rfp-{RIVAL[:10]}" in lab.run("ip", "-n", f"qrouter-{RIVAL}", "link")

    first.unlink()
    wait_for(lambda: site.state() is None and site.state(RIVAL) == "in sync")
    assert f"{FLOATING} via" in lab.run("ip", "-n", FIP, "route")
    assert f"{GATEWAY_IP}/" in lab.run("ip", "-n", f"snat-{RIVAL}", "address")
    assert "qr-" in lab.run("ip", "-n", f"qrouter-{RIVAL}", "link")


def test_plan_and_apply_leave_it_to_the_router_that_the_kernel_has(kernel_ctl: Ctl, host: lab.Host) -> None:
    host.bridge(f"brq{EXTERNAL[:11]}")
    first, second = kernel_ctl.routers / "one.json", kernel_ctl.routers / "a.json"
    first.write_text(json.dumps(RECORDED).replace("compute1", kernel_ctl.host))
    assert kernel_ctl.run("apply", first).returncode == 0
    second.write_text(json.dumps(rival()).replace("compute1", kernel_ctl.host))
    for verb, files, code in (
        ("plan", [second], 2),
        ("plan", [], 2),
        ("apply", [second], 1),
        ("apply", [second, first], 1),
    ):
        done = kernel_ctl.run(verb, *files)
        assert done.returncode == code, done.stderr
        text = f'floating_ip_address is "{FLOATING}": expected {EXPECTED[ADDRESS]}'
        assert text in done.stdout
        assert f"router {ROUTER} has it" in done.stdout
        assert "3 objects left out" in done.stdout
    assert kernel_ctl.run("plan", first).returncode == 0


def test_check_of_several_documents_finds_what_two_of_them_claim(ctl: Ctl) -> None:
    first, second = ctl.routers / "one.json", ctl.routers / "two.json"
    first.write_text(json.dumps(RECORDED))
    second.write_text(json.dumps(rival()))
    assert ctl.run("check", first).returncode == 0
    assert ctl.run("check", second).returncode == 0
    done = ctl.run("check", first, second)
    assert done.returncode == 1
    assert f"part {first}: router {ROUTER}" in done.stdout
    text = f'floating_ip_address is "{FLOATING}": expected {EXPECTED[ADDRESS]}'
    assert done.stdout.count(text) == 2
    assert f"{first} has it, too" in done.stdout
    assert f"{second} has it, too" in done.stdout
    documents = ctl.json("check", first, second, code=1)["documents"]
    assert [len(document["claimed_twice"]) for document in documents] == [3, 3]
    assert documents[1]["claimed_twice"][0]["other"] == str(first)
