"""Failures of routers in the log: once, again after growing pauses, and in one line what many routers share."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable

import pytest

from dvr_agent import backoff
from dvr_agent.daemon.failure_log import SINGLE, SUM_PAUSE, FailureLog, kind_of

Lines = Callable[[], list[str]]

IDS = [str(uuid.UUID(int=number)) for number in range(300)]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The lines of the log so far."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.messages


class Host:
    """Routers that fail and are tried again as the daemon does, on a clock of its own."""

    def __init__(self) -> None:
        self.log, self.now = FailureLog(), 0.0
        self._due: dict[str, tuple[float, int, str]] = {}

    def break_(self, router_id: str, reason: str) -> None:
        self._due[router_id] = (self.now, 1, reason)

    def mend(self, router_id: str) -> None:
        if self._due.pop(router_id, None) is not None:
            self.log.succeeded(router_id, f"router {router_id}", self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            for router_id, (due, failures, reason) in list(self._due.items()):
                if due <= self.now:
                    pause = backoff.delay(failures, 2, 300)
                    self.log.failed(router_id, f"router {router_id}", reason, pause, self.now)
                    self._due[router_id] = (self.now + pause, failures + 1, reason)
            self.now += 1
            if self.now % SUM_PAUSE == 0:
                self.log.tick(self.now)


def test_a_failure_is_told_once_and_again_after_growing_pauses(lines: Lines) -> None:
    host = Host()
    host.break_(IDS[1], "route 10.0.0.0/24: EINVAL")
    host.run(59)
    assert len(lines()) == 1
    assert lines()[0].startswith(f"router {IDS[1]}: failed: route 10.0.0.0/24: EINVAL; retrying in ")
    host.run(24 * 3600)
    assert 6 <= len(lines()) <= 32, "after 1, 2, 4 … 60 minutes, at tries that are up to 5 minutes apart"
    assert all("route 10.0.0.0/24: EINVAL" in line and ", for " in line for line in lines()[1:])
    host.mend(IDS[1])
    assert f"router {IDS[1]}: recovered after " in lines()[-1]


def test_another_reason_is_told_at_once_and_two_in_turn_are_told_once_each(lines: Lines) -> None:
    log = FailureLog()
    for number in range(20):
        log.failed(IDS[1], "router", "EINVAL" if number % 2 else "EBUSY", 2, float(number))
    assert len(lines()) == 2
    assert "EBUSY" in lines()[0]
    assert "EINVAL" in lines()[1]


def test_300_sick_routers_are_few_lines_in_two_minutes(lines: Lines) -> None:
    host = Host()
    for router_id in IDS:
        host.break_(router_id, f"namespace qrouter-{router_id}: link qr-{router_id[:8]}-3c: EPERM (Not permitted)")
    host.run(120)
    assert len(lines()) <= 10, lines()
    assert len([line for line in lines() if "failed: " in line]) == SINGLE
    assert (
        f"{len(IDS) - SINGLE} more routers fail, too: like router {IDS[0]}: namespace qrouter-{IDS[0]}: "
        in lines()[SINGLE]
    )
    assert "300 routers still fail, for 6" in lines()[SINGLE + 1]
    before = len(lines())
    for router_id in IDS[:290]:
        host.mend(router_id)
    host.run(10)
    recovered = [line for line in lines()[before:] if "recovered: 290 routers (" in line]
    assert len(recovered) == 1
    assert recovered[0].endswith("; 10 routers still fail")


def test_of_a_few_more_routers_each_has_its_line(lines: Lines) -> None:
    host = Host()
    for router_id in IDS[: SINGLE + 2]:
        host.break_(router_id, f"link qr-{router_id[:8]}: EPERM")
    host.run(30)
    assert len([line for line in lines() if "failed: " in line]) == SINGLE + 2
    for router_id in IDS[: SINGLE + 2]:
        host.mend(router_id)
    host.run(30)
    assert lines()[-1].startswith("recovered: 5 routers (")
    assert not host.log._routers
    assert not host.log._kinds, "nothing is remembered of what is over"


def test_a_router_that_is_gone_is_forgotten_without_a_line(lines: Lines) -> None:
    log = FailureLog()
    log.failed(IDS[1], "router", "EBUSY", 2, 0.0)
    log.forget(IDS[1])
    log.tick(1000.0)
    assert len(lines()) == 1
    assert not log.succeeded(IDS[1], "router", 2000.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            f"namespace qrouter-{IDS[1]}: route 10.0.0.0/24 dev qr-01234567-89",
            f"namespace qrouter-{IDS[2]}: route 10.1.2.0/25 dev qr-a1234567-8b",
        ),
        ("neighbour fa:16:3e:00:00:01 of 2001:db8::1/64", "neighbour fa:16:3e:ff:00:01 of 2001:db8:7::2/64"),
        ("held by iptables (process 4711) for 12 s", "held by iptables (process 815) for 1 s"),
    ],
)
def test_reasons_that_differ_in_ids_and_numbers_are_of_one_kind(one: str, other: str) -> None:
    assert kind_of(one) == kind_of(other)


def test_reasons_of_another_kind_are_told_apart() -> None:
    assert kind_of("route 10.0.0.0/24: EPERM (denied)") != kind_of("route 10.0.0.0/24: EBUSY (busy)")
    assert kind_of("radvd does not start") != kind_of("keepalived does not start")
