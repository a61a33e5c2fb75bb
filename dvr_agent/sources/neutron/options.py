"""Settings of the neutron source; ``open`` makes them from the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals in seconds that cannot be configured.

    :ivar again: until a router that an answer lacks is asked for again: the server announces a router a moment
        before the port that brings it to this host is visible to all of its workers
    :ivar sync_first: until a failed full sync is tried again, doubled up to ``sync_max``
    :ivar retry_first: until a router whose answer was an error is asked for again, doubled up to ``retry_max``
    :ivar report_first: until a failed report is repeated, doubled up to the report interval
    :ivar close: longest time that the end of the threads may take
    """

    again: float = 1.0
    sync_first: float = 1.0
    sync_max: float = 60.0
    retry_first: float = 2.0
    retry_max: float = 300.0
    report_first: float = 1.0
    close: float = 2.0


@dataclass(frozen=True, slots=True)
class NeutronOptions:
    """Settings of the neutron source.

    :ivar resync_interval: seconds between full syncs, give or take a tenth
    :ivar fallback_after: seconds without a full sync until the cached documents are used
    :ivar jitter: seconds (``periodic_fuzzy_delay``); a full sync that all hosts request begins after a random part
    :ivar report_interval: seconds between two reports of our state
    :ivar interface_driver: as reported to the server
    :ivar documents: directory of the cached documents (``dvr_agent.sources.cached_documents.documents_path``)
    :ivar max_document_size: bytes; a larger document is a bad one
    :ivar has_booted: this host had no namespace of a router when the agent started: it has booted since
    :ivar chunk_size: routers that the first question of a full sync asks for
    """

    resync_interval: float
    fallback_after: float
    jitter: float
    report_interval: float
    availability_zone: str
    log_agent_heartbeats: bool
    handle_internal_only_routers: bool
    interface_driver: str
    documents: Path
    max_document_size: int
    timing: Timing = field(default_factory=Timing)
    chunk_size: int = 32
    has_booted: bool = False
