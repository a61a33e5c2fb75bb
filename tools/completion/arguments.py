"""Says what completes an argument, by its name in the usage text, so that a new verb has its completion at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from enum import Enum


class Kind(Enum):
    """What completes an argument."""

    FILE = "files"
    DIRECTORY = "directories"
    ROUTER = "ids of routers that have a namespace here"
    NAMESPACE = "namespaces of routers and external networks"


METAVARS = {
    "FILE": Kind.FILE,
    "DIR": Kind.DIRECTORY,
    "ID": Kind.ROUTER,
    "ROUTER": Kind.ROUTER,
    "NAMESPACE": Kind.NAMESPACE,
}


def kind(action: argparse.Action) -> Kind | None:
    """Return what completes an argument, of ``NAMESPACE|ROUTER`` the first; None: nothing, or its choices."""
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return next((METAVARS[name] for name in metavar.split("|") if name in METAVARS), None)


def parsers(
    parser: argparse.ArgumentParser, verbs: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Yield a parser and those of all verbs below it, each with the verbs that lead to it."""
    yield verbs, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from parsers(below, (*verbs, name))
