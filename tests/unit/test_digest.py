"""Digests that another process computes, too."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from dvr_agent.state.digest import digest_of


class Pair(NamedTuple):
    first: str
    second: int = 0


class OtherPair(NamedTuple):
    first: str
    second: int = 0


@dataclass(frozen=True)
class Whole:
    pairs: frozenset[Pair]
    words: tuple[str, ...] = ()
    ignored: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Empty:
    pass


WORDS = [f"word {number}" for number in range(40)]


def value() -> object:
    return (
        Whole(frozenset(Pair(word, len(word)) for word in WORDS), tuple(WORDS)),
        PurePosixPath("/run"),
        {"a": 1, "b": None},
    )


def test_another_process_computes_the_same() -> None:
    """The order of a set is another one in each process."""
    code = "from tests.unit.test_digest import digest_of, value; print(digest_of(value()))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert found == {digest_of(value())}


def test_different_values_have_different_digests() -> None:
    different: list[tuple[object, ...]] = [
        (),
        ("",),
        ("a,b",),
        ("a", "b"),
        (("a", "b"),),
        (["a", "b"],),
        (frozenset({"a", "b"}),),
        (1,),
        ("1",),
        (True,),
        (None,),
        (b"1",),
        (Pair("a"),),
        (OtherPair("a"),),
        (Pair("a", 1),),
        (Empty(),),
        ({"a": "b"},),
        ({"b": "a"},),
        (Whole(frozenset()),),
        (Whole(frozenset({Pair("a")})),),
        (Whole(frozenset(), ("a",)),),
        (PurePosixPath("a"),),
    ]
    assert len({digest_of(*one) for one in different}) == len(different)


def test_what_a_comparison_ignores_does_not_count() -> None:
    assert digest_of(Whole(frozenset(), (), 1)) == digest_of(Whole(frozenset(), (), 2))
