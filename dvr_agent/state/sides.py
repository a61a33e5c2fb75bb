"""Floating IPs that change between the fip and the snat namespace; for the order of writes, and the steps of tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sides:
    """Addresses of floating IPs that go from the fip to the snat namespace, or back.

    The way out and the answer to ARP change by two writes.  In between the way out is by the snat namespace with the
    gateway's address, and the floating IP is no address there: then what comes in by either side is answered.

    :ivar arriving: floating IPs that come to the snat namespace
    :ivar departing: floating IPs that leave it
    :ivar following: fixed IPs of those that leave it
    """

    arriving: frozenset[str] = frozenset()
    departing: frozenset[str] = frozenset()
    following: frozenset[str] = frozenset()


NO_SIDES = Sides()
