"""Recorded hosts of neutron-l3-agent, with its processes and files, are taken over and handed back: nothing is undone.

What is there afterwards is right by the other oracle tests, since a second run has nothing to do.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dvr_agent.reconcile.api import Plan
from dvr_agent.reconcile.handover import find_own_objects, missing_effects, remove_own_objects
from tests.support import lab
from tests.support.nft_limits import nft_limits
from tests.support.oracle_build import parse
from tests.support.oracle_extensions import ExtensionScenario
from tests.support.oracle_recordings import FeatureScenario, Scenario
from tests.support.oracle_watch import writes_seen
from tests.support.packet_reference import NFT, recorded_filter, restore_filter, saved_filter
from tests.support.qos_recordings import RECORDED
from tests.support.recorded_documents import DATA
from tests.support.recorded_host import RecordedHost, our_agent, recorded_host
from tests.support.requirements import require

STEMS = sorted(path.stem for path in (DATA / "recorded_hosts").glob("*.json"))
OTHERWISE = re.compile(
    r"~ sysctl net/ipv[46]/(neigh|conf)/[fq]g-\S+/proxy_(delay|ndp)=1 "
    r"|~ sysctl net/ipv6/conf/(default|([hqs][ag]|qr|rfp)-\S+)/addr_gen_mode=[01] "
    r"|~ sysctl net/ipv6/conf/all/forwarding=1 "  # the qrouter namespace of an HA router
    r"|\+ rule 3276[345]: from 2001:|\+ rule \d+: from all \(IPv6\) iif fpr-"
    r"|\+ route \S+/128 via fe80:\S+ dev fpr-|\+ neighbour proxy "  # NDP proxies of a dvr_snat host
    r"|\+ limit |- tc filter "
)
"""Changes of objects that differ from neutron-l3-agent's by intention."""


def scenario_of(stem: str) -> Scenario:
    has_hosts = stem.startswith("q6_")
    return (ExtensionScenario if has_hosts else FeatureScenario)(*stem.rsplit("-", 1))


def unexpected(plan: Plan) -> list[str]:
    """Changes that nothing but a difference to neutron-l3-agent explains."""
    texts = [change.text for changes in plan.changes for change in changes.items]
    ports = [text for _, text in plan.ports]
    created = [changes.namespace for changes in plan.changes if changes.create or changes.remove]
    return [*(text for text in texts if not OTHERWISE.match(text)), *ports, *created]


@pytest.mark.ovs
@pytest.mark.parametrize("stem", STEMS)
def test_taken_over_and_handed_back(host: lab.Host, tmp_path: Path, stem: str) -> None:
    require("keepalived", "keepalived")
    require("radvd", "radvd")
    scenario = scenario_of(stem)
    router = parse(scenario)
    recorded = recorded_filter(scenario)
    with recorded_host(tmp_path, scenario, NFT) as made, our_agent(made) as agent:
        conf = made.keepalived_conf
        with writes_seen(made.namespaces) as seen:
            result = agent.reconcile(router)
            agent.flush()
        assert (result.trouble, result.plan.omitted, unexpected(result.plan)) == ((), (), [])
        assert [line for text in seen.values() for line in text.splitlines() if "Deleted" in line] == []
        assert "neutron-l3-agent" not in saved_filter(recorded)
        assert_limited(made)
        assert_link_locals(made)
        assert_vrrp_goes_on(made, conf)
        second = agent.reconcile(router)
        assert (bool(second.plan), second.trouble) == (False, ())

        restore_filter(recorded, NFT)
        own = find_own_objects(agent.kernel)
        assert {one.namespace: missing_effects(agent.kernel, one) for one in own} == {one: [] for one in recorded}
        remove_own_objects(agent.kernel, own)
        assert "dvr-" not in saved_filter(recorded)
        assert not any(nft_limits(name) for name in made.namespaces)
        assert_vrrp_goes_on(made, conf)


def assert_limited(made: RecordedHost) -> None:
    """The limits are ours, and neutron-l3-agent's filters have gone."""
    limits = {limit for name in made.namespaces for limit in nft_limits(name)}
    assert limits == RECORDED.get((made.scenario.name, made.scenario.host), set())
    for name in made.namespaces:
        for link in lab.ip_json("link", netns=name):
            assert "match" not in lab.run("tc", "-n", name, "filter", "show", "dev", link["ifname"])
            assert "match" not in lab.run("tc", "-n", name, "filter", "show", "dev", link["ifname"], "parent", "ffff:")


def assert_link_locals(made: RecordedHost) -> None:
    """Each device has its link-local address, but for those on which VRRP has it: neutron-l3-agent forgets some."""
    for name in made.namespaces:
        if made.keepalived and name == made.ha_namespace:
            continue
        for link in lab.ip_json("address", netns=name):
            own = {one["local"] for one in link["addr_info"] if one["local"].startswith("fe80:")}
            assert own or link["ifname"] == "lo", (name, link["ifname"])


def assert_vrrp_goes_on(made: RecordedHost, conf: str) -> None:
    """The recorded keepalived runs as it did, with its files, and no host has become or ceased to be the master."""
    if not made.keepalived:
        return
    assert made.pids() == made.keepalived
    assert (made.confs / "state").read_text() == ("primary" if made.was_master else "backup")
    assert (made.primary in made.addresses(made.ha_namespace)) is made.was_master
    assert made.peer_is_master is not made.was_master
    assert made.monitor_has_ended
    path = made.confs / "keepalived.conf"
    assert path.stat().st_mode & 0o777 == 0o600
    assert not (made.confs / "keepalived.conf.unread").exists()
    # The recorded master has lost the address of a port forwarding in a race.
    lines = set(path.read_text().splitlines()) - set(conf.splitlines())
    assert set(conf.splitlines()) <= set(path.read_text().splitlines())
    assert all("203.0.113.161/32" in line for line in lines)
