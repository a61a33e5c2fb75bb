"""When dvr-vrrp asks gateways, and when a master yields because they do not answer; what older programs are told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dvr_agent.errors import ServiceError
from dvr_agent.vrrp.health import GatewayCheck, Step
from dvr_agent.vrrp.protocol import Gateway, VirtualRouter, dumps, loads

ROUTER = VirtualRouter(7, 50, 2, 3, "169.254.192.10", "169.254.0.7", b"primary")
CHECKED = replace(ROUTER, gateways=(Gateway("203.0.113.1", 4), Gateway("fe80::1", 4)), check_interval=5)


def run(check: GatewayCheck, *answers: bool) -> list[tuple[float, bool]]:
    """Let a check take its way from the deadline on; returns when it was judged, and whether the host has to yield."""
    judged = []
    for answer in answers:
        assert check.deadline is not None
        assert check.step is Step.ASK
        check.asked(check.deadline)
        judged.append((check.deadline, check.judge(check.deadline, answer)))
    return judged


def test_a_backup_asks_nobody_and_a_master_after_each_interval() -> None:
    check = GatewayCheck(5)
    assert check.deadline is None
    check.begin(100.0)
    assert run(check, True, True, True) == [(106.0, False), (111.0, False), (116.0, False)]
    check.end()
    assert check.deadline is None


def test_the_second_failure_in_a_row_has_the_host_yield_until_two_checks_later() -> None:
    check = GatewayCheck(5)
    check.begin(100.0)
    assert run(check, False, True, False, False) == [(106.0, False), (111.0, False), (116.0, False), (121.0, True)]
    check.end()  # it is no master any more
    assert (check.step, check.deadline) == (Step.RETURN, 131.0)
    check.returned()
    assert check.deadline is None
    check.begin(200.0)
    assert run(check, False) == [(206.0, False)], "an earlier failure counts no more"


def test_an_interval_as_short_as_the_wait_for_an_answer() -> None:
    check = GatewayCheck(1)
    check.begin(100.0)
    assert run(check, False, False) == [(102.0, False), (103.0, True)]


def test_a_description_without_gateways_is_that_of_programs_that_know_none() -> None:
    assert "gateways" not in json.loads(dumps(ROUTER))
    assert "check_interval" not in json.loads(dumps(replace(ROUTER, check_interval=5)))
    assert loads(dumps(ROUTER)) == ROUTER
    assert loads(dumps(CHECKED)) == CHECKED


def test_gateways_do_not_begin_the_virtual_router_anew() -> None:
    assert CHECKED.agreement == ROUTER.agreement
    assert CHECKED.check != ROUTER.check


@pytest.mark.parametrize(
    "changes",
    [{"gateways": (Gateway("nonsense", 4),)}, {"check_interval": 0}, {"gateways": (Gateway("203.0.113.1%x", 4),)}],
)
def test_malformed_gateways_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ServiceError, match="malformed"):
        loads(dumps(replace(CHECKED, **changes)))  # type: ignore[arg-type]
