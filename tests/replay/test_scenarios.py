"""Every recorded scenario once more, with the whole daemon, told by a neutron-server instead of by files.

What must come of the documents is compared in ``tests/oracle`` with the reference agent's state; here it is the same
comparison, of all scenarios of one recorded host that one daemon has built.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.desired.host_settings import AgentMode
from tests.support import lab
from tests.support.oracle_normalise import as_wanted, differences, normalised
from tests.support.oracle_recordings import Scenario, recorded_scenarios
from tests.support.rabbit import Rabbit
from tests.support.recorded_documents import DATA, MODES
from tests.support.replay_server import NeutronServer
from tests.support.replay_site import Site, add_to
from tests.support.waiting import wait_for

SCENARIOS = recorded_scenarios()
DOCUMENTS = sorted(path.stem.rsplit("-", 1) for path in (DATA / "documents").glob("*.json"))


def of_host(name: str) -> list[Scenario]:
    return [scenario for scenario in SCENARIOS if scenario.host == name]


@pytest.fixture(params=sorted(MODES))
def site(
    request: pytest.FixtureRequest, broker: Rabbit, neutron_server: NeutronServer, host: lab.Host, tmp_path: Path
) -> Iterator[Site]:
    """A daemon on an empty host that has made everything of the recorded host, and was left alone by the others."""
    name = request.param
    cloud = neutron_server.reset(name)
    for scenario, of in DOCUMENTS:
        if of == name:
            add_to(cloud, scenario, name)
    gateways = [router["gw_port"] for router in cloud.routers.values() if router.get("gw_port")]
    external = {gateway["network_id"] for gateway in gateways}
    with broker.reach():
        site = Site(host, tmp_path, neutron_server, MODES[name].value, external)
        yield site.start()
        site.stop()


def test_all_scenarios_of_a_host(site: Site) -> None:
    scenarios = of_host(site.server.host)
    centralized = MODES[site.server.host] is AgentMode.DVR_SNAT
    routers = site.server.cloud.routers.items()
    unbuilt = {key for key, router in routers if not (router["distributed"] or centralized)}
    site.in_sync(*(site.server.cloud.routers.keys() - unbuilt))
    assert {site.state(router_id) for router_id in unbuilt} <= {"not supported"}
    found = {}
    for scenario in scenarios:
        actual = normalised(scenario.observe(), scenario.document)
        found[scenario.name] = differences(normalised(as_wanted(scenario.recorded), scenario.document), actual)
    assert {name: lines for name, lines in found.items() if lines} == {}
    _floating_ips_of_this_host_are_reported(site, scenarios)
    _the_server_was_asked_no_more_than_needed(site)
    _heartbeats_say_what_a_l3_agent_says(site)


def _floating_ips_of_this_host_are_reported(site: Site, scenarios: list[Scenario]) -> None:
    """Those that were recorded with another status than they have here; the others are known to be right."""
    for scenario in scenarios:
        for fip in scenario.router.get("_floatingips", []):
            if fip["host"] == site.server.host and fip["status"] != "ACTIVE":
                call = site.server.wait_asked("update_floatingip_statuses", router_id=scenario.router["id"])
                assert call.args["fip_statuses"][fip["id"]] == "ACTIVE"


def _the_server_was_asked_no_more_than_needed(site: Site) -> None:
    """Each subnet's ports once, all routers at once."""
    calls = site.server.calls
    asked = [call.args["subnet_id"] for call in calls if call.method == "get_ports_by_subnet"]
    assert sorted(asked) == sorted(set(asked))
    assert len([call for call in calls if call.method == "sync_routers"]) == 1
    assert site.source()["error"] == ""


def _heartbeats_say_what_a_l3_agent_says(site: Site) -> None:
    """Everything that Neutron's scheduler and ``openstack network agent list`` look at."""
    scenarios = of_host(site.server.host)
    routers = len(site.server.cloud.routers)

    def counted() -> bool:
        _first, *later = site.server.asked("report_state")
        state = later[-1].args["agent_state"]["agent_state"] if later else {"configurations": {"routers": -1}}
        return bool(state["configurations"]["routers"] >= len(scenarios))

    wait_for(counted)
    state = site.server.asked("report_state")[-1].args["agent_state"]["agent_state"]
    assert (state["binary"], state["agent_type"], state["topic"]) == ("neutron-l3-agent", "L3 agent", "l3_agent")
    assert (state["host"], state["availability_zone"]) == (site.server.host, "nova")
    told = state["configurations"]
    assert told["agent_mode"] == MODES[site.server.host].value
    assert told["routers"] <= routers
    expected = {"agent_mode", "ex_gw_ports", "extensions", "floating_ips", "handle_internal_only_routers"}
    expected |= {"interface_driver", "interfaces", "log_agent_heartbeats", "routers"}
    assert told.keys() == expected
    first = site.server.asked("report_state")[0].args["agent_state"]["agent_state"]
    assert first["start_flag"] is True
    assert not state.get("start_flag")
