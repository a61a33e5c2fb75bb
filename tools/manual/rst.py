"""Pieces of reStructuredText, the input of docutils: sections, definition lists, literal blocks, escaped text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

_MARKUP = re.compile(r"([\\*`|_]|:(?=\S))")
"""A colon within a word could be a URL or a role."""
_BEGIN = re.compile(r"^(?=[^\w\s\\])|^(?=\w{1,3}[.)]\s)")
"""What docutils would take for a list, a field or an option at the beginning of a paragraph."""


def plain(text: str) -> str:
    """Return a text in one line, in which nothing is markup."""
    return _BEGIN.sub(r"\\", _MARKUP.sub(r"\\\1", " ".join(text.split())))


def strong(text: str) -> str:
    """Return a text in bold type."""
    return "**" + _MARKUP.sub(r"\\\1", text) + "**"


def section(title: str, *parts: str, under: str = "=") -> str:
    """Return a section of paragraphs and lists."""
    body = "\n\n".join(part.strip("\n") for part in parts if part)
    return f"{title}\n{under * len(title)}\n\n{body}\n\n"


def subsection(title: str, *parts: str) -> str:
    """Return a part of a section."""
    return section(title, *parts, under="-")


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """Return a list of terms (with markup) and what they mean (also of several paragraphs)."""
    return "\n\n".join(f"{term}\n{textwrap.indent(text or plain('-'), '    ')}" for term, text in entries)


def literal(text: str) -> str:
    """Return a text whose lines stay as they are."""
    return "::\n\n" + textwrap.indent(text.strip("\n"), "    ")
