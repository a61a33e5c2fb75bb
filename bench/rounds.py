"""Figures of several rounds with one number of routers."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.worker import Result


@dataclass(slots=True)
class Round:
    """The methods on the same routers, one right after the other."""

    ours: Result
    floor: Result
    commands: Result | None = None
    batches: Result | None = None
    by_libiptc: Result | None = None


@dataclass(slots=True)
class Runs:
    """All rounds with one number of routers."""

    routers: int
    rounds: list[Round] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
