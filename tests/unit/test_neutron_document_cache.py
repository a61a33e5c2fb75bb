"""Documents cached for a start without Neutron: the files, and the events that the source makes of them."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from dvr_agent.model.parse import parse_document
from dvr_agent.sources.api import Bad, Changed, Deleted, Synced
from dvr_agent.sources.cached_documents import MARKER, refusals
from dvr_agent.sources.directory import DirectorySource
from dvr_agent.sources.neutron.api import RemoteError, RouterDeleted, RouterRemoved, RoutersUpdated, ServerAwayError
from dvr_agent.sources.neutron.crossing.document_files import DocumentFiles
from dvr_agent.sources.neutron.store.document_cache import DocumentCache
from tests.support.scripted_neutron import Server, desk

AWAY = ServerAwayError("nobody there")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dvr-agent" / "compute1" / "routers"


def files(path: Path) -> set[str]:
    return {name.removesuffix(".json") for name in os.listdir(path) if name.endswith(".json")}


def test_cached_documents_are_readable_by_root_only(server: Server, path: Path) -> None:
    ids = {server.add(number) for number in range(3)}
    with desk(server, path) as a:
        a.sync()
        a.source.close()
        assert files(path) == ids
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.iterdir()} == {0o600}
        assert {entry.name for entry in path.iterdir() if entry.suffix != ".json"} == {MARKER}
        for router_id in ids:
            cached = parse_document((path / f"{router_id}.json").read_bytes(), "cached")
            assert cached == a.router(router_id)


def test_dvrctl_can_read_the_directory(server: Server, path: Path) -> None:
    ids = {server.add(number) for number in range(3)}
    with desk(server, path) as a:
        a.sync()
    source = DirectorySource(str(path), 3600, 1 << 24)
    events = source.rescan()
    source.close()
    assert events[-1] == Synced(frozenset(ids))
    assert len(events) == 4


def test_cached_documents_follow_updates_and_deletions(server: Server, path: Path) -> None:
    deleted, removed, unlisted, changed = (server.add(number) for number in range(4))
    with desk(server, path) as a:
        a.sync()
        server.routers[changed]["name"] = "new name"
        for router_id in (deleted, removed, unlisted):
            del server.routers[router_id]
        a.say(RouterDeleted(deleted))
        a.say(RouterRemoved(removed))
        a.say(RoutersUpdated((changed,)))
        a.next(Changed)
        a.sync()
    assert files(path) == {changed}
    assert b'"new name"' in (path / f"{changed}.json").read_bytes()


def test_cached_document_of_a_deleted_router_is_removed_before_the_next_sync(server: Server, path: Path) -> None:
    router_id = server.add(1)
    with desk(server, path) as a:
        a.sync()
        a.say(RouterDeleted(router_id))
        a.say(RoutersUpdated((server.add(2),)))
        a.next(Changed)
        assert router_id not in files(path)


def test_listing_that_lacks_most_routers_empties_the_cache_only_when_repeated(server: Server, path: Path) -> None:
    ids = [server.add(number) for number in range(12)]
    with desk(server, path) as a:
        a.sync()
    server.listed = []
    with desk(server, path) as b:
        b.sync()
    assert files(path) == set(ids)
    with desk(server, path) as c:
        c.sync()
        c.sync()
    assert files(path) == set()


def test_a_file_that_is_missing_is_written_by_the_next_sync(server: Server, path: Path) -> None:
    router_id = server.add(1)
    with desk(server, path) as a:
        a.sync()
        gate = server.hold("get_router_ids")
        a.source.rescan()
        gate.wait()
        (path / f"{router_id}.json").unlink()
        gate.open()
        a.next(Synced)
    assert files(path) == {router_id}


def test_readers_see_whole_documents_only(tmp_path: Path) -> None:
    cache = DocumentCache(DocumentFiles(tmp_path))
    name, texts = "b2ab8d4e-3c3a-4f2f-9d0c-0d9e1ce4a111", (b"a" * 100_000, b"b" * 300_000)
    cache.write(name, texts[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for text in texts:
                cache.write(name, text)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(200):
            assert (tmp_path / f"{name}.json").read_bytes() in texts
    finally:
        stop.set()
        thread.join()


def test_cache_that_cannot_be_written_does_not_affect_routers(server: Server, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("a file where the directory should be")
    router_id = server.add(1)
    with desk(server, path) as a:
        assert a.sync().known == frozenset({router_id})


# Starts without a server


def fill(server: Server, path: Path, number: int = 2) -> list[str]:
    ids = [server.add(index) for index in range(number)]
    with desk(server, path) as a:
        a.sync()
    return ids


def test_without_an_answer_cached_documents_are_used_and_remove_no_router(server: Server, path: Path) -> None:
    ids = fill(server, path)
    server.away(AWAY)
    with desk(server, path, fallback_after=0.05) as a:
        a.source.rescan()
        found = a.next(Synced)
        assert (found.known, found.complete) == (frozenset(ids), False)
        assert "kept from 20" in found.why
        assert sum(isinstance(event, Changed) for event in a.events) == 2
        assert a.router(ids[0]).ports_by_subnet


def test_first_full_sync_supersedes_cached_documents(server: Server, path: Path) -> None:
    same, other, gone = fill(server, path, 3)
    server.away(AWAY)
    with desk(server, path, fallback_after=0.05) as a:
        a.source.rescan()
        a.next(Synced)
        before = len(a.events)
        server.routers[other]["name"] = "new name"
        del server.routers[gone]
        server.away(None)
        assert a.next(Synced) == Synced(frozenset({same, other}))
        news = [event for event in a.since(before) if isinstance(event, Changed | Deleted)]
        assert [event.document.router.name for event in news if isinstance(event, Changed)] == ["new name"]
        assert len(news) == 1
        assert a.source.document(gone) is None
    assert files(path) == {same, other}


def test_cache_that_was_never_complete_is_not_used(server: Server, path: Path) -> None:
    fill(server, path)
    (path / MARKER).unlink()
    server.away(AWAY)
    with desk(server, path, fallback_after=0.01) as a:
        a.source.rescan()
        a.source._fallback.join()
        a.take()
        assert not any(isinstance(event, Changed | Synced) for event in a.events)


def test_cache_is_not_used_when_the_server_answers_in_time(server: Server, path: Path) -> None:
    ids = fill(server, path)
    del server.routers[ids[0]]
    with desk(server, path, fallback_after=0.2) as a:
        a.sync()
        a.source._fallback.join()
        a.take()
        assert [event for event in a.events if isinstance(event, Synced)] == [Synced(frozenset({ids[1]}))]


def test_bad_half_written_and_foreign_files_are_skipped(server: Server, path: Path) -> None:
    good, half, swapped = fill(server, path, 3)
    text = (path / f"{half}.json").read_bytes()
    (path / f"{half}.json").write_bytes(text[: len(text) // 2])
    (path / f"{swapped}.json").write_bytes((path / f"{good}.json").read_bytes())
    (path / "notes.json").write_text("{}")
    (path / f"{half}.json.bak").write_bytes(text)
    (path / "b2ab8d4e-3c3a-4f2f-9d0c-0d9e1ce4a111.json").symlink_to("/dev/zero")
    server.away(AWAY)
    with desk(server, path, fallback_after=0.01) as a:
        a.source.rescan()
        assert a.next(Synced).known == frozenset({good})


def test_a_router_deleted_before_the_fallback_stays_deleted(server: Server, path: Path) -> None:
    here, gone = fill(server, path)
    gate = server.hold("report_state")
    with desk(server, path, fallback_after=0.3) as a:
        a.source.rescan()
        gate.wait()
        a.say(RouterDeleted(gone))
        assert a.next(Synced).known == frozenset({here})
        gate.open()


def test_refusal_of_the_newest_document_is_noted_until_a_newer_one_can_be_used(server: Server, path: Path) -> None:
    first, second = server.add(1), server.add(2)
    with desk(server, path) as a:
        a.sync()
        assert refusals(path) == {}
        router = server.routers[first]
        mtu, router["_interfaces"][0]["mtu"] = router["_interfaces"][0]["mtu"], -1
        a.say(RoutersUpdated((first,)))
        a.next(Bad, first)
        a.sync()
        assert files(path) == {first, second}
        assert list(refusals(path)) == [first]
        assert "mtu is -1" in refusals(path)[first]
    with desk(server, path) as a:  # the next life of the agent, and the router is as it was
        router["_interfaces"][0]["mtu"] = mtu
        a.sync()
        assert refusals(path) == {}


def test_router_that_the_server_cannot_describe_is_noted(server: Server, path: Path) -> None:
    router_id = server.add(1)
    with desk(server, path) as a:
        server.fail("get_ports_by_subnet", *[RemoteError("no such subnet")] * 3)
        a.say(RoutersUpdated((router_id,)))
        a.sync()
        a.wait(lambda: a.source.document(router_id))
        a.sync()
        assert refusals(path) == {}
        server.answers["sync_routers"] = lambda asked: [{"id": router_id, "distributed": "perhaps"}]
        a.say(RoutersUpdated((router_id,)))
        a.next(Bad, router_id)
        a.sync()
        assert list(refusals(path)) == [router_id]


def test_notes_of_deleted_routers_are_removed(server: Server, path: Path) -> None:
    ids = [server.add(number) for number in range(3)]
    with desk(server, path) as a:
        a.sync()
        good = {router_id: server.routers[router_id] for router_id in ids}
        for router_id in ids:
            server.routers[router_id] = {"id": router_id}
        a.sync()
        assert set(refusals(path)) == set(ids)
        a.say(RouterDeleted(ids[0]))
        del server.routers[ids[0]]
        a.sync()
        assert set(refusals(path)) == set(ids[1:])
        server.listed = [ids[2]]
        a.sync()
        a.sync()
        assert set(refusals(path)) == {ids[2]}
        server.routers[ids[2]] = good[ids[2]]
        a.sync()
        assert refusals(path) == {}
        assert files(path) == {ids[2]}
