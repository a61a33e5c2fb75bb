"""Counting repairs: what is a fight, and when it is forgotten."""

from __future__ import annotations

from dvr_agent.daemon.fights import WINDOW, Fights, Repair

ROUTER = "r"


def begins(fights: Fights, thing: str, now: float) -> bool:
    return fights.repaired(ROUTER, [Repair(thing, thing)], now) is not None


def test_the_third_repair_of_an_object_in_ten_minutes_begins_a_fight() -> None:
    fights = Fights()
    assert [begins(fights, "x", now) for now in (0, 1, 2, 3)] == [False, False, True, False]
    assert fights.wait(ROUTER, 3) > 0


def test_a_later_fight_is_one_more_whether_or_not_somebody_asked_for_the_status() -> None:
    fights = Fights()
    for now in range(3):
        begins(fights, "x", now)
    later = 3 * WINDOW
    assert fights.wait(ROUTER, later) == 0
    assert [begins(fights, "x", later + now) for now in range(3)] == [False, False, True]


def test_repairs_of_long_ago_are_forgotten() -> None:
    fights = Fights()
    for number in range(100):
        begins(fights, f"object {number}", number)
    begins(fights, "x", 3 * WINDOW)
    assert [begins(fights, "object 0", 3 * WINDOW + now) for now in range(3)] == [False, False, True]
    assert len(fights.to_json(3 * WINDOW + 3)) == 1


def test_a_program_that_was_read_once_stays_named_where_a_later_one_has_ended() -> None:
    fights, read = Fights(), "ip (process 3), started by sh (process 2: sh -c …)"
    for now, author in enumerate(("process 1, which has ended", "", read, "process 4, which has ended", "")):
        fights.repaired(ROUTER, [Repair("x", "x", author)], now)
    assert fights.to_json(5)[0]["changed_by"] == read
    fights.repaired(ROUTER, [Repair("x", "x", "zebra (process 5)")], 6)
    assert fights.to_json(6)[0]["changed_by"] == "zebra (process 5)"
