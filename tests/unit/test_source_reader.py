"""In which thread the daemon polls a source."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import cast

import pytest

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.listing import RouterListing
from dvr_agent.daemon.resync import Resync
from dvr_agent.daemon.schedule import Schedule
from dvr_agent.daemon.source_reader import EVENTS_AT_ONCE, SourceReader
from dvr_agent.daemon.worker import WorkerThread
from dvr_agent.settings import RetryPolicy
from dvr_agent.sources.api import Event, Source, Synced


class PolledSource:
    """Has one listing to report; notes the thread that polls it."""

    rescan_interval = 30.0

    def __init__(self, poll_blocks: bool) -> None:
        self.poll_blocks = poll_blocks
        self.threads: list[str] = []
        self.events: list[Event] = [Synced(frozenset({"r1"}))]

    def poll(self) -> list[Event]:
        self.threads.append(threading.current_thread().name)
        return self.events

    @property
    def bad_documents(self) -> dict[str, str]:
        return {}


@pytest.mark.parametrize("blocks", [True, False])
def test_only_a_poll_that_blocks_runs_in_the_worker_thread(blocks: bool) -> None:
    source, listing, worker = PolledSource(blocks), RouterListing(), WorkerThread()
    heard: list[frozenset[str]] = []
    resync = SimpleNamespace(listed=lambda: heard.append(frozenset(listing.known)))
    schedule = Schedule(RetryPolicy(1, 1))
    reader = SourceReader(cast(Source, source), worker, schedule, listing, cast(Resync, resync))
    worker.start()
    reader.poll()
    assert heard == [{"r1"}]
    assert source.threads == ["worker" if blocks else threading.current_thread().name]


def test_other_green_threads_have_their_turn_while_very_many_events_are_taken() -> None:
    source, listing = PolledSource(False), RouterListing()
    source.events *= 10 * EVENTS_AT_ONCE
    taken: list[int] = []
    turns: list[int] = []
    resync = SimpleNamespace(listed=lambda: taken.append(1))

    def other() -> None:
        while len(taken) < len(source.events):
            turns.append(len(taken))
            eventlet_shim.sleep(0)

    reader = SourceReader(
        cast(Source, source), WorkerThread(), Schedule(RetryPolicy(1, 1)), listing, cast(Resync, resync)
    )
    eventlet_shim.spawn(other)
    reader.poll()
    assert len(set(turns)) >= 9
