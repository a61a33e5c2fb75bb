"""Waits for the sockets and deadlines of all virtual routers, in one thread."""

from __future__ import annotations

import heapq
import logging
import select
import time
from collections.abc import Callable, Iterator

from dvr_agent.vrrp.speaker import Speaker

LOG = logging.getLogger(__name__)

IDLE = 1.0
"""Longest wait, in seconds: signals and the watchdog are looked at that often."""
EVENTS = 1024


class Loop:
    """All virtual routers of the host.

    :ivar late: largest delay of an advertisement in seconds, of speakers that are gone too
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._speakers: dict[str, Speaker] = {}
        self._deadlines: list[tuple[float, str]] = []
        """A heap; an entry whose speaker has another deadline by now is out of date."""

    def __len__(self) -> int:
        return len(self._speakers)

    def __iter__(self) -> Iterator[Speaker]:
        return iter(self._speakers.values())

    def get(self, router_id: str) -> Speaker | None:
        """Return the speaker of a router."""
        return self._speakers.get(router_id)

    def add(self, speaker: Speaker) -> None:
        """Wait for a speaker's sockets and deadline."""
        self._speakers[speaker.router_id] = speaker
        for sock, read in (
            (speaker.sockets.vrrp, speaker.read_adverts),
            (speaker.sockets.events, speaker.read_events),
        ):
            self.watch(sock.fileno(), self._then_schedule(speaker, read))
        self.schedule(speaker)

    def remove(self, router_id: str) -> Speaker | None:
        """Forget a speaker; its sockets are open still."""
        speaker = self._speakers.pop(router_id, None)
        if speaker is not None:
            for sock in (speaker.sockets.vrrp, speaker.sockets.events):
                self.unwatch(sock.fileno())
        return speaker

    def watch(self, descriptor: int, read: Callable[[], None]) -> None:
        """Call a function whenever a descriptor is readable."""
        self._readers[descriptor] = read
        self._poll.register(descriptor, select.EPOLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Undo :meth:`watch`."""
        del self._readers[descriptor]
        self._poll.unregister(descriptor)

    def schedule(self, speaker: Speaker) -> None:
        """Note the deadline of a speaker, after whatever may have changed it."""
        if speaker.deadline is not None:
            heapq.heappush(self._deadlines, (speaker.deadline, speaker.router_id))

    def turn(self) -> None:
        """Wait once, and handle what has come.  Deadlines come first: a late advertisement makes two masters."""
        ready = self._poll.poll(self._wait(), EVENTS)
        self.expire()
        for descriptor, _ in ready:
            read = self._readers.get(descriptor)
            if read is not None:
                read()
                self.expire()

    def expire(self) -> None:
        """Handle the deadlines that are due."""
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            at, router_id = heapq.heappop(self._deadlines)
            speaker = self._speakers.get(router_id)
            if speaker is not None and speaker.deadline == at:
                speaker.expire(time.monotonic())
                self.schedule(speaker)

    def close(self) -> None:
        """Stop waiting."""
        self._poll.close()

    def _then_schedule(self, speaker: Speaker, read: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            before = speaker.deadline
            read()
            if speaker.deadline != before:
                self.schedule(speaker)

        return call

    def _wait(self) -> float:
        if not self._deadlines:
            return IDLE
        return min(IDLE, max(0.0, self._deadlines[0][0] - time.monotonic()))
