"""Debian's kernel without nf_tables: bandwidth limits are police filters of tc, beside legacy packet filter tables.

The module may not be loaded (``module_blacklist=``), as in ``test_no_legacy_tables.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests_vm.machine import Machine
from tests_vm.site import EXAMPLE, FLOATING, ROUTER, SETTINGS, Site
from tests_vm.suites import run_tests

LIMITED = f"{SETTINGS}[agent]\nextensions = fip_qos\n"
POLICY = "0b2b4a3c-6a3e-4f66-9c5c-3f1c5d0f9a11"
QROUTER, RFP = f"qrouter-{ROUTER}", f"rfp-{ROUTER[:10]}"


def document(kbps: int) -> dict[str, object]:
    """The router with a limit of its floating IP in both directions."""
    found = json.loads(json.dumps(EXAMPLE))
    found["router"]["_floatingips"][0]["qos_policy_id"] = POLICY
    rule = {"type": "bandwidth_limit", "max_kbps": kbps, "max_burst_kbps": 0}
    rules = [{**rule, "direction": direction} for direction in ("egress", "ingress")]
    return {**found, "qos_policies": [{"id": POLICY, "rules": rules}]}


@pytest.fixture(scope="module")
def site(image: Path, full: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The agent installed, not started."""
    if not full:
        pytest.skip("only with --full")
    machine = Machine(image, tmp_path_factory.mktemp("no-nft") / "machine", kernel_words="module_blacklist=nf_tables")
    machine.start()
    made = Site(machine)
    made.install(LIMITED, document(1000))
    yield made
    machine.close()


def rates(site: Site) -> list[str]:
    """The rates of the filters on the router's device for floating IPs, as tc lists them."""
    listed = [
        site.machine.run("tc", "-n", QROUTER, "filter", "show", "dev", RFP, hook).out for hook in ("egress", "ingress")
    ]
    return [line.split(" rate ")[1].split()[0] for text in listed for line in text.splitlines() if " police " in line]


def test_floating_ips_are_limited_by_tc_and_the_log_says_why(site: Site) -> None:
    since = site.now()
    site.begin()
    said = "bandwidth limits: police filters of tc, since nf_tables cannot limit: "
    assert [one for one in site.messages(since=since) if said in one]
    assert rates(site) == ["1Mbit", "1Mbit"]
    site.assert_paths()
    assert "Its bandwidth is limited" in site.machine.run("dvrctl", "why", FLOATING).out


def test_a_restart_changes_nothing(site: Site) -> None:
    site.machine.run("systemctl", "restart", "dvr-agent")
    site.wait_in_sync()
    assert not any(site.status()["counters"]["writes"].values())
    site.assert_nothing_to_do()


def test_a_change_of_the_policy_is_made(site: Site) -> None:
    site.machine.write("/etc/dvr-agent/routers/demo.json", json.dumps(document(3000)))
    site.machine.wait_until("the new rate is there", lambda: rates(site) == ["3Mbit", "3Mbit"])


def test_suites_pass(site: Site) -> None:
    result = run_tests(site.machine, "no-nft", "tests/functional/test_limits_by_tc.py")
    assert not result.failed, "\n\n".join(f"{test}\n{text}" for test, text in result.failed.items())
    assert (bool(result.passed), result.skipped) == (True, {})


def test_a_handover_removes_the_limits(site: Site) -> None:
    site.machine.run("systemctl", "stop", "dvr-agent")
    site.machine.run("dvrctl", "handover", "--now")
    assert rates(site) == []
    assert "clsact" not in site.machine.run("tc", "-n", QROUTER, "qdisc", "show", "dev", RFP).out
