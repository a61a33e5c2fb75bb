"""The agent's side of metadata with the real proxy: sockets in namespaces, restarts of both, and haproxy's place."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.errors import ServiceError
from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.model.router import Router
from dvr_agent.services.metadata.control_client import ControlClient
from dvr_agent.services.metadata.haproxy import L3AgentHaproxies
from dvr_agent.services.metadata.metadata_disabled import MetadataDisabled
from dvr_agent.services.metadata.proxy_session import ProxySession
from dvr_agent.services.metadata.service import MetadataService
from tests.support import lab
from tests.support.liar import HELLO, Liar
from tests.support.metadata_proxy import PATIENCE, Client, Proxy
from tests.support.metadata_upstream import Upstream
from tests.support.waiting import wait_for

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
PORT = 9697
HAPROXY = """\
global
    pidfile {pid}
    daemon
    {more}
defaults
    mode http
    option http-server-close
    option forwardfor
    timeout connect 30s
    timeout client 32s
    timeout server 32s
listen listener
    bind {address}:{port}
    server metadata {upstream}
    http-request set-header X-Neutron-Router-ID {router}
"""


class Rig:
    """Two routers' namespaces, an upstream, a proxy and the service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.upstream = Upstream(folder / "upstream")
        self.pids, self.confs = folder / "pids", folder / "ns-metadata-proxy"
        for place in (self.pids, self.confs):
            place.mkdir()
        for router_id in (ONE, TWO):
            self.make_namespace(router_id)
        self.proxy = Proxy(folder, Path("/nowhere"))
        self.service = self.new_service()

    def new_service(self, port: int = PORT, **limits: Any) -> MetadataService:
        settings = ProxySettings(str(self.upstream.path), **limits)
        link = ProxySession(ControlClient(str(self.proxy.control)), settings)
        return MetadataService(link, port, L3AgentHaproxies(self.pids, self.confs))

    def restart(self, **words: int) -> None:
        """As the agent does."""
        self.service.close()
        self.service = self.new_service(**words)

    def relaunch(self) -> None:
        """A proxy in the place of the one that ended; nobody waits for it."""
        self.proxy.process = self.proxy.launch()

    @staticmethod
    def make_namespace(router_id: str) -> None:
        lab.run("ip", "netns", "add", f"qrouter-{router_id}")
        lab.run("ip", "-n", f"qrouter-{router_id}", "link", "set", "lo", "up")

    def apply(self, *router_ids: str) -> None:
        for router_id in router_ids:
            self.service.apply(Router(router_id))

    def plan(self, router_id: str) -> list[str]:
        return self.service.plan(Router(router_id))

    def settle(self, condition: Callable[[], bool], again: set[str] | None = None) -> None:
        """Let the service note what happens, as the daemon does, until the condition holds.

        :param again: gets the ids of routers that have to be looked at again
        """
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            select.select([self.service.fileno()], [], [], 0.2)
            found = self.service.changed()
            if again is not None:
                again.update(found)

    @property
    def connected(self) -> bool:
        return not self.service.status()["trouble"]

    def ask(self, router_id: str, address: str = "127.0.0.1", port: int = PORT) -> str:
        """Who the upstream was told asks; the status where it is not 200."""
        before = len(self.upstream.seen)
        status, _, _ = client(router_id, address, port).get("/", b"Connection: close\r\n")
        if status != 200:
            return str(status)
        (seen,) = self.upstream.seen[before:]
        return seen.all("x-neutron-router-id")[0]

    def start_haproxy(self, router_id: str, more: str = "", address: str = "::", namespace: str = "") -> int:
        """As neutron-l3-agent does; on ``0.0.0.0`` where the host has no IPv6."""
        pid, conf = self.pids / f"{router_id}.pid.haproxy", self.confs / f"{router_id}.conf"
        conf.write_text(
            HAPROXY.format(
                pid=pid, port=PORT, upstream=self.upstream.path, router=router_id, more=more, address=address
            )
        )
        lab.in_netns(namespace or f"qrouter-{router_id}", "haproxy", "-f", conf)
        return int(pid.read_text())

    def close(self) -> None:
        self.service.close()
        self.proxy.close()
        self.upstream.stop()
        for pid in self.pids.glob("*"):
            os.kill(int(pid.read_text()), signal.SIGKILL)


def client(router_id: str, address: str = "127.0.0.1", port: int = PORT) -> Client:
    """A connection in the router's namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = Client.__new__(Client)
    with lab.entered(f"qrouter-{router_id}"):
        one.socket = socket.socket(family, socket.SOCK_STREAM)
    one.socket.settimeout(PATIENCE)
    one.socket.connect((address, port))
    one.rest, one.informational = b"", []
    return one


class Asking:
    """Somebody asks all the time, each time by a new connection, until the block ends; nothing may fail."""

    def __init__(self, rig: Rig, router_id: str) -> None:
        self._router_id = router_id
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers: list[str] = []

    def __enter__(self) -> Asking:
        self._thread.start()
        self.go_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._end.set()
        self._thread.join()
        assert set(self.answers) == {"200"}

    def go_on(self) -> None:
        goal = len(self.answers) + 20
        wait_for(lambda: len(self.answers) >= goal, "it is asked")

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                one = client(self._router_id)
                self.answers.append(str(one.get("/", b"Connection: close\r\n")[0]))
                one.close()
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is what the test is about
                self.answers.append(f"{type(exc).__name__}: {exc}")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with lab.fresh_host():
        made = Rig(tmp_path)
        yield made
        made.close()


def test_each_router_is_served_by_both_families_under_its_own_id(rig: Rig) -> None:
    assert rig.plan(ONE) == [f"+ metadata listener on port {PORT}"]
    rig.apply(ONE, TWO)
    assert (rig.plan(ONE), rig.plan(TWO)) == ([], [])
    assert (rig.ask(ONE), rig.ask(TWO), rig.ask(ONE, "::1")) == (ONE, TWO, ONE)
    assert set(rig.service.routers()) == {ONE, TWO}
    assert rig.service.status()["routers"] == 2


def test_the_proxy_goes_by_the_agents_settings(rig: Rig) -> None:
    rig.restart(max_body_size=3)
    rig.apply(ONE)
    one = client(ONE).send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabcd")
    assert one.answer(b"POST")[0] == 413
    assert rig.ask(ONE) == ONE  # by the upstream that only the agent was told of


def test_a_removed_router_holds_its_namespace_no_longer(rig: Rig) -> None:
    """Seen by a veth whose other end is in it: the kernel takes that down with the namespace."""
    rig.apply(ONE)
    open_one = client(ONE)
    lab.run("ip", "link", "add", "probe", "type", "veth", "peer", "name", "in", "netns", f"qrouter-{ONE}")
    assert rig.service.plan_remove(ONE) == [f"- metadata listener on port {PORT}"]
    rig.service.remove(ONE)
    assert rig.service.plan_remove(ONE) == []
    assert open_one.is_closed()
    open_one.close()
    lab.run("ip", "netns", "del", f"qrouter-{ONE}")
    wait_for(lambda: not lab.run("ip", "link", "show", "probe", check=False), "the namespace is gone")
    rig.service.remove(ONE)


def test_a_namespace_made_anew_is_served_anew(rig: Rig) -> None:
    rig.apply(ONE, TWO)
    lab.run("ip", "netns", "del", f"qrouter-{ONE}")
    rig.make_namespace(ONE)
    assert rig.plan(ONE) == [f"+ metadata listener on port {PORT}"]
    rig.apply(ONE)
    assert (rig.ask(ONE), rig.ask(TWO)) == (ONE, TWO)


def test_a_namespace_that_goes_while_a_request_runs_disturbs_nobody(rig: Rig) -> None:
    rig.apply(ONE, TWO)
    waiting = client(ONE).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_for(lambda: "/wait" in rig.upstream.targets(), "the request is under way")
    lab.run("ip", "netns", "del", f"qrouter-{ONE}")
    with pytest.raises(ServiceError, match=r"namespace .* has gone"):
        rig.apply(ONE)
    rig.service.remove(ONE)
    assert waiting.is_closed()
    rig.upstream.gate.set()
    assert rig.ask(TWO) == TWO


def test_an_agent_that_comes_back_is_not_noticed(rig: Rig) -> None:
    rig.apply(ONE)
    with Asking(rig, ONE) as asking:
        for _ in range(3):
            rig.restart()
            assert rig.plan(ONE) == []
            rig.apply(ONE)
            asking.go_on()
    assert list(rig.service.routers()) == [ONE]


def test_what_the_agent_is_not_told_of_any_more_is_found_at_the_proxy(rig: Rig) -> None:
    rig.apply(ONE, TWO)
    rig.restart()
    assert set(rig.service.routers()) == {ONE, TWO}
    rig.service.remove(TWO)
    assert list(rig.service.routers()) == [ONE]
    assert rig.ask(ONE) == ONE


def test_a_proxy_that_restarts_loses_nothing(rig: Rig) -> None:
    rig.apply(ONE)
    with Asking(rig, ONE) as asking:
        for _ in range(2):
            rig.proxy.terminate()
            assert rig.proxy.exit_code() == 0
            rig.settle(lambda: not rig.connected)
            rig.relaunch()
            rig.settle(lambda: rig.connected)
            asking.go_on()
    assert rig.plan(ONE) == []


def test_a_proxy_that_is_killed_is_told_everything_again(rig: Rig) -> None:
    rig.apply(ONE, TWO)
    rig.proxy.kill()
    rig.settle(lambda: not rig.connected)
    waits = client(ONE).send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert "away" in str(rig.service.status()["trouble"]) or "gone" in str(rig.service.status()["trouble"])
    rig.relaunch()
    rig.settle(lambda: rig.connected)
    assert waits.answer()[0] == 200
    assert (rig.ask(ONE), rig.ask(TWO)) == (ONE, TWO)


def test_a_router_that_comes_while_the_proxy_is_away_is_served_when_it_is_back(rig: Rig) -> None:
    rig.proxy.kill()
    rig.settle(lambda: not rig.connected)
    rig.apply(ONE)
    assert rig.plan(ONE) == []
    rig.apply(TWO)
    rig.service.remove(TWO)
    rig.relaunch()
    rig.settle(lambda: rig.connected)
    assert rig.ask(ONE) == ONE
    assert list(rig.service.routers()) == [ONE]


def test_a_proxy_that_hangs_is_noticed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvr_agent.control.connection.TIMEOUT", 0.5)
    monkeypatch.setattr("dvr_agent.services.metadata.proxy_session.LAST_RETRY_HANGING", 1.0)
    rig.restart()
    rig.apply(ONE)
    rig.proxy.process.send_signal(signal.SIGSTOP)
    rig.service.check()
    assert "hangs" in str(rig.service.status()["trouble"])
    rig.proxy.process.send_signal(signal.SIGCONT)
    rig.settle(lambda: rig.connected)
    assert rig.ask(ONE) == ONE


def test_another_port_replaces_the_sockets(rig: Rig) -> None:
    rig.apply(ONE)
    rig.restart(port=9700)
    assert rig.plan(ONE) == ["+ metadata listener on port 9700"]
    rig.apply(ONE)
    assert rig.ask(ONE, port=9700) == ONE
    with pytest.raises(ConnectionRefusedError):
        client(ONE)


def test_a_port_that_another_program_has_is_that_routers_trouble(rig: Rig) -> None:
    with lab.entered(f"qrouter-{ONE}"):
        squatter = socket.socket()
        squatter.bind(("0.0.0.0", PORT))
        squatter.listen()
    with pytest.raises(ServiceError, match=rf"cannot listen on port {PORT} in qrouter-{ONE}: Address already in use"):
        rig.apply(ONE)
    rig.apply(TWO)
    assert rig.ask(TWO) == TWO
    squatter.close()
    rig.apply(ONE)
    assert rig.ask(ONE) == ONE


def test_only_root_and_its_user_may_use_the_control_socket(rig: Rig) -> None:
    assert stat.S_IMODE(rig.proxy.control.stat().st_mode) == 0o600


class TestWithdrawn:
    """enable_metadata_proxy = false, after it was true."""

    def test_what_the_proxy_still_serves_is_given_up(self, rig: Rig) -> None:
        rig.apply(ONE, TWO)
        rig.service.close()
        service = MetadataDisabled(ControlClient(str(rig.proxy.control)))
        assert set(service.routers()) == {ONE, TWO}
        assert service.plan(Router(ONE)) == ["- metadata listener"]
        service.apply(Router(ONE))
        service.remove(TWO)
        assert list(service.routers()) == []
        for one in (ONE, TWO):
            with pytest.raises(ConnectionRefusedError):
                client(one)
        assert rig.proxy.exit_code() == 0, "its unit is skipped now: see dvrctl wants-metadata"
        service.close()
        rig.service = rig.new_service()

    def test_a_proxy_that_serves_nobody_ends_at_once(self, rig: Rig) -> None:
        rig.service.close()
        MetadataDisabled(ControlClient(str(rig.proxy.control))).close()
        assert rig.proxy.exit_code() == 0
        rig.service = rig.new_service()

    def test_a_plan_leaves_the_proxy_alone(self, rig: Rig) -> None:
        rig.apply(ONE)
        rig.service.close()
        service = MetadataDisabled(ControlClient(str(rig.proxy.control)), writable=False)
        assert service.plan(Router(ONE)) == ["- metadata listener"]
        service.close()
        assert rig.proxy.agent().ask("hello")["pid"] == rig.proxy.process.pid
        rig.service = rig.new_service()

    def test_nobody_is_missed(self, rig: Rig) -> None:
        service = MetadataDisabled(ControlClient("/nowhere/control.sock"))
        assert list(service.routers()) == []
        assert service.plan(Router(ONE)) == []
        service.apply(Router(ONE))
        service.remove(ONE)
        assert not service.status().get("trouble")
        service.close()


@pytest.mark.parametrize(
    "answers",
    [
        {"hello": b"[" * 60000},
        {"hello": b'{"version": 1, "pid": "x"}'},
        {"hello": b'{"version": [], "pid": 1}'},
        {"hello": HELLO, "list": b"{}"},
        {"hello": HELLO, "list": b'{"routers": []}'},
        {"hello": HELLO, "list": b'{"routers": {}, "more": true}'},
        {"hello": HELLO, "list": b'{"routers": {"../../etc/passwd": 1}}'},
        {"hello": HELLO, "list": b'{"routers": {"11111111-1111-4111-8111-111111111111": "x"}}'},
        {"hello": HELLO, "list": b"\xff\xfe"},
    ],
)
def test_a_proxy_that_talks_nonsense_is_as_good_as_away(tmp_path: Path, answers: dict[str, bytes]) -> None:
    liar = Liar(tmp_path / "s", answers)
    link = ProxySession(ControlClient(str(tmp_path / "s")), ProxySettings("/x"))
    assert not link.connected
    assert link.trouble
    assert link.served == {}
    link.close()
    liar.close()


class TestAProxyThatHangsOrRestartsAtTheWrongMoment:
    def test_no_connection_waits_at_sockets_that_nobody_serves(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """The agent starts while the proxy hangs: what that serves must not be split with new sockets."""
        monkeypatch.setattr("dvr_agent.services.metadata.proxy_session.LAST_RETRY_HANGING", 1.0)
        rig.apply(ONE)
        rig.proxy.process.send_signal(signal.SIGSTOP)
        rig.restart()
        rig.apply(ONE)
        assert rig.plan(ONE) == []
        rig.proxy.process.send_signal(signal.SIGCONT)
        again: set[str] = set()
        rig.settle(lambda: rig.connected, again)
        assert again == {ONE}
        assert [rig.ask(ONE) for _ in range(30)] == [ONE] * 30
        rig.apply(ONE)
        assert [rig.ask(ONE) for _ in range(30)] == [ONE] * 30
        assert rig.plan(ONE) == []

    @pytest.mark.parametrize("look", ["plan", "apply"])
    def test_one_that_goes_between_an_agents_start_and_a_routers_first_job(self, rig: Rig, look: str) -> None:
        rig.apply(ONE)
        rig.restart()
        rig.proxy.kill()
        rig.relaunch()
        getattr(rig, look)(ONE)
        rig.settle(lambda: rig.connected and rig.service.status()["proxy"] == rig.proxy.process.pid)
        rig.apply(ONE)
        assert rig.plan(ONE) == []
        assert [rig.ask(ONE) for _ in range(30)] == [ONE] * 30


class TestInThePlaceOfHaproxy:
    @pytest.mark.parametrize("address", ["::", "0.0.0.0"])
    def test_no_request_fails(self, rig: Rig, address: str) -> None:
        pid = rig.start_haproxy(ONE, address=address)
        with Asking(rig, ONE) as asking:
            assert rig.plan(ONE) == [f"+ metadata listener on port {PORT}", "- haproxy of neutron-l3-agent"]
            rig.apply(ONE)
            asking.go_on()
            wait_for(lambda: _is_gone(pid), "haproxy has ended")
        assert rig.plan(ONE) == []
        assert list(rig.pids.iterdir()) + list(rig.confs.iterdir()) == []

    def test_one_that_does_not_share_its_port_is_replaced_within_moments(self, rig: Rig) -> None:
        pid = rig.start_haproxy(ONE, "noreuseport")
        rig.apply(ONE)
        assert rig.ask(ONE) == ONE
        wait_for(lambda: _is_gone(pid), "haproxy has ended")

    def test_it_serves_on_where_there_is_no_proxy(self, rig: Rig) -> None:
        rig.proxy.kill()
        rig.settle(lambda: not rig.connected)
        pid = rig.start_haproxy(ONE)
        assert rig.plan(ONE) == []
        rig.apply(ONE)
        assert not _is_gone(pid)
        assert [rig.ask(ONE) for _ in range(20)] == [ONE] * 20
        rig.relaunch()
        rig.settle(lambda: rig.connected)
        rig.apply(ONE)
        wait_for(lambda: _is_gone(pid), "haproxy has ended")
        assert rig.ask(ONE) == ONE

    def test_it_serves_on_until_the_proxy_may_use_neutron_metadata_agents_socket(self, rig: Rig) -> None:
        rig.upstream.path.rename(rig.upstream.path.with_name("elsewhere"))
        rig.restart()
        assert "cannot use" in str(rig.service.status()["trouble"])
        rig.upstream.path.with_name("elsewhere").rename(rig.upstream.path)
        pid = rig.start_haproxy(ONE)
        assert rig.plan(ONE) == []
        rig.apply(ONE)
        assert not _is_gone(pid)
        assert [rig.ask(ONE) for _ in range(20)] == [ONE] * 20
        rig.settle(lambda: rig.connected)
        rig.apply(ONE)
        wait_for(lambda: _is_gone(pid), "haproxy has ended")
        assert rig.ask(ONE) == ONE

    def test_it_finishes_what_it_has_begun(self, rig: Rig) -> None:
        pid = rig.start_haproxy(ONE)
        waiting = client(ONE).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_for(lambda: "/wait" in rig.upstream.targets(), "the request is under way")
        rig.apply(ONE)
        rig.upstream.gate.set()
        assert waiting.answer()[0] == 200
        wait_for(lambda: _is_gone(pid), "haproxy has ended")

    @pytest.mark.parametrize("busy", [False, True])
    def test_back_to_it(self, rig: Rig, busy: bool) -> None:
        """neutron-l3-agent's starts beside ours, which ends then, if need be after what it has under way."""
        rig.apply(ONE)
        if busy:
            waiting = client(ONE).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
            wait_for(lambda: "/wait" in rig.upstream.targets(), "a request is under way")
        with Asking(rig, ONE) as asking:
            rig.service.close()
            rig.start_haproxy(ONE)
            asking.go_on()
            rig.proxy.terminate()
            asking.go_on()
            rig.upstream.gate.set()
            assert rig.proxy.exit_code() == 0
            asking.go_on()
        if busy:
            assert waiting.answer()[0] == 200
        rig.service = rig.new_service()

    def test_one_of_a_router_that_goes_ends_with_it(self, rig: Rig) -> None:
        pid = rig.start_haproxy(ONE)
        assert list(rig.service.routers()) == [ONE]
        assert rig.service.plan_remove(ONE) == ["- haproxy of neutron-l3-agent"]
        rig.service.remove(ONE)
        wait_for(lambda: _is_gone(pid), "haproxy has ended")
        assert list(rig.service.routers()) == []

    def test_those_of_neutron_dhcp_agent_are_left_alone(self, rig: Rig) -> None:
        """For networks without a router, and (enable_metadata_network) named after one; files in the same place."""
        network = "33333333-3333-4333-8333-333333333333"
        lab.run("ip", "netns", "add", f"qdhcp-{network}")
        lab.run("ip", "-n", f"qdhcp-{network}", "link", "set", "lo", "up")
        pids = [rig.start_haproxy(one, namespace=f"qdhcp-{network}") for one in (network, ONE)]
        assert list(rig.service.routers()) == []
        rig.apply(ONE)
        for one in (ONE, network):
            assert rig.service.plan_remove(one)[1:] == []
            rig.service.remove(one)
        assert not any(_is_gone(pid) for pid in pids)
        assert len(list(rig.confs.iterdir())) == 2

    def test_one_whose_namespace_was_removed_by_hand_ends_with_its_router(self, rig: Rig) -> None:
        pid = rig.start_haproxy(ONE)
        lab.run("ip", "netns", "del", f"qrouter-{ONE}")
        assert list(rig.service.routers()) == [ONE]
        rig.service.remove(ONE)
        wait_for(lambda: _is_gone(pid), "haproxy has ended")

    def test_a_process_id_file_that_names_another_program_ends_nobody(self, rig: Rig) -> None:
        sleeper = os.posix_spawnp("sleep", ["sleep", "600"], os.environ)
        file = rig.pids / f"{ONE}.pid.haproxy"
        file.write_text(str(sleeper))
        rig.apply(ONE)
        rig.service.remove(ONE)
        assert os.waitpid(sleeper, os.WNOHANG) == (0, 0)
        os.kill(sleeper, signal.SIGKILL)
        os.waitpid(sleeper, 0)
        file.unlink()


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
