"""Ports of the Open vSwitch driver on a real Open vSwitch, read back by ``ovs-vsctl`` and ``ip``, tried by ping."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.attach.api import OuterPort
from dvr_agent.attach.openvswitch import leaving
from dvr_agent.desired import names
from dvr_agent.errors import AttachError
from tests.support import lab, ovs
from tests.support.ovs_rig import ONE, THREE, TWO, A, B, Rig, port, rigged
from tests.support.waiting import wait_for

BOTH = pytest.mark.parametrize("rig", [False, True], ids=["internal", "veth"], indirect=True)
MAC = "fa:16:3e:99:99:99"


@pytest.fixture(scope="module")
def switch() -> Iterator[ovs.OpenVSwitch]:
    with lab.fresh_host(), ovs.open_vswitch() as switch:
        yield switch


@pytest.fixture
def rig(request: pytest.FixtureRequest, switch: ovs.OpenVSwitch, tmp_path: Path) -> Iterator[Rig]:
    with rigged(switch, tmp_path, getattr(request, "param", False)) as rig:
        yield rig
    for namespace in [path.name for path in lab.NETNS.iterdir()]:
        lab.run("ip", "netns", "del", namespace)
    for name in switch.ports():
        switch.vsctl("del-port", name)
    for link in lab.ip_json("link"):
        if link["ifname"].startswith(("qr-", "sg-", "tap")):
            lab.run("ip", "link", "del", link["ifname"], check=False)


def host_devices() -> set[str]:
    return {link["ifname"] for link in lab.ip_json("link")} - ovs.HOST_DEVICES


class TestPlug:
    @BOTH
    def test_an_outer_end_that_gets_ipv6_with_a_larger_mtu_loses_it_at_once(self, rig: Rig) -> None:
        rig.driver.plug(A, [port(1, mtu=1000)])
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)
        assert rig.driver.check([ONE]) == {}

    @BOTH
    def test_ports_reach_each_other_and_instances(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE, THREE])
        rig.driver.plug(B, [TWO])
        for one, namespace in ((ONE, A), (THREE, A), (TWO, B)):
            rig.assert_whole(one, namespace)
        rig.assert_reach()
        vm = rig.switch.vm("vm", "10.5.0.9/24", MAC)
        assert lab.ping(vm, "10.5.0.1")

    @BOTH
    def test_all_ports_of_a_call_are_one_transaction_and_again_is_none(self, rig: Rig) -> None:
        assert rig.writes_of_plug(ONE, TWO, THREE)[0] == 1
        assert rig.writes_of_plug(ONE, TWO, THREE) == (0, 0)
        assert rig.writes_of_plug() == (0, 0)

    @pytest.mark.parametrize("rig", [False], indirect=True)
    def test_ports_of_several_namespaces_are_one_transaction_if_they_are_prepared(self, rig: Rig) -> None:
        before = rig.transactions()
        rig.driver.prepare({A: [ONE, THREE], B: [TWO], "snat-not-made-yet": []})
        rig.driver.plug(A, [ONE, THREE])
        rig.driver.plug(B, [TWO])
        assert rig.transactions() == before + 1
        for one, namespace in ((ONE, A), (THREE, A), (TWO, B)):
            rig.assert_whole(one, namespace)
        assert not rig.told_now()

    @BOTH
    def test_outer_sides_are_not_seen_by_the_host_as_layer_3(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        assert host_devices() == ({rig.outer(ONE)} if rig.use_veth else set())
        assert "fe80" not in lab.run("ip", "addr", "show")

    @BOTH
    def test_what_differs_inside_is_set_right_and_nothing_else(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        lab.run("ip", "-n", A, "link", "set", ONE.device, "down", "address", MAC, "mtu", "1300")
        before = rig.inner(ONE)["ifindex"]
        assert rig.writes_of_plug(ONE) == (0, 1)
        assert rig.inner(ONE)["ifindex"] == before
        rig.assert_whole(ONE)

    @BOTH
    @pytest.mark.parametrize("key", ["iface-id", "attached-mac", "iface-status"])
    def test_wrong_external_ids_are_told_and_set_right(self, rig: Rig, key: str) -> None:
        rig.driver.plug(A, [ONE])
        rig.switch.vsctl("set", "Interface", rig.outer(ONE), f"external_ids:{key}=other", "external_ids:of=others")
        rig.switch.vsctl("set", "Port", rig.outer(ONE), "tag=3", "other_config:net_uuid=n")
        wait_for(lambda: f"external_ids:{key}=other" in rig.faults(ONE).get(ONE.device, ""), "it is told")
        before = rig.inner(ONE)["ifindex"]
        rig.driver.plug(A, [ONE])
        assert rig.faults(ONE) == {}
        assert rig.inner(ONE)["ifindex"] == before
        assert rig.switch.interfaces()[rig.outer(ONE)]["external_ids"]["of"] == "others"
        (row,) = [
            row for row in rig.switch.rows("Port", "name", "tag", "other_config") if row["name"] == rig.outer(ONE)
        ]
        assert (row["tag"], row["other_config"]) == (3, {"net_uuid": "n"})

    @BOTH
    def test_a_port_on_another_bridge_comes_over(self, rig: Rig) -> None:
        rig.switch.add_bridge("br-other")
        rig.driver.plug(A, [ONE])
        kind = ["--", "set", "Interface", rig.outer(ONE), f"type={'system' if rig.use_veth else 'internal'}"]
        rig.switch.vsctl("del-port", rig.outer(ONE), "--", "add-port", "br-other", rig.outer(ONE), *kind)
        wait_for(lambda: "on bridge br-other instead of br-int" in rig.faults(ONE).get(ONE.device, ""), "it is told")
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)
        rig.switch.vsctl("del-br", "br-other")

    @BOTH
    def test_a_row_that_somebody_removed_is_made_again(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.switch.vsctl("del-port", rig.outer(ONE))
        assert rig.told()
        assert "is no port of br-int" in rig.faults(ONE)[ONE.device]
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)
        assert not rig.told_now()

    @BOTH
    def test_a_device_that_somebody_removed_is_made_again(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE, TWO])
        before = rig.inner(TWO)["ifindex"]
        rig.lose(ONE)
        rig.driver.plug(A, [ONE, TWO])
        rig.assert_whole(ONE)
        assert rig.inner(TWO)["ifindex"] == before

    @BOTH
    def test_a_namespace_that_somebody_made_anew_gets_its_ports_again(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        lab.run("ip", "netns", "del", A)
        rig.namespaces.create(A)
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)

    def test_a_device_left_in_the_hosts_namespace_is_moved_in(self, rig: Rig) -> None:
        """The agent was killed between the transaction and the move."""
        rig.driver.prepare({A: [ONE]})
        rig.switch.wait()
        assert host_devices() == {ONE.device}
        assert "in the host's namespace" in rig.faults(ONE)[ONE.device]
        rig.driver = rig.open()
        assert rig.writes_of_plug(ONE)[0] == 0
        rig.assert_whole(ONE)

    def test_a_pair_of_the_bridge_driver_gives_way(self, rig: Rig) -> None:
        tap = f"tap{ONE.port_id[:11]}"
        lab.run("ip", "link", "add", tap, "type", "veth", "peer", "name", ONE.device, "netns", A)
        assert "is no port" in rig.faults(ONE)[ONE.device]
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)
        assert host_devices() == set()

    @BOTH
    def test_half_a_veth_pair_gives_way(self, rig: Rig) -> None:
        lab.run("ip", "link", "add", f"tap{ONE.port_id[:11]}", "type", "veth", "peer", "name", "vm-end")
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)

    @BOTH
    def test_a_port_of_the_other_kind_that_works_stays(self, rig: Rig, tmp_path: Path) -> None:
        rig.driver.plug(A, [ONE])
        other = rig.open(use_veth=not rig.use_veth)
        before = rig.transactions(), rig.counters.total()
        other.plug(A, [ONE])
        assert other.check([ONE]) == {}
        assert (rig.transactions(), rig.counters.total()) == before
        rig.assert_whole(ONE)

    @BOTH
    def test_one_of_the_other_kind_that_does_not_work_is_made_as_configured(self, rig: Rig) -> None:
        rig.open(use_veth=not rig.use_veth).plug(A, [ONE])
        rig.lose(ONE)
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)
        assert len(rig.switch.ports()) == 1

    @BOTH
    @pytest.mark.parametrize("distributed", [False, True])
    def test_a_port_of_a_router_of_another_kind_now_goes_and_comes_again_some_seconds_later(
        self, rig: Rig, distributed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neutron's Open vSwitch agent sets the flows of the new kind for a new port only, and once it knows of it."""
        monkeypatch.setattr(leaving, "FORGET_SECONDS", 2.0)
        before, now = ONE._replace(distributed=not distributed), ONE._replace(distributed=distributed)
        rig.driver.plug(A, [before, TWO])
        numbers = rig.switch.interfaces()
        assert rig.faults(now, TWO).keys() == {ONE.device}
        assert f"for a router that is {'not ' if distributed else ''}distributed" in rig.faults(now)[ONE.device]
        for _ in range(2):
            with pytest.raises(AttachError, match="of another kind now") as caught:
                rig.driver.plug(A, [now, TWO])
            assert caught.value.code == errno.EAGAIN
            rig.driver.prepare({A: [now]})
            assert rig.outer(ONE) not in rig.switch.ports()
            rig.assert_whole(TWO)
        wait_for(lambda: rig.plugs(A, now, TWO))
        rig.assert_whole(now)
        assert rig.switch.interfaces()[rig.outer(ONE)]["ofport"] != numbers[rig.outer(ONE)]["ofport"]
        assert rig.switch.interfaces()[rig.outer(TWO)]["ofport"] == numbers[rig.outer(TWO)]["ofport"]

    @BOTH
    def test_a_port_that_does_not_say_for_which_kind_it_was_plugged_is_marked_and_not_touched(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.switch.vsctl("remove", "Interface", rig.outer(ONE), "external_ids", "dvr-agent-distributed")
        other = ONE._replace(distributed=True)
        before = rig.transactions(), rig.counters.total()
        assert rig.faults(ONE) == rig.faults(other) == {}
        for _ in range(2):
            rig.driver.mark([ONE, TWO])
        assert (rig.transactions(), rig.counters.total()) == before
        assert not rig.told_now()
        rig.assert_whole(ONE)
        assert rig.faults(other).keys() == {ONE.device}
        rig.driver.mark([other])
        rig.assert_whole(ONE)

    def test_impossible_names_are_refused_before_anything_is_done(self, rig: Rig) -> None:
        before = rig.transactions()
        with pytest.raises(AttachError) as caught:
            rig.driver.plug(A, [ONE, TWO._replace(mac="nonsense")])
        assert caught.value.code == errno.EINVAL
        assert rig.transactions() == before

    def test_a_namespace_that_is_gone_is_an_attach_error_and_leaves_no_row(self, rig: Rig) -> None:
        with pytest.raises(AttachError):
            rig.driver.plug("qrouter-gone", [ONE])
        assert rig.switch.ports() == set()

    @BOTH
    def test_ten_ports_at_once(self, rig: Rig) -> None:
        ports = [port(number) for number in range(20, 30)]
        assert rig.writes_of_plug(*ports)[0] == 1
        for one in ports:
            rig.assert_whole(one)


class TestUnplug:
    @BOTH
    def test_nothing_is_left_of_a_port_and_all_of_the_others(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE, TWO])
        rig.driver.unplug(A, [ONE.device])
        assert rig.switch.ports() == {rig.outer(TWO)}
        assert {link["ifname"] for link in lab.ip_json("link", netns=A)} == {"lo", TWO.device}
        assert rig.outer(ONE) not in host_devices()
        rig.driver.unplug(A, [ONE.device])
        rig.assert_whole(TWO)
        assert not rig.told_now()

    @BOTH
    def test_releasing_a_namespace_takes_its_ports_in_one_transaction(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE, THREE])
        rig.driver.plug(B, [TWO])
        before = rig.transactions()
        rig.driver.release(A)
        rig.namespaces.remove(A)
        assert rig.transactions() == before + 1
        assert rig.switch.ports() == {rig.outer(TWO)}
        wait_for(lambda: not host_devices() - {rig.outer(TWO)}, "no device is left")
        rig.driver.release(A)
        rig.assert_whole(TWO, B)
        assert not rig.told_now()

    def test_releasing_takes_ports_of_the_reference_agent_and_leaves_those_of_others(self, rig: Rig) -> None:
        reference(rig, ONE.device, A)
        rig.switch.vsctl("add-port", "br-int", "ha-1", "--", "set", "Interface", "ha-1", "type=internal")
        lab.run("ip", "link", "set", "ha-1", "netns", A)
        rig.driver.release(A)
        assert rig.switch.ports() == {"ha-1"}

    @BOTH
    def test_a_port_is_plugged_again_right_after_its_namespace_went(self, rig: Rig) -> None:
        """ovs-vswitchd may see both as one change, and take the new port for the old one."""
        rig.driver.plug(A, [ONE])
        rig.driver.release(A)
        rig.namespaces.remove(A)
        rig.namespaces.create(A)
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)


def reference(rig: Rig, device: str, namespace: str | None) -> None:
    """A port as the reference agent plugs it."""
    ids = ["external_ids:iface-id=" + ONE.port_id, "external_ids:iface-status=active"]
    ids.append("external_ids:attached-mac=" + ONE.mac)
    rig.switch.vsctl("add-port", "br-int", device, "--", "set", "Interface", device, "type=internal", *ids)
    if namespace:
        lab.run("ip", "link", "set", device, "address", ONE.mac, "netns", namespace)
        lab.run("ip", "-n", namespace, "link", "set", device, "mtu", "1450", "up")


class TestList:
    @BOTH
    def test_ports_with_their_namespaces(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.driver.plug(B, [TWO])
        rig.switch.vm("vm", "10.5.0.9/24", MAC)
        assert rig.driver.list() == [
            OuterPort(ONE.port_id, rig.outer(ONE), A),
            OuterPort(TWO.port_id, rig.outer(TWO), B),
        ]

    @BOTH
    @pytest.mark.parametrize("prefix", names.PORT_PREFIXES)
    def test_ports_of_each_kind_have_their_namespace(self, rig: Rig, prefix: str) -> None:
        """One without would be removed as stale."""
        one = port(7, prefix)
        rig.driver.plug(A, [one])
        assert rig.driver.list() == [OuterPort(one.port_id, rig.outer(one), A)]

    @pytest.mark.parametrize("prefix", names.PORT_PREFIXES)
    def test_ports_of_each_kind_of_the_reference_agent_are_found_and_released(self, rig: Rig, prefix: str) -> None:
        reference(rig, f"{prefix}left", None)
        reference(rig, f"{prefix}here", A)
        found = {one.outer: one.namespace for one in rig.driver.list()}
        assert found == {f"{prefix}left": "", f"{prefix}here": A}
        rig.driver.release(A)
        assert rig.switch.ports() == {f"{prefix}left"}

    def test_a_working_port_of_the_reference_agent_is_accepted_as_it_is(self, rig: Rig) -> None:
        reference(rig, ONE.device, A)
        rig.assert_whole(ONE, mark=False)
        assert rig.driver.list() == [OuterPort(ONE.port_id, ONE.device, A)]

    def test_ports_whose_device_is_in_no_namespace_are_found_and_removed(self, rig: Rig) -> None:
        """Left by the reference agent, by a namespace that somebody removed, and by an agent that was killed."""
        reference(rig, "qr-left", None)
        rig.driver.plug(A, [ONE])
        rig.driver.plug(B, [TWO])
        rig.driver.prepare({B: [THREE]})
        lab.run("ip", "netns", "del", A)
        for device in ("tap-dhcp", "ha-1", "patch-tun"):
            rig.switch.vsctl("add-port", "br-int", device, "--", "set", "Interface", device, "type=internal")
        stale = [found for found in rig.driver.list() if not found.namespace]
        assert {found.outer for found in stale} == {"qr-left", ONE.device, THREE.device}
        rig.driver.unplug_outer(stale)
        assert rig.switch.ports() == {TWO.device, "tap-dhcp", "ha-1", "patch-tun"}
        rig.assert_whole(TWO, B)

    def test_ports_in_namespaces_that_are_not_ours_are_no_left_overs(self, rig: Rig) -> None:
        rig.namespaces.create("legacy-router")
        reference(rig, "qg-legacy", "legacy-router")
        assert [found.namespace for found in rig.driver.list()] == ["legacy-router"]

    def test_a_name_that_became_another_ports_is_left_alone(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.driver.unplug_outer([OuterPort(TWO.port_id, ONE.device, "qrouter-gone")])
        rig.assert_whole(ONE)


@BOTH
def test_the_wiring_tells_bridge_and_device_of_each_port(rig: Rig, request: pytest.FixtureRequest) -> None:
    is_veth = "veth" in request.node.name
    rig.driver.plug(A, [ONE])
    lab.run("ip", "link", "add", "tap0123abcd-ef", "type", "veth", "peer", "name", "other")
    wiring = rig.driver.wiring()
    outer = f"tap{ONE.device[3:]}" if is_veth else ONE.device
    assert wiring.of_device(ONE.device) == (outer, "br-int", True, is_veth)
    assert wiring.wires["0123abcd-ef"] == ("tap0123abcd-ef", "", False, True)
    lab.run("ip", "link", "del", "tap0123abcd-ef")


def test_an_answer_from_the_copy_asks_no_server(rig: Rig) -> None:
    rig.driver.plug(A, [ONE])
    rig.switch.signal("ovsdb-server", signal.SIGSTOP)
    try:
        assert rig.faults(ONE) == {}
        assert rig.driver.list() == [OuterPort(ONE.port_id, ONE.device, A)]
    finally:
        rig.switch.signal("ovsdb-server", signal.SIGCONT)


def test_opening_the_driver_loads_neither_eventlet_nor_waits() -> None:
    code = """
import sys
from dvr_agent.config import attach_settings, load
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.attach.openvswitch.factory import open_openvswitch
assert not [name for name in sys.modules if name.startswith("ovs")]
open_openvswitch(attach_settings(load([])).ovs, open_kernel())
assert "ovs.poller" in sys.modules and "eventlet" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
