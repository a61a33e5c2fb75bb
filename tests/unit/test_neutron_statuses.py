"""Statuses of floating IPs: which are sent to the server, and when; agent gateway ports without use are deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvr_agent.desired.host_settings import AgentMode
from dvr_agent.extensions import Extension
from dvr_agent.model.router import Router
from dvr_agent.sources.api import Changed, DataPlane, Deleted, JobReport, Synced
from dvr_agent.sources.neutron.api import (
    ObjectsPushed,
    RemoteError,
    RouterDeleted,
    RouterRemoved,
    RoutersUpdated,
    ServerAwayError,
)
from tests.support.scripted_neutron import HOST, NETWORK, Desk, Server, desk

AWAY = ServerAwayError("nobody there")
OTHER_FIP = "e67d4d88-0000-453e-9bd8-a3f02a630a3b"


@pytest.fixture
def server() -> Server:
    return Server()


def fip(server: Server, router_id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.routers[router_id]["_floatingips"][0]
    return found


def add(server: Server, number: int = 1, status: str = "DOWN", **changes: Any) -> tuple[str, str]:
    """A router whose floating IP has this status; both ids."""
    router_id = server.add(number)
    fip(server, router_id).update(status=status, **changes)
    return router_id, fip(server, router_id)["id"]


def update(a: Desk, router_id: str) -> Router:
    """The server says that a router changed; the document that follows."""
    a.say(RoutersUpdated((router_id,)))
    found: Router = a.next(Changed, router_id).document.router
    return found


def statuses_sent(server: Server) -> list[tuple[str, dict[str, str]]]:
    return server.of("update_floatingip_statuses")


def all_statuses_sent(a: Desk) -> list[tuple[str, dict[str, str]]]:
    """All statuses sent so far, with nothing left to send: another router's status, put after them, has arrived."""
    router_id = a.server.add(99)
    fip(a.server, router_id)["status"] = "DOWN"
    update(a, router_id)
    a.settle(router_id)
    a.server.wait(lambda: bool(statuses_sent(a.server)) and statuses_sent(a.server)[-1][0] == router_id)
    return statuses_sent(a.server)[:-1]


def test_active_is_reported_when_the_kernel_has_the_floating_ip_and_not_before(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server)
    with desk(server, tmp_path) as a:
        a.sync()
        assert statuses_sent(server) == []
        a.settle(router_id)
        assert a.statuses(1) == [(router_id, {fip_id: "ACTIVE"})]


def test_what_this_host_wants_and_what_the_server_has_can_be_asked_for(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server)
    server.fail("update_floatingip_statuses", AWAY)
    with desk(server, tmp_path) as a:
        a.sync()
        assert a.source.floating_ips(router_id) == {}
        a.settle(router_id)
        server.wait(lambda: a.source.floating_ips(router_id) == {fip_id: {"wanted": "ACTIVE", "server": "DOWN"}})
        server.wait(lambda: a.source.floating_ips(router_id) == {fip_id: {"wanted": "ACTIVE", "server": "ACTIVE"}})
        a.settle(router_id, DataPlane.ABSENT)
        server.wait(lambda: a.source.floating_ips(router_id).get(fip_id, {}).get("wanted") == "DOWN")
    assert a.source.floating_ips("nobody") == {}


def test_legacy_routers_report_all_their_floating_ips_and_those_that_were_taken_off(
    server: Server, tmp_path: Path
) -> None:
    """The host of its port does not matter, and the server sets DOWN what it knows to be unassociated."""
    router_id, fip_id = add(server, host=None)
    server.routers[router_id].update(distributed=False, gw_port_host=HOST)
    with desk(server, tmp_path, mode=AgentMode.DVR_SNAT) as a:
        a.sync()
        a.settle(router_id)
        assert a.statuses(1) == [(router_id, {fip_id: "ACTIVE"})]
        server.routers[router_id]["_floatingips"] = []
        update(a, router_id)
        a.settle(router_id)
        assert a.statuses(2)[1:] == [(router_id, {})]


def test_status_that_the_server_has_is_not_reported(server: Server, tmp_path: Path) -> None:
    router_id, _ = add(server, status="ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
        for _ in range(3):
            a.settle(router_id)
        assert all_statuses_sent(a) == []


def test_no_status_is_reported_twice(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        a.statuses(1)
        a.settle(router_id)
        assert all_statuses_sent(a) == [(router_id, {fip_id: "ACTIVE"})]


def test_floating_ips_of_one_router_are_one_message(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server)
    second = {**fip(server, router_id), "id": OTHER_FIP, "floating_ip_address": "203.0.113.77"}
    second |= {"fixed_ip_address": "10.1.0.16"}
    server.routers[router_id]["_floatingips"].append(second)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        assert a.statuses(1) == [(router_id, {fip_id: "ACTIVE", OTHER_FIP: "ACTIVE"})]


def test_failed_job_reports_error_for_floating_ips_that_are_not_in_place(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id, DataPlane.FAILED)
        assert a.statuses(1) == [(router_id, {fip_id: "ERROR"})]
        a.settle(router_id)
        assert a.statuses(2)[1] == (router_id, {fip_id: "ACTIVE"})
        a.settle(router_id, DataPlane.FAILED)  # what is in place stays in place
        assert len(all_statuses_sent(a)) == 2


def test_failure_is_reported_also_without_agent_gateway_port(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id, DataPlane.FAILED, Router(**{**_fields(a.router(router_id)), "agent_gateways": ()}))
        assert all_statuses_sent(a) == []  # not about the newest document
        server.routers[router_id]["_floatingip_agent_interfaces"] = []
        server.gateways[NETWORK] = {**server.gateways[NETWORK], "binding:host_id": "compute7"}
        update(a, router_id)
        a.settle(router_id, DataPlane.FAILED)
        server.wait(lambda: (router_id, {fip_id: "ERROR"}) in [args for _, args in server.calls])


def _fields(router: Router) -> dict[str, Any]:
    return {name: getattr(router, name) for name in router.__dataclass_fields__}


def test_an_administratively_down_router_has_its_floating_ips_down(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server, status="ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        server.routers[router_id]["admin_state_up"] = False
        update(a, router_id)
        a.settle(router_id, DataPlane.ABSENT)
        assert a.statuses(1) == [(router_id, {fip_id: "DOWN"})]


def test_server_decides_the_status_of_a_floating_ip_that_left_the_document(server: Server, tmp_path: Path) -> None:
    """Free, or on another host?  The server lists neither here; an empty report has it set DOWN those that are free."""
    router_id, _ = add(server, status="ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        server.routers[router_id]["_floatingips"] = []
        update(a, router_id)
        a.settle(router_id)
        assert a.statuses(1) == [(router_id, {})]
        a.settle(router_id)
        assert len(all_statuses_sent(a)) == 1


def take_off(a: Desk, router_id: str, data_plane: DataPlane = DataPlane.IN_PLACE) -> None:
    """The router's floating IPs leave its document, and the job on it ends."""
    a.server.routers[router_id]["_floatingips"] = []
    update(a, router_id)
    a.settle(router_id, data_plane)


@pytest.mark.parametrize("legacy", [False, True], ids=["dvr", "legacy"])
def test_floating_ip_whose_port_was_deleted_is_down(server: Server, tmp_path: Path, legacy: bool) -> None:
    """The server keeps such a one ACTIVE, whatever update it gets: it does not know that it was this router's."""
    router_id, fip_id = add(server, status="ACTIVE")
    if legacy:
        fip(server, router_id)["host"] = None
        server.routers[router_id].update(distributed=False, gw_port_host=HOST)
    with desk(server, tmp_path, mode=AgentMode.DVR_SNAT) as a:
        a.sync()
        a.settle(router_id)
        server.deleted_ports.add(fip(server, router_id)["port_id"])
        take_off(a, router_id)
        assert a.statuses(1) == [(router_id, {fip_id: "DOWN"})]
        a.settle(router_id)  # it is said once: the floating IP may be on another host by now
        assert len(all_statuses_sent(a)) == 1


def test_floating_ip_of_a_deleted_port_is_down_when_its_router_has_left_this_host(
    server: Server, tmp_path: Path
) -> None:
    router_id, fip_id = add(server, status="ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        server.deleted_ports.add(fip(server, router_id)["port_id"])
        del server.routers[router_id]
        a.say(RouterRemoved(router_id))
        a.next(Deleted)
        a.settle(router_id, DataPlane.ABSENT, gone=True)
        assert a.statuses(1) == [(router_id, {fip_id: "DOWN"})]


@pytest.mark.parametrize("deleted", [False, True], ids=["port exists", "port deleted"])
def test_floating_ip_with_error_that_left_the_document_is_reported_too(
    server: Server, tmp_path: Path, deleted: bool
) -> None:
    router_id, fip_id = add(server, status="ERROR")
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id, DataPlane.FAILED)
        if deleted:
            server.deleted_ports.add(fip(server, router_id)["port_id"])
        take_off(a, router_id, DataPlane.FAILED)
        assert all_statuses_sent(a) == [], "the kernel may have it still"
        a.settle(router_id)
        expected = {fip_id: "DOWN"} if deleted else {}
        assert a.statuses(2)[1:] == [(router_id, expected)]


def test_floating_ip_that_another_router_has_here_is_not_down(server: Server, tmp_path: Path) -> None:
    """Its port was deleted, and it was associated again at once."""
    (router_id, _), (second, _) = add(server, 1, "ACTIVE"), add(server, 2, "ACTIVE")
    moved = fip(server, router_id)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        server.deleted_ports.add(moved["port_id"])
        address = fip(server, second)["fixed_ip_address"]
        port_id = fip(server, second)["port_id"]
        server.routers[second]["_floatingips"] = [{**moved, "port_id": port_id, "fixed_ip_address": address}]
        update(a, second)
        a.settle(second)
        take_off(a, router_id)
        assert a.statuses(1) == [(router_id, {})]


def test_floating_ip_that_came_back_before_it_was_sent_is_active(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server, status="ACTIVE")
    back = fip(server, router_id)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        server.fail("update_floatingip_statuses", *[AWAY] * 3)
        server.deleted_ports.add(back["port_id"])
        take_off(a, router_id)
        server.wait_calls("update_floatingip_statuses", 1)
        server.routers[router_id]["_floatingips"] = [{**back, "port_id": OTHER_FIP, "status": "DOWN"}]
        update(a, router_id)
        a.settle(router_id)
        server.wait(lambda: statuses_sent(server)[-1] == (router_id, {fip_id: "ACTIVE"}))


@pytest.mark.parametrize("again", [True, False], ids=["asked again", "refused"])
def test_without_an_answer_about_its_port_a_floating_ip_is_not_called_down(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, again: bool
) -> None:
    router_id, fip_id = add(server, status="ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        server.deleted_ports.add(fip(server, router_id)["port_id"])
        server.fail("bulk_pull", AWAY if again else RemoteError("CallbackNotFound"))
        take_off(a, router_id)
        assert a.statuses(1) == [(router_id, {fip_id: "DOWN"} if again else {})]
    warned = [one.getMessage() for one in caplog.records if "deleted ports" in one.getMessage()]
    assert len(warned) == (0 if again else 1)


def test_floating_ip_that_moved_to_another_host_is_not_reported_here(server: Server, tmp_path: Path) -> None:
    router_id, _ = add(server, status="ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        fip(server, router_id).update(host="compute7", status="DOWN")
        update(a, router_id)
        a.settle(router_id)
        assert all_statuses_sent(a) == []


def test_floating_ip_still_migrating_to_this_host_is_not_reported_as_error(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server, status="ACTIVE", host="compute7", dest_host=HOST)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id, DataPlane.FAILED)
        assert all_statuses_sent(a) == []
        a.settle(router_id)
        fip(server, router_id).update(status="DOWN", host=HOST, dest_host=None)
        update(a, router_id)
        a.settle(router_id)
        server.wait(lambda: statuses_sent(server)[-1] == (router_id, {fip_id: "ACTIVE"}))


def test_centralized_floating_ip_is_reported_by_the_host_of_the_gateway(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server, dvr_snat_bound=True, host="compute7")
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        assert a.statuses(1) == [(router_id, {fip_id: "ACTIVE"})]


def test_centralized_floating_ip_is_not_reported_by_other_hosts(server: Server, tmp_path: Path) -> None:
    router_id, _ = add(server, dvr_snat_bound=True)
    with desk(server, tmp_path, mode=AgentMode.DVR) as a:
        a.sync()
        a.settle(router_id)
        a.settle(router_id, DataPlane.FAILED)
        assert all_statuses_sent(a) == []


def test_status_is_reported_again_when_the_server_has_another(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server, status="ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        fip(server, router_id)["status"] = "DOWN"
        before = len(a.events)
        a.sync()
        assert a.statuses(1) == [(router_id, {fip_id: "ACTIVE"})]
        assert [type(event) for event in a.since(before)] == [Synced]  # no job, and no event


def test_no_status_is_reported_while_a_newer_document_waits_for_its_job(server: Server, tmp_path: Path) -> None:
    """Associated with another port: what is in the kernel is the old address."""
    router_id, fip_id = add(server, status="ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        old = a.router(router_id)
        fip(server, router_id).update(status="DOWN", fixed_ip_address="10.1.0.16")
        update(a, router_id)
        a.settle(router_id, router=old)
        assert all_statuses_sent(a) == []
        a.settle(router_id)
        server.wait(lambda: statuses_sent(server)[-1] == (router_id, {fip_id: "ACTIVE"}))


def test_only_the_newest_of_unsent_statuses_is_sent_later(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server)
    with desk(server, tmp_path) as a:
        a.sync()
        server.fail("update_floatingip_statuses", AWAY, AWAY)
        a.settle(router_id, DataPlane.FAILED)
        a.statuses(1)
        a.settle(router_id)
        server.wait(lambda: statuses_sent(server)[-1] == (router_id, {fip_id: "ACTIVE"}))
        assert all_statuses_sent(a)[-1] == (router_id, {fip_id: "ACTIVE"})
        server.wait(lambda: a.source.status()["server"]["statuses_not_sent"] == 0)


def test_a_router_whose_statuses_are_refused_does_not_keep_others_back(server: Server, tmp_path: Path) -> None:
    (first, _), (second, second_fip) = add(server, 1), add(server, 2)

    def refuse(args: Any) -> None:
        if args[0] == first:
            raise RemoteError("DBDeadlock")

    with desk(server, tmp_path) as a:
        a.sync()
        server.answers["update_floatingip_statuses"] = refuse
        a.settle(first)
        a.settle(second)
        server.wait(lambda: (second, {second_fip: "ACTIVE"}) in [args for _, args in server.calls])
        assert a.source.status()["server"]["statuses_not_sent"] >= 1
        number = len(statuses_sent(server))
        assert {args[0] for args in a.statuses(number + 2)[number:]} == {first}


def test_server_updates_the_floating_ips_of_a_router_that_left_this_host(server: Server, tmp_path: Path) -> None:
    router_id, _ = add(server, status="ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        del server.routers[router_id]
        a.say(RouterRemoved(router_id))
        a.next(Deleted)
        a.settle(router_id, DataPlane.ABSENT, gone=True)
        assert a.statuses(1) == [(router_id, {})]


def test_routers_that_are_left_alone_have_no_statuses(server: Server, tmp_path: Path) -> None:
    router_id, _ = add(server)
    server.routers[router_id].update(ha=True, distributed=False)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id, DataPlane.LEFT_ALONE)
        assert all_statuses_sent(a) == []


def test_after_a_start_with_cached_documents_only_differences_are_reported(server: Server, tmp_path: Path) -> None:
    (known, _), (down, fip_id) = add(server, 1, "ACTIVE"), add(server, 2, "ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
    server.away(AWAY)
    with desk(server, tmp_path, fallback_after=0.01) as b:
        b.source.rescan()
        b.next(Synced)
        for router_id in (known, down):
            b.settle(router_id)
        fip(server, down)["status"] = "DOWN"
        server.away(None)
        b.next(Synced)
        assert b.statuses(1) == [(down, {fip_id: "ACTIVE"})]
        assert len(all_statuses_sent(b)) == 1


def test_reports_about_cached_and_unknown_routers_are_harmless(server: Server, tmp_path: Path) -> None:
    router_id, _ = add(server)
    with desk(server, tmp_path) as a:
        a.source.job_ended(JobReport(router_id, DataPlane.ABSENT))
        a.source.job_ended(JobReport(router_id, DataPlane.FAILED))
        a.sync()
        assert all_statuses_sent(a) == []


# Agent gateway ports


def released(server: Server) -> list[str]:
    return server.of("delete_agent_gateway_port")


def test_agent_gateway_port_is_deleted_with_the_last_use_of_its_network(server: Server, tmp_path: Path) -> None:
    ids = [server.add(number) for number in range(2)]
    with desk(server, tmp_path) as a:
        a.sync()
        for router_id in ids:
            a.settle(router_id)
        for router_id in ids:
            assert released(server) == []
            del server.routers[router_id]
            a.say(RouterDeleted(router_id))
            a.next(Deleted)
            a.settle(router_id, DataPlane.ABSENT, gone=True)
            if router_id == ids[0]:
                a.sync()
        assert server.wait_calls("delete_agent_gateway_port", 1) == [NETWORK]


def test_cleared_gateway_deletes_the_agent_gateway_port(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        server.routers[router_id].update(gw_port=None, _floatingips=[], _floatingip_agent_interfaces=[])
        update(a, router_id)
        a.settle(router_id)
        assert server.wait_calls("delete_agent_gateway_port", 1) == [NETWORK]


def test_agent_gateway_port_of_a_network_never_in_use_is_kept(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id, DataPlane.FAILED)
        del server.routers[router_id]
        a.say(RouterDeleted(router_id))
        a.next(Deleted)
        a.settle(router_id, DataPlane.ABSENT, gone=True)
        a.sync()
        all_statuses_sent(a)
        assert released(server) == []


@pytest.mark.parametrize("ha", [False, True])
def test_agent_gateway_port_that_a_document_needs_is_kept(server: Server, tmp_path: Path, ha: bool) -> None:
    first, second = server.add(1), server.add(2, ha=ha)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(first)
        a.say(RouterDeleted(first))
        del server.routers[first]
        a.next(Deleted)
        a.settle(first, DataPlane.ABSENT, gone=True)  # the second one's job has not ended yet
        a.sync()
        assert released(server) == []
        a.settle(second, DataPlane.FAILED)
        del server.routers[second]
        a.say(RouterDeleted(second))
        a.next(Deleted)
        a.settle(second, DataPlane.ABSENT, gone=True)
        assert server.wait_calls("delete_agent_gateway_port", 1) == [NETWORK]


def test_failed_deletion_of_an_agent_gateway_port_is_repeated_after_an_outage(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        del server.routers[router_id]
        a.say(RouterDeleted(router_id))
        a.next(Deleted)
        server.fail("delete_agent_gateway_port", AWAY)
        a.settle(router_id, DataPlane.ABSENT, gone=True)
        assert server.wait_calls("delete_agent_gateway_port", 2) == [NETWORK] * 2


def test_a_floating_ip_that_is_left_out_is_an_error_and_never_active(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server)
    bad = {**fip(server, router_id), "id": OTHER_FIP, "floating_ip_address": "203.0.113.1", "status": "ACTIVE"}
    server.routers[router_id]["_floatingips"].append(bad)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        assert a.statuses(1) == [(router_id, {fip_id: "ACTIVE", OTHER_FIP: "ERROR"})]
        bad |= {"floating_ip_address": "203.0.113.77", "fixed_ip_address": "10.1.0.16", "status": "ERROR"}
        fip(server, router_id)["status"] = "ACTIVE"
        update(a, router_id)
        a.settle(router_id)
        assert a.statuses(2)[1] == (router_id, {OTHER_FIP: "ACTIVE"})


def test_floating_ips_whose_agent_gateway_port_is_left_out_are_an_error(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server, status="ACTIVE")
    (port,) = server.routers[router_id]["_floatingip_agent_interfaces"]
    port["fixed_ips"][0]["ip_address"] = "203.0.113.1"
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        assert a.statuses(1) == [(router_id, {fip_id: "ERROR"})]


def test_left_out_floating_ip_of_another_host_is_not_reported_here(server: Server, tmp_path: Path) -> None:
    router_id, fip_id = add(server)
    bad = {**fip(server, router_id), "id": OTHER_FIP, "floating_ip_address": "203.0.113.1", "host": "elsewhere"}
    server.routers[router_id]["_floatingips"].append(bad)
    with desk(server, tmp_path) as a:
        a.sync()
        a.settle(router_id)
        assert all_statuses_sent(a) == [(router_id, {fip_id: "ACTIVE"})]


def test_a_floating_ip_that_another_router_has_is_an_error_and_that_router_is_asked_for(
    server: Server, tmp_path: Path
) -> None:
    router_id, fip_id = add(server)
    other, _ = add(server, 2, "ACTIVE")
    with desk(server, tmp_path) as a:
        a.sync()
        since = len(server.of("sync_routers"))
        report = JobReport(
            router_id, DataPlane.IN_PLACE, a.router(router_id), left_out=frozenset({fip_id}), rivals=(other,)
        )
        a.source.job_ended(report)
        assert a.statuses(1) == [(router_id, {fip_id: "ERROR"})]
        assert server.wait_calls("sync_routers", since + 1)[since:] == [[other]]
        a.settle(router_id)
        assert a.statuses(2)[1:] == [(router_id, {fip_id: "ACTIVE"})]


FORWARDING_FIP = {"id": "11111111-0000-4000-8000-000000000001", "floating_ip_address": "203.0.113.90"}
FORWARDING = {
    "id": "33333333-0000-4000-8000-000000000001",
    "floatingip_id": FORWARDING_FIP["id"],
    "floating_ip_address": FORWARDING_FIP["floating_ip_address"],
    "protocol": "tcp",
    "external_port_range": "2222:2222",
    "internal_port_range": "22:22",
    "internal_ip_address": "10.1.0.16",
}
SERVED = frozenset({Extension.PORT_FORWARDING})


def forward(server: Server, status: str = "DOWN") -> str:
    """A router with one port forwarding; its id."""
    router_id, _ = add(server, status="ACTIVE")
    server.routers[router_id]["_pf_floatingips"] = [{**FORWARDING_FIP, "status": status}]
    server.objects["PortForwarding"] = [{**FORWARDING, "router_id": router_id}]
    return router_id


def test_floating_ip_of_port_forwardings_is_active_with_the_first_and_down_after_the_last(
    server: Server, tmp_path: Path
) -> None:
    router_id, fip_id = forward(server), FORWARDING_FIP["id"]
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        a.settle(router_id)
        assert a.statuses(1) == [(router_id, {fip_id: "ACTIVE"})]
        server.routers[router_id]["_pf_floatingips"] = []
        gone, server.objects["PortForwarding"] = server.objects["PortForwarding"], []
        a.say(ObjectsPushed("PortForwarding", "deleted", tuple(gone)))
        a.next(Changed, router_id)
        a.settle(router_id)
        assert a.statuses(2)[1] == (router_id, {fip_id: "DOWN"})
        a.sync()  # it is said once: the floating IP may be on another host by now
        a.settle(router_id)
        a.sync()
        assert len(all_statuses_sent(a)) == 2


@pytest.mark.parametrize("known", [True, False], ids=["objects known", "objects not known"])
def test_floating_ip_of_port_forwardings_that_cannot_be_built_is_an_error_if_they_are_known(
    server: Server, tmp_path: Path, known: bool
) -> None:
    router_id = forward(server)
    if not known:
        server.answers["bulk_pull"] = lambda _args: None  # no list: a wrong answer
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        a.settle(router_id, DataPlane.FAILED)
        sent = dict(all_statuses_sent(a)).get(router_id, {})
        assert sent.get(FORWARDING_FIP["id"]) == ("ERROR" if known else None)


def test_floating_ips_of_port_forwardings_are_of_the_snat_host(server: Server, tmp_path: Path) -> None:
    router_id = forward(server)
    server.routers[router_id]["gw_port_host"] = "network2"
    with desk(server, tmp_path, extensions=SERVED) as a:
        a.sync()
        a.settle(router_id)
        assert all_statuses_sent(a) == []
