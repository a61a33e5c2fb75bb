"""A kernel booted with ``ipv6.disable=1``: routers of two families work with IPv4, and what is left out is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests_vm.machine import Machine
from tests_vm.site import CONFIG, DOCUMENTS, EXAMPLE, NAMESPACES, ROUTER, SETTINGS, Site

WHY = "this kernel has no IPv6 (ipv6.disable=1)"
INSIDE, OUTSIDE = "2001:db8:10::", "2001:db8:f::"


def dual_stack() -> dict[str, Any]:
    """The router of the example with IPv6 on its first network, which wants router advertisements, and outside."""
    document = copy.deepcopy(EXAMPLE)
    router = document["router"]
    first = router["_interfaces"][0]["network_id"]
    csnat = next(port for port in router["_snat_router_interfaces"] if port["network_id"] == first)
    _add(router["_interfaces"][0], INSIDE, 1, {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"})
    _add(csnat, INSIDE, 2)
    _add(router["gw_port"], OUTSIDE, 0x20)
    _add(router["_floatingip_agent_interfaces"][0], OUTSIDE, 0x30)
    return document


def _add(port: dict[str, Any], prefix: str, end: int, more: dict[str, Any] | None = None) -> None:
    subnet = "00000000-0000-4000-8000-" + prefix.replace(":", "").rjust(12, "0")
    port["fixed_ips"].append({"ip_address": f"{prefix}{end:x}", "prefixlen": 64, "subnet_id": subnet})
    port["subnets"].append({"id": subnet, "cidr": f"{prefix}/64", "gateway_ip": f"{prefix}1", **(more or {})})


@pytest.fixture(scope="module")
def site(image: Path, full: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if not full:
        pytest.skip("only with --full")
    machine = Machine(image, tmp_path_factory.mktemp("no-ipv6") / "machine", kernel_words="ipv6.disable=1")
    machine.start()
    made = Site(machine)
    made.install()
    machine.write(CONFIG, f"{SETTINGS}[dvr_agent]\naudit_interval = 10\n")
    machine.write(f"{DOCUMENTS}/demo.json", json.dumps(dual_stack()))
    machine.run("systemctl", "enable", "--now", "dvr-agent")
    yield made
    machine.close()


def _record(site: Site) -> dict[str, Any]:
    return next((one for one in site.status().get("routers", ()) if one["id"] == ROUTER), {"state": "unknown"})


def _settled(site: Site) -> bool:
    status = site.status()
    return bool(status) and not status["queue_depth"] and _record(site)["state"] == "degraded"


def test_ipv4_works_and_what_is_left_out_is_named(site: Site) -> None:
    site.machine.wait_until("the router is built", lambda: _settled(site))
    assert site.machine.run("test", "-e", "/proc/sys/net/ipv6", check=False).code, "this kernel has IPv6"
    assert site.namespaces() == NAMESPACES
    reason = str(_record(site)["reason"])
    for namespace, address in ((f"qrouter-{ROUTER}", f"{INSIDE}1/64"), (f"snat-{ROUTER}", f"{OUTSIDE}20/64")):
        assert f"in namespace {namespace}: {WHY}" in reason
        assert address in reason
    (line,) = {one for one in site.messages() if f"in namespace qrouter-{ROUTER}: {WHY}" in one and "demo.json" in one}
    assert "left out" in line
    site.boot_instances()
    site.assert_paths()
    words = ("ip", "netns", "exec", "blue", "curl", "-s", "-m", "20", "http://169.254.169.254/")
    assert site.machine.run(*words).out == site.vms["blue"].address


def test_audits_and_a_restart_write_nothing(site: Site) -> None:
    since, writes = site.now(), _writes(site)
    audit = site.status()["last_audit"]
    site.machine.wait_until("two audits", lambda: site.status().get("last_audit") not in (audit, None))
    assert _writes(site) == writes
    site.machine.run("systemctl", "restart", "dvr-agent")
    site.machine.wait_until("the router is checked", lambda: _settled(site))
    assert not any(_writes(site).values())
    site.assert_paths()
    said = site.messages(since=since)
    assert [one for one in said if "drift" in one or "Traceback" in one or "bug" in one] == []


def test_drift_is_repaired(site: Site) -> None:
    routes = ("ip", "-n", f"snat-{ROUTER}", "route", "show", "default")
    before = site.machine.run(*routes).out
    site.machine.run("ip", "-n", f"snat-{ROUTER}", "route", "del", "default")
    site.machine.wait_until("the route is back", lambda: site.machine.run(*routes).out == before)
    site.machine.wait_until("it is reported", lambda: [one for one in site.messages() if "drift repaired" in one])
    site.assert_paths()


def _writes(site: Site) -> dict[str, int]:
    return dict(site.status()["counters"]["writes"])


def test_nothing_else_is_complained_of(site: Site) -> None:
    expected = (WHY, "resync took", "drift repaired")
    for unit in ("dvr-agent", "dvr-metadata-proxy"):
        said = site.messages("-p", "warning", unit=unit)
        assert [one for one in said if not any(text in one for text in expected)] == []
