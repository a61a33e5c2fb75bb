"""Makes reStructuredText of argparse parsers: synopsis, options, and a part for each verb."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from tools.manual import rst

_OUTPUT = re.compile(r"\[-o [^]]*\]")


def synopsis(parser: argparse.ArgumentParser) -> str:
    """Return the usage of a parser in one line."""
    words = parser.format_usage().removeprefix("usage:").split()
    return f"{rst.strong(words[0])} {rst.plain(' '.join(words[1:]))}"


def arguments(parser: argparse.ArgumentParser, without: tuple[str, ...] = ("help",)) -> str:
    """Return options and positional arguments of a parser, without its verbs; empty if there are none.

    :param without: destinations of arguments that are not shown
    """
    actions = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    shown = [action for action in actions if action.dest not in without and action.help != argparse.SUPPRESS]
    return rst.definitions((_term(action), rst.plain(_help(parser, action))) for action in shown)


def verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of all verbs that can be run, also of verbs below verbs, in the order of the help text."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                below = list(verbs(one))
                yield from below or [one]


def verb(parser: argparse.ArgumentParser) -> str:
    """Return the part about one verb; options that every verb has are not repeated."""
    usage = _OUTPUT.sub("", parser.format_usage().removeprefix("usage:")).split()
    name = usage.index("[-h]") if "[-h]" in usage else len(usage)
    heading = f"{rst.strong(' '.join(usage[:name]))} {rst.plain(' '.join(usage[name + 1 :]))}".strip()
    return rst.subsection(
        " ".join(usage[1:name]), heading, rst.plain(parser.description or ""), arguments(parser, ("help", "output"))
    )


def _term(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else _value(action)
    if not action.option_strings:
        return rst.strong(value)
    return ", ".join(f"{rst.strong(option)} {rst.plain(value)}".strip() for option in action.option_strings)


def _value(action: argparse.Action) -> str:
    if action.choices and not action.metavar:
        return f"{{{','.join(map(str, action.choices))}}}"
    return str(action.metavar or action.dest.upper())


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""
