"""Writes numbers with their nouns: ``1 router``, ``2 routers``.  The only place that does; a test seeks others."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Return a number and its noun, ``2 idle bridges``.

    :param noun: singular; its last word gets the plural
    """
    return f"{number} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun: ``routers``, ``addresses``, ``entries``."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def verb(number: int, singular: str, plural_form: str) -> str:
    """Return the form of a verb that fits a number: ``has`` or ``have``."""
    return singular if number == 1 else plural_form
