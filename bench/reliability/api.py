"""Says what a promise is: its text, how it is kept, which tests show it, and the program that measures it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Options:
    """Says how long the programs may run.

    :ivar quick: small numbers, for the sample that the tests run; else the numbers of the promise
    """

    quick: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """Result of one measurement.

    :ivar text: as the table prints it, with units: ``0 of 12,310 pings lost``
    :ivar kept: the promise holds
    :ivar details: further lines, printed below the table when the promise is not kept
    :ivar seconds: how long its program took; noted by the runner
    """

    text: str
    kept: bool
    details: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Promise:
    """One row of the table.

    :ivar name: short and unique, for ``make reliability RELIABILITY_ARGS=name``
    :ivar text: the promise, in the words of an operator
    :ivar kept_by: how the agent keeps it, with the module that does so
    :ivar tests: pytest files (or node ids) that show it, from the root of the checkout
    :ivar measure: the long program; called in a process and private namespaces of its own; None: tests only
    """

    name: str
    text: str
    kept_by: str
    tests: tuple[str, ...]
    measure: Callable[[Options], Figure] | None = None
