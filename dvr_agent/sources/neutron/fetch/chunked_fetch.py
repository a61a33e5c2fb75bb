"""Asks for router documents: as many at a time as the server can answer, and one by one around a bad one.

Belongs to the fetch thread.  Sizes are those of neutron.agent.l3.agent (SYNC_ROUTERS_MAX_CHUNK_SIZE, …_MIN_…).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dvr_agent.sources.neutron.api import Json, L3Plugin, RemoteError, ServerError, ServerTimeoutError
from dvr_agent.sources.neutron.documents import canonical_id

CHUNK_MAX, CHUNK_MIN = 256, 32
SINGLE_FAILURES = 5
"""When so many routers in a row cannot be had one by one either, and none could, the fault is the server's."""


@dataclass(slots=True)
class Answer:
    """What came of asking for some routers.

    :ivar question: its number, see ``Store.begin``
    :ivar mark: see ``Requests.mark``
    :ivar routers: by id; also of routers that nobody asked for (the server adds those connected by a subnet)
    :ivar bad: those that the server has no proper answer for, and its error
    :ivar failed: why there is no answer at all, None if there is one
    """

    asked: tuple[str, ...]
    question: int
    mark: int
    routers: dict[str, Json] = field(default_factory=dict)
    bad: dict[str, ServerError] = field(default_factory=dict)
    failed: ServerError | None = None

    @property
    def missing(self) -> list[str]:
        """Those that the answer leaves out."""
        if self.failed is not None:
            return []
        return [router_id for router_id in self.asked if router_id not in self.routers and router_id not in self.bad]


class Inquiry:
    """
    :ivar size: how many routers are asked for at a time
    """

    def __init__(self, plugin: L3Plugin, begin: Callable[[], int], mark: Callable[[], int]) -> None:
        self._plugin, self._begin, self._mark = plugin, begin, mark
        self.size = CHUNK_MAX

    def ask(self, router_ids: Sequence[str]) -> Iterator[Answer]:
        """The routers, chunk after chunk.

        :raises ServerAwayError: the server cannot be reached; time-outs of single chunks are :attr:`Answer.failed`
        """
        rest = list(router_ids)
        while rest:
            chunk = rest[: self.size]
            answer = Answer(tuple(chunk), self._begin(), self._mark())
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
                self.size = min(self.size + CHUNK_MIN, CHUNK_MAX)
            rest = rest[len(chunk) :]
            yield answer

    def _fill(self, answer: Answer) -> None:
        try:
            unclear = self._ask(answer, answer.asked)
        except RemoteError as exc:
            if len(answer.asked) == 1:
                answer.bad[answer.asked[0]] = exc
                return
            self._one_by_one(answer, answer.asked)
            return
        if unclear and len(answer.asked) > 1:
            self._one_by_one(answer, answer.missing)
        elif unclear and answer.missing:
            answer.bad[answer.asked[0]] = RemoteError("sync_routers: the answer has a router without id")

    def _one_by_one(self, answer: Answer, router_ids: Sequence[str]) -> None:
        """
        :raises RemoteError: none of the first few can be had
        """
        good = len(answer.routers)
        for number, router_id in enumerate(router_ids, 1):
            try:
                unclear = self._ask(answer, [router_id])
            except RemoteError as exc:
                answer.bad[router_id] = exc
                if not good and number == len(answer.bad) == SINGLE_FAILURES < len(router_ids):
                    raise
                continue
            good += 1
            if unclear and router_id not in answer.routers:
                answer.bad[router_id] = RemoteError("sync_routers: the answer has a router without id")

    def _ask(self, answer: Answer, router_ids: Sequence[str]) -> bool:
        """Add what the server says; True if something in its answer is of nobody knows whom.

        :raises ServerError: there is no answer
        """
        found = self._plugin.sync_routers(router_ids)
        if not isinstance(found, list):
            raise RemoteError("sync_routers: the answer is no list")
        unclear = False
        for raw in found:
            router_id = canonical_id(raw.get("id")) if isinstance(raw, dict) else None
            if router_id is None:
                unclear = True
            else:
                answer.routers[router_id] = raw
        return unclear
