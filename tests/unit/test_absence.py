"""When missing files count as deleted: scans in, names out."""

from __future__ import annotations

from dvr_agent.sources.absence import STEADY_SECONDS, Absence, Scan


def scan(*names: str, time: float = 0.0, mtime_ns: int = 1) -> Scan:
    return Scan(time, mtime_ns, frozenset(names))


def test_a_second_scan_of_the_same_directory_decides() -> None:
    absence = Absence("d")
    assert absence.judge(scan("a", "b"), set(), other=True) == []
    assert absence.judge(scan("a"), {"b"}, other=False) == []
    assert absence.names == ["b"]
    assert absence.judge(scan("a"), {"b"}, other=False) == ["b"]
    assert (absence.names, absence.suspect) == ([], "")


def test_scans_of_two_directories_have_nothing_to_do_with_each_other() -> None:
    absence = Absence("d")
    absence.judge(scan("a"), {"b"}, other=False)
    assert absence.judge(scan("a"), {"b"}, other=True) == []
    absence.forget()
    assert absence.judge(scan("a"), {"b"}, other=False) == []
    assert absence.judge(scan("a"), {"b"}, other=False) == ["b"]


def test_a_directory_that_is_being_filled_gets_time() -> None:
    absence = Absence("d")
    absence.judge(scan("a"), {"b", "c"}, other=True)
    assert absence.judge(scan("a", "b", time=1, mtime_ns=2), {"c"}, other=False) == []
    assert absence.judge(scan("a", "b", time=2, mtime_ns=2), {"c"}, other=False) == []
    assert absence.judge(scan("a", "b", time=STEADY_SECONDS, mtime_ns=2), {"c"}, other=False) == ["c"]


def test_what_is_there_again_must_be_missed_twice_anew() -> None:
    absence = Absence("d")
    absence.judge(scan("a"), {"b"}, other=True)
    absence.judge(scan("a", "b"), set(), other=False)
    assert absence.judge(scan("a"), {"b"}, other=False) == []


def test_an_empty_directory_is_suspect_until_two_scans_agree_on_documents() -> None:
    absence = Absence("d")
    assert absence.judge(scan(), {"a"}, other=False) == ["a"]
    assert absence.suspect == "directory d holds no document"
    absence.judge(scan("b"), set(), other=False)
    assert absence.suspect == "directory d held no document until now"
    absence.judge(scan("b"), set(), other=False)
    assert absence.suspect == ""


def test_an_empty_directory_whose_files_were_all_seen_to_go_is_not_suspect() -> None:
    absence = Absence("d")
    absence.judge(scan("a"), set(), other=True)
    absence.discard("a")
    absence.judge(scan(), set(), other=False)
    assert absence.suspect == ""


def test_an_empty_directory_at_the_start_is_suspect() -> None:
    absence = Absence("d")
    absence.judge(scan(), set(), other=True)
    assert absence.suspect
