"""What every source of router documents offers the daemon: events out, documents on request.

No event loop and no eventlet in here: a source is driven from outside, by one thread at a time (the daemon's native
worker, since documents may be read and parsed inside :meth:`Source.poll` and :meth:`Source.rescan`).  A source that
asks over the network does so in threads of its own and hands over by its descriptor.  ``directory`` is the built-in
one, ``neutron`` asks a neutron-server.  What the events mean for a router is decided by the daemon, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
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
    """The removal of the document was seen or announced: an explicit deletion, the router may be removed at once.

    Absence that nobody announced is never reported by this event, only by :class:`Synced`.
    """

    router_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Bad:
    """A document that cannot be used for now.  Its router keeps what it has and stays known.

    :ivar router_id: whose document it was when it was good, or the id that could be made out in it; None: unknown
    :ivar second: another document of its router is in force: no router is affected, and ``router_id`` is None
    """

    name: str
    router_id: str | None
    error: DocumentError
    second: bool = False


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
    :ivar complete: False if routers may be missing in ``known``: the sweep must wait
    :ivar why: why it is not complete; empty for the ordinary reason, a bad document of which nobody knows whose it is
    :ivar suspect: why routers that are not in ``known`` must not be removed before an operator confirms it, however few
        they are; empty: their number decides
    """

    known: frozenset[str]
    complete: bool = True
    why: str = ""
    suspect: str = ""


Event = Changed | Deleted | Bad | Failed | Synced


class Fate(Enum):
    """What became of a router's job."""

    IN_PLACE = "in place"
    """The kernel agrees with the document."""
    FAILED = "failed"
    """The kernel holds what it held before, or part of what the document wants."""
    ABSENT = "absent"
    """Nothing of the router is in the kernel: it was removed, or is administratively down."""
    LEFT_ALONE = "left alone"
    """A router of a kind that this agent does not build."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of one job on one router, told to the source.

    :ivar router: the document that the job was about; None if the router is gone
    :ivar reason: what failed
    """

    router_id: str
    fate: Fate
    router: Router | None = None
    reason: str = ""


class Source(Protocol):
    """A place where router documents come from.  No method raises for anything the outside world can do to it."""

    @property
    def rescan_interval(self) -> float:
        """Seconds between two calls of :meth:`rescan` by the daemon."""

    @property
    def poll_blocks(self) -> bool:
        """True if :meth:`poll` may read files, so that it must not be called by the event loop."""

    def fileno(self) -> int | None:
        """A descriptor that is readable while :meth:`poll` has work, the same for the source's whole life.

        None if the source has none: then only :meth:`rescan` finds changes.
        """

    def poll(self) -> list[Event]:
        """Handle notifications.  Bounded: when much is pending the descriptor stays readable for another call.

        Never blocks.  Before the first :meth:`rescan` it returns nothing.
        """

    def rescan(self) -> list[Event]:
        """List everything and look at what seems changed; the first call is the first sync.

        Ends with one :class:`Synced`, or consists of one :class:`Failed`.  A source that has to ask elsewhere returns
        nothing, and :meth:`poll` gives the events when the answer is there, ended by Synced or Failed all the same.
        :meth:`poll` does so as well when the source has made a listing by itself.
        """

    def document(self, router_id: str) -> Document | None:
        """The newest good document of the router; it stays available while the document is bad for now."""

    def status(self) -> dict[str, Any]:
        """For the admin socket, JSON-ready: at least ``source``, ``documents``, ``bad`` (name → error), ``error``.

        How it is at this moment.  From any thread, also while another method is at work; does not block.
        """

    def settled(self, report: Settled) -> None:
        """A job on a router ended.  Called in the daemon's main thread: must not block."""

    def close(self) -> None:
        """Give back descriptors, end threads (within two seconds).  The source is of no use afterwards."""
