"""The service that has dvr-vrrp speak for HA routers: what it plans and hands over, and restarts of either process."""

from __future__ import annotations

import select
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.errors import ServiceError
from dvr_agent.services.keepalived.service import KeepalivedService
from dvr_agent.services.vrrp.builtin import BuiltinVrrpService
from dvr_agent.services.vrrp.place import VrrpPlace
from tests.support import lab
from tests.support.liar import HELLO, Liar
from tests.support.vrrp_rig import FLOATING, GATEWAY, LOW, PRIMARY, ROUTER, Ours, state, until, wire

SPACE = "A"
EVERYTHING = {PRIMARY, GATEWAY, FLOATING}


@pytest.fixture
def side(host: lab.Host, tmp_path: Path) -> Iterator[Ours]:
    with wire():
        made = Ours(SPACE, LOW, tmp_path)
        made.begin()
        yield made
        made.close()


def service(side: Ours) -> BuiltinVrrpService:
    keepalived = KeepalivedService(side.folder / "ha_confs", side.folder / "pids", "respawn")
    return BuiltinVrrpService(side.path, keepalived)


def place(*floating: str, may_start: bool = True) -> VrrpPlace:
    return VrrpPlace(ROUTER, SPACE, replace(state(LOW, 1, *floating), may_start=may_start))


def handle_events(one: BuiltinVrrpService) -> list[str]:
    """Wait for an event, as the daemon does, and handle it."""
    select.select([one.fileno()], [], [], 30)
    return list(one.changed())


def test_a_virtual_router_is_planned_handed_over_changed_and_ended(side: Ours) -> None:
    one = service(side)
    assert one.plan(place(FLOATING, may_start=False)) == []
    assert one.plan(place(FLOATING)) == ["+ virtual router"]
    one.apply(place(FLOATING))
    assert one.plan(place(FLOATING)) == []
    until(lambda: side.addresses == EVERYTHING)
    assert one.plan(place()) == ["~ virtual router"]
    one.apply(place())
    until(lambda: side.addresses == {PRIMARY, GATEWAY})
    assert one.routers() == {ROUTER}
    assert one.plan(VrrpPlace(ROUTER, SPACE)) == ["- virtual router"]
    one.remove(ROUTER)
    assert not side.addresses
    assert not one.routers()
    one.close()


def test_a_master_adds_again_what_another_program_has_removed(side: Ours) -> None:
    one = service(side)
    one.apply(place(FLOATING))
    until(lambda: side.addresses == EVERYTHING)
    device = next(found.device for found in state(LOW, 1, FLOATING).addresses if found.cidr == FLOATING)
    lab.run("ip", "-n", SPACE, "address", "delete", FLOATING, "dev", device)
    assert side.addresses == EVERYTHING - {FLOATING}
    found = place(FLOATING)
    assert found.state is not None
    lacking = found.state.lacking((one for one in found.state.addresses if one.cidr != FLOATING), found.state.routes)
    one.apply(replace(found, is_master=True, lacking=lacking))
    until(lambda: side.addresses == EVERYTHING)
    one.close()


def test_an_agent_that_starts_anew_writes_nothing(side: Ours) -> None:
    before = service(side)
    before.apply(place(FLOATING))
    until(lambda: side.addresses == EVERYTHING)
    before.close()
    after = service(side)
    assert after.plan(place(FLOATING)) == []
    after.apply(place(FLOATING))
    assert side.addresses == EVERYTHING
    assert side.client.served()[ROUTER].state == "master"
    after.close()


def test_a_new_process_gets_all_virtual_routers_by_itself(side: Ours) -> None:
    one = service(side)
    one.apply(place(FLOATING))
    until(lambda: side.addresses == EVERYTHING)
    side.signal(signal.SIGKILL)
    handle_events(one)
    assert one.status()["trouble"]
    assert side.addresses == EVERYTHING
    with pytest.raises(ServiceError, match="no VRRP: dvr-vrrp"):
        one.apply(place())
    side.begin()
    until(lambda: not handle_events(one) and not one.status()["trouble"])
    until(lambda: side.client.served()[ROUTER].state == "master")
    assert one.plan(place()) == []  # the last that was asked for; a stale address is for the reconciler
    one.close()


def test_a_router_that_is_no_ha_router_any_more_keeps_its_addresses(side: Ours) -> None:
    one = service(side)
    one.apply(place(FLOATING))
    until(lambda: side.addresses == EVERYTHING)
    assert one.leave(VrrpPlace(ROUTER, SPACE))
    assert side.addresses == EVERYTHING
    assert not side.client.served()
    one.close()


@pytest.mark.parametrize(
    "listed",
    [
        b"{}",
        b'{"routers": []}',
        b'{"routers": {}, "more": true}',
        b'{"routers": {"one": 1}}',
        b'{"routers": {"one": [1, "digest"]}}',
        b'{"routers": {"one": ["x", "digest", "master"]}}',
        b"\xff\xfe",
    ],
)
def test_a_process_that_talks_nonsense_is_as_good_as_away(tmp_path: Path, listed: bytes) -> None:
    """At the start, and when it has spoken well before."""
    answers = {"hello": HELLO, "list": listed}
    liar = Liar(tmp_path / "s", answers)
    keepalived = KeepalivedService(tmp_path / "ha_confs", tmp_path / "pids", "respawn")
    one = BuiltinVrrpService(str(tmp_path / "s"), keepalived)
    assert one.status()["trouble"]
    answers["list"] = b'{"routers": {}, "more": false}'
    until(lambda: not handle_events(one) and not one.status()["trouble"])
    answers["list"] = listed
    assert not one.check()
    assert one.status()["trouble"]
    one.close()
    liar.close()
