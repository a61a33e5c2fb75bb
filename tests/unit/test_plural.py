"""Numbers with their nouns, and that no text of the agent makes them by itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dvr_agent
from dvr_agent.plural import count, part, verb

SOURCE = Path(dvr_agent.__file__).parent
NOUNS = (
    "address|bridge|chain|change|connection|document|entr(?:y|ie)|event|failure|file|floating IP|host|line|namespace|"
    "neighbour|network|object|ping|port|process|route|router|rule|subnet|table|tries|value"
)
ADJECTIVES = r"(?:(?!(?:has|have|is|are|of|with|in|on|to|and|or|several)\b)[a-z-]+ ){0,2}"
PLURAL = re.compile(rf"^(?: of \0)? {ADJECTIVES}(?:{NOUNS})(?:es|s)\b")
"""What follows a number in a text that is wrong for 1."""
NO_NUMBERS = {"one.protocol"}
"""Expressions that are no numbers."""
FORMATTED = re.compile(rf"%d(?: [a-z-]+){{0,2}} (?:{NOUNS})(?:es|s)\b")


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of what may be printed: placeholders of f-strings are a NUL, docstrings are left out."""
    nodes = list(ast.walk(tree))
    docstrings = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inside = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inside:
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(map(shown, node.values))


def shown(part: ast.expr) -> str:
    """Return the text of a part of an f-string; a NUL for what may be a number."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return "…" if ast.unparse(part.value) in NO_NUMBERS else "\0"


def wrong(text: str) -> bool:
    return bool(FORMATTED.search(text)) or any(PLURAL.search(rest) for rest in text.split("\0")[1:])


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "router", "1 router"),
        (0, "address", "0 addresses"),
        (2, "failed try", "2 failed tries"),
        (3, "box", "3 boxes"),
    ],
)
def test_a_number_and_its_noun_agree(number: int, noun: str, text: str) -> None:
    assert count(number, noun) == text


def test_a_part_of_a_number_agrees_with_its_verb() -> None:
    assert part(1, 10, "router", "has", "have") == "1 of 10 routers has"
    assert part(2, 2, "router", "has", "have") == "2 of 2 routers have"
    assert f"{count(1, 'router')} {verb(1, 'waits', 'wait')}" == "1 router waits"


def test_the_search_finds_what_it_is_for() -> None:
    assert wrong("waiting: \0 routers")
    assert wrong("first resync: %d routers")
    assert wrong("\0 malformed lines were skipped")
    assert not wrong("waiting: \0 of them")
    assert not wrong("router \0: routes")
    assert not wrong("the network of \0 has several routers")


def test_no_text_has_a_plural_behind_a_bare_number() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {text!r}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line, text in texts(ast.parse(path.read_text()))
        if wrong(text)
    ]
    assert found == [], "use dvr_agent.plural"
