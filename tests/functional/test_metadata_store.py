"""dvr-metadata-proxy after a crash without an agent: it goes on with what systemd has kept for it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.metadata.settings import ProxySettings, Rate
from dvr_agent.model.router import Router
from dvr_agent.services.metadata.control_client import ControlClient
from dvr_agent.services.metadata.haproxy import L3AgentHaproxies
from dvr_agent.services.metadata.proxy_session import ProxySession
from dvr_agent.services.metadata.service import MetadataService
from tests.support import lab
from tests.support.metadata_proxy import Client, Proxy, get, listener
from tests.support.metadata_upstream import Upstream
from tests.support.service_manager import ServiceManager
from tests.support.waiting import wait_for

R1, R2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
PORT = 9697


class Rig:
    """A proxy that knows its upstream from the agent alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.upstream = Upstream(folder / "upstream")
        self.settings = ProxySettings(str(self.upstream.path), timeout_connect=7.5, rates=(Rate(1000, 1),))
        self.manager = ServiceManager(folder / "notify")
        self.proxy = Proxy(folder, Path("/nowhere"), manager=self.manager)

    def crash(self) -> None:
        self.proxy.kill()
        self.proxy.start()

    def close(self) -> None:
        self.proxy.close()
        self.manager.close()
        self.upstream.stop()


@pytest.fixture
def rig(tmp_path: Path, host: lab.Host) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def test_crash_without_an_agent_loses_no_router_and_no_waiting_connection(rig: Rig) -> None:
    one, two = listener(), listener()
    agent = rig.proxy.agent()
    assert agent.ask("set", settings=rig.settings.to_json()) == {"ok": True}
    agent.serve(R1, [one])
    agent.serve(R2, [two], namespace=8)
    agent.close()
    for listening in (one, two):
        assert get(listening)[0] == 200
    for _ in range(2):  # what systemd has stays there
        rig.proxy.kill()
        waiting = Client(one).send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        rig.proxy.start()
        assert waiting.answer()[0] == 200
        assert get(two)[0] == 200
        assert rig.proxy.agent().ask("list")["routers"] == {R1: 7, R2: 8}
    rig.manager.wait_for_stored(3)


def test_a_router_that_is_stopped_is_stored_no_longer_and_one_served_anew_as_it_is_now(rig: Rig) -> None:
    old, new, other = listener(), listener(), listener()
    agent = rig.proxy.agent()
    agent.ask("set", settings=rig.settings.to_json())
    agent.serve(R1, [old])
    agent.serve(R2, [other])
    agent.serve(R1, [new])
    agent.ask("stop", router=R2)
    old.close()
    other.close()
    rig.crash()
    assert get(new)[0] == 200
    assert rig.proxy.agent().ask("list")["routers"] == {R1: 7}
    rig.manager.wait_for_stored(2)


def test_graceful_end_keeps_what_is_stored(rig: Rig) -> None:
    """``systemctl restart``; at a stop systemd itself drops it."""
    one = listener()
    agent = rig.proxy.agent()
    agent.ask("set", settings=rig.settings.to_json())
    agent.serve(R1, [one])
    rig.proxy.process.send_signal(signal.SIGTERM)
    assert rig.proxy.exit_code() == 0
    rig.proxy.start()
    assert get(one)[0] == 200


def test_what_cannot_be_served_is_dropped(rig: Rig) -> None:
    rig.proxy.kill()
    rig.manager.stored["x"] = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].detach()]
    rig.proxy.start()
    rig.manager.wait_for_stored(0)
    assert "a stored router is dropped: it cannot be read" in rig.proxy.log.read_text()


def test_a_router_removed_while_the_proxy_is_away_is_not_served_when_it_is_back(rig: Rig) -> None:
    for router_id in (R1, R2):
        lab.run("ip", "netns", "add", f"qrouter-{router_id}")
    session = ProxySession(ControlClient(str(rig.proxy.control)), rig.settings)
    haproxies = L3AgentHaproxies(rig.folder / "pids", rig.folder / "confs")
    service = MetadataService(session, PORT, haproxies)
    for router_id in (R1, R2):
        service.apply(Router(router_id))
    rig.proxy.kill()
    wait_for(lambda: service.changed() or service.status()["trouble"])
    service.remove(R1)
    rig.proxy.start()
    wait_for(lambda: service.changed() or not service.status()["trouble"])
    assert list(rig.proxy.agent().ask("list")["routers"]) == [R2]
    assert list(service.routers()) == [R2]
    rig.manager.wait_for_stored(2)
    service.close()
