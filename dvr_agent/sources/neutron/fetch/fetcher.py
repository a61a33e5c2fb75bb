"""The thread that asks the server for routers.  Start reading at :meth:`Fetcher.run`.

All its work is done one after the other: full syncs (``full_sync``), questions about routers that changed, ARP
notifications, deletions of agent gateway ports.  ``answers`` processes what the server answers.
"""

from __future__ import annotations

from itertools import groupby

from oslo_log import log as logging

from dvr_agent.backoff import delay
from dvr_agent.mass_removal import is_mass_removal
from dvr_agent.plural import count
from dvr_agent.sources.neutron.api import (
    ArpEntry,
    ExternalNetworkGone,
    NetworkUpdated,
    ObjectsPushed,
    RouterDeleted,
    ServerAwayError,
    ServerError,
)
from dvr_agent.sources.neutron.crossing.fetch_inbox import FetchWork, Lookup, Note, Reason
from dvr_agent.sources.neutron.crossing.shared import SharedParts
from dvr_agent.sources.neutron.fetch.answers import AnswerProcessor
from dvr_agent.sources.neutron.fetch.chunked_fetch import ChunkedFetch
from dvr_agent.sources.neutron.fetch.errors import IncompleteSyncError, Stopped
from dvr_agent.sources.neutron.fetch.full_sync import FullSync
from dvr_agent.sources.neutron.objects import served_types
from dvr_agent.sources.neutron.store.document_builder import DocumentBuilder
from dvr_agent.sources.neutron.store.document_cache import DocumentCache
from dvr_agent.sources.neutron.store.feature_objects import FeatureObjects

LOG = logging.getLogger(__name__)


class Fetcher:
    """The thread's main loop, and all its work but full syncs.  Other threads only construct it."""

    def __init__(self, shared: SharedParts) -> None:
        self._shared = shared
        self._plugin, self._inbox, self._routers = shared.plugin, shared.fetch_inbox, shared.routers
        objects = FeatureObjects(served_types(shared.host.extensions))
        self._builder = DocumentBuilder(shared.routers, DocumentCache(shared.files), objects)
        self._answers = AnswerProcessor(shared, self._builder)
        self._fetch = ChunkedFetch(shared.plugin.sync_routers, shared.routers, shared.fetch_inbox)
        self._full_sync = FullSync(shared, self._answers, self._builder, self._serve)
        self._failures = 0
        """Failures since the last full sync."""

    def run(self) -> None:
        """Wait until the server knows this agent, then do the inbox's work until it is closed."""
        self._shared.report_inbox.registered.wait()
        self._inbox.begin()
        while not self._inbox.closed:
            work = self._inbox.wait()
            self._answers.forget_errors()
            try:
                self._do(work)
            except Stopped:
                return
            except ServerError as exc:
                self._failed(exc)
            except Exception as exc:
                LOG.exception("asking neutron-server failed by an unexpected exception: this is a bug")
                self._failed(ServerError(f"{type(exc).__name__}: {exc}"))

    def _do(self, work: FetchWork) -> None:
        """Make a full sync if one is due, which brings the routers of the work too; otherwise do the work."""
        if not work.sync:
            self._serve(work)
            return
        self._inbox.put_back(work.routers, work.release)
        self._apply_notes(work.notes)
        self._full_sync.run()
        self._failures = 0

    def _failed(self, exc: ServerError) -> None:
        """Request a full sync with back-off; pending work waits for it."""
        if self._inbox.closed:
            return
        self._failures += 1
        timing = self._shared.options.timing
        seconds = delay(self._failures, timing.sync_first, timing.sync_max)
        self._inbox.sync_failed(seconds, pause=not isinstance(exc, IncompleteSyncError))
        if isinstance(exc, ServerAwayError):
            self._shared.server.call_failed(exc)
        self._routers.fail(f"neutron-server: {exc}")

    def _serve(self, work: FetchWork) -> None:
        """Do work that is no full sync.

        :raises ServerError: not all of it could be done; the rest is in the inbox again
        """
        self._apply_notes(work.notes)
        if work.routers:
            self._update(work.routers)
        if work.release:
            self._release_gateway_ports()

    def _update(self, routers: dict[str, Reason]) -> None:
        """Ask for routers and process the answers."""
        rest = dict(routers)
        missing: dict[str, Reason] = {}
        try:
            for answer in self._fetch.ask(list(routers)):
                if self._inbox.closed:
                    raise Stopped
                if answer.failed is not None:
                    raise answer.failed
                self._answers.process(answer)
                missing |= {router_id: routers[router_id] for router_id in answer.missing}
                for router_id in answer.asked:
                    del rest[router_id]
        except ServerError:
            self._inbox.put_back(rest)
            raise
        finally:
            self._process_missing(missing, len(routers) - len(rest))
        self._shared.server.call_answered()

    def _process_missing(self, missing: dict[str, Reason], asked: int) -> None:
        """Remove routers that an answer lacks for the second time, or after the server said that they left."""
        if is_mass_removal(len(missing), asked):
            LOG.warning("the server left out %d of %s asked for: full sync", len(missing), count(asked, "router"))
            self._inbox.sync()
            return
        for router_id, reason in missing.items():
            if reason is Reason.UPDATED:
                self._inbox.ask_later(router_id, self._shared.options.timing.again, Reason.AGAIN)
            else:
                self._answers.remove(router_id)

    def _apply_notes(self, notes: list[Note]) -> None:
        for kind, group in groupby(notes, _way):
            if kind is ArpEntry:
                self._builder.patch(note for note in group if isinstance(note, ArpEntry))
                continue
            if kind is Lookup:
                self._answers.objects.note(note for note in group if isinstance(note, ObjectsPushed | Lookup))
                continue
            for note in group:
                if isinstance(note, RouterDeleted):
                    self._answers.router_deleted(note)
                elif isinstance(note, NetworkUpdated | ExternalNetworkGone):
                    self._network_changed(note)

    def _network_changed(self, note: NetworkUpdated | ExternalNetworkGone) -> None:
        """Ask again for the routers that use a network."""
        network_id = note.network_id
        self._answers.enrichment.forget_network(network_id)
        routers = self._routers.all().items()
        if isinstance(note, NetworkUpdated):
            concerned = [router_id for router_id, stored in routers if stored.may_have_port_in(network_id)]
        else:
            concerned = [router_id for router_id, stored in routers if stored.may_have_gateway_in(network_id)]
        self._inbox.ask(concerned, Reason.UPDATED)

    def _release_gateway_ports(self) -> None:
        """Delete the agent gateway ports of external networks that no router of this host uses any more."""
        for network_id in self._shared.gateway_ports.unreferenced():
            routers = self._routers.all().values()
            if any(one.may_be_distributed and one.may_have_gateway_in(network_id) for one in routers):
                continue  # a router is about to use it
            try:
                self._plugin.delete_agent_gateway_port(network_id)
            except ServerAwayError:
                self._inbox.release()
                raise
            except ServerError as exc:
                LOG.warning("agent gateway port of network %s could not be deleted: %s", network_id, exc)
            self._answers.enrichment.forget_network(network_id)
            self._shared.gateway_ports.port_deleted(network_id)


def _way(note: Note) -> type:
    """Return what notes that are processed together have in common."""
    return Lookup if isinstance(note, ObjectsPushed) else type(note)
