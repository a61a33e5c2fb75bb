"""Writes the promises as a table for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from bench.reliability.api import Figure, Promise

WIDTHS = (18, 34, 30, 36, 30, 4, 5)
HEAD = ("name", "promise", "how it is kept", "test", "figure", "kept", "took")


def text(rows: Sequence[tuple[Promise, Figure]]) -> str:
    """Return the table, and below it the details of what is not kept."""
    lines = [*_row(HEAD), "  ".join("-" * width for width in WIDTHS)]
    for promise, figure in rows:
        tests = " ".join(promise.tests)
        kept = "yes" if figure.kept else "NO"
        lines += [
            *_row((promise.name, promise.text, promise.kept_by, tests, figure.text, kept, f"{figure.seconds:.0f} s")),
            "",
        ]
    for promise, figure in rows:
        if not figure.kept:
            lines += [f"{promise.name} is NOT kept: {figure.text}", *(f"  {line}" for line in figure.details), ""]
    broken = sum(not figure.kept for _, figure in rows)
    minutes = sum(figure.seconds for _, figure in rows) / 60
    end = f"{len(rows)} promises, {len(rows) - broken} kept, {broken} not kept; measured in {minutes:.1f} minutes"
    return "\n".join([*lines, end])


def _row(cells: Iterable[str]) -> list[str]:
    wrapped = [
        textwrap.wrap(cell, width, break_on_hyphens=False) or [""] for cell, width in zip(cells, WIDTHS, strict=True)
    ]
    return [
        "  ".join(part.ljust(width) for part, width in zip(parts, WIDTHS, strict=True)).rstrip()
        for parts in zip_longest(*wrapped, fillvalue="")
    ]
