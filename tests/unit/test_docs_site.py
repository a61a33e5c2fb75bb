"""The documentation site: what is staged, and what its check finds in a built one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvr_agent import __version__
from tools import docs_site

HTML = '<html><body><h1 id="top">x</h1>{}</body></html>'


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("stage")
    docs_site.stage(target)
    return target


def test_every_page_of_the_repository_is_in_the_menu_once(stage: Path) -> None:
    menu = (stage / "index.md").read_text().split("```{toctree}", 1)[1].splitlines()
    listed = [line.split("<")[-1].rstrip(">") for line in menu]
    for page in docs_site.pages():
        assert listed.count(page.with_suffix("").as_posix()) == 1, page


def test_files_that_pages_link_to_are_staged(stage: Path) -> None:
    assert (stage / "bindep.txt").exists()
    assert (stage / "packaging" / "Containerfile").exists()


def test_each_version_has_a_page_of_release_notes(stage: Path) -> None:
    page = (stage / f"release-{__version__}.md").read_text()
    assert page.startswith(f"# {__version__} - ")
    assert "\n## Added\n" in page
    assert (stage / "release-unreleased.md").exists()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="#top">x</a><a href="other.html#there">x</a><a href="https://example.org/">x</a>', ""),
        ('<a href="gone.html">x</a>', "no such file"),
        ('<a href="other.html#gone">x</a>', "no such anchor"),
        ('<script src="https://example.org/x.js"></script>', "loaded from elsewhere"),
        ('<link href="//example.org/x.css">', "loaded from elsewhere"),
    ],
)
def test_check_finds_dead_references_and_foreign_resources(tmp_path: Path, body: str, fault: str) -> None:
    (tmp_path / "index.html").write_text(HTML.format(body))
    (tmp_path / "other.html").write_text(HTML.format('<p id="there"></p>'))
    found = list(docs_site.check(tmp_path))
    assert len(found) == bool(fault)
    assert all(fault in sentence for sentence in found)
