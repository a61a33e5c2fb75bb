"""Full sync: asks for all routers of this host, in chunks, and lets other work through meanwhile.

Other work is done between two questions, and while the server thinks about a chunk of routers: that call is made by a
thread ``neutron-sync``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from oslo_log import log as logging

from dvr_agent.model.values import canonical_id
from dvr_agent.plural import count
from dvr_agent.sources.neutron.api import Json, L3Plugin, RemoteError, ServerAwayError, ServerError, ServerTimeoutError
from dvr_agent.sources.neutron.crossing.fetch_inbox import FetchInbox, FetchWork
from dvr_agent.sources.neutron.crossing.router_store import OfferResult
from dvr_agent.sources.neutron.crossing.shared import SharedParts
from dvr_agent.sources.neutron.fetch.answers import AnswerProcessor
from dvr_agent.sources.neutron.fetch.chunked_fetch import ChunkedFetch
from dvr_agent.sources.neutron.fetch.errors import IncompleteSyncError, Stopped, UpdateFailed
from dvr_agent.sources.neutron.fetch.sync_progress import SyncProgress
from dvr_agent.sources.neutron.store.document_builder import DocumentBuilder
from dvr_agent.threads import start_thread

LOG = logging.getLogger(__name__)

L3_PLUGIN = "L3_ROUTER_NAT"
"""neutron_lib.plugins.constants.L3: without it the server has no routers."""
CHUNK_FAILURES = 2
"""Number of unanswered chunks that end a full sync early."""


class FullSync:
    """Makes full syncs, one at a time.

    :param serve: ``Fetcher._serve``, which does other work meanwhile; raises ServerError
    """

    def __init__(
        self,
        shared: SharedParts,
        answers: AnswerProcessor,
        builder: DocumentBuilder,
        serve: Callable[[FetchWork], None],
    ) -> None:
        self._shared, self._answers, self._builder, self._serve = shared, answers, builder, serve
        self._inbox, self._routers = shared.fetch_inbox, shared.routers
        self._fetch = ChunkedFetch(self._ask_in_thread, shared.routers, shared.fetch_inbox, shared.options.chunk_size)
        self._greeted = False
        self._unfinished: SyncProgress | None = None
        shared.server.publish(chunk_size=self._fetch.size)

    def run(self) -> None:
        """Make one full sync, or the rest of the last one.

        :raises ServerError: it is not complete; what was answered counts all the same
        :raises Stopped: the source is being closed
        """
        self._greet()
        if self._unfinished is None or self._is_outdated(self._unfinished):
            self._unfinished = self._begin()
        self._unfinished.known_before = len(self._unfinished.known)
        try:
            self._sync(self._unfinished)
        except ServerAwayError as exc:
            if not isinstance(exc, ServerTimeoutError):
                self._unfinished = None  # notifications may have been missed
            raise
        self._unfinished = None

    def _is_outdated(self, unfinished: SyncProgress) -> bool:
        """Return True if a full sync was requested since, or is due and this one does not get on."""
        if unfinished.request != self._inbox.syncs_requested():
            return True
        is_stuck = len(unfinished.known) == unfinished.known_before
        return is_stuck and time.monotonic() - unfinished.began > self._shared.options.resync_interval

    def _begin(self) -> SyncProgress:
        progress = SyncProgress(self._routers.begin_query(), self._serve_between, self._inbox.syncs_requested())
        progress.listed, progress.has_invalid = self._list()
        self._answers.enrichment.forget()
        self._server_answers()
        return progress

    def _sync(self, progress: SyncProgress) -> None:
        rest = [router_id for router_id in progress.listed if router_id not in progress.known]
        try:
            failures = self._fetch_all(self._inbox.bring(rest), progress)
        except UpdateFailed as exc:
            raise exc.error from None
        finally:
            self._inbox.bring_no_more()
            self._shared.server.publish(chunk_size=self._fetch.size)
        if failures:
            raise IncompleteSyncError(str(failures[0]))
        self._serve_between()  # explicit deletions count before absence from the list does
        self._finish(progress, len(progress.listed), progress.has_invalid)

    def _greet(self) -> None:
        """Ask the questions with which an L3 agent begins."""
        if self._greeted:
            return
        plugin = self._shared.plugin
        plugins = plugin.get_service_plugin_list()
        if not isinstance(plugins, list) or L3_PLUGIN not in plugins:
            LOG.warning("the server does not list %s among its service plugins: it may have no routers", L3_PLUGIN)
        if plugin.get_host_ha_router_count() and self._shared.options.has_booted:
            # The L2 agent has to wire the HA ports anew, and its ACTIVE of before must not begin VRRP until it has.
            plugin.update_all_ha_network_port_statuses()
            LOG.info("HA ports of this host are reported down: the host has booted, and they are to be wired anew")
        self._greeted = True

    def _list(self) -> tuple[list[str], bool]:
        """Return ids of all routers of this host, and whether the answer has an entry that is no router id."""
        answer = self._shared.plugin.get_router_ids()
        if not isinstance(answer, list):
            raise RemoteError("get_router_ids: the answer is no list")
        ids = [canonical_id(item) for item in answer]
        found = dict.fromkeys(router_id for router_id in ids if router_id is not None)
        return list(found), None in ids

    def _fetch_all(self, listed: list[str], progress: SyncProgress) -> list[ServerError]:
        """Process the routers chunk after chunk; returns the errors of chunks that were not answered."""
        failures: list[ServerError] = []
        for answer in self._fetch.ask(listed):
            self._check_closed()
            if answer.failed is not None:
                failures.append(answer.failed)
                if len(failures) >= CHUNK_FAILURES:
                    break
                continue
            self._server_answers()
            self._inbox.answered(answer.routers, answer.request_number)
            self._answers.process(answer, progress)
            self._serve_between()
        return failures

    def _server_answers(self) -> None:
        """Let work go on that waits for the server."""
        self._shared.server.call_answered()
        self._inbox.resume()

    def _finish(self, progress: SyncProgress, listed: int, has_invalid: bool) -> None:
        seconds = time.monotonic() - progress.began
        counts = {result.value: number for result, number in progress.counts.items()}
        last = {"at": round(time.time(), 3), "seconds": round(seconds, 3), "listed": listed, **counts}
        self._shared.server.full_sync_done(seconds, last)
        why = "the server listed an entry that is no router id" if has_invalid else ""
        known = self._routers.confirm(progress.known, progress.query, not has_invalid, why)
        if not has_invalid:
            self._builder.complete(known)
        LOG.info(
            "full sync: %s listed, %d described; %d changed, %d unchanged, %d bad; %.2f s",
            count(listed, "router"),
            len(progress.known),
            progress.counts[OfferResult.CHANGED],
            progress.counts[OfferResult.UNCHANGED],
            progress.counts[OfferResult.BAD],
            seconds,
        )

    def _ask_in_thread(self, router_ids: Sequence[str]) -> list[Json]:
        """Ask for routers in another thread, and do other work in this one until the answer is there.

        :raises UpdateFailed: the other work has failed; the answer is dropped
        """
        call = _start_call(self._shared.plugin, router_ids, self._inbox)
        while not call.done():
            try:
                self._serve(self._inbox.wait(until=call.done))
            except ServerError as exc:
                raise UpdateFailed(exc) from exc
            self._check_closed()
        return call.result()

    def _serve_between(self) -> None:
        """Do the work that other threads have added since, between two questions of the full sync."""
        self._check_closed()
        self._serve(self._inbox.take())

    def _check_closed(self) -> None:
        if self._inbox.closed:
            raise Stopped


def _start_call(plugin: L3Plugin, router_ids: Sequence[str], inbox: FetchInbox) -> Future[list[Json]]:
    """Call ``sync_routers`` in a thread that runs nothing else; the inbox is woken when the result is there."""
    result: Future[list[Json]] = Future()
    result.add_done_callback(lambda _: inbox.wake())

    def call() -> None:
        try:
            result.set_result(plugin.sync_routers(router_ids))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the fetch thread raises it
            result.set_exception(exc)

    start_thread("neutron-sync", call)
    return result
