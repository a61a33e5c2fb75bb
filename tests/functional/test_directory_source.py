"""Router documents as files: real files, real inotify."""

from __future__ import annotations

import json
import os
import select
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvr_agent.sources.api import Bad, Changed, Deleted, Event, Failed, Source, Synced
from dvr_agent.sources.directory import DirectorySource
from dvr_agent.sources.directory_content import BATCH_FILES

MAX_SIZE = 64 * 1024
X, Y, Z = (f"00000000-0000-4000-8000-00000000000{digit}" for digit in "123")


def text(router_id: str, name: str = "") -> str:
    return json.dumps({"id": router_id, "name": name, "distributed": True})


class Watcher:
    """Drives a source as the daemon does: waits for its descriptor, then polls."""

    def __init__(self, path: Path) -> None:
        self.source: Source = DirectorySource(str(path), 30, MAX_SIZE)

    def until(self, wanted: Callable[[Event], bool]) -> list[Event]:
        """All events up to the first wanted one."""
        seen: list[Event] = []
        poller = select.poll()
        number = self.source.fileno()
        assert number is not None
        poller.register(number, select.POLLIN)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if poller.poll(1000):
                seen += self.source.poll()
                if any(map(wanted, seen)):
                    return seen
        raise AssertionError(f"not seen; there were {seen}")

    def changed(self, router_id: str, name: str = "") -> list[Event]:
        return self.until(
            lambda e: isinstance(e, Changed) and (e.document.router.id, e.document.router.name) == (router_id, name)
        )

    def deleted(self, router_id: str) -> list[Event]:
        return self.until(lambda e: isinstance(e, Deleted) and e.router_id == router_id)

    def bad(self, name: str) -> list[Event]:
        return self.until(lambda e: isinstance(e, Bad) and e.name == name)

    def synced(self) -> list[Event]:
        return self.until(lambda e: isinstance(e, Synced))

    def failed(self) -> list[Event]:
        return self.until(lambda e: isinstance(e, Failed))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "routers"
    path.mkdir()
    return path


@pytest.fixture
def watcher(directory: Path) -> Iterator[Watcher]:
    found = Watcher(directory)
    yield found
    found.source.close()


def synced(events: list[Event]) -> Synced:
    last = events[-1]
    assert isinstance(last, Synced), events
    return last


def test_the_first_sync_lists_all_documents_and_nothing_else(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X, "one"))
    (directory / "y.json").write_text(text(Y))
    (directory / ".hidden.json").write_text(text(Z))
    (directory / "z.json~").write_text(text(Z))
    (directory / "below").mkdir()
    (directory / "below" / "z.json").write_text(text(Z))
    assert watcher.source.poll() == []
    events = watcher.source.rescan()
    assert [e.document.router.id for e in events if isinstance(e, Changed)] == [X, Y]
    assert events[-1] == Synced(frozenset({X, Y}), True)
    document = watcher.source.document(X)
    assert document is not None
    assert document.router.name == "one"
    assert watcher.source.rescan() == [Synced(frozenset({X, Y}), True)]


def test_new_changed_replaced_and_deleted_files_are_noticed(directory: Path, watcher: Watcher) -> None:
    watcher.source.rescan()
    (directory / "x.json").write_text(text(X, "new"))
    watcher.changed(X, "new")
    (directory / "x.json").write_text(text(X, "in place"))
    watcher.changed(X, "in place")
    (directory / "x.tmp").write_text(text(X, "renamed"))
    (directory / "x.tmp").rename(directory / "x.json")
    watcher.changed(X, "renamed")
    (directory / "x.json").unlink()
    assert watcher.deleted(X)[-1] == Deleted(X, "x.json")
    assert watcher.source.document(X) is None


def test_links_and_hard_links_count_as_files(directory: Path, watcher: Watcher, tmp_path: Path) -> None:
    (tmp_path / "one").write_text(text(X))
    (tmp_path / "two").write_text(text(Y))
    watcher.source.rescan()
    (directory / "x.json").symlink_to(tmp_path / "one")
    watcher.changed(X)
    os.link(tmp_path / "two", directory / "y.json")
    watcher.changed(Y)


def test_a_switched_tree_of_links_is_noticed(directory: Path, watcher: Watcher) -> None:
    for version in ("1", "2"):
        (directory / f"..{version}").mkdir()
        (directory / f"..{version}" / "x.json").write_text(text(X, version))
    (directory / "..data").symlink_to("..1")
    (directory / "x.json").symlink_to("..data/x.json")
    watcher.source.rescan()
    (directory / "..new").symlink_to("..2")
    (directory / "..new").rename(directory / "..data")
    watcher.changed(X, "2")


def test_unchanged_content_gives_no_event(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X))
    watcher.source.rescan()
    (directory / "x.json").write_text(text(X))
    os.utime(directory / "x.json")
    (directory / "y.json").write_text(text(Y))
    assert [e for e in watcher.changed(Y) if not isinstance(e, Changed) or e.document.router.id != Y] == []


def test_a_rescan_finds_what_no_notification_told(directory: Path, watcher: Watcher, tmp_path: Path) -> None:
    (tmp_path / "target").write_text(text(X, "old"))
    (directory / "x.json").symlink_to(tmp_path / "target")
    watcher.source.rescan()
    (tmp_path / "target").write_text(text(X, "new"))
    events = watcher.source.rescan()
    assert [e.document.router.name for e in events if isinstance(e, Changed)] == ["new"]


def test_a_half_written_file_is_bad_for_now_and_good_again_later(directory: Path, watcher: Watcher) -> None:
    file = directory / "x.json"
    file.write_text(text(X, "good"))
    watcher.source.rescan()
    file.write_text(text(X, "better")[:20])
    (bad,) = [e for e in watcher.bad("x.json") if isinstance(e, Bad)]
    assert bad.router_id == X
    assert synced(watcher.source.rescan()) == Synced(frozenset({X}), True)
    assert watcher.source.status()["bad"].keys() == {"x.json"}
    file.write_text(text(X, "good"))
    watcher.changed(X, "good")
    assert watcher.source.status()["bad"] == {}


def test_an_empty_file_that_replaced_a_good_one_deletes_nothing(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X))
    watcher.source.rescan()
    (directory / "x.json").write_text("")
    assert not [e for e in watcher.bad("x.json") if isinstance(e, Deleted)]
    assert synced(watcher.source.rescan()).known == {X}


def test_a_bad_document_from_before_the_start_is_known_by_the_id_in_it(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(json.dumps({"id": X, "gw_port": 7}))
    (directory / "y.json").write_text("{")
    events = watcher.source.rescan()
    assert {(e.name, e.router_id) for e in events if isinstance(e, Bad)} == {("x.json", X), ("y.json", None)}
    assert events[-1] == Synced(frozenset({X}), False)
    (directory / "y.json").unlink()
    (directory / "x.json").unlink()
    watcher.deleted(X)
    assert watcher.source.rescan() == [Synced(frozenset(), True)]


def test_two_files_of_one_router(directory: Path, watcher: Watcher) -> None:
    (directory / "a.json").write_text(text(X, "first"))
    (directory / "b.json").write_text(text(X, "second"))
    events = watcher.source.rescan()
    assert [e.document.name for e in events if isinstance(e, Changed)] == ["a.json"]
    (bad,) = [e for e in events if isinstance(e, Bad)]
    assert "b.json" in str(bad.error)
    assert "a.json" in str(bad.error)
    (directory / "a.json").unlink()
    assert not [e for e in watcher.changed(X, "second") if isinstance(e, Deleted)]


def test_a_renamed_file_keeps_its_router(directory: Path, watcher: Watcher) -> None:
    (directory / "b.json").write_text(text(X))
    watcher.source.rescan()
    (directory / "b.json").rename(directory / "c.json")
    assert not [e for e in watcher.changed(X) if isinstance(e, Deleted | Bad)]
    assert watcher.source.status()["bad"] == {}
    assert synced(watcher.source.rescan()).known == {X}


def test_a_backup_of_a_file_that_is_written_anew_is_the_second_one(directory: Path, watcher: Watcher) -> None:
    """As ``mv x.json old.json; cp new x.json``: the name that was in force before stays so."""
    (directory / "x.json").write_text(text(X, "old"))
    watcher.source.rescan()
    (directory / "x.json").rename(directory / "old.json")
    (directory / "x.json").write_text(text(X, "new"))
    events = watcher.changed(X, "new")
    if not any(isinstance(e, Bad) for e in events):
        events += watcher.bad("old.json")
    assert not [e for e in events if isinstance(e, Deleted)]
    assert [e.document.name for e in events if isinstance(e, Changed)] == ["x.json"]
    assert list(watcher.source.status()["bad"]) == ["old.json"]


def test_a_file_that_is_removed_and_written_anew_at_once_is_no_deletion(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X, "old"))
    watcher.source.rescan()
    (directory / "x.json").unlink()
    (directory / "x.json").write_text(text(X, "new"))
    seen = watcher.changed(X, "new")
    (directory / "y.json").write_text(text(Y))
    (directory / "z.json").write_text(text(Z))
    seen += watcher.changed(Z)
    (directory / "z.json").unlink()
    seen += watcher.deleted(Z)
    assert [e.router_id for e in seen if isinstance(e, Deleted)] == [Z]


def test_a_file_that_is_created_and_removed_again_leaves_nothing(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X))
    watcher.source.rescan()
    (directory / "x.json").write_text(text(X, "other"))
    (directory / "x.json").unlink()
    watcher.deleted(X)
    assert synced(watcher.source.rescan()).known == frozenset()


def test_a_file_that_changes_its_router_deletes_the_old_one(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X))
    watcher.source.rescan()
    (directory / "x.json").write_text(text(Y))
    events = watcher.deleted(X)
    assert [type(e) for e in events] == [Changed, Deleted]
    assert synced(watcher.source.rescan()).known == {Y}


def test_a_missing_directory_is_an_error_and_its_appearance_the_first_sync(tmp_path: Path) -> None:
    path = tmp_path / "later"
    watcher = Watcher(path)
    (failed,) = watcher.source.rescan()
    assert isinstance(failed, Failed)
    assert str(path) in str(failed.error)
    path.mkdir()
    (path / "x.json").write_text(text(X))
    assert synced(watcher.source.rescan()).known == {X}
    assert watcher.source.status()["error"] is None
    (path / "y.json").write_text(text(Y))
    watcher.changed(Y)
    watcher.source.close()


def test_removing_the_whole_directory_deletes_no_router(directory: Path, watcher: Watcher) -> None:
    for number, router_id in enumerate((X, Y, Z)):
        (directory / f"{number}.json").write_text(text(router_id))
    watcher.source.rescan()
    shutil.rmtree(directory)
    assert [type(e) for e in watcher.failed()] == [Failed]
    assert [type(e) for e in watcher.source.rescan()] == [Failed]
    assert watcher.source.document(X) is not None
    directory.mkdir()
    (directory / "0.json").write_text(text(X))
    assert watcher.source.rescan() == [Synced(frozenset({X, Y, Z}), True)]
    assert watcher.source.status()["absent"] == ["1.json", "2.json"]
    assert watcher.source.rescan() == [Synced(frozenset({X}), True)]
    (directory / "0.json").write_text(text(X, "new"))
    watcher.changed(X, "new")


def test_a_directory_that_is_moved_away_is_an_error(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X))
    watcher.source.rescan()
    directory.rename(directory.with_name("elsewhere"))
    assert [type(e) for e in watcher.failed()] == [Failed]
    directory.with_name("elsewhere").rename(directory)
    assert synced(watcher.source.rescan()).known == {X}


def test_a_directory_that_is_switched_unnoticed_is_found_and_its_absentees_need_two_scans(tmp_path: Path) -> None:
    for name, routers in (("one", (X, Y)), ("two", (Y, Z))):
        (tmp_path / name).mkdir()
        for router_id in routers:
            (tmp_path / name / f"{router_id}.json").write_text(text(router_id))
    path = tmp_path / "routers"
    path.symlink_to("one")
    watcher = Watcher(path)
    watcher.source.rescan()
    path.unlink()
    path.symlink_to("two")
    events = watcher.source.rescan()
    assert [e.document.router.id for e in events[:-1] if isinstance(e, Changed)] == [Z]
    assert synced(events).known == {X, Y, Z}
    events += watcher.source.rescan()
    assert synced(events) == Synced(frozenset({Y, Z}))
    assert not [e for e in events if isinstance(e, Deleted)]
    (tmp_path / "two" / f"{Z}.json").write_text(text(Z, "new"))
    watcher.changed(Z, "new")
    watcher.source.close()


def test_a_directory_that_is_made_anew_is_watched_at_once(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X))
    (directory / "y.json").write_text(text(Y))
    watcher.source.rescan()
    shutil.rmtree(directory)
    watcher.failed()
    directory.mkdir()
    found = synced(watcher.synced())
    assert found.known == frozenset()
    assert "holds no document" in found.suspect
    assert watcher.source.status()["error"] is None
    (directory / "x.json").write_text(text(X, "new"))
    assert not [e for e in watcher.changed(X, "new") if isinstance(e, Deleted)]


def test_a_directory_that_is_replaced_by_an_empty_one_deletes_nothing(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X))
    watcher.source.rescan()
    directory.rename(directory.with_name("away"))
    directory.mkdir()
    events = watcher.synced()
    assert not [e for e in events if isinstance(e, Deleted)]
    assert synced(events).suspect
    assert synced(watcher.source.rescan()).suspect
    directory.rmdir()
    directory.with_name("away").rename(directory)
    events = watcher.until(lambda e: isinstance(e, Changed))
    events += watcher.source.rescan()
    assert (set(synced(events).known), synced(events).suspect) == ({X}, "")


def test_a_link_on_the_way_to_the_directory_that_is_switched_is_noticed(tmp_path: Path) -> None:
    for version, routers in (("1", (X, Y)), ("2", (Y, Z))):
        (tmp_path / version / "routers").mkdir(parents=True)
        for router_id in routers:
            (tmp_path / version / "routers" / f"{router_id}.json").write_text(text(router_id, version))
    (tmp_path / "current").symlink_to("1")
    watcher = Watcher(tmp_path / "current" / "routers")
    watcher.source.rescan()
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(tmp_path / "current")
    events = watcher.synced()
    assert {e.document.router.id for e in events if isinstance(e, Changed)} == {Y, Z}
    assert synced(events).known == {X, Y, Z}
    (tmp_path / "2" / "routers" / f"{Z}.json").write_text(text(Z, "written"))
    watcher.changed(Z, "written")
    watcher.source.close()


def mount(directory: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(directory)], check=True)


@pytest.mark.parametrize("lazy", [False, True], ids=["umount", "umount -l"])
def test_a_file_system_over_the_directory_deletes_nothing(host: None, directory: Path, lazy: bool) -> None:
    (directory / "x.json").write_text(text(X))
    watcher = Watcher(directory)
    watcher.source.rescan()
    mount(directory)
    events = watcher.synced()
    assert not [e for e in events if isinstance(e, Deleted)]
    assert (synced(events).known, bool(synced(events).suspect)) == (frozenset(), True)
    (directory / "y.json").write_text(text(Y))
    watcher.changed(Y)
    subprocess.run(["umount", *["-l"] * lazy, str(directory)], check=True)
    assert synced(watcher.synced()).known == {X, Y}
    assert synced(watcher.source.rescan()) == Synced(frozenset({X}))
    watcher.source.close()


def test_documents_on_a_file_system_that_is_unmounted_are_not_deleted(host: None, directory: Path) -> None:
    mount(directory)
    (directory / "x.json").write_text(text(X))
    watcher = Watcher(directory)
    watcher.source.rescan()
    subprocess.run(["umount", str(directory)], check=True)
    events = watcher.synced()
    assert not [e for e in events if isinstance(e, Deleted)]
    assert "holds no document" in synced(events).suspect
    watcher.source.close()


def test_an_empty_directory_at_the_start_is_suspect_until_two_scans_find_documents(
    directory: Path, watcher: Watcher
) -> None:
    assert "holds no document" in synced(watcher.source.rescan()).suspect
    (directory / "x.json").write_text(text(X))
    assert "no document until now" in synced(watcher.source.rescan()).suspect
    assert synced(watcher.source.rescan()).suspect == ""
    (directory / "x.json").unlink()
    watcher.deleted(X)
    assert synced(watcher.source.rescan()) == Synced(frozenset()), "each removal was seen"


def test_what_a_directory_lacks_that_is_being_filled_is_not_missing(directory: Path, watcher: Watcher) -> None:
    for name, router_id in (("x", X), ("y", Y), ("z", Z)):
        (directory / f"{name}.json").write_text(text(router_id))
    watcher.source.rescan()
    copy = directory.with_name("copy")
    shutil.copytree(directory, copy)
    shutil.rmtree(directory)
    watcher.failed()
    directory.mkdir()
    for name in ("x", "y", "z"):
        shutil.copy(copy / f"{name}.json", directory)
        assert synced(watcher.source.rescan()).known == {X, Y, Z}
    assert synced(watcher.source.rescan()).known == {X, Y, Z}


def test_a_document_that_a_rescan_misses_counts_as_missing_at_the_second_one(directory: Path) -> None:
    """As on a file system of the network, where others remove files and no notification comes."""
    for name, router_id in (("x", X), ("y", Y)):
        (directory / f"{name}.json").write_text(text(router_id))
    source = DirectorySource(str(directory), 30, MAX_SIZE)
    source.rescan()
    source._watch.unwatch()
    (directory / "y.json").unlink()
    source._read_notifications()
    source._changes.clear()
    assert synced(source.rescan()).known == {X, Y}
    events = source.rescan()
    assert events == [Synced(frozenset({X}))]
    source.close()


def test_a_document_renamed_to_another_suffix_is_deleted(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X))
    watcher.source.rescan()
    (directory / "x.json").rename(directory / "x.json.off")
    watcher.deleted(X)


def test_a_directory_in_place_of_a_document_is_a_bad_document(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X))
    watcher.source.rescan()
    (directory / "x.json").unlink()
    (directory / "x.json").mkdir()
    events = watcher.bad("x.json")
    assert not [e for e in events if isinstance(e, Deleted)]
    assert synced(watcher.source.rescan()).known == {X}


def test_after_the_last_bad_document_without_an_id_the_listing_is_complete_again(
    directory: Path, watcher: Watcher
) -> None:
    (directory / "x.json").write_text(text(X))
    (directory / "bad.json").write_text("{")
    assert not synced(watcher.source.rescan()).complete
    (directory / "bad.json").unlink()
    assert synced(watcher.synced()) == Synced(frozenset({X}))
    (directory / "bad.json").write_text("{")
    watcher.bad("bad.json")
    (directory / "bad.json").write_text(text(Y))
    assert synced(watcher.synced()) == Synced(frozenset({X, Y}))


@pytest.mark.parametrize(
    ("names", "first"),
    [(("a.json", f"{X}.json"), f"{X}.json"), (("b.json", "a.json"), "b.json"), ((f"{Y}.json", "z.json"), f"{Y}.json")],
)
def test_of_two_documents_found_together_the_one_named_after_the_router_or_the_older_one_is_in_force(
    directory: Path, watcher: Watcher, names: tuple[str, str], first: str
) -> None:
    for number, name in enumerate(names):
        (directory / name).write_text(text(X, name))
        os.utime(directory / name, (1000 + number, 1000 + number))
    events = watcher.source.rescan()
    assert [e.document.name for e in events if isinstance(e, Changed)] == [first]
    (bad,) = [e for e in events if isinstance(e, Bad)]
    assert all(name in str(bad.error) for name in names)


def test_a_file_in_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = DirectorySource(str(tmp_path / "file"), 30, MAX_SIZE)
    assert [type(e) for e in source.rescan()] == [Failed]
    source.close()


def test_what_is_no_regular_file_is_bad_and_blocks_nothing(directory: Path, watcher: Watcher) -> None:
    os.mkfifo(directory / "fifo.json")
    (directory / "directory.json").mkdir()
    (directory / "dangling.json").symlink_to("nowhere")
    os.mknod(directory / "socket.json", stat.S_IFSOCK | 0o600)
    (directory / "x.json").write_text(text(X))
    events = watcher.source.rescan()
    names = {"fifo.json", "directory.json", "dangling.json", "socket.json"}
    assert {e.name for e in events if isinstance(e, Bad)} == names
    assert [e.document.router.id for e in events if isinstance(e, Changed)] == [X]
    (directory / "late.json").mkdir()
    watcher.bad("late.json")


def test_a_large_file_is_bad_unread(directory: Path, watcher: Watcher) -> None:
    with (directory / "x.json").open("w") as file:
        file.truncate(1 << 40)
    (bad,) = [e for e in watcher.source.rescan() if isinstance(e, Bad)]
    assert f"{1 << 40} bytes: expected at most {MAX_SIZE} bytes" in str(bad.error)


def test_names_that_are_no_text_are_shown_escaped(directory: Path, watcher: Watcher) -> None:
    with open(os.fsencode(directory) + b"/\xff.json", "w") as file:
        file.write("{")
    (bad,) = [e for e in watcher.source.rescan() if isinstance(e, Bad)]
    assert bad.name == "\\xff.json"
    json.dumps(watcher.source.status()).encode()


def test_much_work_is_done_in_portions(directory: Path, watcher: Watcher) -> None:
    watcher.source.rescan()
    count = 3 * BATCH_FILES
    for number in range(count):
        (directory / f"{number:04}.json").write_text(text(f"00000000-0000-4000-8000-{number:012}"))
    portions: list[int] = []
    while sum(portions) < count:
        events = watcher.until(lambda e: isinstance(e, Changed))
        portions.append(len(events))
    assert max(portions) <= BATCH_FILES


def test_lost_notifications_are_made_up_for(directory: Path, watcher: Watcher) -> None:
    (directory / "y.json").write_text(text(Y))
    watcher.source.rescan()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    names = [directory / "a.tmp.json", directory / "b.tmp.json"]
    names[0].write_text(text(Z))
    for _ in range(limit // 2 + 10):
        names[0].rename(names[1])
        names.reverse()
    names[0].unlink()
    (directory / "x.json").write_text(text(X))
    watcher.changed(X)
    assert synced(watcher.source.rescan()).known >= {X, Y}


def test_a_removal_whose_notification_was_lost_takes_two_scans(directory: Path, watcher: Watcher) -> None:
    (directory / "x.json").write_text(text(X))
    (directory / "y.json").write_text(text(Y))
    watcher.source.rescan()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    names = [directory / "a.tmp.json", directory / "b.tmp.json"]
    names[0].write_text(text(Z))
    for _ in range(limit // 2 + 10):
        names[0].rename(names[1])
        names.reverse()
    (directory / "y.json").unlink()
    assert synced(watcher.source.rescan()).known == {X, Y, Z}
    events = watcher.source.rescan()
    assert synced(events).known == {X, Z}
    assert not [e for e in events if isinstance(e, Deleted)]


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """One that other users can reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.root
def test_files_without_permission_are_bad_until_they_can_be_read(public_directory: Path) -> None:
    """Runs in a child that gave up root, for root may read anything."""
    directory = public_directory
    (directory / "x.json").write_text(text(X))
    os.chmod(directory / "x.json", 0o600)
    to_child, to_parent = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        _unprivileged(directory, to_child[0], to_parent[1])
    answers = []
    try:
        for mode, target in ((0o600, directory / "x.json"), (0o644, directory / "x.json"), (0o700, directory)):
            os.chmod(target, mode)
            os.write(to_child[1], b"?")
            answers.append(os.read(to_parent[0], 100).decode())
    finally:
        os.close(to_child[1])
        os.waitpid(child, 0)
        for number in (to_child[0], *to_parent):
            os.close(number)
    assert answers == ["Bad Synced", "Changed Synced", "Failed"]


def _unprivileged(directory: Path, asked: int, answer: int) -> None:
    """Rescan whenever asked, as nobody, and answer with the kinds of events."""
    try:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        source = DirectorySource(str(directory), 30, MAX_SIZE)
        for _ in range(3):
            os.read(asked, 1)
            os.write(answer, " ".join(type(e).__name__ for e in source.rescan()).encode())
    finally:
        os._exit(0)
