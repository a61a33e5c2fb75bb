"""Logs failures of routers: each once, again after growing pauses, and one line for what many routers share.

Belongs to the hub's thread; no eventlet: ``schedule`` calls :meth:`FailureLog.tick` every few seconds.

* The first failure of a router for a reason is an error.  While the router fails for the same reason, a line reminds of
  it after a minute, then after two, four … up to an hour.
* Reasons that differ in ids, addresses, devices or numbers only are of one kind.  Of a kind that several routers have,
  the first :data:`SINGLE` are logged; all others, and what reminds of them, are summed up.
* The end of a failure that was logged is logged too.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field

from dvr_agent import plural
from dvr_agent.daemon.job_texts import some_ids

LOG = logging.getLogger(__name__)

SINGLE = 3
"""Routers of one kind of failure that have a line of their own."""
SUM_PAUSE = 5.0
"""Seconds in which further routers of a kind are counted before they are summed up; doubled each time."""
REMIND, REMIND_MAX = 60.0, 3600.0
"""Seconds until a failure that goes on is logged again: the first time, and at most."""
KINDS = 8
"""Kinds of failure of one router that are remembered: it may fail for two reasons in turn."""

_VARIABLE = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\b(?:qr|qg|sg|fg|ha|rfp|fpr|tap|brq)-?[0-9a-f]{8}[0-9a-f-]*"
    r"|\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"
    r"|\b[0-9a-f]*:[0-9a-f:]*:[0-9a-f]*(?:/\d+)?"
    r"|\d+(?:\.\d+)*(?:/\d+)?"
)


def kind_of(reason: str) -> str:
    """Return a reason without ids, addresses, device names and numbers."""
    return _VARIABLE.sub("…", reason)


@dataclass(slots=True)
class _Failing:
    """A router that fails.

    :ivar reason: of its newest failure
    :ivar known: kind of failure → (time of the next reminder, pause after it)
    :ivar logged: a line named the router, or counted it
    """

    subject: str
    kind: str
    since: float
    reason: str = ""
    tries: int = 0
    known: dict[str, tuple[float, float]] = field(default_factory=dict)
    logged: bool = False


@dataclass(slots=True)
class _Kind:
    """A kind of failure that routers have.

    :ivar example: the reason of the router that had it first
    :ivar routers: ids of the routers that have it now, in the order in which they got it
    :ivar single: routers that got a line of their own
    :ivar waiting: router → its line: routers that are to be summed up
    :ivar recovered: router → its line, of routers whose end of failure is to be summed up
    :ivar due: time of the next sum; 0: none is due
    """

    example: str
    since: float
    routers: dict[str, None] = field(default_factory=dict)
    single: int = 0
    waiting: dict[str, str] = field(default_factory=dict)
    recovered: dict[str, str] = field(default_factory=dict)
    due: float = 0.0
    pause: float = SUM_PAUSE
    remind_at: float = 0.0
    remind_pause: float = REMIND

    @property
    def is_shared(self) -> bool:
        """True if more routers have had it than get lines of their own."""
        return self.single >= SINGLE


class FailureLog:
    """The failures that are in the log, or are about to be.  Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._routers: dict[str, _Failing] = {}
        self._kinds: dict[str, _Kind] = {}

    @property
    def is_busy(self) -> bool:
        """True if :meth:`tick` may have something to log later."""
        return any(kind.is_shared for kind in self._kinds.values())

    def failed(self, router_id: str, subject: str, reason: str, retry: float, now: float) -> None:
        """Take note of a try that failed.

        :param subject: the router, for the log
        :param retry: seconds until the next try
        """
        text = kind_of(reason)
        failing = self._routers.setdefault(router_id, _Failing(subject, text, now))
        failing.tries += 1
        failing.reason = reason
        kind = self._join(router_id, failing, text, now)
        remind_at, pause = failing.known.get(text, (0.0, REMIND))
        line = f"{subject}: failed: {reason}; retrying in {retry:.1f} s (try {failing.tries + 1})"
        if not remind_at:
            self._first(router_id, failing, kind, line, now)
        elif now >= remind_at and not kind.is_shared:
            LOG.error("%s, for %.0f s", line, now - failing.since)
            failing.known[text] = (now + pause, min(2 * pause, REMIND_MAX))
        else:
            LOG.debug("%s", line)

    def succeeded(self, router_id: str, subject: str, now: float) -> bool:
        """Take note of a job that needs no retry; returns True if the router had failed."""
        failing = self._leave(router_id)
        if failing is None:
            return False
        kind = self._kinds.get(failing.kind)
        tries = plural.count(failing.tries, "failed try")
        line = f"{subject}: recovered after {tries} in {now - failing.since:.0f} s"
        if failing.logged and kind is not None and kind.is_shared:
            kind.recovered[router_id] = line
            kind.due = kind.due or now + SUM_PAUSE
        elif failing.logged:
            LOG.info("%s", line)
        self._drop_empty()
        return True

    def forget(self, router_id: str) -> None:
        """Forget a router that is gone, or that is degraded for another reason now."""
        self._leave(router_id)
        self._drop_empty()

    def tick(self, now: float) -> None:
        """Log what is due: sums of failures and recoveries, reminders of shared failures."""
        for kind in self._kinds.values():
            if kind.due and now >= kind.due:
                self._sum_up(kind)
            if kind.is_shared and kind.routers and now >= kind.remind_at:
                LOG.error(
                    "%s still %s, for %.0f s: %s (%s)",
                    _routers(len(kind.routers)), _fail(len(kind.routers)), now - kind.since, self._like(kind),
                    some_ids([*kind.routers]),
                )  # fmt: skip
                kind.remind_at, kind.remind_pause = now + kind.remind_pause, min(2 * kind.remind_pause, REMIND_MAX)
        self._drop_empty()

    def _join(self, router_id: str, failing: _Failing, text: str, now: float) -> _Kind:
        """Count a router for a kind of failure, and no more for the one that it had."""
        before = self._kinds.get(failing.kind)
        if before is not None and failing.kind != text:
            before.routers.pop(router_id, None)
        failing.kind = text
        kind = self._kinds.get(text)
        if kind is None:
            kind = self._kinds[text] = _Kind(failing.reason, now, remind_at=now + REMIND, remind_pause=2 * REMIND)
        kind.routers[router_id] = None
        return kind

    def _first(self, router_id: str, failing: _Failing, kind: _Kind, line: str, now: float) -> None:
        """Log a router's first failure of a kind, or count it for the sum."""
        if len(failing.known) >= KINDS:
            failing.known.pop(next(iter(failing.known)))
        failing.known[failing.kind] = (now + REMIND, 2 * REMIND)
        if kind.is_shared:
            kind.waiting[router_id] = line
            kind.due = kind.due or now + kind.pause
            LOG.debug("%s", line)
            return
        kind.single += 1
        failing.logged = True
        LOG.error("%s", line)

    def _sum_up(self, kind: _Kind) -> None:
        waiting = [one for one in kind.waiting if one in kind.routers]
        for router_id in waiting:
            self._routers[router_id].logged = True
        if len(waiting) > SINGLE:
            LOG.error(
                "%s %s, too: %s (%s)",
                plural.count(len(waiting), "more router"), _fail(len(waiting)), self._like(kind), some_ids(waiting),
            )  # fmt: skip
            kind.pause = min(2 * kind.pause, REMIND)
        else:
            for router_id in waiting:
                LOG.error("%s", kind.waiting[router_id])
        if len(kind.recovered) > SINGLE:
            left = f"; {_routers(len(kind.routers))} still {_fail(len(kind.routers))}" if kind.routers else ""
            LOG.info(
                "recovered: %s (%s) that had failed: %s%s",
                _routers(len(kind.recovered)), some_ids([*kind.recovered]), kind.example, left,
            )  # fmt: skip
        else:
            for line in kind.recovered.values():
                LOG.info("%s", line)
        kind.waiting, kind.recovered, kind.due = {}, {}, 0.0

    def _like(self, kind: _Kind) -> str:
        """Return one router of a kind and its reason."""
        failing = self._routers[next(iter(kind.routers))]
        return f"like {failing.subject}: {failing.reason}"

    def _leave(self, router_id: str) -> _Failing | None:
        failing = self._routers.pop(router_id, None)
        if failing is not None and failing.kind in self._kinds:
            self._kinds[failing.kind].routers.pop(router_id, None)
        return failing

    def _drop_empty(self) -> None:
        for text, kind in list(self._kinds.items()):
            if not kind.routers and not kind.due:
                del self._kinds[text]


def _routers(number: int) -> str:
    return plural.count(number, "router")


def _fail(number: int) -> str:
    return plural.verb(number, "fails", "fail")
