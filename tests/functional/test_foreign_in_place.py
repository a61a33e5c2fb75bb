"""Something foreign in the exact place of an object of ours: it is replaced, and the traffic's way is ours again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dvr_agent.desired import names
from dvr_agent.desired.host_settings import AgentMode, HostSettings
from dvr_agent.reconcile.factory import make_reconciler
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab
from tests.support.oracle_watch import until_settled
from tests.support.rival_documents import SHARED, with_fip
from tests.support.small_routers import EXTERNAL, HOST, make_router

ROUTER = with_fip(make_router("one", 1))
QROUTER, SNAT, FIP = names.QROUTER + ROUTER.id, names.SNAT + ROUTER.id, names.FIP + EXTERNAL
RFP, FPR = names.device(names.ROUTER_TO_FIP, ROUTER.id), names.device(names.FIP_TO_ROUTER, ROUTER.id)
QR = names.device(names.INTERNAL, ROUTER.interfaces[0].id)
FG = names.device(names.AGENT_GATEWAY, ROUTER.agent_gateways[0].id)
LISTS = ("-4 route show table all", "-6 route show table all", "-4 rule", "-6 rule", "-br address", "-br link",
         "-4 neigh show nud permanent", "-6 neigh show nud permanent")  # fmt: skip
MADE_LATER = re.compile("fe80::/|local fe80|multicast|anycast|fe80:.*/64")
"""What the kernel makes some time after a device is up."""
VARYING = re.compile("@if[0-9]+| linkdown| (UP|DOWN|LOWERLAYERDOWN|UNKNOWN) |NO-CARRIER,|,LOWER_UP")
"""Numbers, and what the kernel notes of a new device's carrier a moment later."""
VIA = f"dev {RFP} onlink"

ROUTES = {
    "blackhole in table 16": (QROUTER, "route replace blackhole default table 16"),
    "other protocol in table 16": (QROUTER, f"route replace default via 169.254.64.1 {VIA} table 16 proto bird"),
    "unreachable IPv6 default": (QROUTER, "-6 route replace unreachable default metric 1024"),
    "other protocol IPv6 default": (QROUTER, f"-6 route replace default via fe80::1 dev {RFP} proto bird metric 1024"),
    "other protocol floating IP": (FIP, f"route replace {SHARED}/32 dev {FG} proto bird"),
    "prohibit floating IP": (FIP, f"route replace prohibit {SHARED}/32"),
    "on lo": (FIP, f"route replace {SHARED}/32 dev lo"),
    "snat default": (SNAT, "route replace prohibit default"),
    "multipath": (
        QROUTER,
        f"route replace default table 16 proto bird nexthop via 169.254.64.1 {VIA} nexthop via 169.254.64.2 {VIA}",
    ),
    "IPv6 multipath": (
        QROUTER,
        f"-6 route replace default proto bird metric 1024 nexthop via fe80::1 dev {RFP} nexthop via fe80::2 dev {RFP}",
    ),
}
RULES = {
    "blackhole": ("rule del from 10.1.0.9", "rule add from 10.1.0.9 blackhole pref PRIORITY"),
    "other table": ("rule del from 10.1.0.9", "rule add from 10.1.0.9 lookup 99 pref PRIORITY"),
}
OTHERS = {
    "length": (QROUTER, f"address del 10.1.0.1/24 dev {QR}", f"address add 10.1.0.1/16 dev {QR}"),
    "scope": (QROUTER, f"address del 10.1.0.1/24 dev {QR}", f"address add 10.1.0.1/24 dev {QR} scope link"),
    "IPv6 length": (QROUTER, f"address del 2001:db8:1::1/64 dev {QR}", f"address add 2001:db8:1::1/48 dev {QR}"),
    "IPv6 lifetime": (QROUTER, f"address change 2001:db8:1::1/64 dev {QR} valid_lft 1000 preferred_lft 500"),
    "neighbour": (QROUTER, f"neigh replace 10.1.0.9 lladdr 02:00:00:00:00:01 dev {QR} nud reachable"),
    "qr": (QROUTER, f"link del {QR}", f"link add {QR} type bridge"),
    "rfp": (QROUTER, f"link del {RFP}", f"link add {RFP} type bridge", f"link set {RFP} up"),
    "fpr": (FIP, f"link del {FPR}", f"link add {FPR} type bridge"),
    "fg": (FIP, f"link del {FG}", f"link add {FG} type bridge"),
}


@pytest.fixture
def reconciler(host: lab.Host, tmp_path: Path) -> RouterReconciler:
    host.bridge("br-ext")
    made = make_reconciler(HostSettings(HOST, AgentMode.DVR_SNAT), {EXTERNAL: "br-ext"}, tmp_path)
    made.load()
    made.reconcile(ROUTER)
    return made


def ip(namespace: str, words: str) -> str:
    return lab.run("ip", "-n", namespace, *words.split())


def lines(namespace: str, words: str) -> list[str]:
    found = ip(namespace, words).splitlines()
    return sorted(VARYING.sub("", line).strip() for line in found if not MADE_LATER.search(line))


def everything() -> dict[str, list[str]]:
    """What the router's namespaces have, in iproute2's words."""
    return {f"{name} {what}": lines(name, what) for name in (QROUTER, SNAT, FIP) for what in LISTS}


def check_repair(reconciler: RouterReconciler, namespace: str, *commands: str) -> None:
    until_settled((QROUTER, SNAT, FIP))
    before = everything()
    for command in commands:
        ip(namespace, command)
    assert everything() != before
    reconciler.reconcile(ROUTER)
    until_settled((QROUTER, SNAT, FIP))
    assert everything() == before
    assert not reconciler.planner.plan(ROUTER)


@pytest.mark.parametrize("name", ROUTES)
def test_a_foreign_route_is_replaced(reconciler: RouterReconciler, name: str, caplog: pytest.LogCaptureFixture) -> None:
    namespace, command = ROUTES[name]
    check_repair(reconciler, namespace, command)
    (line,) = (record.getMessage() for record in caplog.records if "in its place" in record.getMessage())
    assert line.startswith(f"namespace {namespace}: route ")
    kind = next((kind for kind in ("blackhole", "unreachable", "prohibit") if kind in command), "unicast")
    protocol = "bird" if "bird" in command else "boot"
    assert f": a route of type {kind} and protocol {protocol} was in its place: replaced" in line


@pytest.mark.parametrize("name", RULES)
def test_a_foreign_rule_before_ours_is_removed(
    reconciler: RouterReconciler, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel takes both, and looks up the older one first."""
    priority = next(rule["priority"] for rule in lab.ip_json("rule", netns=QROUTER) if rule["src"] == "10.1.0.9")
    check_repair(reconciler, QROUTER, *(command.replace("PRIORITY", str(priority)) for command in RULES[name]))
    what = "blackhole rule" if name == "blackhole" else "rule to another table"
    assert f": from 10.1.0.9/32 lookup 16: a {what} was before it: removed" in caplog.text


@pytest.mark.parametrize("name", OTHERS)
def test_a_foreign_object_of_another_kind_is_replaced(reconciler: RouterReconciler, name: str) -> None:
    namespace, *commands = OTHERS[name]
    check_repair(reconciler, namespace, *commands)
