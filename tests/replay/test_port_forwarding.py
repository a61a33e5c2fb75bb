"""Port forwardings by the whole daemon: objects come by questions and pushes, no router is ever announced."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import lab
from tests.support.filter_tools import rule_lines
from tests.support.oracle_normalise import as_wanted, differences, normalised
from tests.support.oracle_recordings import FeatureScenario
from tests.support.rabbit import Rabbit
from tests.support.recorded_documents import MODES
from tests.support.replay_server import NeutronServer
from tests.support.replay_site import Json, Site
from tests.support.waiting import wait_for

HOST = "compute1"
MADE, CHANGED = FeatureScenario("q1_port_forwarding", HOST), FeatureScenario("q1_port_forwarding_changed", HOST)
ROUTER = MADE.router["id"]


@pytest.fixture
def site(broker: Rabbit, neutron_server: NeutronServer, host: lab.Host, tmp_path: Path) -> Iterator[Site]:
    cloud, document = neutron_server.reset(HOST), copy.deepcopy(MADE.document)
    cloud.routers[ROUTER] = document["router"]
    cloud.ports.update(document["ports_by_subnet"])
    cloud.objects["PortForwarding"] = document["port_forwardings"]
    with broker.reach():
        external = {str(MADE.external_network)}
        site = Site(host, tmp_path, neutron_server, MODES[HOST].value, external, extensions="port_forwarding")
        yield site.start()
        site.stop()


def compare(scenario: FeatureScenario) -> list[str]:
    """Differences of the forwardings' namespace from the recording."""
    snat = f"snat-{ROUTER}"
    recorded, actual = as_wanted(scenario.recorded), scenario.observe()
    return differences(
        normalised({snat: recorded[snat]}, scenario.document), normalised({snat: actual[snat]}, scenario.document)
    )


def push_changes(server: NeutronServer, before: list[Json], after: list[Json]) -> None:
    """Have the server know the objects, and push each that is another one or gone."""
    server.cloud.objects["PortForwarding"] = after
    known = {one["id"]: one for one in after}
    for one in before:
        if one["id"] not in known:
            server.push("deleted", "PortForwarding", one)
        elif known[one["id"]] != one:
            server.push("updated", "PortForwarding", known[one["id"]])


def test_made_changed_and_removed_by_pushes_alone(site: Site) -> None:
    server = site.server
    site.in_sync(ROUTER)
    assert compare(MADE) == []
    assert len(server.asked("bulk_pull")) == 1
    forwarding = {fip["id"] for fip in MADE.router["_pf_floatingips"]}
    reports = [call.args["agent_state"]["agent_state"] for call in server.asked("report_state")]
    assert {tuple(one["configurations"]["extensions"]) for one in reports} == {("port_forwarding",)}

    before, after = MADE.document["port_forwardings"], CHANGED.document["port_forwardings"]
    push_changes(server, before, after)
    wait_for(lambda: compare(CHANGED) == [], "changes")
    used = {one["floatingip_id"] for one in after}
    (freed,) = forwarding - used
    wait_for(lambda: statuses(server).get(freed) == "DOWN", "status of the floating IP that lost its forwarding")
    assert not used & {fip for fip, status in statuses(server).items() if status == "DOWN"}

    push_changes(server, after, [])
    snat = f"snat-{ROUTER}"
    wait_for(lambda: "--to-destination" not in str(rule_lines(snat)), "removal")
    wait_for(lambda: all(statuses(server).get(fip) == "DOWN" for fip in forwarding), "statuses")
    assert len(server.asked("sync_routers")) == 1


def statuses(server: NeutronServer) -> Json:
    """The last status that was reported of each floating IP."""
    found: Json = {}
    for call in server.asked("update_floatingip_statuses"):
        found.update(call.args["fip_statuses"])
    return found


def test_unanswered_questions_leave_what_a_new_process_finds(site: Site) -> None:
    server = site.server
    site.in_sync(ROUTER)
    site.stop()
    for path in site.daemon.state.rglob(f"{ROUTER}.json"):
        path.unlink()

    def refuse(_args: Json) -> None:
        raise KeyError("CallbackNotFound")

    with server.fault("bulk_pull", refuse):
        since = len(server.calls)
        site.start(ready=False)
        server.wait_asked("bulk_pull", since)
        wait_for(lambda: site.state(ROUTER) == "degraded", "degraded")
        assert compare(MADE) == []
    site.in_sync(ROUTER)
    assert compare(MADE) == []
