"""What every source of router documents offers the daemon: events out, documents on request.

No threads, no event loop and no eventlet in here: a source is driven from outside, by one thread at a time (the
daemon's native worker, since documents are read and parsed inside :meth:`Source.poll` and :meth:`Source.rescan`).
``directory`` is the built-in one.  What the events mean for a router is decided by the daemon, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from dvr_agent.errors import DocumentError, SourceError
from dvr_agent.model.router import Router


@dataclass(frozen=True, slots=True)
class Document:
    """A good router document.

    :ivar name: what the source calls it (directory source: the file name); for messages, never for decisions
    :ivar router: what it says
    :ivar digest: hash of its bytes; equal digests are equal documents
    """

    name: str
    router: Router
    digest: bytes


@dataclass(frozen=True, slots=True)
class Changed:
    """A document is new, has other content than before, or is good again (then perhaps with the content it had)."""

    document: Document


@dataclass(frozen=True, slots=True)
class Deleted:
    """The source was told that the document is gone: a positive word, the router may be removed at once.

    Absence that nobody announced is never reported by this event, only by :class:`Synced`.
    """

    router_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Bad:
    """A document that cannot be used for now.  Its router keeps what it has and stays known.

    :ivar router_id: whose document it was when it was good, or the id that could be made out in it; None: unknown
    """

    name: str
    router_id: str | None
    error: DocumentError


@dataclass(frozen=True, slots=True)
class Failed:
    """Documents cannot be listed at all.  Nothing is known to have changed, nothing may be removed.

    :meth:`Source.rescan` says so each time, until it works again.
    """

    error: SourceError


@dataclass(frozen=True, slots=True)
class Synced:
    """A complete listing was made; it is the last event of its list.

    A router that is not in ``known`` has no document any more (or never had one): work for the guarded stale sweep.

    :ivar known: ids of all routers whose documents are there, good or bad
    :ivar complete: False if there is a bad document of which nobody knows whose it is: the sweep must wait
    """

    known: frozenset[str]
    complete: bool = True


Event = Changed | Deleted | Bad | Failed | Synced


class Source(Protocol):
    """A place where router documents come from.  No method raises for anything the outside world can do to it."""

    def fileno(self) -> int | None:
        """A descriptor that is readable while :meth:`poll` has work, the same for the source's whole life.

        None if the source has none: then only :meth:`rescan` finds changes.
        """

    def poll(self) -> list[Event]:
        """Handle notifications.  Bounded: when much is pending the descriptor stays readable for another call.

        Never blocks.  Never returns :class:`Synced`.  Before the first :meth:`rescan` it returns nothing.
        """

    def rescan(self) -> list[Event]:
        """List everything and look at what seems changed; the first call is the first sync.

        Ends with one :class:`Synced`, or consists of one :class:`Failed`.
        """

    def document(self, router_id: str) -> Document | None:
        """The newest good document of the router; it stays available while the document is bad for now."""

    def status(self) -> dict[str, Any]:
        """For the admin socket, JSON-ready: at least ``source``, ``documents``, ``bad`` (name → error), ``error``."""

    def close(self) -> None:
        """Give back descriptors.  The source is of no use afterwards."""
