"""Ports of the bridge driver on a real kernel, read back by ``ip -j -d link`` and tried by ping."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.attach.bridge import BridgeDriver
from dvr_agent.attach.outer_ends import bridge_name, tap_name
from dvr_agent.errors import AttachError, ConfigError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.state.link import Port
from tests.support import lab
from tests.support.waiting import wait_for

NETWORK, EXTERNAL = "11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555"
BRIDGE = "brq11111111-22"
A, B = "qrouter-a", "qrouter-b"


def port(number: int, network: str = NETWORK, mtu: int = 1450) -> Port:
    port_id = f"{number:08x}-aaaa-4bbb-8ccc-dddddddddddd"
    return Port(f"qr-{port_id[:11]}", port_id, network, f"fa:16:3e:00:00:{number:02x}", mtu)


ONE, TWO = port(1), port(2, mtu=1400)
TAP = "tap00000001-aa"


class Rig:
    """The driver, its counters, and short ways to look at what it made."""

    def __init__(self) -> None:
        self.counters = WriteCounters()
        self.namespaces = RealNamespaces(self.counters)
        self.driver = BridgeDriver({EXTERNAL: "br-ex"}, self.counters)
        for namespace in (A, B):
            self.namespaces.create(namespace)

    def faults(self, *ports: Port) -> dict[str, str]:
        return self.driver.check(ports)

    def writes_of_plug(self, *ports: Port, namespace: str = A) -> int:
        before = self.counters.total()
        self.driver.plug(namespace, ports)
        return self.counters.total() - before

    def assert_whole(self, one: Port = ONE, namespace: str = A, bridge: str = BRIDGE) -> None:
        inner, outer = link(one.device, namespace), link(tap_name(one.port_id))
        assert (inner["address"], inner["mtu"], "UP" in inner["flags"]) == (one.mac, one.mtu, True)
        assert inner["operstate"] == "UP"
        assert (outer["master"], outer["mtu"], "UP" in outer["flags"]) == (bridge, one.mtu, True)
        assert outer["ifalias"] == f"dvr-agent:{one.port_id}:{namespace}"
        assert "fe80" not in lab.run("ip", "addr", "show", "dev", tap_name(one.port_id))
        assert self.faults(one) == {}
        assert self.writes_of_plug(one, namespace=namespace) == 0


@pytest.fixture
def rig(host: lab.Host) -> Rig:
    return Rig()


def link(name: str, namespace: str | None = None) -> dict[str, Any]:
    (found,) = lab.ip_json("link", "show", "dev", name, netns=namespace)
    assert isinstance(found, dict)
    return found


def names(namespace: str | None = None) -> set[str]:
    return {one["ifname"] for one in lab.ip_json("link", netns=namespace)} - {"lo"}


class TestPlug:
    def test_a_port_reaches_its_network(self, rig: Rig, host: lab.Host) -> None:
        rig.driver.plug(A, [ONE, TWO])
        rig.assert_whole(ONE)
        rig.assert_whole(TWO)
        bridge = link(BRIDGE)
        assert (bridge["ifalias"], bridge["linkinfo"]["info_kind"]) == ("dvr-agent", "bridge")
        assert "UP" in bridge["flags"]
        host.vm("vm", BRIDGE, ("10.5.0.2/24", "fd00:5::2/64"))
        lab.run("ip", "-n", A, "addr", "add", "10.5.0.1/24", "dev", ONE.device)
        lab.run("ip", "-n", A, "addr", "add", "fd00:5::1/64", "dev", ONE.device, "nodad")
        assert lab.ping("vm", "10.5.0.1")
        assert lab.ping("vm", "fd00:5::1")

    def test_ports_of_two_networks_are_apart(self, rig: Rig) -> None:
        other = "22222222-2222-4333-8444-555555555555"
        rig.driver.plug(A, [ONE, port(2, other)])
        assert link(tap_name(port(2).port_id))["master"] == bridge_name(other)
        assert link(TAP)["master"] == BRIDGE

    def test_plugging_again_writes_nothing(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE, TWO])
        assert rig.writes_of_plug(ONE, TWO) == 0
        assert rig.writes_of_plug() == 0

    @pytest.mark.parametrize("mtus", [(1000, 1500), (1500, 1000)])
    def test_a_port_that_is_too_small_for_ipv6_has_no_switch_for_it(self, rig: Rig, mtus: tuple[int, int]) -> None:
        both = port(1, mtu=mtus[0]), port(2, mtu=mtus[1])
        rig.driver.plug(A, both)
        for one in both:
            rig.assert_whole(one)
            switch = Path(f"/proc/sys/net/ipv6/conf/{tap_name(one.port_id)}/disable_ipv6")
            assert switch.exists() == (one.mtu >= 1280)
            assert not switch.exists() or switch.read_text() == "1\n"

    def test_what_gets_ipv6_with_a_larger_mtu_loses_it_at_once(self, rig: Rig) -> None:
        rig.driver.plug(A, [port(1, mtu=1000)])
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)
        for device in (TAP, BRIDGE):
            assert Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").read_text() == "1\n"
        assert rig.writes_of_plug(ONE) == 0

    @pytest.mark.parametrize("first", [ONE, TWO])
    def test_a_device_in_the_place_of_one_of_several_new_ports_is_replaced(self, rig: Rig, first: Port) -> None:
        lab.run("ip", "-n", A, "link", "add", TWO.device, "type", "veth", "peer", "name", "half", "netns", B)
        rig.driver.plug(A, [first, *({ONE, TWO} - {first})])
        rig.assert_whole(ONE)
        rig.assert_whole(TWO)
        assert names(B) == set()

    def test_names_have_fourteen_characters(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        assert {len(name) for name in names()} == {14}

    def test_an_external_network_uses_the_bridge_that_is_there_as_it_is(self, rig: Rig, host: lab.Host) -> None:
        host.bridge("br-ex")
        before = link("br-ex"), Path("/proc/sys/net/ipv6/conf/br-ex/disable_ipv6").read_text()
        outside = port(3, EXTERNAL)
        rig.driver.plug(A, [outside])
        rig.assert_whole(outside, bridge="br-ex")
        assert rig.driver.obstacles([outside]) == {}
        after = link("br-ex")
        assert after.get("ifalias") is before[0].get("ifalias") is None
        assert Path("/proc/sys/net/ipv6/conf/br-ex/disable_ipv6").read_text() == before[1]

    def test_an_external_bridge_that_is_missing_is_named_and_not_made(self, rig: Rig) -> None:
        outside = port(3, EXTERNAL)
        with pytest.raises(AttachError, match=f"bridge br-ex of network {EXTERNAL}") as caught:
            rig.driver.plug(A, [outside])
        assert caught.value.code == errno.ENODEV
        assert rig.faults(outside) == {outside.device: "bridge br-ex is missing"}
        assert rig.driver.obstacles([outside, ONE]) == {outside.device: "bridge br-ex is missing"}
        assert names() == names(A) == set()

    def test_a_bridge_that_somebody_made_is_used_and_not_marked(self, rig: Rig, host: lab.Host) -> None:
        host.bridge(BRIDGE)
        rig.driver.plug(A, [ONE])
        rig.assert_whole()
        assert "ifalias" not in link(BRIDGE)
        rig.driver.unplug(A, [ONE.device])
        assert rig.driver.tidy() == []

    def test_a_device_that_is_no_bridge_is_not_used(self, rig: Rig) -> None:
        lab.run("ip", "link", "add", BRIDGE, "type", "veth", "peer", "name", "other")
        with pytest.raises(AttachError, match="no Linux bridge but veth"):
            rig.driver.plug(A, [ONE])

    def test_a_foreign_device_in_the_place_of_an_outer_end_stays(self, rig: Rig, host: lab.Host) -> None:
        host.bridge(TAP)
        with pytest.raises(AttachError, match=f"link {TAP}") as caught:
            rig.driver.plug(A, [ONE])
        assert caught.value.code == errno.EEXIST
        assert link(TAP)["linkinfo"]["info_kind"] == "bridge"

    def test_a_missing_namespace_is_an_attach_error(self, rig: Rig) -> None:
        with pytest.raises(AttachError, match="nowhere"):
            rig.driver.plug("nowhere", [ONE])
        assert TAP not in names()

    @pytest.mark.parametrize(
        "bad",
        [
            ONE._replace(device="qr-0123456789abc"),
            ONE._replace(device=""),
            ONE._replace(device="../evil"),
            ONE._replace(port_id="not-an-id"),
            ONE._replace(network_id="../../x"),
            ONE._replace(mac="fa:16:3e"),
        ],
        ids=["long name", "no name", "path", "port id", "network id", "mac"],
    )
    def test_what_cannot_be_a_name_is_refused_before_anything_is_made(self, rig: Rig, bad: Port) -> None:
        with pytest.raises(AttachError) as caught:
            rig.driver.plug(A, [TWO, bad])
        assert caught.value.code == errno.EINVAL
        assert names() == names(A) == set()

    def test_a_network_that_the_mapping_lacks_is_warned_of_once(
        self, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        forgotten = ONE._replace(device="qg-33333333-33")
        for _ in range(2):
            rig.driver.obstacles([forgotten])
            rig.driver.plug(A, [forgotten, ONE._replace(device="qr-x", port_id=TWO.port_id)])
            rig.driver.check([forgotten])
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert line.startswith(f"external network {ONE.network_id} is not named in [bridge] external_networks")
        caplog.clear()
        plain = BridgeDriver({}, rig.counters)
        plain.obstacles([forgotten])
        rig.driver.check([port(3, EXTERNAL)._replace(device="fg-x"), ONE])
        assert not caplog.records

    def test_a_mapping_that_cannot_work_is_a_configuration_error(self, rig: Rig) -> None:
        for mapping in ({"public": "br-ex"}, {EXTERNAL: "a-name-far-too-long"}, {EXTERNAL: ""}):
            with pytest.raises(ConfigError, match="external_networks"):
                BridgeDriver(mapping, rig.counters)


DAMAGE = {
    "is not on bridge brq11111111-22": f"ip link set {TAP} nomaster",
    "is down": f"ip link set {TAP} down",
    "has MTU 1300 instead of 1450": f"ip link set {TAP} mtu 1300",
    "has alias ''": f"ip link set {TAP} alias ''",
    "has alias 'dvr-agent:other'": f"ip link set {TAP} alias dvr-agent:other",
    "has IPv6": f"sysctl -qw net.ipv6.conf.{TAP}.disable_ipv6=0",
    "is missing": f"ip link del {TAP}",
}


class TestRepair:
    @pytest.mark.parametrize(("text", "command"), DAMAGE.items(), ids=DAMAGE.keys())
    def test_damage_to_the_outer_end_is_told_and_repaired(self, rig: Rig, text: str, command: str) -> None:
        rig.driver.plug(A, [ONE, TWO])
        lab.run("sh", "-c", command)
        assert rig.faults(ONE, TWO) == {ONE.device: f"{TAP} {text}"}
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)
        rig.assert_whole(TWO)

    def test_a_port_on_the_wrong_bridge_moves(self, rig: Rig, host: lab.Host) -> None:
        rig.driver.plug(A, [ONE])
        lab.run("ip", "link", "set", TAP, "master", host.bridge("br-wrong"))
        assert rig.faults(ONE) == {ONE.device: f"{TAP} is not on bridge {BRIDGE}"}
        rig.driver.plug(A, [ONE])
        rig.assert_whole()

    def test_a_bridge_that_went_is_made_again(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        lab.run("ip", "link", "del", BRIDGE)
        assert rig.faults(ONE) == {ONE.device: f"bridge {BRIDGE} is missing"}
        rig.driver.plug(A, [ONE])
        rig.assert_whole()

    def test_our_bridge_is_raised_again(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        lab.run("ip", "link", "set", BRIDGE, "down")
        assert rig.faults(ONE) == {ONE.device: f"bridge {BRIDGE} is down"}
        rig.driver.plug(A, [ONE])
        assert "UP" in link(BRIDGE)["flags"]
        assert rig.faults(ONE) == {}

    def test_ipv6_on_our_bridge_is_switched_off_again(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        lab.run("sysctl", "-qw", f"net.ipv6.conf.{BRIDGE}.disable_ipv6=0")
        assert rig.faults(ONE) == {ONE.device: f"{BRIDGE} has IPv6"}
        rig.driver.plug(A, [ONE])
        assert rig.faults(ONE) == {}

    @pytest.mark.parametrize(
        "words", [("address", "fa:16:3e:99:99:99"), ("mtu", "1300"), ("down",)], ids=lambda w: w[0]
    )
    def test_the_inner_end_gets_its_properties_back(self, rig: Rig, words: tuple[str, ...]) -> None:
        rig.driver.plug(A, [ONE])
        lab.run("ip", "-n", A, "link", "set", ONE.device, *words)
        before = link(ONE.device, A)["ifindex"]
        rig.driver.plug(A, [ONE])
        rig.assert_whole()
        assert link(ONE.device, A)["ifindex"] == before, "changed in place"

    def test_an_inner_end_in_another_namespace_is_brought_home(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        lab.run("ip", "-n", A, "link", "set", ONE.device, "netns", B)
        rig.driver.plug(A, [ONE])
        rig.assert_whole()
        assert names(B) == set()

    def test_a_pair_of_somebody_else_in_the_place_of_the_inner_end_is_replaced(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        lab.run("ip", "-n", A, "link", "del", ONE.device)
        lab.run("ip", "-n", A, "link", "add", ONE.device, "type", "veth", "peer", "name", "stray")
        lab.run("ip", "link", "add", TAP, "type", "veth", "peer", "name", "stray", "netns", B)
        rig.driver.plug(A, [ONE])
        rig.assert_whole()
        assert names(A) == {ONE.device}
        assert names(B) == set()

    def test_a_namespace_that_was_removed_and_made_again_gets_its_ports(self, rig: Rig) -> None:
        for _ in range(5):
            rig.driver.plug(A, [ONE, TWO])
            rig.namespaces.remove(A)
            rig.namespaces.create(A)
        rig.driver.plug(A, [ONE, TWO])
        rig.assert_whole(ONE)
        rig.assert_whole(TWO)

    def test_a_port_that_belongs_to_another_router_now_moves_with_its_alias(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.driver.plug(B, [ONE])
        rig.assert_whole(namespace=B)
        assert names(A) == set()
        assert [one.namespace for one in rig.driver.list()] == [B]


class TestUnplug:
    def test_both_ends_go(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE, TWO])
        rig.driver.unplug(A, [ONE.device])
        assert names(A) == {TWO.device}
        assert names() == {BRIDGE, tap_name(TWO.port_id)}

    def test_many_go_at_once_and_others_stay(self, rig: Rig) -> None:
        ports = [port(number) for number in range(1, 13)]
        rig.driver.plug(A, ports)
        lab.run("ip", "-n", A, "link", "add", "foreign", "type", "bridge")
        rig.driver.unplug(A, [one.device for one in ports[:-1]])
        assert names(A) == {ports[-1].device, "foreign"}
        assert names() == {BRIDGE, tap_name(ports[-1].port_id)}

    def test_what_is_gone_already_is_no_error_and_no_write(self, rig: Rig) -> None:
        before = rig.counters.total()
        rig.driver.unplug(A, [ONE.device, TWO.device])
        rig.driver.unplug("nowhere", [ONE.device])
        rig.driver.unplug(A, [])
        rig.driver.unplug_outer([])
        assert rig.counters.total() == before

    def test_outer_ends_are_listed_with_port_and_namespace(self, rig: Rig, host: lab.Host) -> None:
        rig.driver.plug(A, [ONE])
        rig.driver.plug(B, [TWO])
        host.vm("vm", BRIDGE, "10.5.0.2/24")
        lab.run("ip", "link", "add", "tapforeign", "type", "bridge")
        lab.run("ip", "link", "set", "tapforeign", "alias", "dvr-agent:x:y")
        found = {one.outer: (one.port_id, one.namespace) for one in rig.driver.list()}
        assert found == {TAP: (ONE.port_id, A), tap_name(TWO.port_id): (TWO.port_id, B)}

    def test_a_hundred_outer_ends_are_listed(self, rig: Rig) -> None:
        """More than one part of a netlink dump."""
        rig.driver.plug(A, [port(number) for number in range(1, 101)])
        assert {one.outer for one in rig.driver.list()} == {tap_name(port(number).port_id) for number in range(1, 101)}

    def test_listed_outer_ends_can_be_removed(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE, TWO])
        rig.driver.plug(B, [port(3)])
        rig.driver.unplug_outer([one for one in rig.driver.list() if one.namespace == A])
        assert names() == {BRIDGE, tap_name(port(3).port_id)}
        assert names(A) == set()

    def test_an_outer_end_that_found_a_new_owner_stays(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        stale = rig.driver.list()
        rig.driver.plug(B, [ONE])
        rig.driver.unplug_outer(stale)
        rig.assert_whole(namespace=B)

    def test_only_unused_bridges_of_ours_are_removed(self, rig: Rig, host: lab.Host) -> None:
        host.bridge("br-ex")
        other = "22222222-2222-4333-8444-555555555555"
        rig.driver.plug(A, [ONE, port(2, other)])
        rig.driver.unplug(A, [ONE.device])
        assert rig.driver.tidy() == [BRIDGE]
        assert rig.driver.tidy() == []
        assert names() == {"br-ex", bridge_name(other), tap_name(port(2).port_id)}

    def test_bridges_of_networks_in_use_stay(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.driver.unplug(A, [ONE.device])
        assert rig.driver.idle([NETWORK]) == []
        assert rig.driver.tidy([NETWORK]) == []
        assert rig.driver.idle() == [BRIDGE]
        assert names() == {BRIDGE}, "looking removes nothing"
        assert rig.driver.tidy([EXTERNAL]) == [BRIDGE]

    @pytest.mark.parametrize(
        "words",
        [
            ("link", "add", "tapvm", "master", BRIDGE, "type", "veth", "peer", "name", "vm"),
            ("link", "add", "macvm", "link", BRIDGE, "type", "macvlan"),
            ("address", "add", "192.0.2.1/24", "dev", BRIDGE),
            ("link", "set", BRIDGE, "alias", "of somebody else"),
        ],
        ids=["port", "macvlan", "address", "alias"],
    )
    def test_a_bridge_that_others_use_stays(self, rig: Rig, words: tuple[str, ...]) -> None:
        rig.driver.plug(A, [ONE])
        rig.driver.unplug(A, [ONE.device])
        lab.run("ip", *words)
        assert rig.driver.idle() == []
        assert rig.driver.tidy() == []
        assert BRIDGE in names()

    def test_a_veth_whose_other_end_has_the_number_of_the_bridge_elsewhere_does_not_hold_it(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.driver.unplug(A, [ONE.device])
        index = str(link(BRIDGE)["ifindex"])
        lab.run("ip", "link", "add", "vm", "type", "veth", "peer", "name", "vmpeer", "index", index, "netns", A)
        assert rig.driver.tidy() == [BRIDGE]


def _listener() -> socket.socket:
    """Hears every frame of every device of the namespace, those that are made later too."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    sock.setblocking(False)
    return sock


def _ipv6_heard(sock: socket.socket) -> list[tuple[str, int]]:
    """(device, ICMPv6 type or -1) of each IPv6 frame since the last call."""
    heard: list[tuple[str, int]] = []
    while True:
        try:
            frame, origin = sock.recvfrom(2048)
        except BlockingIOError:
            return heard
        if frame[12:14] == b"\x86\xdd":
            heard.append((origin[0], frame[54] if frame[20] == 58 else -1))


def test_bridge_and_outer_end_never_say_a_word_of_ipv6(rig: Rig, host: lab.Host) -> None:
    """Neither MLD reports nor duplicate address detection nor router solicitations.

    How long to listen is told by an ordinary bridge and pair that come up later and talk: a router solicitation is the
    last thing a device says.
    """
    lab.in_netns(A, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    with lab.entered(A):
        inside = _listener()
    with inside, _listener() as outside:
        rig.driver.plug(A, [ONE])
        host.bridge("br-plain")
        lab.run("ip", "link", "add", "plain", "type", "veth", "peer", "name", "ear")
        lab.run("ip", "link", "set", "plain", "master", "br-plain", "up")
        lab.run("ip", "link", "set", "ear", "up")
        heard: list[tuple[str, int]] = []

        def both_talked() -> bool:
            heard.extend(_ipv6_heard(outside))
            return {("br-plain", 133), ("plain", 133)} <= set(heard)

        wait_for(both_talked, "the ordinary ones speak IPv6")
        assert not [one for one in heard if one[0] in (TAP, BRIDGE)]
        assert _ipv6_heard(inside) == []
    for device in (BRIDGE, TAP):
        assert "inet6" not in lab.run("ip", "addr", "show", "dev", device)
