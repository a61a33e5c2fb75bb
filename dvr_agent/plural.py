"""Writes numbers with their nouns: ``1 router``, ``2 routers``.  The only place that does; a test seeks others."""

from __future__ import annotations


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun, ``2 idle bridges``.

    :param noun: singular; its last word gets the plural
    :param plural: of a noun whose plural is not made so
    """
    return f"{number} {noun if number == 1 else plural or plural_of(noun)}"


def plural_of(noun: str) -> str:
    """Return the plural of a noun: ``routers``, ``addresses``, ``entries``."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def verb(number: int, singular: str, plural: str) -> str:
    """Return the form of a verb that fits a number: ``has`` or ``have``."""
    return singular if number == 1 else plural


def part(number: int, total: int, noun: str, singular: str, plural: str) -> str:
    """Return a part of a number of things with its verb: ``1 of 10 routers has``, ``2 of 10 routers have``."""
    return f"{number} of {count(total, noun)} {verb(number, singular, plural)}"
