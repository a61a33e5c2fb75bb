"""Writes a generated page of ``docs``, or its generated part, or says whether it is fresh.

For the programs beside this one.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

END = "<!-- End of the generated part. -->"


def with_part(name: str, page: str, begin: str, lines: Iterable[str]) -> str:
    """Return a page with these lines between its markers.

    :param name: of the page, for the error
    :param begin: the first marker, a line; the other one is :data:`END`
    :raises ValueError: the page lacks the markers
    """
    head, found, rest = page.partition(begin)
    _, end, tail = rest.partition(END)
    if not found or not end:
        raise ValueError(f"{name} lacks the line {begin if not found else END}")
    return f"{head}{begin}\n\n{''.join(lines)}\n{END}{tail}"


def check(page: Path, generate: Callable[[str], str], tool: str) -> int:
    """Return 0 if the page is fresh; else 1, after printing the difference."""
    there = page.read_text(encoding="utf-8") if page.exists() else ""
    wanted = generate(there)
    return 0 if there == wanted else tell_stale(page.name, there, wanted, tool)


def tell_stale(name: str, there: str, wanted: str, tool: str) -> int:
    """Print how a file differs from what is generated now; returns 1."""
    sys.stdout.writelines(
        difflib.unified_diff(there.splitlines(True), wanted.splitlines(True), name, "as generated now")
    )
    print(f"{name} is stale: {tool}")
    return 1


def main(page: Path, generate: Callable[[str], str], description: str | None, tool: str) -> int:
    """Write or check the page, as the command line says.

    :param generate: returns the page as it should be, of the page as it is
    :param tool: path of the program, for who has to run it
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    if parser.parse_args().check:
        return check(page, generate, tool)
    page.write_text(generate(page.read_text(encoding="utf-8") if page.exists() else ""), encoding="utf-8")
    return 0
