"""How long an audit and a table check are put off, so that they take their share of a processor."""

from __future__ import annotations

import pytest

from dvr_agent.daemon.audits import CHEAP, LONGEST, SHARE, pause_after


def test_the_first_portion_comes_after_a_whole_interval() -> None:
    assert pause_after(60, 5, None) == 60


def test_cheap_portions_come_in_time() -> None:
    assert pause_after(60, 5, 0.9 * CHEAP) == 12
    assert pause_after(0.1, 1, 0.9 * CHEAP) == 0.1


def test_dear_portions_are_put_off_to_their_share_of_a_processor() -> None:
    assert pause_after(60, 5, 0.1) == pytest.approx(0.1 / SHARE)
    assert pause_after(600, 5, 0.1) == 120


def test_no_portion_is_put_off_for_ever() -> None:
    assert pause_after(60, 5, 1000) == LONGEST * 12
