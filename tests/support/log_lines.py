"""Finds texts that stand twice in a line of the log, as where an error is wrapped in one that has its text already."""

from __future__ import annotations

import errno
import os
import re

_CLAUSE = re.compile(r"[:;(),] |\) ?|: |\n")
_ERRORS = sorted({os.strerror(number) for number in errno.errorcode}, key=len, reverse=True)


def doubled(line: str) -> list[str]:
    """Return what a line says twice: a clause of several words, or the text of an error number."""
    clauses = [clause.strip(" .'\"") for clause in _CLAUSE.split(line)]
    long = [clause for clause in clauses if clause.count(" ") >= 1 and len(clause) >= 8]
    found = [clause for clause in dict.fromkeys(long) if long.count(clause) > 1]
    return found + [text for text in _ERRORS if line.count(text) > 1 and not any(text in one for one in found)][:1]


def doubled_lines(log: str) -> list[str]:
    """Return the warnings and errors of a log that say something twice, with what it is."""
    lines = [line for line in log.splitlines() if re.search(r" (WARNING|ERROR|CRITICAL) ", line)]
    return [f"{found}: {line}" for line in lines if (found := doubled(line))]
