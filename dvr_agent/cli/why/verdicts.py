"""The vocabulary of an answer: steps, their verdicts, and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from dvr_agent.cli.why.causes import Cause


class Verdict(Enum):
    """Result of one check."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of an answer.

    :ivar step: place on the path of a packet, e.g. ``table 16``
    :ivar text: what was found there, for people
    :ivar object: the object as ``ip``, ``nft`` or ``iptables-save`` prints it; empty if there is none
    :ivar cause: the fault that this line shows; None if it shows none
    :ivar values: values of the cause's sentence
    """

    step: str
    verdict: Verdict
    text: str
    object: str = ""
    cause: Cause | None = None
    values: Mapping[str, str] = field(default_factory=dict)


def ok(step: str, text: str, item: str = "") -> Step:
    """Make a line without a fault."""
    return Step(step, Verdict.OK, text, item)


def wrong(step: str, text: str, item: str, cause: Cause, **values: object) -> Step:
    """Make a line that shows a fault.

    :param values: of the cause's sentence; ``text`` and ``object`` are there already
    """
    return _with_cause(Verdict.WRONG, step, text, item, cause, values)


def unknown(step: str, text: str, item: str = "", cause: Cause | None = None, **values: object) -> Step:
    """Make a line that cannot be judged here; a cause may explain it nevertheless."""
    if cause is None:
        return Step(step, Verdict.UNKNOWN, text, item)
    return _with_cause(Verdict.UNKNOWN, step, text, item, cause, values)


def _with_cause(verdict: Verdict, step: str, text: str, item: str, cause: Cause, values: Mapping[str, object]) -> Step:
    filled = {"text": text, "object": item, **{key: str(value) for key, value in values.items()}}
    return Step(step, verdict, text, item, cause, filled)
