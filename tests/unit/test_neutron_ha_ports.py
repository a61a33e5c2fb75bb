"""The HA port of a distributed router: gone once two answers of the server in a row lack it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent.sources.api import Changed
from dvr_agent.sources.neutron.api import Json, RoutersUpdated
from tests.support.recorded_documents import feature_document
from tests.support.scripted_neutron import Desk, Server, desk

PORT = feature_document("q2_ha_dvr_pair", "compute1")["router"]["_ha_interface"]


@pytest.fixture
def server() -> Server:
    return Server()


def add_ha(server: Server) -> tuple[str, Json]:
    """A distributed HA router in whose VRRP this host takes part; returns its id, and the router."""
    router_id = server.add(1, ha=True, ha_vr_id=7, _ha_interface=PORT, _ha_state="active")
    return router_id, server.routers[router_id]


def takes_part(desk: Desk) -> list[bool]:
    """Of each document so far: whether this host takes part in the router's VRRP."""
    return [event.document.router.ha_interface is not None for event in desk.events if isinstance(event, Changed)]


def test_a_router_that_is_removed_from_this_agent_has_none_after_two_answers(server: Server, tmp_path: Path) -> None:
    router_id, router = add_ha(server)
    with desk(server, tmp_path) as a:
        a.sync()
        asked = len(server.of("sync_routers"))
        del router["_ha_interface"], router["_ha_state"]
        a.say(RoutersUpdated((router_id,)))
        a.wait(lambda: takes_part(a) == [True, False])
        assert len(server.of("sync_routers")) == asked + 2


def test_a_single_answer_without_it_changes_nothing(server: Server, tmp_path: Path) -> None:
    router_id, router = add_ha(server)
    with desk(server, tmp_path) as a:
        a.sync()
        asked = len(server.of("sync_routers"))
        port = router.pop("_ha_interface")
        gate = server.hold("sync_routers")
        a.say(RoutersUpdated((router_id,)))
        gate.wait()
        router.update(_ha_interface=port, name="other")
        gate.open()
        a.wait(lambda: takes_part(a) == [True, True])
        assert a.router(router_id).name == "other"
        assert len(server.of("sync_routers")) == asked + 2


def test_it_is_known_from_the_process_before(server: Server, tmp_path: Path) -> None:
    router_id, router = add_ha(server)
    with desk(server, tmp_path) as a:
        a.sync()
    del router["_ha_interface"]
    with desk(server, tmp_path) as a:
        a.sync()
        a.wait(lambda: takes_part(a) == [True, False])
        assert a.router(router_id).ha
