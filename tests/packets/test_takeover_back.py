"""The way back: ``dvrctl handover`` takes our rules away where the other agent's are complete, and nobody notices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dvr_agent.history.file import history_path, read
from dvr_agent.kernel.host_filter import Backend, HostFilter
from dvr_agent.lock import AgentLock
from tests.support import lab
from tests.support.json_outputs import hold
from tests.support.packet_reference import INTERNET, LEGACY, NFT, ReferenceHost, unharmed
from tests.support.probes import Echo
from tests.support.waiting import wait_for

OUTSIDE = "203.0.113.1"
FIP = "203.0.113.183"
each_variant = pytest.mark.parametrize("variant", [NFT, LEGACY])


@pytest.fixture
def reference(host: lab.Host, tmp_path: Path) -> ReferenceHost:
    """Taken over by our agent, which is stopped by now."""
    found = ReferenceHost(
        host, tmp_path / "state", "b2_dvr_snat_node_with_vms", {"fip": "10.1.0.112", "plain": "10.1.0.16"}
    )
    found.restore()
    found.take_over()
    return found


def handover(reference: ReferenceHost, *words: str, packet_filter: Backend | None = None) -> subprocess.Popen[str]:
    """``dvrctl handover`` with the state files of the host.

    :param packet_filter: the option; default: what the routers have
    """
    conf = reference.state_path / "dvr-agent.conf"
    default = f"[DEFAULT]\nhost = compute1\nagent_mode = dvr_snat\nstate_path = {reference.state_path}\n"
    conf.write_text(f"{default}[dvr_agent]\npacket_filter = {packet_filter or HostFilter.backend}\n")
    command = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", str(conf), "handover", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ours(reference: ReferenceHost) -> dict[str, bool]:
    return {name: bool(rules) for name, rules in reference.own().items()}


@each_variant
@pytest.mark.parametrize("packet_filter", ["legacy", "nftables"])
def test_our_rules_stay_until_the_other_agents_are_there(
    reference: ReferenceHost, variant: str, packet_filter: Backend
) -> None:
    """Also where the option was changed since our agent ran."""
    ways = ((INTERNET, FIP), ("fip", OUTSIDE), ("plain", OUTSIDE), ("plain", FIP))
    files = {path.name: path.read_text() for path in reference.state_path.glob("fip-*")}
    assert len(files) == 2
    with Echo(INTERNET) as seen, Echo("fip"):
        with unharmed(*ways, streams=((INTERNET, FIP), ("plain", OUTSIDE), ("fip", OUTSIDE))):
            process = handover(reference, "-o", "json", packet_filter=packet_filter)
            assert process.stderr is not None
            assert "0 of 3 namespaces handed over" in process.stderr.readline()
            assert all(ours(reference).values())
            reference.restore(variant)
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert set(seen.peers) == {FIP, "203.0.113.193"}
        done = json.loads(out)
        hold("handover", done)
        assert (done["done"], done["state_files"]) == (True, "right")
        assert sorted(one["name"] for one in done["namespaces"]) == reference.namespaces
        assert not any(ours(reference).values())
        there = reference.saved(variant)
        assert all("neutron-l3-agent-PREROUTING" in rules for rules in there.values())
        assert f"-d {FIP}/32" in there[reference.qrouter]
        assert lab.tcp_peer(INTERNET, OUTSIDE, "plain", OUTSIDE) == "203.0.113.193"
        assert lab.tcp_peer(INTERNET, OUTSIDE, "fip", OUTSIDE) == FIP
    assert {path.name: path.read_text() for path in reference.state_path.glob("fip-*")} == files


def test_a_namespace_is_handed_over_when_it_is_complete_and_no_sooner(reference: ReferenceHost) -> None:
    """First everything but the floating IP, as the other agent does it."""
    whole = reference.recorded[reference.qrouter]["4"]
    reference.recorded[reference.qrouter]["4"] = "".join(
        line for line in whole.splitlines(keepends=True) if FIP not in line
    )
    reference.restore()
    process = handover(reference)
    wait_for(lambda: sum(ours(reference).values()) == 1, "two of three are handed over")
    assert ours(reference)[reference.qrouter]
    reference.clear_nft(reference.qrouter)
    reference.recorded[reference.qrouter]["4"] = whole
    reference.restore()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"lacks ip: DNAT of {FIP}/32 to 10.1.0.112" in err
    assert out.count("handed over") == 3
    assert not any(ours(reference).values())


def test_it_gives_up_in_time_and_leaves_ours_where_the_other_agent_is_not_ready(reference: ReferenceHost) -> None:
    process = handover(reference, "--timeout", "0")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not ready in 3 of 3 namespaces" in err
    assert "--now" in err
    assert all(ours(reference).values())


def test_dry_run_changes_nothing_and_now_does_not_wait(reference: ReferenceHost) -> None:
    before = reference.own()
    process = handover(reference, "--dry-run")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.count("waits: neutron-l3-agent lacks its chains") == 3
    assert reference.own() == before

    process = handover(reference, "--now")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert not any(ours(reference).values())
    entries = [entry for _line, entry in read(history_path(reference.state_path, "compute1"))]
    assert {entry["job"] for entry in entries} == {"dvrctl handover"}
    groups = {group["name"]: group["changes"] for entry in entries for group in entry["namespaces"]}
    assert sorted(groups) == reference.namespaces
    assert all({change["action"] for change in changes} == {"-"} for changes in groups.values())
    process = handover(reference)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "nothing of dvr-agent is in the way" in out


def test_it_refuses_while_the_agent_runs(reference: ReferenceHost) -> None:
    with AgentLock(str(reference.state_path), "compute1"):
        process = handover(reference, "--now")
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "handover is refused while dvr-agent runs (systemctl stop dvr-agent): another dvr-agent" in err
        assert handover(reference, "--dry-run").wait(timeout=60) == 0
    assert all(ours(reference).values())


@pytest.mark.parametrize("packet_filter", ["legacy", "nftables"])
def test_wrong_state_files_are_corrected_from_the_kernel(reference: ReferenceHost, packet_filter: Backend) -> None:
    right = {path: path.read_text() for path in reference.state_path.glob("fip-*")}
    for path in right:
        path.write_text("")
    out, _ = handover(reference, "--now", packet_filter=packet_filter).communicate(timeout=60)
    assert "state files: corrected" in out
    assert {path: path.read_text() for path in right} == right


def test_the_ipv6_rules_that_only_we_make_go(host: lab.Host, tmp_path: Path) -> None:
    reference = ReferenceHost(host, tmp_path / "state", "h_dual_stack", {})
    reference.take_over()

    def rules() -> set[int]:
        return {rule["priority"] for rule in lab.ip_json("-6", "rule", netns=reference.qrouter)}

    before = rules()
    assert {32764, 32765} <= before
    assert handover(reference, "--now").wait(timeout=60) == 0
    assert rules() == before - {32764, 32765}
    assert reference.reconciler().reconcile(reference.router).plan.counts() == {"rule": 2, "table": 10}


def test_address_scopes_come_back_with_the_marks_that_were_taken_over(host: lab.Host, tmp_path: Path) -> None:
    vms = {"same": "10.64.1.15", "other": "10.80.1.20", "none": "10.90.1.20"}
    reference = ReferenceHost(host, tmp_path / "state", "i_address_scope", vms)
    lab.run("ip", "-n", INTERNET, "route", "add", "10.64.1.0/24", "via", "203.0.113.119")
    reference.restore()
    reference.take_over()
    ways = ((INTERNET, "10.64.1.15"), ("same", OUTSIDE), ("other", OUTSIDE), ("none", OUTSIDE))
    with Echo(INTERNET), unharmed(*ways, streams=(("same", OUTSIDE), ("other", OUTSIDE), ("none", OUTSIDE))):
        process = handover(reference)
        assert process.stderr is not None
        assert "0 of 3" in process.stderr.readline()
        reference.restore()
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert not any(ours(reference).values())
    assert not lab.ping("same", "10.80.1.20", count=1, timeout=0.3)
