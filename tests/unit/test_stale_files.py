"""Temporary files of killed processes: which ones go, and which never do."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dvr_agent import stale_files
from dvr_agent.config import Settings

ID = "0f6b6a4e-8d0b-4a60-8a3c-0f4e0a1c2b3d"
RANDOM = "0123456789abcdef"
LEFT = {
    ".": [f".fip-priorities.{RANDOM}.tmp", ".fip-linklocal-networks.4711", f".fip-linklocal-networks.{RANDOM}.tmp"],
    "ra": [f".{ID}.radvd.conf.{RANDOM}.tmp", f".{ID}.radvd.conf.12", f".{ID}.radvd.conf.unread.{RANDOM}.tmp"],
    "dvr-agent/h1/routers": [f".{ID}.json.{RANDOM}.tmp", f".{ID}.json.new", "..complete.new"],
}
OTHERS = {
    ".": ["fip-priorities", "fip-linklocal-networks", "dvr-agent.lock", ".other.4711", f".other.{RANDOM}.tmp",
          ".fip-priorities.x", f".fip-priorities.{RANDOM}.tmp.1", "tmpq1w2e3r4",
          f".fip-priorities.{RANDOM.upper()}.tmp"],
    "ra": [f"{ID}.radvd.conf", f"{ID}.radvd.conf.unread", f".fip-priorities.{RANDOM}.tmp", ".x.radvd.conf.12"],
    "dvr-agent/h1/routers": [f"{ID}.json", ".complete", f".{ID}.radvd.conf.12"],
    "dvr-agent/h2/routers": [f".{ID}.json.new"],
}  # fmt: skip


def settings(state: Path, ra: Path | None = None) -> Settings:
    """Only the settings that are used."""
    found: Any = SimpleNamespace(state_path=state, host="h1", radvd=SimpleNamespace(ra_confs=ra or state / "ra"))
    return cast(Settings, found)


def fill(state: Path, names: dict[str, list[str]]) -> set[str]:
    paths = {state / directory / name for directory, found in names.items() for name in found}
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    return {str(path) for path in paths}


def files(state: Path) -> set[str]:
    return {str(path) for path in state.rglob("*") if not path.is_dir()}


def test_temporary_files_of_this_and_earlier_versions_are_removed_and_nothing_else(tmp_path: Path) -> None:
    left, others = fill(tmp_path, LEFT), fill(tmp_path, OTHERS)
    assert set(stale_files.find(settings(tmp_path))) == left
    assert files(tmp_path) == left | others
    assert set(stale_files.remove(settings(tmp_path))) == left
    assert files(tmp_path) == others
    assert stale_files.remove(settings(tmp_path)) == []


def test_a_directory_that_is_configured_elsewhere_is_looked_at(tmp_path: Path) -> None:
    ra = tmp_path / "run" / "ra"
    left = fill(ra, {".": LEFT["ra"]})
    assert set(stale_files.remove(settings(tmp_path / "state", ra))) == left


def test_what_is_missing_or_no_directory_has_none(tmp_path: Path) -> None:
    (tmp_path / "ra").write_text("a file")
    assert stale_files.remove(settings(tmp_path)) == []
    assert stale_files.remove(settings(tmp_path / "missing")) == []


@pytest.mark.parametrize("link", ["ra", "dvr-agent", "dvr-agent/h1", "dvr-agent/h1/routers"])
def test_links_in_the_way_are_not_followed(tmp_path: Path, link: str) -> None:
    elsewhere, state = tmp_path / "elsewhere", tmp_path / "state"
    fill(elsewhere, {".": LEFT["ra"] + LEFT["dvr-agent/h1/routers"]})
    fill(elsewhere / "routers", {".": LEFT["dvr-agent/h1/routers"]})
    fill(elsewhere / "h1" / "routers", {".": LEFT["dvr-agent/h1/routers"]})
    before = files(elsewhere)
    (state / link).parent.mkdir(parents=True)
    (state / link).symlink_to(elsewhere)
    assert stale_files.remove(settings(state)) == []
    assert files(elsewhere) == before


def test_only_regular_files_go(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".fip-priorities.1").symlink_to("precious")
    (tmp_path / ".fip-priorities.2").mkdir()
    os.mkfifo(tmp_path / ".fip-priorities.3")
    assert stale_files.remove(settings(tmp_path)) == []
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.root
def test_a_file_of_another_user_than_the_directorys_stays(tmp_path: Path) -> None:
    names = [".fip-priorities.1", ".fip-priorities.2"]
    fill(tmp_path, {".": names})
    os.chown(tmp_path, 4711, 4711)
    for name, user in zip(names, (4711, 4712), strict=True):
        os.chown(tmp_path / name, user, user)
    assert stale_files.remove(settings(tmp_path)) == [str(tmp_path / names[0])]
