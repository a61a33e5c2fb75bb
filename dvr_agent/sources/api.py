"""The interface of a source of router documents: events out, documents on request.

A source has no event loop: the daemon calls it.  ``rescan`` may read and parse documents, so the daemon calls it in its
worker thread, and so it calls ``poll`` of a source with :attr:`Source.poll_blocks`; all other methods return at once
and are called in the daemon's main thread.  Calls of ``rescan`` and ``poll`` do not overlap.  A source that asks over
the network does so in threads of its own, and has a descriptor for the events.  ``directory`` is the built-in source,
``neutron`` asks a neutron-server.  The daemon decides what events mean for a router.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from dvr_agent.errors import DocumentError, SourceError
from dvr_agent.model.router import Router


@dataclass(frozen=True, slots=True)
class Document:
    """A good router document.

    :ivar name: its name in the source (directory source: the file name); for messages, never for decisions
    :ivar digest: hash of its bytes; equal digests are equal documents
    """

    name: str
    router: Router
    digest: bytes


@dataclass(frozen=True, slots=True)
class Changed:
    """A document is new, has changed, or can be used again after it was bad (perhaps with its old content)."""

    document: Document


@dataclass(frozen=True, slots=True)
class Deleted:
    """The document was removed by an explicit deletion: the router may be removed at once.

    Absence without an explicit deletion is never reported by this event, only by :class:`Synced`.
    """

    router_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Bad:
    """A document that cannot be used for now.  Its router is unchanged and stays known.

    :ivar router_id: id in the document when it was good, or the id that can still be read in it; None: no readable id
    :ivar second: another document of the same router is in force: no router is affected, and ``router_id`` is None
    """

    name: str
    router_id: str | None
    error: DocumentError
    second: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Documents cannot be listed at all: the daemon leaves all routers unchanged.

    :meth:`Source.rescan` returns it each time, until it works again.
    """

    error: SourceError


@dataclass(frozen=True, slots=True)
class Synced:
    """A complete listing was made; it is the last event of its list.

    A router that is not in ``known`` has no document any more (or never had one): the stale sweep may remove it.

    :ivar known: ids of all routers that have a document, good or bad
    :ivar complete: False if routers may be missing in ``known``: the sweep must wait
    :ivar why: why it is not complete; empty for the ordinary reason, a bad document without a readable router id
    :ivar suspect: why routers that are not in ``known`` must not be removed before an operator confirms it, however few
        they are; empty: their number decides
    """

    known: frozenset[str]
    complete: bool = True
    why: str = ""
    suspect: str = ""


Event = Changed | Deleted | Bad | Failed | Synced


class DataPlane(Enum):
    """What a router's job has left in the kernel."""

    IN_PLACE = "in place"
    """The kernel agrees with the document."""
    FAILED = "failed"
    """The kernel is unchanged, or has a part of what the document wants."""
    ABSENT = "absent"
    """Nothing of the router is in the kernel: it was removed, or is administratively down."""
    LEFT_ALONE = "left alone"
    """A router of a kind that this agent does not build."""


@dataclass(frozen=True, slots=True)
class JobReport:
    """The end of one job on one router, reported to the source.

    :ivar router: the router of the document of the job; None if the router is gone
    :ivar reason: why the job failed
    :ivar held: addresses that are not on their new path, since objects were refused: with ``IN_PLACE`` the rest is
    :ivar left_out: ids of floating IPs of the document that other routers have here
    :ivar rivals: ids of routers that have lost something to a newer document, as this job has found
    :ivar is_master: this host is the master of the HA router; None: it takes no part in its VRRP, or is not known
    """

    router_id: str
    data_plane: DataPlane
    router: Router | None = None
    reason: str = ""
    held: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    rivals: tuple[str, ...] = ()
    is_master: bool | None = None


class Source(Protocol):
    """A source of router documents.  No method raises, whatever happens to files, network and server.

    :ivar is_authority: its documents come from one place that never gives a thing to two routers: of two documents that
        claim the same, one is out of date.  False: either may be wrong, so that the one in force stays
    :ivar poll_blocks: False if :meth:`poll` reads no file and waits for nothing, so that any thread may call it
    """

    is_authority: bool
    poll_blocks: bool

    @property
    def rescan_interval(self) -> float:
        """Seconds between two calls of :meth:`rescan` by the daemon."""

    def fileno(self) -> int | None:
        """Return a descriptor that is readable while :meth:`poll` has work, the same until :meth:`close`.

        None if the source has none: then only :meth:`rescan` finds changes.
        """

    def poll(self) -> list[Event]:
        """Return events of notifications.  Bounded: if much is pending, the descriptor stays readable for another call.

        Waits for nothing but files (:attr:`poll_blocks`).  Before the first :meth:`rescan` it returns nothing.
        """

    def rescan(self, periodic: bool = False) -> list[Event]:
        """List all documents and read those that seem changed; the first call is the first sync.

        Ends with one :class:`Synced`, or consists of one :class:`Failed`.  A source that has to ask elsewhere returns
        nothing, and :meth:`poll` gives the events when the answer is there, ended by Synced or Failed all the same.
        :meth:`poll` does so as well when the source has made a listing by itself.

        :param periodic: it is time, and nothing else: a source that is listing anyway does not begin again
        """

    def ask_again(self, router_id: str) -> bool:
        """Have the newest document of one router fetched, soon; :meth:`poll` gives it if it is another one.

        :returns: False if the source cannot do that for one router: :meth:`rescan` finds what is new
        """

    def document(self, router_id: str) -> Document | None:
        """Return the newest good document of the router, also while a newer document is bad."""

    @property
    def bad_documents(self) -> Mapping[str, str]:
        """Name → error of each document that cannot be used.  Callable in any thread, as :meth:`status` is."""

    def status(self) -> dict[str, Any]:
        """Return ``source``, ``documents``, ``bad`` (name → error), ``error`` and more, JSON-ready.

        Callable in any thread, also while another method runs; does not block.
        """

    def floating_ips(self, router_id: str) -> Mapping[str, Mapping[str, str | None]]:
        """Return floating IP id → the status that this host reports (``wanted``), and that the server has (``server``).

        Empty where there is no server.  Callable in any thread; does not block.
        """

    def job_ended(self, report: JobReport) -> None:
        """Process the report of a job on a router.  Called in the daemon's main thread: must not block."""

    def close(self) -> None:
        """Close descriptors and end threads (within two seconds); no other method may be called afterwards."""
