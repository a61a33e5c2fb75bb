"""Files in directories of another user: nothing that this user can put there makes root touch a file elsewhere."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvr_agent import libc, securefiles

USER = 64055
SECRET = b"root:secret\n"


@pytest.fixture(params=["openat2", "walk"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to open a directory: an old kernel has no openat2(2)."""
    if request.param == "walk":
        monkeypatch.setattr(libc, "SYS_OPENAT2", 9999)


@pytest.fixture
def theirs(real_root: None, tmp_path: Path) -> Path:
    """A directory of another user."""
    path = tmp_path / "state"
    path.mkdir()
    os.chown(path, USER, USER)
    return path


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file of root in a directory of root; nothing about either may ever change."""
    folder = tmp_path / "etc"
    folder.mkdir()
    path = folder / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    before = _looks(folder), _looks(path)
    yield path
    assert path.read_bytes() == SECRET
    assert (_looks(folder), _looks(path)) == before
    assert os.listdir(folder) == [path.name]


def _looks(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, found.st_mode


def as_user(target: Path | str, link: Path) -> None:
    """A link that the other user made."""
    link.symlink_to(target)
    os.chown(link, USER, USER, follow_symlinks=False)


USES: list[Callable[[Path], object]] = [
    lambda path: securefiles.read(path, 4096),
    lambda path: securefiles.replace(path, b"new"),
    lambda path: securefiles.replace(path, b"new", keep_owner=True),
    lambda path: os.close(securefiles.create_empty(path)),
    lambda path: os.close(securefiles.open_regular(path)),
    securefiles.remove,
    lambda path: securefiles.ensure_directory(path.parent / "deeper"),
    lambda path: securefiles.names(path.parent),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_no_directory_of_a_path_is_a_link_of_another_user(
    theirs: Path, victim: Path, use: Callable[[Path], object], depth: int
) -> None:
    if depth:
        (theirs / "a").mkdir()
    link = (theirs, theirs / "a", theirs / "a")[depth] / "ra"
    as_user(victim.parent if depth < 2 else "../../etc", link)
    with pytest.raises(OSError, match=r"symbolic link that another user could have made"):
        use(link / victim.name)


def test_a_link_of_root_in_a_directory_of_another_user_is_not_followed_either(theirs: Path, victim: Path) -> None:
    (theirs / "ra").symlink_to(victim.parent)
    with pytest.raises(OSError, match="symbolic link"):
        securefiles.names(theirs / "ra")


def test_links_of_root_where_only_root_writes_are_followed(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "absolute").symlink_to(theirs)
    (tmp_path / "var" / "relative").symlink_to("../var/./absolute")
    path = tmp_path / "var" / "relative" / "fip-priorities"
    securefiles.replace(path, b"text", keep_owner=True)
    assert securefiles.read(path, 10).data == b"text"
    assert (theirs / path.name).stat().st_uid == USER
    securefiles.ensure_directory(tmp_path / "var" / "relative" / "ra")
    assert (theirs / "ra").stat().st_uid == USER


def test_links_in_a_directory_that_others_may_write_are_not_followed(theirs: Path, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "link").symlink_to(theirs)
    open_to_all.chmod(0o777)
    with pytest.raises(OSError, match="symbolic link"):
        securefiles.names(open_to_all / "link")
    open_to_all.chmod(0o1777)
    assert securefiles.names(open_to_all / "link") == []
    as_user(theirs, open_to_all / "theirs")
    # The kernel's own refusal, where fs.protected_symlinks is set, comes first.
    with pytest.raises(OSError, match=r"symbolic link|Permission denied"):
        securefiles.names(open_to_all / "theirs")


def test_links_that_lead_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="too many symbolic links"):
        securefiles.names(tmp_path / "a")


def test_a_link_in_a_files_place_is_replaced_and_not_written_through(theirs: Path, victim: Path) -> None:
    writes: tuple[Callable[..., object], ...] = (securefiles.replace, securefiles.create_empty)
    for number, write in enumerate(writes):
        path = theirs / f"file{number}"
        as_user(victim, path)
        made = write(path, *([b"new"] if write is securefiles.replace else []))
        if isinstance(made, int):
            os.close(made)
        assert stat.S_ISREG(path.lstat().st_mode)


def test_a_link_or_another_name_of_a_file_is_not_read(theirs: Path, victim: Path) -> None:
    as_user(victim, theirs / "link")
    with pytest.raises(OSError, match="is a symbolic link"):
        securefiles.read(theirs / "link", 4096)
    os.link(victim, theirs / "hard")
    with pytest.raises(OSError, match="hard links"):
        securefiles.read(theirs / "hard", 4096)
    securefiles.replace(theirs / "hard", b"new", keep_owner=True)
    assert (theirs / "hard").stat().st_uid == USER


def test_what_is_no_regular_file_is_neither_read_nor_waited_for(theirs: Path) -> None:
    os.mkfifo(theirs / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        securefiles.read(theirs / "fifo", 4096)
    os.mknod(theirs / "socket", stat.S_IFSOCK)
    with pytest.raises(OSError, match="no regular file"):
        securefiles.read(theirs / "socket", 4096)
    with pytest.raises(OSError, match="is a directory"):
        securefiles.read(theirs.parent, 4096)


def test_no_more_than_the_limit_is_read(theirs: Path) -> None:
    (theirs / "huge").touch()
    os.truncate(theirs / "huge", 1 << 40)
    with pytest.raises(OSError, match="larger than 4096 bytes"):
        securefiles.read(theirs / "huge", 4096)


def test_only_text_of_those_who_may_write_there_can_be_quoted(theirs: Path) -> None:
    for user, quoted in ((0, True), (USER, True), (USER + 1, False)):
        path = theirs / str(user)
        path.write_text("text")
        os.chown(path, user, user)
        assert securefiles.read(path, 10).trusted is quoted


def test_temporary_names_cannot_be_guessed_and_nothing_is_left(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    rename = os.rename

    def spy(source: str, target: str, **where: int) -> None:
        seen.append(source)
        assert oct(os.stat(source, dir_fd=where["src_dir_fd"]).st_mode) == "0o100640"
        rename(source, target, **where)

    (theirs / "file").touch(0o640)
    (theirs / "file").chmod(0o640)
    monkeypatch.setattr(os, "rename", spy)
    for _ in range(2):
        securefiles.replace(theirs / "file", b"x", keep_owner=True)
    assert all(re.fullmatch(r"\.file\.[0-9a-f]{16}\.tmp", name) for name in seen)
    assert seen[0] != seen[1]
    assert os.listdir(theirs) == ["file"]


def test_a_failed_replacement_leaves_the_old_file_and_nothing_else(theirs: Path) -> None:
    (theirs / "place").mkdir()
    (theirs / "place" / "entry").touch()
    with pytest.raises(OSError, match="directory"):
        securefiles.replace(theirs / "place", b"x")
    assert os.listdir(theirs) == ["place"]


def test_a_mode_that_gives_rights_is_not_kept(theirs: Path) -> None:
    path = theirs / "file"
    path.touch()
    os.chown(path, USER, USER)
    path.chmod(0o6777)
    securefiles.replace(path, b"#!/bin/sh\n", keep_owner=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_a_directory_that_is_swapped_while_it_is_made_is_not_given_away(
    theirs: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other user renames a directory of root, which lies in his own, to the name that was just made."""
    roots = theirs / "roots"
    roots.mkdir()
    (roots / "document").touch()
    mkdir = os.mkdir

    def swap(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        os.rename(theirs / name, theirs / "away")
        os.rename(roots, theirs / name)

    monkeypatch.setattr(os, "mkdir", swap)
    securefiles.ensure_directory(theirs / "ra")
    monkeypatch.undo()
    assert (theirs / "ra" / "document").exists()
    assert (theirs / "ra").stat().st_uid == 0


def test_a_race_for_the_directory_is_never_lost(theirs: Path, victim: Path) -> None:
    """The other user swaps directory and link as fast as possible while root writes and gives away."""
    real, link, name = theirs / "real", theirs / "link", theirs / "ra"
    stop = threading.Event()

    def swap() -> None:
        real.mkdir(exist_ok=True)
        as_user(victim.parent, link)
        while not stop.is_set():
            os.rename(real, name)
            os.rename(name, real)
            os.rename(link, name)
            os.rename(name, link)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(2000):
            for use in (
                lambda: securefiles.replace(name / victim.name, b"new", keep_owner=True),
                lambda: securefiles.remove(name / victim.name),
            ):
                with contextlib.suppress(OSError):
                    use()
    finally:
        stop.set()
        thread.join()


def test_directories_that_are_missing_belong_to_the_owner_of_the_one_above(theirs: Path) -> None:
    securefiles.ensure_directory(theirs / "external" / "pids")
    for path in (theirs / "external", theirs / "external" / "pids"):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (USER, 0o755)


def test_relative_paths_work(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(theirs)
    securefiles.ensure_directory(Path("a/b"))
    securefiles.replace(Path("a/b/c"), b"x")
    assert securefiles.names(Path("a/b")) == ["c"]
    assert securefiles.names(Path("missing")) == []
    securefiles.remove(Path("a/b/c"))
    securefiles.remove(Path("a/b/c"))
    securefiles.remove(Path("missing/c"))
