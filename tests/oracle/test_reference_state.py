"""Same documents, equivalent kernel: every recorded scenario is built here and compared with the reference agent's.

All scenarios of one recorded host are built side by side on one throw-away host, as in life; pairs and priorities are
made comparable.  ``test_reference_numbers`` compares them number by number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dvr_agent.errors import DvrError
from tests.support import lab
from tests.support import oracle_reader as reader
from tests.support.oracle_build import external_bridge, make_host, parse
from tests.support.oracle_normalise import as_wanted, differences, normalised
from tests.support.oracle_recordings import Scenario, recorded_scenarios
from tests.support.oracle_watch import until_settled, writes_seen
from tests.support.recorded_documents import MODES
from tests.support.waiting import wait_for

SCENARIOS = recorded_scenarios()
HOSTS = sorted({scenario.host for scenario in SCENARIOS})


class Fleet:
    """All scenarios of one recorded host, built on one throw-away host."""

    def __init__(self, host: lab.Host, name: str, tmp: pytest.TempPathFactory) -> None:
        self.scenarios = [scenario for scenario in SCENARIOS if scenario.host == name]
        self.reconciler = make_host(host, name, self.scenarios, tmp.mktemp(name), MODES[name])
        self.failed: dict[str, DvrError] = {}
        for scenario in self.scenarios:
            try:
                self.reconciler.reconcile(parse(scenario))
            except DvrError as exc:
                self.failed[scenario.name] = exc
        self.reconciler.flush()

    def observe(self, scenario: Scenario) -> dict[str, reader.View]:
        """What is there of the scenario; raises what building it raised."""
        if scenario.name in self.failed:
            raise self.failed[scenario.name]
        return scenario.observe()


class FleetKeeper:
    """Has one fleet at a time; asked for another one it gives up the first.

    Not a parametrised module fixture, since pytest builds that anew whenever the position of the parameter changes.
    """

    def __init__(self, tmp: pytest.TempPathFactory) -> None:
        self._tmp, self._host, self._fleets = tmp, ExitStack(), dict[str, Fleet]()

    def get(self, name: str) -> Fleet:
        if name not in self._fleets:
            self.close()
            self._fleets[name] = Fleet(self._host.enter_context(lab.fresh_host()), name, self._tmp)
        return self._fleets[name]

    def close(self) -> None:
        self._fleets.clear()
        self._host.close()


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetKeeper]:
    keeper = FleetKeeper(tmp_path_factory)
    yield keeper
    keeper.close()


@pytest.fixture
def fleet(request: pytest.FixtureRequest, keeper: FleetKeeper) -> Fleet:
    return keeper.get(request.param)


each_scenario = pytest.mark.parametrize(
    ("fleet", "scenario"),
    [pytest.param(scenario.host, scenario, id=str(scenario)) for scenario in SCENARIOS],
    indirect=["fleet"],
)
each_host = pytest.mark.parametrize("fleet", HOSTS, indirect=True)


@each_scenario
def test_kernel_is_equivalent_to_the_reference_agents(fleet: Fleet, scenario: Scenario) -> None:
    actual = normalised(fleet.observe(scenario), scenario.document)
    assert differences(normalised(as_wanted(scenario.recorded), scenario.document), actual) == []


@each_scenario
def test_ports_hang_on_the_right_bridges_and_outer_ends_are_layer_2_only(fleet: Fleet, scenario: Scenario) -> None:
    views = fleet.observe(scenario)
    ports = scenario.ports()
    outer = {link["ifname"]: link for link in lab.ip_json("addr")}
    devices = sorted(link.name for view in views.values() for link in view.links if link.name in ports)
    assert devices
    for device in devices:
        port = ports[device]
        tap = outer[f"tap{port['id'][:11]}"]
        external = port["network_id"] == scenario.external_network
        bridge = external_bridge(port["network_id"]) if external else f"brq{port['network_id'][:11]}"
        assert (tap["master"], tap["operstate"], tap["addr_info"]) == (bridge, "UP", []), device
        if not external:
            assert outer[bridge]["addr_info"] == [], bridge


@each_scenario
def test_parameters_that_recordings_are_silent_or_wrong_about(fleet: Fleet, scenario: Scenario) -> None:
    # In units of 1/100 s, rounded to the kernel's clock: what a kernel with HZ=250 makes of 1 reads as 0.
    one = sysctl_read_back("net.ipv4.neigh.lo.proxy_delay", "1")
    for namespace, view in fleet.observe(scenario).items():
        with lab.entered(namespace):
            for link in view.links:
                if link.name.startswith("fg-"):
                    assert reader.sysctl(f"net.ipv4.neigh.{link.name}.proxy_delay") == one


@each_host
def test_second_run_writes_nothing(fleet: Fleet) -> None:
    """Counted by the kernel layer, and every namespace's ``ip monitor`` stays silent."""
    namespaces = sorted(path.name for path in lab.NETNS.iterdir())
    until_settled(namespaces)
    written: dict[str, int] = {}
    plans = {}
    with writes_seen(namespaces) as seen:
        for scenario in fleet.scenarios:
            before = fleet.reconciler.kernel.counters.total()
            plans[scenario.name] = fleet.reconciler.reconcile(parse(scenario)).plan
            written[scenario.name] = fleet.reconciler.kernel.counters.total() - before
    assert {name: plan for name, plan in plans.items() if plan} == {}
    assert {name: count for name, count in written.items() if count} == {}
    assert seen == {}
    assert fleet.failed == {}


@each_host
def test_removing_every_router_leaves_the_host_as_it_was(fleet: Fleet) -> None:
    """The last test of this module: it empties the fleet."""
    for scenario in fleet.scenarios:
        fleet.reconciler.remove(scenario.router["id"])
    assert [path.name for path in lab.NETNS.iterdir()] == []
    # The kernel tears namespaces down, and the veth ends in them, in the background.
    wait_for(lambda: not any(link["ifname"].startswith("tap") for link in lab.ip_json("link")), "no tap is left")
    left = {link["ifname"] for link in lab.ip_json("link")}
    assert {name for name in left if name.startswith("ex-")} == {
        external_bridge(scenario.external_network) for scenario in fleet.scenarios if scenario.external_network
    }
    assert not fleet.reconciler.planner.plan_stale(())


def sysctl_read_back(key: str, value: str) -> str:
    """What the kernel shows after this value was written, tried on the throw-away host itself."""
    lab.run("sysctl", "-qw", f"{key}={value}")
    return reader.sysctl(key)
