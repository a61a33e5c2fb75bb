"""Allocators and their files: never one value twice, the same value for the same key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvr_agent.desired.allocation import (
    PAIRS,
    PRIORITIES,
    Allocator,
    LinkLocalPair,
    format_entries,
    parse_pairs,
    parse_priorities,
)
from dvr_agent.errors import AllocationError
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.reconcile.statefile import PRIORITIES_FILE, StateFileError, read_entries, write_entries

KEYS = st.sampled_from([f"203.0.113.{i}" for i in range(12)])
STEPS = st.lists(st.tuples(st.sampled_from(["allocate", "release", "adopt"]), KEYS, st.integers(100, 112)), max_size=40)


@given(STEPS)
def test_no_value_is_ever_given_twice(steps: list[tuple[str, str, int]]) -> None:
    allocator = Allocator(range(100, 112), {})
    for step, key, value in steps:
        before = allocator.get(key)
        if step == "allocate":
            given_value = allocator.allocate(key)
            assert before in (None, given_value)
        elif step == "release":
            allocator.release(key)
            assert allocator.get(key) is None
        else:
            owner = allocator.owner(value)
            assert allocator.adopt(key, value) == (owner in (None, key) and value in range(100, 112))
        values = list(allocator.entries().values())
        assert len(set(values)) == len(values)


@given(st.lists(KEYS, unique=True), st.randoms())
def test_a_lost_file_gives_the_same_values_when_no_hashes_meet(keys: list[str], random: object) -> None:
    first = Allocator(PRIORITIES, {})
    values = {key: first.allocate(key) for key in keys}
    random.shuffle(keys)  # type: ignore[attr-defined]
    second = Allocator(PRIORITIES, {})
    assert {key: second.allocate(key) for key in keys} == values


def test_a_full_pool_is_an_error_that_names_it() -> None:
    allocator = Allocator(range(2), {})
    allocator.allocate("a")
    allocator.allocate("b")
    with pytest.raises(AllocationError, match="all 2 values from 0 to 1"):
        allocator.allocate("c")
    allocator.release("a")
    assert allocator.allocate("c") in (0, 1)


@given(st.lists(KEYS), st.sets(st.integers(100, 107)))
def test_many_keys_get_what_they_would_get_one_by_one(keys: list[str], reserved: set[int]) -> None:
    one_by_one, together = Allocator(range(100, 108), {}), Allocator(range(100, 108), {})
    left = []
    for allocator in (one_by_one, together):
        allocator.reserve(reserved)
    for key in keys:
        try:
            one_by_one.allocate(key)
        except AllocationError:
            left.append(key)
    assert together.allocate_all(keys) == left
    assert together.entries() == one_by_one.entries()
    assert together.known(keys) == [one_by_one.get(key) for key in keys]
    assert together.dirty == one_by_one.dirty


def test_values_in_use_in_the_kernel_are_only_adopted() -> None:
    wanted = Allocator(range(3), {}).allocate("key")
    allocator = Allocator(range(3), {})
    allocator.reserve([wanted])
    assert allocator.allocate("key") != wanted
    assert allocator.adopt("key", wanted)
    assert allocator.get("key") == wanted
    allocator.release("key")
    assert allocator.allocate("key") == wanted


def test_a_file_that_gives_one_value_twice_keeps_the_first() -> None:
    allocator = Allocator(PRIORITIES, {"203.0.113.5": 40000, "203.0.113.6": 40000})
    assert allocator.entries() == {"203.0.113.5": 40000}
    assert allocator.dirty


@given(st.dictionaries(st.uuids().map(str), st.sampled_from(PAIRS), max_size=20))
def test_pairs_survive_their_file(entries: dict[str, LinkLocalPair]) -> None:
    assert parse_pairs(format_entries(entries)) == (entries, [])


@given(st.dictionaries(st.ip_addresses(v=4).map(str), st.sampled_from(PRIORITIES), max_size=20))
def test_priorities_survive_their_file(entries: dict[str, int]) -> None:
    assert parse_priorities(format_entries(entries)) == (entries, [])


def test_the_files_are_neutrons(tmp_path: Path) -> None:
    pair = LinkLocalPair.parse("169.254.88.134/31")
    assert pair is not None
    assert (pair.router_address, pair.fip_address) == ("169.254.88.134", "169.254.88.135")
    path = tmp_path / "state" / "fip-linklocal-networks"
    write_entries(path, {"a3d9771d-a5b3-4f1e-85d3-418205981830": pair})
    assert path.read_text() == "a3d9771d-a5b3-4f1e-85d3-418205981830,169.254.88.134/31\n"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_lines_that_make_no_sense_are_reported_and_left_out() -> None:
    text = "203.0.113.5,40000\nrubbish\n203.0.113.6,99999999\n203.0.113.7,1\n,40001\n"
    assert parse_priorities(text) == (
        {"203.0.113.5": 40000},
        ["rubbish", "203.0.113.6,99999999", "203.0.113.7,1", ",40001"],
    )
    pairs, bad = parse_pairs("r1,169.254.64.0/31\nr2,10.0.0.0/31\nr3,169.254.64.2/30\nr4,nonsense\n")
    assert list(pairs) == ["r1"]
    assert len(bad) == 3


def test_an_unreadable_state_file_is_an_error_not_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "fip-priorities"
    path.mkdir()
    with pytest.raises(StateFileError, match="fip-priorities"):
        read_entries(path, parse_priorities)
    assert read_entries(tmp_path / "missing", parse_priorities) == {}


@pytest.mark.root
def test_state_files_stay_writable_for_the_user_of_the_other_agent(tmp_path: Path) -> None:
    """It is no root, and opens them for writing in place."""
    user, group, other = 1001, 1002, 1003
    os.chown(tmp_path, user, group)
    new, old = tmp_path / "fip-linklocal-networks", tmp_path / "fip-priorities"
    old.touch()
    old.chmod(0o640)
    os.chown(old, other, group)
    for path in (new, old, new):
        write_entries(path, {"203.0.113.7": 32768})
    assert (new.stat().st_uid, new.stat().st_gid) == (user, group)
    found = old.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (other, group, 0o640)


def test_a_floating_ip_keeps_its_priority_while_a_router_has_it(tmp_path: Path) -> None:
    allocations, fip = Allocations(tmp_path), "203.0.113.5"
    allocations.load({}, (), ())
    priorities = dict(allocations.pools)[PRIORITIES_FILE]
    allocations.adopt_priority(fip, 33000)
    for router in ("one", "two", "two"):
        allocations.note_floating_ips(router, [fip])
    allocations.note_floating_ips("one", ["203.0.113.6"])  # it has moved to the other
    assert priorities.entries() == {fip: 33000}
    allocations.adopt_priority("203.0.113.7", 33000)  # another cannot have it
    assert priorities.entries() == {fip: 33000}
    allocations.release("two")
    allocations.release("two")
    assert priorities.entries() == {}
