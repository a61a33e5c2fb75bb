"""The state machine of one virtual router (RFC 3768, section 6), as keepalived runs it with ``nopreempt``.  Pure.

A method takes the present time and what happened, and returns what has to be done, in that order.  All times are
seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from dvr_agent.vrrp.advert import Advert

ANNOUNCE_AGAIN = 60.0
"""Seconds after which a master announces its addresses once more (keepalived: garp_master_delay)."""


class State(Enum):
    """States of a virtual router on this host.

    FAULT: its interface is down, or this host does not reach the router's gateways, so that it can be neither.
    """

    BACKUP = "backup"
    MASTER = "master"
    FAULT = "fault"


class Action(Enum):
    """What a change of the state needs.  Addresses are those that the master has, with their routes."""

    SEND = "send an advertisement"
    YIELD = "send an advertisement with priority 0"
    PROMPT = "send an advertisement with the lowest priority"
    TAKE = "add addresses"
    RELEASE = "remove addresses"
    ANNOUNCE = "announce addresses"


class Instance:
    """One virtual router.

    :param interval: seconds between advertisements
    :param source: own address on the interface, as a number
    :ivar deadline: next time at which :meth:`expire` has to be called; None: never
    """

    def __init__(self, interval: int, priority: int, source: int) -> None:
        self._interval, self._priority, self._source = interval, priority, source
        self.state = State.FAULT
        self._is_up, self._reaches_gateways = False, True
        self.deadline: float | None = None
        self._announce_at: float | None = None
        self._next: float | None = None

    @property
    def skew(self) -> float:
        """Seconds by which a backup waits longer the lower its priority is."""
        return (256 - self._priority) / 256

    def start(self, now: float, holds_addresses: bool) -> Sequence[Action]:
        """Begin, where the interface is up.

        :param holds_addresses: the primary address is there: an earlier process of this host was master.  Its
            advertisements must go on at once, since the others wait for them only so long; one who has become master
            meanwhile decides by his.
        """
        self._is_up = True
        if holds_addresses:
            return self._become_master(now)
        return self._become_backup(now)

    def receive(self, now: float, advert: Advert) -> Sequence[Action]:
        """Handle an advertisement of another host.

        A backup ignores the priority: without preemption it leaves every living master alone.  Of two masters both
        have announced their addresses, and switches believe the later one: the one that stays announces them again.
        It may not have heard of the other, so that one tells it.
        """
        if self.state is State.BACKUP:
            self._set(now + (self.skew if advert.priority == 0 else 3 * self._interval + self.skew))
        elif self.state is State.MASTER:
            if (advert.priority, advert.source) > (self._priority, self._source):
                return (Action.RELEASE, Action.PROMPT, *self._become_backup(now))
            return (*self._advertise(now), Action.ANNOUNCE)
        return ()

    def expire(self, now: float) -> Sequence[Action]:
        """Handle the deadline."""
        if self.deadline is None or now < self.deadline:
            return ()
        if self.state is State.BACKUP:
            return self._become_master(now)
        if self._announce_at is not None and now >= self._announce_at:
            self._announce_at = None
            self._set(self._next)
            return (Action.ANNOUNCE,)
        return self._advertise(now)

    def lose_interface(self, now: float) -> Sequence[Action]:
        """Handle an interface that is down, or gone."""
        self._is_up = False
        return (Action.RELEASE,) if self._become_faulty() else ()

    def regain_interface(self, now: float) -> Sequence[Action]:
        """Handle an interface that is up again."""
        self._is_up = True
        return self._leave_fault(now)

    def lose_gateway(self, now: float) -> Sequence[Action]:
        """Handle a gateway that this host does not reach: another host can be master at once."""
        self._reaches_gateways = False
        return (Action.RELEASE, Action.YIELD) if self._become_faulty() else ()

    def regain_gateway(self, now: float) -> Sequence[Action]:
        """Take part again after :meth:`lose_gateway`."""
        self._reaches_gateways = True
        return self._leave_fault(now)

    def end(self, now: float) -> Sequence[Action]:
        """Leave the virtual router, so that another host can be master at once."""
        return (Action.RELEASE, Action.YIELD) if self._become_faulty() else ()

    def _become_faulty(self) -> bool:
        """Be neither master nor backup; returns True if this host was the master."""
        was, self.state = self.state, State.FAULT
        self._announce_at = None
        self._set(None)
        return was is State.MASTER

    def _leave_fault(self, now: float) -> Sequence[Action]:
        ends = self.state is State.FAULT and self._is_up and self._reaches_gateways
        return self._become_backup(now) if ends else ()

    def _become_master(self, now: float) -> Sequence[Action]:
        self.state = State.MASTER
        self._announce_at = now + ANNOUNCE_AGAIN
        # The advertisement is first: it keeps the others from becoming master while addresses are added.
        return (*self._advertise(now), Action.TAKE, Action.ANNOUNCE)

    def _become_backup(self, now: float) -> Sequence[Action]:
        self.state = State.BACKUP
        self._announce_at = None
        self._set(now + 3 * self._interval + self.skew)
        return ()

    def _advertise(self, now: float) -> Sequence[Action]:
        self._set(now + self._interval)
        return (Action.SEND,)

    def _set(self, at: float | None) -> None:
        self._next = at
        self.deadline = at if at is None or self._announce_at is None else min(at, self._announce_at)
