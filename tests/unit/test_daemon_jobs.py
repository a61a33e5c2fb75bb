"""How jobs are told in the log, and when the guard bites."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.daemon.job_texts import counts_text
from dvr_agent.daemon.stale_sweep import sweep
from dvr_agent.logs import one_line
from dvr_agent.notify import Notifier
from dvr_agent.plural import count
from dvr_agent.reconcile.api import Plan, Reconciler, Result
from dvr_agent.state.address import Address
from dvr_agent.state.diff import Action, Change, Changes
from dvr_agent.state.rule import Rule


class Sweepable:
    """Only the part of a reconciler that the sweep uses."""

    def __init__(self, present: Collection[str]) -> None:
        self.present = set(present)
        self.planner = self

    def stale_routers(self, known: Collection[str]) -> tuple[Sequence[str], int]:
        return sorted(self.present - set(known)), len(self.present)

    def remove_stale(self, known: Collection[str]) -> Result:
        gone = self.present - set(known)
        self.present &= set(known)
        return Result(Plan("stale objects", tuple(Changes(f"qrouter-{one}", remove=True) for one in gone)), 0.0)


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)), st.booleans())
def test_the_guard_bites_at_ten_routers_and_more_than_half(here: set[int], known: set[int], allowed: bool) -> None:
    reconciler = Sweepable({str(number) for number in here})
    swept = sweep(cast(Reconciler, reconciler), {str(number) for number in known}, allowed)
    stale = len(here - known)
    if not allowed and stale >= 10 and stale > len(here) / 2:
        assert swept.guard.startswith(f"{stale} of {count(len(here), 'router')}")
        assert len(reconciler.present) == len(here)
    else:
        assert swept.guard == ""
        assert reconciler.present == {str(number) for number in here & known}


def test_counts_read_like_a_sentence() -> None:
    items = (
        Change(Action.ADD, Rule(4, 16, 16)),
        Change(Action.ADD, Rule(4, 17, 17)),
        Change(Action.ADD, Address("qr-x", "10.0.0.1/24")),
        Change(Action.REMOVE, Address("qr-x", "10.0.0.2/24")),
    )
    assert counts_text(Plan("router x", (Changes("n", create=True, items=items),))) == (
        "2 addresses, 1 namespace, 2 rules"
    )


def test_names_of_strangers_become_one_short_line() -> None:
    assert one_line("web router (é)") == "web router (é)"
    assert one_line("a\nb\x1b") == "a\\nb\\x1b"
    assert one_line("x" * 200) == "x" * 79 + "…"
    assert one_line("bad\udcff") == "bad\\udcff"


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told_over_both_kinds_of_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, abstract: bool
) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        notifier = Notifier()
        notifier.ready("two\nlines")
        assert manager.recv(100) == b"READY=1\nSTATUS=two lines"
        assert notifier.is_ready
    notifier.alive()  # nobody listens any more: no error


def test_without_a_service_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    notifier = Notifier()
    notifier.stopping()
    assert notifier.watchdog_seconds is None


@pytest.mark.parametrize(
    ("pid", "usec", "seconds"), [("", "3000000", 3.0), ("999999999", "3000000", None), ("", "x", None)]
)
def test_the_watchdog_is_served_only_when_it_is_ours(
    monkeypatch: pytest.MonkeyPatch, pid: str, usec: str, seconds: float | None
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setenv("WATCHDOG_PID", pid)
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    assert Notifier().watchdog_seconds == seconds


def test_a_bare_level_name_in_the_log_options_is_reported_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    from dvr_agent import logs

    root = logging.getLogger()
    level = root.level
    try:
        with caplog.at_level(logging.ERROR):
            logs.set_levels(False, ["somebody=NOISY"])
    finally:
        root.setLevel(level)
    assert "NOISY is no level" in caplog.text
