"""Asks for routers: as many at a time as the server can answer in time, and one by one if one of them is an error.

Chunk sizes are those of neutron.agent.l3.agent (SYNC_ROUTERS_MAX_CHUNK_SIZE, …_MIN_…).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dvr_agent.model.values import canonical_id
from dvr_agent.sources.neutron.api import Json, RemoteError, ServerError, ServerTimeoutError
from dvr_agent.sources.neutron.crossing.fetch_inbox import FetchInbox
from dvr_agent.sources.neutron.crossing.router_store import RouterStore

CHUNK_MAX, CHUNK_MIN = 256, 32
SOON, LATE = 15.0, 30.0
"""A chunk answered within SOON seconds lets the next one grow, one that took longer than LATE halves it."""
SINGLE_FAILURES = 5
"""If so many routers in a row fail when asked for alone, and none succeeds, the whole chunk has failed."""


@dataclass(slots=True)
class RoutersAnswer:
    """The server's answer about a chunk of routers.

    :ivar query: number of the query, see ``RouterStore.begin_query``
    :ivar request_number: see ``FetchInbox.request_number``
    :ivar routers: by id; also routers that were not asked for (the server adds those connected by a subnet)
    :ivar bad: routers for which the server has no proper answer, and its error
    :ivar failed: why there is no answer at all, None if there is one
    """

    asked: tuple[str, ...]
    query: int
    request_number: int
    routers: dict[str, Json] = field(default_factory=dict)
    bad: dict[str, ServerError] = field(default_factory=dict)
    failed: ServerError | None = None

    @property
    def missing(self) -> list[str]:
        """Routers that were asked for and are not in the answer."""
        if self.failed is not None:
            return []
        return [router_id for router_id in self.asked if router_id not in self.routers and router_id not in self.bad]


class ChunkedFetch:
    """Splits questions about many routers.

    :param ask: ``L3Plugin.sync_routers``, or a function with its arguments and result
    :ivar size: how many routers are asked for at a time
    """

    def __init__(
        self,
        ask: Callable[[Sequence[str]], list[Json]],
        routers: RouterStore,
        inbox: FetchInbox,
        size: int = CHUNK_MIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask_server, self._routers, self._inbox, self._clock = ask, routers, inbox, clock
        self.size = size

    def ask(self, router_ids: Sequence[str]) -> Iterator[RoutersAnswer]:
        """Ask for routers, chunk after chunk.

        :raises ServerAwayError: the server cannot be reached; time-outs of single chunks are
            :attr:`RoutersAnswer.failed`
        """
        rest = list(router_ids)
        while rest:
            chunk = rest[: self.size]
            answer = RoutersAnswer(tuple(chunk), self._routers.begin_query(), self._inbox.request_number())
            began = self._clock()
            try:
                self._fill(answer)
            except ServerTimeoutError as exc:
                smaller = max(min(self.size, len(chunk)) // 2, CHUNK_MIN)
                if len(chunk) > CHUNK_MIN:
                    self.size = smaller
                    continue
                answer.failed = exc
            except RemoteError as exc:
                answer.failed = exc
            if answer.failed is None and len(chunk) == self.size:
                self._fit(self._clock() - began)
            rest = rest[len(chunk) :]
            yield answer

    def _fit(self, seconds: float) -> None:
        """Fit the size to the time that an answer took."""
        if seconds <= SOON:
            self.size = min(self.size + CHUNK_MIN, CHUNK_MAX)
        elif seconds > LATE:
            self.size = max(self.size // 2, CHUNK_MIN)

    def _fill(self, answer: RoutersAnswer) -> None:
        try:
            has_invalid = self._ask(answer, answer.asked)
        except RemoteError as exc:
            if len(answer.asked) == 1:
                answer.bad[answer.asked[0]] = exc
                return
            self._one_by_one(answer, answer.asked)
            return
        if has_invalid and len(answer.asked) > 1:
            self._one_by_one(answer, answer.missing)
        elif has_invalid and answer.missing:
            answer.bad[answer.asked[0]] = RemoteError("sync_routers: the answer has a router without id")

    def _one_by_one(self, answer: RoutersAnswer, router_ids: Sequence[str]) -> None:
        """Ask for each router alone.

        :raises RemoteError: the first few fail, each
        """
        good = len(answer.routers)
        for number, router_id in enumerate(router_ids, 1):
            try:
                has_invalid = self._ask(answer, [router_id])
            except RemoteError as exc:
                answer.bad[router_id] = exc
                if not good and number == len(answer.bad) == SINGLE_FAILURES < len(router_ids):
                    raise
                continue
            good += 1
            if has_invalid and router_id not in answer.routers:
                answer.bad[router_id] = RemoteError("sync_routers: the answer has a router without id")

    def _ask(self, answer: RoutersAnswer, router_ids: Sequence[str]) -> bool:
        """Add the server's routers; returns True if the answer contains an entry without a valid router id.

        :raises ServerError: there is no answer
        """
        found = self._ask_server(router_ids)
        if not isinstance(found, list):
            raise RemoteError("sync_routers: the answer is no list")
        has_invalid = False
        for raw in found:
            router_id = canonical_id(raw.get("id")) if isinstance(raw, dict) else None
            if router_id is None:
                has_invalid = True
            else:
                answer.routers[router_id] = raw
        return has_invalid
