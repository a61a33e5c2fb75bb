"""Versioned objects beside the routers: when the server is asked for them, and what of its word counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.extensions import Extension
from dvr_agent.model.router import Router
from dvr_agent.sources.api import Changed
from dvr_agent.sources.neutron.api import ObjectsPushed, RemoteError, RoutersUpdated, ServerAwayError
from dvr_agent.sources.neutron.documents import RouterDraft
from dvr_agent.sources.neutron.objects import PORT_FORWARDING
from dvr_agent.sources.neutron.store.feature_objects import ObjectsOfType
from dvr_agent.sources.neutron.wire.versioned_objects import plain
from tests.support.scripted_neutron import QUICK, Desk, Server, desk

SERVED = frozenset(Extension)
FORWARDING = {
    "protocol": "tcp",
    "internal_ip_address": "10.1.0.16",
    "internal_port_range": "22:22",
    "external_port_range": "2222:2222",
    "revision_number": 0,
}
FIPS = ("11111111-0000-4000-8000-000000000001", "11111111-0000-4000-8000-000000000002")
POLICY = "22222222-0000-4000-8000-000000000001"
CALLBACK_NOT_FOUND = RemoteError("CallbackNotFound: PortForwarding")


@pytest.fixture
def server() -> Server:
    return Server()


def forwarding(number: int, router_id: str, fip: int = 0, **changes: Any) -> dict[str, Any]:
    port = f"{2200 + number}:{2200 + number}"
    own = {"id": f"33333333-0000-4000-8000-{number:012}", "router_id": router_id, "external_port_range": port}
    address = {"floatingip_id": FIPS[fip], "floating_ip_address": f"203.0.113.{90 + fip}"}
    return {**FORWARDING, **own, **address, **changes}


def with_forwarding(server: Server) -> str:
    """Add a router with a port forwarding to the server, and return its id."""
    router_id = server.add(1)
    list_fips(server, router_id, 0)
    server.objects["PortForwarding"] = [forwarding(1, router_id)]
    return router_id


def list_fips(server: Server, router_id: str, *fips: int) -> None:
    """The router's answer lists these floating IPs of port forwardings."""
    server.routers[router_id]["_pf_floatingips"] = [
        {"id": FIPS[one], "floating_ip_address": f"203.0.113.{90 + one}", "status": "DOWN"} for one in fips
    ]


def known(a: Desk, router_id: str) -> list[str] | None:
    """Ids of the port forwardings in the newest document."""
    found = a.router(router_id).features.port_forwardings
    return None if found is None else [one.id for one in found]


def push(a: Desk, event: str, *objects: dict[str, Any], kind: str = "PortForwarding") -> None:
    a.say(ObjectsPushed(kind, event, objects))


def asked(server: Server, kind: str = "PortForwarding") -> list[Any]:
    """Values that objects of a type were asked for by, question by question."""
    return [next(iter(filters.values())) for name, _, filters in server.of("bulk_pull") if name == kind]


def test_full_sync_asks_once_for_each_type_and_documents_have_the_objects(server: Server, tmp_path: Path) -> None:
    first, second = server.add(1), server.add(2)
    list_fips(server, first, 0)
    list_fips(server, second, 1)
    server.objects["PortForwarding"] = [forwarding(1, first), forwarding(2, second, 1)]
    server.routers[first]["_floatingips"][0]["qos_policy_id"] = POLICY
    server.routers[second]["enable_ndp_proxy"] = True
    server.objects["QosPolicy"] = [{"id": POLICY, "rules": [{"max_kbps": 1000, "direction": "egress"}]}]
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        assert sorted(server.of("bulk_pull"), key=str) == [
            ("NDPProxy", "1.0", {"router_id": [second]}),
            ("PortForwarding", "1.3", {"floatingip_id": sorted(FIPS)}),
            ("QosPolicy", "1.10", {"id": [POLICY]}),
        ]
        assert known(a, first) == [forwarding(1, first)["id"]]
        assert known(a, second) == [forwarding(2, second)["id"]]
        policy = a.router(first).features.qos_policy(POLICY)
        assert policy is not None
        assert policy.egress is not None
        assert a.bus.pushed == [
            ("PortForwarding", "1.3"), ("QosPolicy", "1.10"), ("NDPProxy", "1.0"), ("ConntrackHelper", "1.0")
        ]  # fmt: skip
        a.say(RoutersUpdated((first,)))  # nothing of it is new
        server.wait_calls("sync_routers", 2)
        a.sync()
        assert len(asked(server)) == 2


def test_nothing_is_asked_for_where_nothing_is_served(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    list_fips(server, router_id, 0)
    with desk(server, tmp_path) as a:
        a.sync()
        push(a, "created", forwarding(1, router_id))
        a.sync()
        assert (server.of("bulk_pull"), a.bus.pushed) == ([], [])
        assert known(a, router_id) == []


def test_a_router_that_comes_asks_for_its_objects_only(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path, extensions=SERVED) as a:
        first = server.add(1)
        list_fips(server, first, 0)
        a.sync()
        second = server.add(2)
        list_fips(server, second, 1)
        a.say(RoutersUpdated((second,)))
        a.next(Changed, second)
        assert asked(server) == [[FIPS[0]], [FIPS[1]]]


def test_a_push_is_a_hint_and_the_answer_counts(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    list_fips(server, router_id, 0)
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        server.objects["PortForwarding"] = [forwarding(1, router_id, external_port_range="80:80")]
        push(a, "created", forwarding(1, router_id))
        (found,) = a.next(Changed, router_id).document.router.features.port_forwardings
        assert found.external.first == 80


def test_a_push_that_comes_before_its_change_can_be_seen_is_looked_up_again(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    server.objects["PortForwarding"] = [forwarding(1, router_id)]
    list_fips(server, router_id, 0)
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        changed = forwarding(1, router_id, internal_port_range="23:23", revision_number=1)
        gate = server.hold("bulk_pull")
        push(a, "updated", changed)
        gate.wait()
        server.objects["PortForwarding"] = [changed]
        gate.open()
        (found,) = a.next(Changed, router_id).document.router.features.port_forwardings
        assert found.internal.first == 23


def test_an_older_router_under_way_does_not_take_away_a_new_forwarding(server: Server, tmp_path: Path) -> None:
    """The reference loses the address: its job removes it as a floating IP that the document does not have."""
    router_id = server.add(1)
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        gate = server.hold("sync_routers")
        server.routers[router_id]["name"] = "older"
        a.say(RoutersUpdated((router_id,)))
        gate.wait()
        server.objects["PortForwarding"] = [forwarding(1, router_id)]
        push(a, "created", forwarding(1, router_id))
        gate.open()
        a.wait(lambda: known(a, router_id) == [forwarding(1, router_id)["id"]])
        server.routers[router_id]["name"] = "still without the floating IP"
        a.say(RoutersUpdated((router_id,)))
        a.wait(lambda: a.router(router_id).name.startswith("still"))
        assert [str(ip.address) for ip in a.router(router_id).features.forwarding_ips] == ["203.0.113.90"]


def test_a_push_during_the_first_sync_is_not_lost(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path, extensions=SERVED) as a:
        gate = server.hold("get_ports_by_subnet")
        a.passed()
        a.source.rescan()
        gate.wait()  # the objects of the router were asked for, it is not known yet
        server.objects["PortForwarding"] = [forwarding(1, router_id)]
        push(a, "created", forwarding(1, router_id))
        gate.open()
        a.wait(lambda: a.source.document(router_id) and known(a, router_id))


def test_deletion_counts_at_once_although_the_server_lists_the_object_still(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    list_fips(server, router_id, 0)
    server.objects["PortForwarding"] = both = [forwarding(1, router_id), forwarding(2, router_id)]
    with desk(server, tmp_path, extensions=SERVED, timing=replace(QUICK, again=600.0)) as a:
        a.sync()
        push(a, "deleted", both[0])
        assert [one.id for one in a.next(Changed, router_id).document.router.features.port_forwardings] == [
            both[1]["id"]
        ]
        push(a, "updated", {**both[1], "revision_number": 0})  # asks for the group: the answer lists both
        server.wait_calls("bulk_pull", 2)
        a.sync()  # and so does this one
        assert len(asked(server)) == 3
        assert known(a, router_id) == [both[1]["id"]]


def test_a_deletion_that_did_not_happen_is_taken_back(server: Server, tmp_path: Path) -> None:
    router_id = with_forwarding(server)
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        push(a, "deleted", forwarding(1, router_id))
        assert a.next(Changed, router_id).document.router.features.port_forwardings == ()
        assert len(a.next(Changed, router_id).document.router.features.port_forwardings) == 1


def test_pushes_about_other_routers_ask_nothing(server: Server, tmp_path: Path) -> None:
    router_id, other = server.add(1), "44444444-0000-4000-8000-000000000001"
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        push(a, "created", forwarding(1, other))
        push(a, "deleted", forwarding(2, other))
        push(a, "updated", {"id": POLICY, "rules": []}, kind="QosPolicy")
        push(a, "created", {"id": POLICY, "router_id": other, "helper": "ftp"}, kind="ConntrackHelper")
        a.say(RoutersUpdated((router_id,)))
        server.wait_calls("sync_routers", 2)
        assert server.of("bulk_pull") == []
        assert server.of("sync_routers")[1] == [router_id]


def test_conntrack_helper_has_its_router_asked_for_again(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        helper = {"protocol": "tcp", "port": 21, "helper": "ftp"}
        server.routers[router_id]["conntrack_helpers"] = [helper]
        push(a, "created", {"id": POLICY, "router_id": router_id, **helper}, kind="ConntrackHelper")
        (found,) = a.next(Changed, router_id).document.router.features.conntrack_helpers
        assert found.helper == "ftp"


def test_ndp_proxies_have_the_hosts_of_their_ports_and_follow_instances_that_move(
    server: Server, tmp_path: Path
) -> None:
    router_id, port_id = server.add(1), "44444444-0000-4000-8000-000000000001"
    server.routers[router_id]["enable_ndp_proxy"] = True
    proxy = {"id": port_id, "router_id": router_id, "port_id": port_id, "ip_address": "2001:db8::5"}
    server.objects |= {
        "NDPProxy": [proxy],
        "Port": [{"id": port_id, "bindings": [{"host": "one", "status": "ACTIVE"}]}],
        "Agent": [
            {"agent_type": "L3 agent", "host": host, "configurations": f'{{"agent_mode": "{mode}"}}'}
            for host, mode in (("one", "dvr"), ("two", "dvr_no_external"))
        ],
    }

    def without_ports(args: tuple[str, str, dict[str, Any]]) -> list[dict[str, Any]]:
        if args[0] == "Port":
            raise RemoteError("no ports")
        return [proxy]

    def places(router: Router) -> list[tuple[str | None, str | None]]:
        return [(one.host, one.agent_mode) for one in router.features.ndp_proxies or ()]

    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        assert places(a.router(router_id)) == [("one", "dvr")]
        server.objects["Port"] = [{"id": port_id, "bindings": [{"host": "two", "status": "ACTIVE"}]}]
        a.say(RoutersUpdated((router_id,)))
        assert places(a.next(Changed, router_id).document.router) == [("two", "dvr_no_external")]
        # Who has to answer is not known without the hosts: what is known stays.
        server.answers["bulk_pull"] = without_ports
        a.say(RoutersUpdated((router_id,)))
        server.wait(lambda: len(asked(server, "Port")) >= 3)
        a.sync()
        assert places(a.router(router_id)) == [("two", "dvr_no_external")]


def test_changed_policy_comes_by_push_alone(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    server.routers[router_id]["external_gateway_info"]["qos_policy_id"] = POLICY
    server.objects["QosPolicy"] = [{"id": POLICY, "rules": [{"max_kbps": 1000}], "revision_number": 1}]
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        changed = {"id": POLICY, "rules": [{"max_kbps": 2000}], "revision_number": 2}
        server.objects["QosPolicy"] = [changed]
        push(a, "updated", changed, kind="QosPolicy")
        found = a.next(Changed, router_id).document.router.features.qos_policy(POLICY)
        assert found.egress.kbps == 2000
        push(a, "deleted", changed, kind="QosPolicy")
        server.objects["QosPolicy"] = []
        assert a.next(Changed, router_id).document.router.features.qos_policies == ()


def test_first_forwarding_of_a_floating_ip_with_a_policy_brings_the_policy_too(server: Server, tmp_path: Path) -> None:
    """A floating IP that the router did not list has its policy in the router alone, and no cast comes."""
    router_id = server.add(1)
    server.objects["QosPolicy"] = [{"id": POLICY, "rules": [{"max_kbps": 1000}], "revision_number": 1}]
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        list_fips(server, router_id, 0)
        server.routers[router_id]["_pf_floatingips"][0]["qos_policy_id"] = POLICY
        server.objects["PortForwarding"] = [forwarding(1, router_id)]
        push(a, "created", forwarding(1, router_id))
        server.wait(lambda: bool(asked(server, "QosPolicy")))
        a.sync()
        features = a.router(router_id).features
        assert [(fip.id, fip.qos_policy_id) for fip in features.forwarding_ips] == [(FIPS[0], POLICY)]
        assert features.qos_policy(POLICY) is not None


@pytest.mark.parametrize("error", [CALLBACK_NOT_FOUND, ServerAwayError("nobody there")])
def test_what_was_never_known_is_unknown_until_a_question_is_answered(
    server: Server, tmp_path: Path, error: Exception
) -> None:
    router_id = with_forwarding(server)
    server.fail("bulk_pull", error, error)
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.passed()
        a.source.rescan()
        router = a.next(Changed, router_id).document.router
        assert router.features.port_forwardings is None
        assert [ip.id for ip in router.features.forwarding_ips] == [FIPS[0]]
        assert len(a.next(Changed, router_id).document.router.features.port_forwardings) == 1
        assert a.source.status()["server"]["objects_not_fetched"] == {}


def test_known_objects_stay_while_questions_fail(server: Server, tmp_path: Path) -> None:
    router_id = with_forwarding(server)
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        server.fail("bulk_pull", *[CALLBACK_NOT_FOUND] * 3)
        server.objects["PortForwarding"] = [forwarding(1, router_id), forwarding(2, router_id)]
        push(a, "created", forwarding(2, router_id))
        server.wait(lambda: len(asked(server)) >= 3)
        a.wait(lambda: a.router(router_id).features.not_current == {"port_forwardings"})
        assert known(a, router_id) == [forwarding(1, router_id)["id"]]
        a.wait(lambda: len(known(a, router_id) or ()) == 2)
        assert not a.router(router_id).features.not_current


def test_objects_of_the_last_process_are_used_while_questions_fail(server: Server, tmp_path: Path) -> None:
    router_id = with_forwarding(server)
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
    server.fail("bulk_pull", *[CALLBACK_NOT_FOUND] * 20)
    with desk(server, tmp_path, extensions=SERVED) as b:
        b.sync()
        assert known(b, router_id) == [forwarding(1, router_id)["id"]]
        assert "CallbackNotFound" in b.source.status()["server"]["objects_not_fetched"]["PortForwarding"]


def test_served_extensions_are_reported(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path, extensions={Extension.PORT_FORWARDING, Extension.FIP_QOS}) as a:
        a.sync()
        (state, *_) = server.of("report_state")
        assert state["configurations"]["extensions"] == ["fip_qos", "port_forwarding"]


def test_wrapping_of_versioned_objects_goes_at_any_depth() -> None:
    rule = {"versioned_object.name": "QosBandwidthLimitRule", "versioned_object.data": {"max_kbps": 1}}
    policy = {"versioned_object.name": "QosPolicy", "versioned_object.data": {"id": POLICY, "rules": [rule]}}
    assert plain([policy]) == [{"id": POLICY, "rules": [{"max_kbps": 1}]}]


def test_an_object_that_two_groups_have_is_listed_once() -> None:
    """It has changed its group, and the old one was not asked for again yet."""
    objects = ObjectsOfType(PORT_FORWARDING)
    old, new, object_id, router_id = (f"a1a1a1a1-0000-4000-8000-00000000000{number}" for number in range(4))
    for group in (old, new):
        objects.put([group], [{"id": object_id, "floatingip_id": group, "router_id": router_id, "protocol": group}])
    draft = RouterDraft(router_id, b"{}", (), {}, {}, {}, None, {PORT_FORWARDING.key: frozenset({old, new})})
    listed = objects.of_router(draft)
    assert listed is not None
    assert [one["id"] for one in listed] == [object_id]
