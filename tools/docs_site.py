#!/usr/bin/env python3
"""Stages the sources of the documentation site, or with ``--check DIRECTORY`` looks through the built one.

The site is the repository's own Markdown: pages lie in the stage as they lie in the repository, so that links between
them, and to files, hold in both.  Added are an index, from ``NAVIGATION``, and a page of release notes for each version
of ``CHANGELOG.md``.  Sphinx builds it (``make docs``); used by the Makefile only.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.check_docs import links  # noqa: E402 - the checkout is put on the path first

NAVIGATION: dict[str, list[str]] = {
    "Start": ["docs/tutorial", "README"],
    "Operator's guide": [
        "docs/operating", "docs/deployments", "docs/neutron", "docs/metadata", "docs/log", "docs/monitoring",
        "docs/web",
    ],
    "Something is wrong": ["docs/troubleshooting", "docs/reliability", "docs/performance", "docs/scale"],
    "Reference": [
        "docs/dvrctl", "docs/configuration", "docs/schemas/README", "docs/dataplane", "docs/glossary",
        "etc/examples/README",
    ],
    "How it is built": [
        "docs/architecture", "docs/adding-a-kind", "docs/adr/README", "docs/dependencies", "docs/virtual-machine",
        "CONTRIBUTING", "SECURITY",
    ],
}  # fmt: skip
"""Pages by heading, in the order of the menu.  One that is not there is left out, one that is not here comes last."""
TITLES = {"README": "Requirements, service, router documents", "CHANGELOG": "All versions"}
"""What the menu says of pages whose heading does not tell."""
NO_PAGES = ("tests", "tests_neutron", "tests_vm", "tests_deb", "debian")
"""Folders whose Markdown is not documentation."""
_VERSION = re.compile(r"^## \[(?P<name>[^\]]+)\](?P<rest>.*)$", re.MULTILINE)


def pages() -> list[Path]:
    """Return the Markdown files of the repository that are documentation, relative to its root."""
    words = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md")
    listed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(Path(name) for name in listed if name and not name.startswith(NO_PAGES) and (ROOT / name).exists())


def stage(target: Path) -> None:
    """Write the sources of the site into a directory, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    found = pages()
    for page in found:
        copy(page, target)
        for link in links((ROOT / page).read_text(encoding="utf-8")):
            file = linked_file(page, link)
            if file and file not in found:
                copy(file, target)
    releases = [write_release(target, *release) for release in changelog()]
    (target / "index.md").write_text(index([page.with_suffix("").as_posix() for page in found], releases))
    shutil.copy(ROOT / "docs" / "conf.py", target / "conf.py")
    shutil.copy(ROOT / "dvr_agent" / "__init__.py", target / "version")


def copy(name: Path, target: Path) -> None:
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, target / name)


def linked_file(page: Path, link: str) -> Path | None:
    """Return the file of the repository that a link of a page leads to, relative to the root."""
    if not (path := unquote(urlsplit(link).path)) or urlsplit(link).scheme:
        return None
    file = (ROOT / page.parent / path).resolve()
    return file.relative_to(ROOT) if file.is_file() else None


def changelog() -> Iterator[tuple[str, str]]:
    """Yield heading and text of each version in ``CHANGELOG.md``, the newest first."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = list(_VERSION.finditer(text))
    for match, following in zip(found, [*found[1:], None], strict=True):
        body = text[match.end() : following.start() if following else len(text)]
        yield f"{match['name']}{match['rest']}", body


def write_release(target: Path, heading: str, body: str) -> str:
    """Write the page of one version beside ``CHANGELOG.md``, whose relative links hold there, and return its name."""
    name = f"release-{heading.split()[0].lower()}"
    body = re.sub(r"^#(#+ )", r"\1", body, flags=re.MULTILINE)
    (target / f"{name}.md").write_text(f"# {heading}\n{body}", encoding="utf-8")
    return name


def index(found: list[str], releases: list[str]) -> str:
    """Return the first page: what the project is, and the menu."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    sections = {heading: [page for page in names if page in found] for heading, names in NAVIGATION.items()}
    listed = {page for names in sections.values() for page in names}
    decisions = [page for page in found if page.startswith("docs/adr/") and page not in listed]
    sections["Decisions"] = decisions
    sections["Release notes"] = [*releases, "CHANGELOG"]
    sections["More"] = [page for page in found if page not in listed and page not in decisions and page != "CHANGELOG"]
    menus = [menu(heading, names) for heading, names in sections.items() if names]
    return f"---\norphan: true\n---\n{readme.split('## ')[0]}\n" + "\n".join(menus)


def menu(heading: str, names: list[str]) -> str:
    lines = "\n".join(f"{TITLES[name]} <{name}>" if name in TITLES else name for name in names)
    return f"```{{toctree}}\n:caption: {heading}\n:maxdepth: 1\n\n{lines}\n```\n"


class Page(HTMLParser):
    """The anchors of a page, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.references: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            if value and (name == "src" or (name == "href" and tag in ("a", "link"))):
                self.references.add(value if tag != "a" or not urlsplit(value).scheme else "")


def check(site: Path) -> Iterator[str]:
    """Yield one sentence per reference that leads nowhere, or to another host to be loaded from there."""
    built = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in built.items():
        for reference in sorted(page.references - {""}):
            parts = urlsplit(reference)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            where = f"{path.relative_to(site)}: {reference}"
            if parts.scheme not in ("", "data") or parts.netloc:
                yield f"{where}: loaded from elsewhere"
            elif not parts.scheme and not target.exists():
                yield f"{where}: no such file"
            elif target in built and parts.fragment and unquote(parts.fragment) not in built[target].anchors:
                yield f"{where}: no such anchor"


def main() -> int:
    """Stage or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="look through a built site instead")
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    if not arguments.check:
        stage(arguments.directory)
        return 0
    faults = list(check(arguments.directory.resolve()))
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
