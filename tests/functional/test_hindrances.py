"""What others set that stops traffic is named, on the real kernel: once it is there, and no longer than that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.model.router import Router
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.memory import ROUNDS
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.small_routers import EXTERNAL, HOST, make_router

BRIDGE, UPLINK = "br-ext", "uplink"
ROUTER = make_router("one", 1)
QROUTER, SNAT, FIP = f"qrouter-{ROUTER.id}", f"snat-{ROUTER.id}", f"fip-{EXTERNAL}"
NFT = (
    ("add table {0} t; add chain {0} t c {{ type filter hook {1} priority 0; policy drop; }}", "the policy is drop"),
    (
        "add table {0} t; add chain {0} t c {{ type filter hook {1} priority 0; }}; add rule {0} t c counter drop",
        "a rule drops every packet",
    ),
)
Found = Callable[[], tuple[str, ...]]


@pytest.fixture
def reconciler(host: lab.Host, tmp_path: Path) -> RouterReconciler:
    """A host with an uplink on its external bridge, and one router in sync."""
    host.bridge(BRIDGE)
    lab.run("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", "switch")
    lab.run("ip", "link", "set", UPLINK, "master", BRIDGE, "up")
    lab.run("ip", "link", "set", "switch", "up")
    made = make_reconciler(HostSettings(HOST, AgentMode.DVR_SNAT), {EXTERNAL: BRIDGE}, tmp_path)
    made.load()
    made.reconcile(ROUTER)
    assert of_router(made)() == ()
    assert made.planner.host_hindrances() == ()
    return made


def of_router(reconciler: RouterReconciler, router: Router = ROUTER) -> Found:
    return lambda: reconciler.planner.plan(router).hindrances


@pytest.mark.parametrize("namespace", [QROUTER, SNAT])
@pytest.mark.parametrize(("family", "hook"), [("ip", "prerouting"), ("ip6", "forward"), ("inet", "postrouting")])
@pytest.mark.parametrize(("rules", "why"), NFT)
def test_a_base_chain_of_nf_tables_that_drops_is_named(
    reconciler: RouterReconciler, namespace: str, family: str, hook: str, rules: str, why: str
) -> None:
    lab.in_netns(namespace, "nft", rules.format(family, hook))
    (text,) = of_router(reconciler)()
    assert text.startswith(f"namespace {namespace}: nft table {family} t: chain c (hook ")
    assert text.endswith(why)
    lab.in_netns(namespace, "nft", "delete", "table", family, "t")
    assert of_router(reconciler)() == ()


@pytest.mark.parametrize(
    "rules",
    [
        "add table ip t; add chain ip t c { type filter hook forward priority 0; }",
        "add table ip t; add chain ip t c { type filter hook forward priority 0; }; add rule ip t c tcp dport 25 drop",
        "add table ip t; add chain ip t c { type filter hook input priority 0; policy drop; }",
        "add table ip t; add chain ip t unhooked; add rule ip t unhooked drop",
    ],
)
def test_nf_tables_that_do_not_drop_all_that_is_forwarded_are_not_named(
    reconciler: RouterReconciler, rules: str
) -> None:
    lab.in_netns(QROUTER, "nft", rules)
    assert of_router(reconciler)() == ()


@pytest.mark.parametrize("program", ["iptables-legacy", "ip6tables-legacy"])
@pytest.mark.parametrize(("table", "chain"), [("filter", "FORWARD"), ("mangle", "PREROUTING")])
def test_the_policy_of_a_legacy_table_is_named(
    reconciler: RouterReconciler, program: str, table: str, chain: str
) -> None:
    lab.in_netns(QROUTER, program, "-t", table, "-P", chain, "DROP")
    (text,) = of_router(reconciler)()
    assert f"namespace {QROUTER}" in text
    assert f"the policy of {chain} is DROP" in text
    lab.in_netns(QROUTER, program, "-t", table, "-P", chain, "ACCEPT")
    assert of_router(reconciler)() == ()


@pytest.mark.parametrize(
    ("loose", "is_named"), [("net.ipv4.conf.all.rp_filter=2", False), ("net.ipv4.conf.all.rp_filter=0", True)]
)
def test_a_device_with_strict_reverse_path_filtering_is_named(
    reconciler: RouterReconciler, loose: str, is_named: bool
) -> None:
    """A new namespace takes rp_filter of its devices over from the host; the greater one of both values counts."""
    device = next(one["ifname"] for one in lab.ip_json("link", netns=QROUTER) if one["ifname"].startswith("qr-"))
    strict = f"net.ipv4.conf.{device}.rp_filter"
    lab.in_netns(QROUTER, "sysctl", "-qw", f"{strict}=1", loose)
    text = f"namespace {QROUTER}: {strict} is 1 (strict): it drops replies by another device"
    assert of_router(reconciler)() == ((text,) if is_named else ())


def test_a_resync_looks_into_nf_tables_now_and_then_and_while_something_was_found(reconciler: RouterReconciler) -> None:
    def audits(number: int) -> list[bool]:
        found = []
        for _ in range(number):
            reconciler.begin_resync()
            found.append(bool(reconciler.reconcile(ROUTER, in_resync=True).plan.hindrances))
        return found

    assert not any(audits(2))
    lab.in_netns(QROUTER, "nft", NFT[0][0].format("ip", "forward"))
    found = audits(2 * ROUNDS)
    assert found[-1]
    assert found == sorted(found), "what was found is looked at each time"
    lab.in_netns(QROUTER, "nft", "delete", "table", "ip", "t")
    assert not any(audits(2 * ROUNDS))


@pytest.mark.parametrize(
    ("command", "back", "text"),
    [
        ("nft add table ip t", "nft delete table ip t", ""),
        (
            "nft add table ip t; add chain ip t c { type filter hook forward priority 0; policy drop; }",
            "nft delete table ip t",
            "nft table ip t: chain c (hook forward): the policy is drop",
        ),
        ("iptables-legacy -P FORWARD DROP", "iptables-legacy -P FORWARD ACCEPT", "the policy of FORWARD is DROP"),
        ("ip6tables-legacy -P FORWARD DROP", "ip6tables-legacy -P FORWARD ACCEPT", "the policy of FORWARD is DROP"),
        ("sysctl -qw net.ipv4.conf.all.rp_filter=1", "sysctl -qw net.ipv4.conf.all.rp_filter=0", ""),
    ],
)
def test_what_stops_traffic_in_the_fip_namespace_is_named(
    reconciler: RouterReconciler, command: str, back: str, text: str
) -> None:
    program, _, rest = command.partition(" ")
    lab.in_netns(FIP, program, *([rest] if program == "nft" else rest.split()))
    found = reconciler.planner.host_hindrances()
    assert [bool(text) and one.startswith(f"namespace {FIP}: ") and text in one for one in found] == [True] * bool(text)
    lab.in_netns(FIP, *back.split())
    assert reconciler.planner.host_hindrances() == ()


def test_an_uplink_that_is_down_or_gone_is_named(reconciler: RouterReconciler) -> None:
    planner = reconciler.planner
    lab.run("ip", "link", "set", UPLINK, "down")
    assert planner.host_hindrances() == (f"bridge {BRIDGE} reaches nothing outside: its port {UPLINK} is down",)
    lab.run("ip", "link", "set", UPLINK, "up")
    lab.run("ip", "link", "set", "switch", "down")
    assert planner.host_hindrances() == (f"bridge {BRIDGE} reaches nothing outside: its port {UPLINK} has no carrier",)
    lab.run("ip", "link", "set", "switch", "up")
    assert planner.host_hindrances() == ()
    lab.run("ip", "link", "set", UPLINK, "nomaster")
    assert planner.host_hindrances() == (f"bridge {BRIDGE} has lost its port {UPLINK}: nothing outside is reached",)
    lab.run("ip", "link", "set", UPLINK, "master", BRIDGE)
    assert planner.host_hindrances() == ()


@pytest.mark.parametrize("program", ["iptables-legacy", "ip6tables-legacy"])
def test_the_hosts_own_filter_is_named_where_it_sees_what_is_in_bridges(
    reconciler: RouterReconciler, program: str
) -> None:
    planner = reconciler.planner
    switch = "net.bridge.bridge-nf-call-" + program.removesuffix("-legacy")
    lab.run("sysctl", "-qw", f"{switch}=0")
    lab.run(program, "-P", "FORWARD", "DROP")
    assert planner.host_hindrances() == ()
    lab.run("sysctl", "-qw", f"{switch}=1")
    (text,) = planner.host_hindrances()
    assert text.startswith(f"{switch} is 1, so the host's packet filter sees what is in bridges: ")
    lab.run(program, "-P", "FORWARD", "ACCEPT")
    assert planner.host_hindrances() == ()
    lab.run("nft", "add table inet t; add chain inet t c { type filter hook forward priority 0; policy drop; }")
    assert any("nft table inet t: chain c" in text for text in planner.host_hindrances())
