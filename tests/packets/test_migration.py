"""A router turns from legacy to distributed and back: what both kinds have is not touched, the rest goes or comes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.extensions import Extension
from dvr_agent.model.parse import parse_document
from tests.support import lab
from tests.support import oracle_reader as reader
from tests.support.filter_tools import rule_lines
from tests.support.oracle_watch import until_settled, writes_seen
from tests.support.packet_documents import Json, Network, RouterDocument, uid
from tests.support.packet_world import INTERNET, PUBLIC, World
from tests.support.probes import Pinger

RED = Network("red", ("10.1.0.0/24", "2001:db8:1::/64"))
BLUE = Network("blue", ("10.2.0.0/24",))
OF_ONE_KIND = re.compile(r"\[NEIGH\]|default via 10\.[12]\.0\.250|default via 2001:db8:1::fa")
"""On devices that both kinds have: neighbours of a distributed router, and routes to its csnat ports."""
FIP, GATEWAY = "203.0.113.51", "203.0.113.10"


def router_with_vms(world: World) -> RouterDocument:
    floating, plain = world.cloud.vm("red-fip", RED, "10.1.0.11"), world.cloud.vm("blue", BLUE, "10.2.0.11")
    router = world.cloud.router("main", RED, BLUE).gateway(PUBLIC, GATEWAY, "2001:db8:f::10")
    router.floating_ip(FIP, floating).route("172.16.0.0/24", plain.address).route("198.51.100.0/24", "203.0.113.250")
    world.boot(floating, plain)
    return router


def ours() -> dict[str, reader.View]:
    names = [path.name for path in lab.NETNS.iterdir() if path.name.startswith(("qrouter-", "snat-", "fip-"))]
    return {name: reader.read(name) for name in sorted(names)}


def works(router: RouterDocument) -> None:
    assert lab.tcp_peer("red-fip", "10.1.0.11", "internet", FIP) == INTERNET
    assert lab.tcp_peer("internet", INTERNET, "red-fip", INTERNET) == FIP
    assert lab.tcp_peer("internet", INTERNET, "blue", INTERNET) == GATEWAY
    assert lab.tcp_peer("red-fip", "10.1.0.11", "blue", FIP) == GATEWAY
    assert lab.ping(router.qrouter, "10.1.0.11")


@pytest.mark.parametrize("legacy_first", [True, False])
def test_migration_touches_nothing_that_both_kinds_have(world: World, legacy_first: bool) -> None:
    router = router_with_vms(world)
    router.legacy = legacy_first
    world.apply(router)
    world.settle()
    works(router)
    before = ours()
    for _ in range(2):
        router.legacy = not router.legacy
        until_settled([router.qrouter])
        with Pinger("blue", "10.1.0.11") as inside, writes_seen([router.qrouter]) as seen:
            result = world.apply(router)[0]
        assert inside.lost == []
        told = seen[router.qrouter].splitlines()
        assert any(" qg-" in line for line in told)
        shared = [line for line in told if " qr-" in line and not OF_ONE_KIND.search(line)]
        assert shared == [], "\n".join(shared)
        assert result.plan.omitted == ()
        assert (router.snat_namespace in ours()) == (not router.legacy)
        world.settle()
        works(router)
        assert not world.apply(router)[0].plan
    world.settle()
    assert _without_parameters(ours()) == _without_parameters(before)


def _without_parameters(views: dict[str, reader.View]) -> dict[str, object]:
    """Parameters of the kernel cannot be removed; what is left of them has no effect on the other kind."""
    return {name: (v.links, v.addresses, v.routes, v.rules, v.neighbours, v.filter) for name, v in views.items()}


def with_features(router: RouterDocument) -> Json:
    """The document with a bandwidth limit of everything that can have one, and a conntrack helper."""
    envelope, policy = router.envelope(), uid("policy")
    document = envelope["router"]
    for one in (document["gw_port"], document["external_gateway_info"], *document["_floatingips"]):
        one["qos_policy_id"] = policy
    document["conntrack_helpers"] = [{"protocol": "udp", "port": 69, "helper": "tftp"}]
    rule: Json = {"id": uid("rule"), "type": "bandwidth_limit", "direction": "egress"}
    rule |= {"qos_policy_id": policy, "max_kbps": 2000, "max_burst_kbps": 0}
    return envelope | {"qos_policies": [{"id": policy, "rules": [rule]}]}


def test_features_move_with_the_gateway_port(host: lab.Host, tmp_path: Path) -> None:
    world = World(host, tmp_path, AgentMode.DVR_SNAT, *Extension)
    router = router_with_vms(world)
    for router.legacy in (True, False, True):
        for expected in (True, False):
            document = parse_document(json.dumps(with_features(router)).encode(), "main")
            plan = world.reconciler.reconcile(document).plan
            assert (bool(plan), plan.omitted) == (expected, ())
        chains = lab.in_netns(router.qrouter, "nft", "list", "chains")
        assert ('device "qg-' in chains, 'device "rfp-' in chains) == (router.legacy, not router.legacy)
        assert any("--helper tftp" in line for line in rule_lines(router.qrouter)[0])
