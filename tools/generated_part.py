"""Writes the generated part of a page of ``docs``, or says whether it is fresh.  For the programs beside this one."""

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


def main(page: Path, generate: Callable[[str], str], description: str | None, tool: str) -> int:
    """Write or check the page, as the command line says.

    :param generate: returns the page as it should be, of the page as it is
    :param tool: path of the program, for who has to run it
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    there = page.read_text(encoding="utf-8")
    wanted = generate(there)
    if not parser.parse_args().check:
        page.write_text(wanted, encoding="utf-8")
        return 0
    if there == wanted:
        return 0
    lines = difflib.unified_diff(there.splitlines(True), wanted.splitlines(True), page.name, "as generated now")
    sys.stdout.writelines(lines)
    print(f"{page.name} is stale: {tool}")
    return 1
