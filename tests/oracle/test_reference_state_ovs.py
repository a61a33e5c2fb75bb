"""The recorded scenarios once more, on Open vSwitch as the reference agent had it: kinds of devices and rows too.

Built by the whole reconciler with the Open vSwitch driver; read by ``ip`` and ``ovs-vsctl``.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.attach.openvswitch.factory import open_openvswitch
from dvr_agent.config import attach_settings, load
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.reconcile.reconciler import RouterReconciler
from tests.support import lab, ovs
from tests.support.oracle_build import parse
from tests.support.oracle_normalise import as_wanted, differences, normalised
from tests.support.oracle_recordings import Scenario, recorded_scenarios
from tests.support.oracle_watch import until_settled, writes_seen
from tests.support.recorded_documents import DATA, MODES
from tests.support.waiting import wait_for

SCENARIOS = recorded_scenarios()
HOSTS = sorted({scenario.host for scenario in SCENARIOS})
KEY = "dvr-agent-namespace"
KIND, KINDS = "dvr-agent-distributed", ("false", "true")
COLUMNS = ("type", "external_ids", "mtu_request", "mac", "mac_in_use")


class Fleet:
    """All scenarios of one recorded host on one throw-away host with Open vSwitch."""

    def __init__(self, switch: ovs.OpenVSwitch, name: str, folder: Path, use_veth: bool = False) -> None:
        self.switch, self.name = switch, name
        self.scenarios = [scenario for scenario in SCENARIOS if scenario.host == name]
        text = f"[DEFAULT]\novs_use_veth={use_veth}\n[OVS]\novsdb_connection={switch.connection}\n"
        (folder / "conf").write_text(text)
        self.kernel = open_kernel()
        self.driver = open_openvswitch(attach_settings(load(["--config-file", str(folder / "conf")])).ovs, self.kernel)
        settings = HostSettings(host=name, mode=MODES[name])
        self.reconciler = RouterReconciler(self.kernel, self.driver, settings, folder)
        self.reconciler.load()
        self.build()

    def build(self) -> None:
        for scenario in self.scenarios:
            self.reconciler.reconcile(parse(scenario))

    def differences(self, scenario: Scenario) -> list[str]:
        """Between what is in the kernel and what the reference agent made."""
        actual = normalised(scenario.observe(), scenario.document, kinds=True)
        return differences(normalised(as_wanted(scenario.recorded), scenario.document, kinds=True), actual)

    def transactions(self) -> int:
        return int(self.switch.vsctl("get", "Open_vSwitch", ".", "next_cfg"))


class Fleets:
    """One fleet at a time."""

    def __init__(self, tmp: pytest.TempPathFactory) -> None:
        self._tmp, self._stack = tmp, ExitStack()
        self._fleet: Fleet | None = None

    def get(self, name: str) -> Fleet:
        if self._fleet is None or self._fleet.name != name:
            self.close()
            self._stack.enter_context(lab.fresh_host())
            switch = self._stack.enter_context(ovs.open_vswitch())
            self._fleet = Fleet(switch, name, self._tmp.mktemp(name))
            self._stack.callback(self._fleet.driver.close)
        return self._fleet

    def close(self) -> None:
        self._fleet = None
        self._stack.close()


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleets]:
    fleets = Fleets(tmp_path_factory)
    yield fleets
    fleets.close()


@pytest.fixture
def fleet(request: pytest.FixtureRequest, fleets: Fleets) -> Fleet:
    return fleets.get(request.param)


each_scenario = pytest.mark.parametrize(
    ("fleet", "scenario"),
    [pytest.param(scenario.host, scenario, id=str(scenario)) for scenario in SCENARIOS],
    indirect=["fleet"],
)
each_host = pytest.mark.parametrize("fleet", HOSTS, indirect=True)


def recorded_rows(scenario: Scenario) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((DATA / "ovs_rows" / f"{scenario}.json").read_text())
    return found


@each_scenario
def test_kernel_is_equivalent_to_the_reference_agents(fleet: Fleet, scenario: Scenario) -> None:
    assert fleet.differences(scenario) == []


@each_scenario
def test_rows_are_the_reference_agents_and_say_namespace_and_kind(fleet: Fleet, scenario: Scenario) -> None:
    recorded = recorded_rows(scenario)
    here = {link.name: name for name, view in scenario.observe().items() for link in view.links}
    rows = fleet.switch.interfaces()
    assert recorded
    for name, wanted in recorded.items():
        row = rows[name]
        assert row["external_ids"].pop(KEY) == here[name]
        assert row["external_ids"].pop(KIND) == KINDS[name.startswith("qr-")]
        assert {column: row[column] for column in COLUMNS} == wanted, name
        assert (row["error"], row["ofport"] > 0) == ([], True)


@each_host
def test_second_run_writes_nothing(fleet: Fleet) -> None:
    namespaces = sorted(path.name for path in lab.NETNS.iterdir())
    until_settled(namespaces)
    before = fleet.transactions(), fleet.kernel.counters.total()
    with writes_seen(namespaces) as seen:
        plans = [fleet.reconciler.reconcile(parse(scenario)).plan for scenario in fleet.scenarios]
    assert [plan for plan in plans if plan] == []
    assert (fleet.transactions(), fleet.kernel.counters.total()) == before
    assert seen == {}


@each_host
def test_nothing_is_stale(fleet: Fleet) -> None:
    assert not fleet.reconciler.planner.plan_stale([scenario.router["id"] for scenario in fleet.scenarios])


@each_host
def test_everything_comes_back_after_open_vswitch_lost_the_ports(fleet: Fleet) -> None:
    """ovs-vswitchd killed: its userspace datapath makes new devices in the host's namespace, those inside are dead."""
    ports = fleet.switch.ports()
    fleet.switch.stop_vswitchd(signal.SIGKILL)
    fleet.switch.start_vswitchd()
    assert {link["ifname"] for link in lab.ip_json("link")} == ovs.HOST_DEVICES | ports
    fleet.build()
    assert {link["ifname"] for link in lab.ip_json("link")} == ovs.HOST_DEVICES
    assert [line for scenario in fleet.scenarios for line in fleet.differences(scenario)] == []
    assert not any(fleet.reconciler.planner.plan(parse(scenario)) for scenario in fleet.scenarios)


@each_host
def test_removing_every_router_leaves_no_port_and_no_device(fleet: Fleet) -> None:
    """The last test on a fleet: it empties it."""
    for scenario in fleet.scenarios:
        fleet.reconciler.remove(scenario.router["id"])
    assert [path.name for path in lab.NETNS.iterdir()] == []
    assert fleet.switch.ports() == set()
    wait_for(lambda: {link["ifname"] for link in lab.ip_json("link")} == ovs.HOST_DEVICES, "no device is left")
    assert not fleet.reconciler.planner.plan_stale(())


def test_one_transaction_for_a_router_with_three_namespaces(host: lab.Host, tmp_path: Path) -> None:
    with ovs.open_vswitch() as switch:
        fleet = Fleet(switch, "compute1", tmp_path)
        scenario = next(one for one in fleet.scenarios if one.name == "b2_dvr_snat_node_with_vms")
        fleet.reconciler.remove(scenario.router["id"])
        before = fleet.transactions()
        fleet.reconciler.reconcile(parse(scenario))
        assert fleet.transactions() == before + 1
        fleet.driver.close()


def test_veth_pairs_differ_from_the_reference_in_their_kind_only(host: lab.Host, tmp_path: Path) -> None:
    with ovs.open_vswitch() as switch:
        fleet = Fleet(switch, "compute2", tmp_path, use_veth=True)
        assert not any(fleet.reconciler.planner.plan(parse(scenario)) for scenario in fleet.scenarios)
        for scenario in fleet.scenarios:
            wanted = normalised(as_wanted(scenario.recorded), scenario.document)
            assert differences(wanted, normalised(scenario.observe(), scenario.document, kinds=True)) == []
            fleet.reconciler.remove(scenario.router["id"])
        assert switch.ports() == set()
        wait_for(lambda: {link["ifname"] for link in lab.ip_json("link")} == ovs.HOST_DEVICES, "no device is left")
        fleet.driver.close()
