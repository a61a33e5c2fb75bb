#!/usr/bin/env python3
"""Checks references to files in the documentation and to the documentation in code.

In Markdown files: relative links lead to files, their ``#anchors`` to headings, and each file of this repository that
is named in backticks exists.  In Python files: a citation (a page of ``docs`` in double backticks, then headings in
quotes) names headings of that page.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {".venv", ".venv-neutron", ".vm", ".tox", ".git", "build", "node_modules", ".pytest_cache"}

_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*<?(\S+?)>?\s*$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|sh|md|toml|service))`")
_CITATION = re.compile(r'``(docs/[\w/-]+\.md)``((?:(?:,| and)\s+"[^"\n]+")*)')
_CITED = re.compile(r'"([^"\n]+)"')
_UPSTREAM = ("neutron/", "linux/", "net/")
"""Files of Neutron and of the kernel, which documentation names as well."""
_EXAMPLES = {"nexthop.py", "qdisc.py"}
"""Files that the page on new kinds would add."""
_HISTORY = {"CHANGELOG.md"}
"""Pages that name files which are gone."""
_ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def pages(root: Path) -> Iterator[Path]:
    """Markdown files below ``root``, without those of other projects, whose directories may change meanwhile."""
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        found += [Path(folder, name) for name in files if name.endswith(".md")]
    yield from sorted(found)


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as the usual renderers make them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def links(text: str) -> Iterator[str]:
    """The targets of a page's links, without those that lead to other sites."""
    for match in _LINK.finditer(_CODE.sub("", _FENCE.sub("", text))):
        link = match[1] or match[2]
        if not _ELSEWHERE.match(link):
            yield link


def broken_links(page: Path) -> Iterator[str]:
    """One sentence per link that leads nowhere."""
    text = page.read_text(encoding="utf-8")
    for link in links(text):
        name, _, anchor = unquote(link).partition("#")
        target = page.parent / name if name else page
        if not target.exists():
            yield f"{link}: no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            yield f"{link}: no such heading"


def missing_files(page: Path, root: Path) -> Iterator[str]:
    """One sentence per file that a page names and that is neither below the root nor below the package."""
    if page.name in _HISTORY:
        return
    for name in sorted(set(_PATH.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))))):
        places = (root, root / "dvr_agent", page.parent)
        if name.startswith(_UPSTREAM) or Path(name).name in _EXAMPLES:
            continue
        if not any((place / name).exists() for place in places):
            yield f"`{name}`: no such file"


def broken_citations(module: Path, root: Path) -> Iterator[str]:
    """One sentence per citation of a page or of a heading that is not there."""
    for name, headings in _CITATION.findall(module.read_text(encoding="utf-8")):
        page = root / name
        if not page.exists():
            yield f"{name}: no such file"
            continue
        known = {heading.replace("`", "") for heading in _HEADING.findall(page.read_text(encoding="utf-8"))}
        for heading in _CITED.findall(headings):
            if heading not in known:
                yield f'{name}, "{heading}": no such heading'


def modules(root: Path) -> Iterator[Path]:
    """Python files of the project."""
    for folder in ("dvr_agent", "tests", "tests_deb", "tests_neutron", "tests_vm", "bench", "tools"):
        yield from sorted((root / folder).rglob("*.py"))


def main() -> int:
    """Print what does not resolve; the exit code."""
    bad = 0
    for page in pages(ROOT):
        for sentence in (*broken_links(page), *missing_files(page, ROOT)):
            print(f"{page.relative_to(ROOT)}: {sentence}")
            bad += 1
    for module in modules(ROOT):
        for sentence in broken_citations(module, ROOT):
            print(f"{module.relative_to(ROOT)}: {sentence}")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
