"""Exit codes of dvrctl, in one place: ``ctl`` ends with them and prints them, docs and manual page are made of them.

``tools/dvrctl_page.py`` writes the table of ``docs/dvrctl.md``, ``tools/manual`` the manual page.  A verb that is not
in :data:`VERBS` fails ``tests/unit/test_command_line.py``.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Mapping

USAGE_ERROR = os.EX_USAGE
"""64, wrong arguments: since 2 means "there are changes"."""
NEEDS_ROOT = os.EX_NOPERM
"""77, the verb needs root."""
INTERRUPTED = 128 + 2
"""Exit code after SIGINT, as shells report it."""
PIPE_CLOSED = 128 + 13
"""Exit code after SIGPIPE."""

Codes = Mapping[int, str]
_OPTION = re.compile(r"(--[a-z][a-z-]*|\| head)")

VERBS: Mapping[str, Codes] = {
    "check": {
        0: "all documents are good, or with --config the configuration has no error",
        1: "at least one is bad, has objects that are left out, or claims what another one claims; or the "
        "configuration has errors",
    },
    "plan": {
        0: "in sync",
        1: "error, or a bad document",
        2: "there are changes, objects of a document are left out, or the newest document of a router cannot be used",
    },
    "apply": {
        0: "done",
        1: "error, a router was left alone, or objects of a document were left out",
    },
    "show": {0: "shown", 1: "error"},
    "capture": {0: "printed, or captured until its end", 1: "error, or nothing could be captured"},
    "history": {0: "shown", 1: "error"},
    "why": {
        0: "nothing wrong was found",
        1: "error, or no such router",
        2: "something is wrong, or no document has the address",
    },
    "diag": {0: "the archive is written, whatever pieces it lacks", 1: "it is not"},
    "web": {0: "ended by a signal", 1: "the page cannot be served, or its process has ended"},
    "wants-web": {0: "the page is to be served all the time", 1: "it is not, or the configuration is wrong"},
    "fetch": {0: "all documents are stored", 1: "some are bad, or the server did not answer"},
    "status": {
        0: "all in sync",
        1: "daemon not reachable",
        2: "something is pending or degraded, or a document is bad",
    },
    "sync": {
        0: "all in sync",
        1: "daemon not reachable, refused, no such router, or not all were tried in time",
        2: "a router is degraded, or its document is bad",
    },
    "cleanup": {0: "done, nothing to do, or --dry-run", 1: "refused or failed"},
    "handover": {
        0: "done, nothing to do, or --dry-run",
        1: "refused, failed, or neutron-l3-agent was not ready in time",
    },
    "wants-metadata": {0: "dvr-metadata-proxy is needed", 1: "it is not, or the configuration is wrong"},
    "trace": {
        0: "the packet arrives or leaves this host, and with --reply the answer does",
        1: "error",
        2: "it is dropped, or --live contradicts",
        3: "unknown from some place on",
    },
    "schema": {0: "printed", 1: "error"},
    "demo": {0: "every step worked", 1: "a step failed"},
}
"""Verb → exit code → meaning.  0, 1 and 2 mean the same kind of thing for each: fine, failed, look at the output; a
verb may have more."""

ANY: Codes = {
    1: "a configuration that cannot be used",
    USAGE_ERROR: "wrong arguments (EX_USAGE of sysexits.h)",
    NEEDS_ROOT: "not run by root, which the verb needs (EX_NOPERM)",
    INTERRUPTED: "interrupted",
    PIPE_CLOSED: "the reader of the output has closed it (| head)",
}
"""Exit codes of every verb."""


def of_verb(verb: str) -> str:
    """Return the exit codes of a verb for its help text; empty for a verb that has none of its own."""
    codes = VERBS.get(verb, {})
    lines = [line for code, text in codes.items() for line in _wrapped(f"  {code:<4}", text)]
    return "\n".join(["exit codes (more: dvrctl --help):", *lines]) if codes else ""


def of_all() -> str:
    """Return the exit codes of all verbs for the help text of dvrctl."""
    lines = ["exit codes:"]
    for verb, codes in VERBS.items():
        if len(verb) > 9:
            lines.append(f"  {verb}")
        for number, (code, text) in enumerate(codes.items()):
            name = verb if number == 0 and len(verb) <= 9 else ""
            lines += _wrapped(f"  {name:<9} {code:<4}", text)
    for number, (code, text) in enumerate(ANY.items()):
        lines += _wrapped(f"  {'any' if number == 0 else '':<9} {code:<4}", text)
    return "\n".join(lines)


def markdown() -> str:
    """Return the exit codes of all verbs as a table in Markdown, and the common ones as a sentence."""
    lines = ["| verb | 0 | 1 | 2 |", "|---|---|---|---|"]
    for verb, codes in VERBS.items():
        more = "".join(f"; **{code}** {text}" for code, text in codes.items() if code > 2)
        lines.append(f"| `{verb}` | {' | '.join(codes.get(code, '') for code in (0, 1, 2))}{more} |")
    common = "; ".join(f"{code} {text}" for code, text in ANY.items())
    text = "\n".join([*lines, "", *textwrap.wrap(f"Any verb: {common}.", 120)]) + "\n"
    return _OPTION.sub(r"`\1`", text)


def _wrapped(begin: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 79, initial_indent=begin, subsequent_indent=" " * len(begin))
