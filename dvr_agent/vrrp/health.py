"""When a master asks the router's gateways for an answer, and when it yields because they do not answer.  Pure.

As keepalived does it by neutron-l3-agent's script: a backup, which has no addresses on the external network, asks
nobody; a host that has yielded takes part again after as long as two checks take.
"""

from __future__ import annotations

from enum import Enum

FALL, RISE = 2, 2
"""Checks in a row after which a host yields, and after which it takes part again."""
ANSWER = 1.0
"""Seconds in which a gateway has to answer."""


class Step(Enum):
    """What is due at the deadline of a check."""

    ASK = "send echo requests to all gateways"
    JUDGE = "see which gateways have answered"
    RETURN = "take part in VRRP again"


class GatewayCheck:
    """The check of one virtual router; a method takes the present time in seconds of one monotonic clock.

    :param interval: seconds between two checks
    :ivar deadline: time at which :attr:`step` is due; None: never, since this host is no master
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self.deadline: float | None = None
        self.step = Step.ASK
        self._next = 0.0
        self._failures = 0

    def begin(self, now: float) -> None:
        """Begin, since this host has become the master."""
        self._failures = 0
        self._set(Step.ASK, now + self._interval)

    def end(self) -> None:
        """End, unless this host waits until it takes part again."""
        if self.step is not Step.RETURN:
            self.deadline = None

    def asked(self, now: float) -> None:
        """Note that echo requests were sent."""
        self._next = now + self._interval
        self._set(Step.JUDGE, now + ANSWER)

    def judge(self, now: float, is_answered: bool) -> bool:
        """Note whether all gateways have answered; returns True if this host has to yield."""
        self._failures = 0 if is_answered else self._failures + 1
        if self._failures < FALL:
            self._set(Step.ASK, self._next)
            return False
        self._set(Step.RETURN, now + RISE * self._interval)
        return True

    def returned(self) -> None:
        """Note that this host takes part again."""
        self._set(Step.ASK, None)

    def _set(self, step: Step, at: float | None) -> None:
        self.step, self.deadline = step, at
