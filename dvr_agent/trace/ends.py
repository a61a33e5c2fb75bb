"""How a way ends before its destination: exceptions inside :mod:`dvr_agent.trace`, values outside."""

from __future__ import annotations

from dvr_agent.trace.world import Outcome, Place


class EndOfWay(Exception):  # noqa: N818 - an end, not an error
    """The packet goes no further.

    :ivar outcome: as in :class:`~dvr_agent.trace.packet.Way`
    """

    def __init__(self, outcome: Outcome, reason: str, at: Place | None = None) -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.at = outcome, reason, at


def dropped(reason: str) -> EndOfWay:
    """Return the end of a packet that the kernel discards."""
    return EndOfWay("dropped", reason)


def vanished(namespace: str) -> EndOfWay:
    """Return the end of what can be computed because a namespace is gone."""
    return unknown(f"namespace {namespace} has vanished while it was read")


def unknown(reason: str) -> EndOfWay:
    """Return the end of what can be computed."""
    return EndOfWay("unknown", reason)
