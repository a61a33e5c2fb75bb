"""Reports of agent state: their content, the consequences of their answers, and that nothing stops them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dvr_agent.sources.api import Synced
from dvr_agent.sources.neutron.api import RemoteError, ServerAwayError
from tests.support.scripted_neutron import Server, desk

# As an L3 agent of Neutron 29 sends it.
STATE_KEYS = {
    "agent_type",
    "availability_zone",
    "binary",
    "configurations",
    "host",
    "start_flag",
    "topic",
    "uuid",
}
CONFIGURATION_KEYS = {
    "agent_mode",
    "ex_gw_ports",
    "extensions",
    "floating_ips",
    "handle_internal_only_routers",
    "interface_driver",
    "interfaces",
    "log_agent_heartbeats",
    "routers",
}
SOON = 0.05


@pytest.fixture
def server() -> Server:
    return Server()


def test_first_report_has_the_keys_of_neutron_l3_agent(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path) as a:
        a.sync()
    state = server.of("report_state")[0]
    assert set(state) == STATE_KEYS
    assert set(state["configurations"]) == CONFIGURATION_KEYS
    assert (state["binary"], state["agent_type"], state["topic"]) == ("neutron-l3-agent", "L3 agent", "l3_agent")
    assert state["configurations"]["extensions"] == []
    assert state["start_flag"] is True


def test_later_reports_count_and_have_no_start_flag(server: Server, tmp_path: Path) -> None:
    server.add(1)
    server.add(2, gw_port=None, _floatingips=[])
    server.add(3, distributed=False, ha=True)  # without a port for VRRP on this host
    server.add(4, ha=True)
    server.add(5, distributed=False)
    with desk(server, tmp_path, report_interval=SOON) as a:
        a.sync()
        server.wait(lambda: server.calls[-1][0] == "report_state" and server.calls[-1][1]["configurations"]["routers"])
        reports = server.wait_calls("report_state", 5)
    last = reports[-1]
    assert set(last) == STATE_KEYS - {"start_flag"}
    counted = {key: last["configurations"][key] for key in ("routers", "ex_gw_ports", "interfaces", "floating_ips")}
    assert counted == {"routers": 4, "ex_gw_ports": 3, "interfaces": 4, "floating_ips": 3}
    assert len({report["uuid"] for report in reports}) == len(reports)


def test_reports_go_on_while_a_full_sync_takes_its_time(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path, report_interval=SOON) as a:
        a.sync()
        gate = server.hold("get_router_ids")
        a.source.rescan()
        gate.wait()
        server.wait_calls("report_state", len(server.of("report_state")) + 3)
        gate.open()
        a.next(Synced)


def test_an_agent_that_the_server_took_for_dead_syncs(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path, report_interval=SOON) as a:
        a.sync()
        router_id = server.add(1)
        server.heartbeat = "revived"
        assert a.next(Synced).known == frozenset({router_id})


def test_recovered_reports_lead_to_a_full_sync(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path, report_interval=SOON) as a:
        a.sync()
        router_id = server.add(1)
        server.fail("report_state", ServerAwayError("nobody there"), RemoteError("TooManyConnections"))
        assert a.next(Synced).known == frozenset({router_id})


def test_reports_that_fail_do_not_stop_statuses(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    server.routers[router_id]["_floatingips"][0]["status"] = "DOWN"
    with desk(server, tmp_path, report_interval=SOON) as a:
        a.sync()
        server.fail("report_state", *[RemoteError("no")] * 1000)
        a.settle(router_id)
        assert a.statuses(1)


def test_status_is_json_and_describes_the_server(server: Server, tmp_path: Path) -> None:
    router_id = server.add(1)
    with desk(server, tmp_path) as a:
        a.sync()
        status = json.loads(json.dumps(a.source.status()))
        assert a.source.document(router_id)
    assert (status["source"], status["documents"], status["bad"], status["error"]) == ("neutron", 1, {}, None)
    assert status["bus"] == {"connected": True}
    found = status["server"]
    assert (found["away"], found["pending"], found["statuses_not_sent"], found["chunk_size"]) == (False, 0, 0, 32)
    assert found["last_report"] > 0
    assert found["last_full_sync"]["listed"] == 1


def test_the_daemon_rescans_at_the_configured_interval_more_or_less(server: Server, tmp_path: Path) -> None:
    with desk(server, tmp_path, resync_interval=100) as a:
        intervals = {a.source.rescan_interval for _ in range(20)}
    assert len(intervals) > 1
    assert all(90 <= interval <= 110 for interval in intervals)
