"""Open vSwitch stops, hangs, restarts, lacks a bridge, refuses a port: errors that end in time, and recovery."""

from __future__ import annotations

import errno
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.attach.openvswitch.factory import check_connection
from dvr_agent.attach.openvswitch.rows_copy import RowChange, Rows
from dvr_agent.errors import AttachError, ConfigError
from tests.support import lab, ovs
from tests.support.ovs_rig import ONE, THREE, TWO, A, B, Rig, rigged
from tests.support.waiting import wait_for

BOTH = pytest.mark.parametrize("rig", [False, True], ids=["internal", "veth"], indirect=True)


@pytest.fixture
def rig(request: pytest.FixtureRequest, host: lab.Host, tmp_path: Path) -> Iterator[Rig]:
    with (
        ovs.open_vswitch() as switch,
        rigged(switch, tmp_path, getattr(request, "param", False), ovsdb_timeout=2) as rig,
    ):
        yield rig


def plug_error(rig: Rig, *ports: object) -> AttachError:
    with pytest.raises(AttachError) as caught:
        rig.driver.plug(A, ports)  # type: ignore[arg-type]
    return caught.value


class TestServer:
    def test_one_that_was_never_there_is_told_at_once_and_found_when_it_comes(self, rig: Rig) -> None:
        rig.switch.stop_ovsdb()
        with pytest.raises(AttachError, match="does ovsdb-server run") as caught:
            rig.driver.check([ONE])
        assert caught.value.code == errno.ENOTCONN
        assert "cannot be reached" in rig.driver.obstacles([ONE])[ONE.device]
        assert plug_error(rig, ONE).code == errno.ENOTCONN
        rig.switch.start_ovsdb()
        assert rig.told()
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)

    @BOTH
    def test_while_it_is_away_what_is_known_is_answered_and_changes_are_refused(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.switch.stop_ovsdb(signal.SIGKILL)
        wait_for(lambda: "cannot be reached" in rig.driver.obstacles([TWO]).get(TWO.device, ""), "it is noticed")
        assert rig.faults(ONE) == {}
        rig.driver.plug(A, [ONE])
        before = {link["ifname"] for link in lab.ip_json("link")}
        assert plug_error(rig, TWO).code == errno.ENOTCONN
        with pytest.raises(AttachError):
            rig.driver.release(A)
        after = {link["ifname"] for link in lab.ip_json("link")}
        assert after - before <= {rig.outer(TWO)}
        rig.switch.start_ovsdb()
        assert rig.told()
        rig.driver.plug(A, [ONE, TWO])
        rig.assert_whole(ONE)
        rig.assert_whole(TWO)

    def test_a_short_restart_is_waited_for(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.switch.stop_ovsdb()
        rig.switch.start_ovsdb()
        rig.driver.plug(A, [TWO])
        rig.assert_whole(TWO)

    def test_one_that_hangs_costs_no_more_than_the_time_limit_and_the_change_is_whole(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.switch.signal("ovsdb-server", signal.SIGSTOP)
        try:
            assert plug_error(rig, TWO, THREE).code == errno.ETIMEDOUT
        finally:
            rig.switch.signal("ovsdb-server", signal.SIGCONT)
        rig.driver.plug(A, [TWO, THREE])
        rig.assert_whole(TWO)
        rig.assert_whole(THREE)

    def test_a_change_that_was_given_up_and_made_again_meets_itself(self, rig: Rig) -> None:
        """The server does both in one go, and tells of the first only after it has refused the second."""
        rig.driver.plug(A, [ONE])
        rig.switch.signal("ovsdb-server", signal.SIGSTOP)
        try:
            assert plug_error(rig, TWO, THREE).code == errno.ETIMEDOUT
            with ThreadPoolExecutor() as pool:
                again = pool.submit(rig.driver.plug, A, [TWO, THREE])
                time.sleep(0.3)  # it has sent its question by then; if not, the test is easier, not wrong
                rig.switch.signal("ovsdb-server", signal.SIGCONT)
                again.result()
        finally:
            rig.switch.signal("ovsdb-server", signal.SIGCONT)
        rig.assert_whole(TWO)
        rig.assert_whole(THREE)

    def test_removals_that_it_misses_are_seen_after_the_reconnect(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE, TWO])
        database = rig.switch.folder / "conf.db"
        rig.switch.stop_ovsdb()
        shutil.copy(database, rig.switch.folder / "before.db")
        rig.switch.start_ovsdb()
        assert rig.told()
        rig.switch.vsctl("del-port", TWO.device)
        assert rig.told()
        assert list(rig.faults(ONE, TWO)) == [TWO.device]
        assert [found.outer for found in rig.driver.list()] == [ONE.device]

    @BOTH
    def test_a_database_that_was_made_anew_gets_its_ports_back(self, rig: Rig) -> None:
        """Its numbers of configurations begin at the start again, below those that were waited for."""
        for _ in range(8):
            rig.switch.wait()
        rig.driver.plug(A, [ONE])
        rig.switch.start_anew()
        assert rig.told()
        wait_for(lambda: bool(rig.faults(ONE)), "it is told")
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)

    def test_an_update_that_cannot_be_used_leads_to_a_new_connection(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rig.driver.plug(A, [ONE])
        update = Rows.update
        lost: list[object] = []

        def fails_once(self: Rows, updates: Mapping[str, Any]) -> list[RowChange]:
            if not lost:
                lost.append(updates)
                raise KeyError("unknown")
            return update(self, updates)

        monkeypatch.setattr(Rows, "update", fails_once)
        rig.switch.vsctl("del-port", ONE.device)
        assert rig.told()
        assert lost
        wait_for(lambda: list(rig.faults(ONE)) == [ONE.device], "it is known by the new connection")
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)


IN_THE_WAY = "could not add network device" if ovs.DATAPATH == "system" else "could not open network device"
"""What Open vSwitch says when there is a device of that name."""


class TestVswitchd:
    @BOTH
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
    def test_ports_come_back_after_a_restart(self, rig: Rig, how: signal.Signals) -> None:
        """Internal ports of the userspace datapath are dead then, with new ones on the host; the kernel's go on."""
        rig.driver.plug(A, [ONE, THREE])
        rig.driver.plug(B, [TWO])
        rig.assert_reach()
        rig.switch.stop_vswitchd(how)
        assert rig.faults(ONE, TWO, THREE) == {}
        rig.switch.start_vswitchd()
        if not rig.use_veth and ovs.DATAPATH == "netdev":
            assert rig.told()
            assert set(rig.faults(ONE, TWO, THREE)) == {ONE.device, TWO.device, THREE.device}
            assert rig.writes_of_plug(ONE, THREE)[0] == 0
            assert rig.writes_of_plug(TWO, namespace=B)[0] == 0
        for one, namespace in ((ONE, A), (TWO, B), (THREE, A)):
            rig.assert_whole(one, namespace)
        rig.assert_reach()

    @BOTH
    def test_while_it_is_away_a_port_fails_in_time_the_next_one_at_once_and_both_come(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.switch.stop_vswitchd()
        first = plug_error(rig, TWO)
        assert (first.code, "does it run" in str(first)) == (errno.ETIMEDOUT, True)
        assert "has not acted for" in rig.driver.obstacles([THREE])[THREE.device]
        rows = rig.switch.vsctl("--columns=name", "list", "Interface")
        assert "has not acted for" in str(plug_error(rig, THREE))
        assert rig.switch.vsctl("--columns=name", "list", "Interface") == rows
        rig.switch.start_vswitchd()
        assert rig.told()
        rig.driver.plug(A, [ONE, TWO, THREE])
        for one in (ONE, TWO, THREE):
            rig.assert_whole(one)

    def test_one_that_gets_on_with_its_work_does_not_hang_though_it_is_behind(self, rig: Rig) -> None:
        """ovs-vswitchd is stopped, and its part played here: others may ask for more faster than it is done."""
        rig.driver.plug(A, [ONE])
        rig.switch.signal("ovs-vswitchd", signal.SIGSTOP)
        try:
            rig.switch.vsctl("--no-wait", "set", "Open_vSwitch", ".", "next_cfg=100")
            wait_for(lambda: "has not acted for" in rig.driver.obstacles([TWO]).get(TWO.device, ""), "it hangs")
            rig.switch.vsctl("--no-wait", "set", "Open_vSwitch", ".", "cur_cfg=50")
            assert rig.told()
            wait_for(lambda: not rig.driver.obstacles([TWO]), "it got on")
        finally:
            rig.switch.signal("ovs-vswitchd", signal.SIGCONT)

    @BOTH
    def test_ports_can_be_removed_while_it_is_away(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE, TWO])
        rig.switch.stop_vswitchd()
        rig.driver.unplug(A, [ONE.device])
        rig.driver.release(A)
        rig.namespaces.remove(A)
        rig.switch.start_vswitchd()
        assert rig.switch.ports() == set()
        wait_for(lambda: {link["ifname"] for link in lab.ip_json("link")} <= ovs.HOST_DEVICES, "gone")


class TestBridge:
    def test_one_that_is_missing_is_told_and_nothing_is_made(self, rig: Rig) -> None:
        rig.switch.vsctl("del-br", "br-int")
        assert rig.driver.check([ONE]) == {ONE.device: "bridge br-int is missing"}
        assert rig.driver.obstacles([ONE]) == {ONE.device: "bridge br-int is missing"}
        error = plug_error(rig, ONE)
        assert (error.code, "br-int" in str(error)) == (errno.ENODEV, True)
        assert [link["ifname"] for link in lab.ip_json("link", netns=A)] == ["lo"]
        assert rig.switch.vsctl("list", "Port") == ""
        rig.switch.add_bridge("br-int")
        assert rig.told()
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)

    @BOTH
    def test_one_that_was_removed_and_made_again_gets_its_ports_back(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.switch.vsctl("del-br", "br-int")
        assert rig.told()
        assert rig.faults(ONE) == {ONE.device: "bridge br-int is missing"}
        rig.switch.add_bridge("br-int")
        assert rig.told()
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)


class TestRefused:
    def test_a_device_in_the_way_is_told_in_open_vswitchs_words_and_other_ports_come(self, rig: Rig) -> None:
        lab.run("ip", "link", "add", ONE.device, "type", "bridge")
        error = plug_error(rig, ONE, TWO)
        assert (error.code, IN_THE_WAY in str(error)) == (errno.EIO, True)
        assert ONE.device in str(error)
        rig.assert_whole(TWO)
        assert IN_THE_WAY in rig.faults(ONE)[ONE.device]
        assert plug_error(rig, ONE).code == errno.EIO
        lab.run("ip", "link", "del", ONE.device)
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)

    def test_one_that_is_refused_is_told_though_another_took_two_goes(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody takes the other's device away between the transaction and the move."""
        from dvr_agent.attach.openvswitch.plugging import Plugging  # needs the extra

        lab.run("ip", "link", "add", ONE.device, "type", "bridge")
        move = Plugging._move
        robbed: list[str] = []

        def move_of_a_thing_just_taken(self: Plugging, *words: Any) -> Any:
            if not robbed:
                robbed.append(lab.run("ip", "link", "set", TWO.device, "netns", B))
            return move(self, *words)

        monkeypatch.setattr(Plugging, "_move", move_of_a_thing_just_taken)
        error = plug_error(rig, ONE, TWO)
        assert (error.code, ONE.device in str(error)) == (errno.EIO, True)
        rig.assert_whole(TWO)

    def test_an_error_that_comes_later_is_news(self, rig: Rig) -> None:
        rig.driver.plug(A, [ONE])
        rig.switch.vsctl("--no-wait", "set", "Interface", ONE.device, "type=nonsense")
        assert rig.told()
        wait_for(lambda: bool(rig.faults(ONE)), "it is told")
        rig.driver.plug(A, [ONE])
        rig.assert_whole(ONE)


def certificates(folder: Path, name: str) -> tuple[Path, Path]:
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    words = ("-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}")
    lab.run("openssl", "req", "-x509", *words, "-keyout", key, "-out", certificate)
    return key, certificate


class TestConnections:
    def test_tcp(self, host: lab.Host, tmp_path: Path) -> None:
        with ovs.open_vswitch("ptcp:6640:127.0.0.1") as switch:
            options = {"ovsdb_connection": "tcp:127.0.0.1:6640"}
            with rigged(switch, tmp_path, False, **options) as rig:
                rig.driver.plug(A, [ONE])
                rig.assert_whole(ONE)

    def test_ssl(self, host: lab.Host, tmp_path: Path) -> None:
        server, agent, other = (certificates(tmp_path, name) for name in ("server", "agent", "other"))
        words = (f"--private-key={server[0]}", f"--certificate={server[1]}", f"--ca-cert={agent[1]}")
        with ovs.open_vswitch("pssl:6641:127.0.0.1", *words) as switch:
            options = {
                "ovsdb_connection": "ssl:127.0.0.1:6641",
                "ovsdb_timeout": 3,
                "ssl_key_file": agent[0],
                "ssl_cert_file": agent[1],
                "ssl_ca_cert_file": server[1],
            }
            with rigged(switch, tmp_path, False, **options) as rig:
                rig.driver.plug(A, [ONE])
                rig.assert_whole(ONE)
                stranger = rig.open(ssl_ca_cert_file=other[1])
                with pytest.raises(AttachError):
                    stranger.check([ONE])


class TestConfiguration:
    @pytest.mark.parametrize(
        "text",
        [
            *("", "tcp:", "tcp:127.0.0.1", "tcp:127.0.0.1:http", "tcp:127.0.0.1:0", "tcp:localhost:6640"),
            *("unix:db.sock", "udp:127.0.0.1:1", "127.0.0.1:6640", "ptcp:6640", "tcp:127.0.0.1:6640,ssl:"),
        ],
    )
    def test_a_malformed_connection_is_named(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"\[OVS\] ovsdb_connection = "):
            check_connection(text)

    @pytest.mark.parametrize(
        "text", ["tcp:127.0.0.1:6640", "ssl:[::1]:6640", "unix:/run/db.sock", "tcp:10.0.0.1:6640,tcp:10.0.0.2:6640"]
    )
    def test_good_ones(self, text: str) -> None:
        assert check_connection(text) == text

    def test_files_for_ssl_are_tried(self, rig: Rig, tmp_path: Path) -> None:
        key, certificate = certificates(tmp_path, "agent")
        good = {"ssl_key_file": key, "ssl_cert_file": certificate, "ssl_ca_cert_file": certificate}
        rig.open(ovsdb_connection="ssl:127.0.0.1:6641", **good)
        (tmp_path / "empty").touch()
        for name in good:
            for wrong in (tmp_path / "missing", tmp_path / "empty", ""):
                with pytest.raises(ConfigError, match=rf"\[OVS\].*{name}"):
                    rig.open(ovsdb_connection="ssl:127.0.0.1:6641", **(good | {name: wrong}))

    def test_without_the_extra_it_is_named(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "ovs.jsonrpc", None)
        with pytest.raises(ConfigError, match=r"dvr-agent\[ovs\]"):
            rig.open()
