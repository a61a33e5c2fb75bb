"""The thread that asks the server for routers.  Start reading at ``_main``.

Everything passes here one after the other: full syncs, rounds for routers that changed, patches of the neighbour
cache, agent gateway ports that are given back.  A full sync lets the other work through between two of its questions,
and while the server thinks about the long one: that is asked in a thread of its own.  What is made of an answer is in
``intake``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from itertools import groupby
from typing import Any

from oslo_log import log as logging

from dvr_agent.backoff import delay
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.sources.neutron import documents
from dvr_agent.sources.neutron.api import (
    ArpEntry,
    ExternalNetworkGone,
    L3Plugin,
    NetworkUpdated,
    RemoteError,
    RouterDeleted,
    ServerAwayError,
    ServerError,
)
from dvr_agent.sources.neutron.crossing.fetch_inbox import Note, Reason, Requests, Round
from dvr_agent.sources.neutron.crossing.gateway_port_refs import NetworkUses
from dvr_agent.sources.neutron.crossing.router_store import Store, Verdict
from dvr_agent.sources.neutron.crossing.server_reachability import Contact
from dvr_agent.sources.neutron.fetch.chunked_fetch import Answer, Inquiry
from dvr_agent.sources.neutron.options import NeutronOptions
from dvr_agent.sources.neutron.report.reporter import Reporter
from dvr_agent.sources.neutron.store.document_builder import FullSync, Intake, is_mass
from dvr_agent.sources.neutron.store.document_cache import KeptDocuments
from dvr_agent.threads import make_thread

LOG = logging.getLogger(__name__)

L3_PLUGIN = "L3_ROUTER_NAT"
"""neutron_lib.plugins.constants.L3: without it the server has no routers."""
CHUNK_FAILURES = 2
"""A full sync ends early when so many chunks of it were not answered."""


class _Stopped(Exception):  # noqa: N818 - no error: the way out when the source is closed
    """The source is being closed."""


class _IncompleteError(ServerError):
    """The server answers, but not all questions of a full sync."""


class Fetcher:
    """See the module; other threads use :attr:`thread`, :attr:`synced` and :meth:`status` only.

    :ivar synced: a full sync has succeeded
    """

    def __init__(
        self,
        plugin: L3Plugin,
        settings: HostSettings,
        options: NeutronOptions,
        store: Store,
        requests: Requests,
        reporter: Reporter,
        uses: NetworkUses,
        kept: KeptDocuments,
        contact: Contact,
    ) -> None:
        self._plugin, self._options = plugin, options
        self._store, self._requests, self._reporter = store, requests, reporter
        self._uses, self._contact = uses, contact
        self._intake = Intake(plugin, settings, options, store, requests, reporter, kept)
        self._inquiry = Inquiry(plugin, store.begin, requests.mark)
        self._sync_inquiry = Inquiry(plugin, store.begin, requests.mark)
        self._greeted = False
        self._failures = 0
        self._last_sync: dict[str, Any] | None = None
        self.synced = False
        self.thread = make_thread("neutron-fetch", self._main)

    def status(self) -> dict[str, Any]:
        """For the admin socket."""
        return {"last_full_sync": self._last_sync, "chunk_size": self._sync_inquiry.size}

    def _main(self) -> None:
        self._reporter.registered.wait()
        self._requests.begin()
        while not self._requests.closed:
            work = self._requests.wait()
            self._intake.begin_round()
            try:
                self._do(work)
            except _Stopped:
                return
            except ServerError as exc:
                self._failed(exc)
            except Exception as exc:
                LOG.exception("asking neutron-server failed by an error that should not happen")
                self._failed(ServerError(f"{type(exc).__name__}: {exc}"))

    def _do(self, work: Round) -> None:
        if work.sync:
            self._requests.put_back(work.routers, work.release)
            self._take_notes(work.notes)
            self._sync()
        else:
            self._serve(work)

    def _failed(self, exc: ServerError) -> None:
        """Something could not be asked: what is pending waits for the full sync that is tried again and again."""
        if self._requests.closed:
            return
        self._failures += 1
        timing = self._options.timing
        seconds = delay(self._failures, timing.sync_first, timing.sync_max)
        self._requests.sync_failed(seconds, hold=not isinstance(exc, _IncompleteError))
        if isinstance(exc, ServerAwayError):
            self._contact.lost(exc)
        self._store.fail(f"neutron-server: {exc}")

    def _check_closed(self) -> None:
        if self._requests.closed:
            raise _Stopped

    # Full sync

    def _sync(self) -> None:
        """
        :raises ServerError: it is not complete; what was answered is taken over all the same
        """
        self._greet()
        sync = FullSync(self._store.begin(), self._serve_between)
        listed, strange = self._listed()
        self._contact.made()
        self._requests.resume()
        self._intake.supplements.forget()
        failures: list[ServerError] = []
        for answer in self._beside(self._sync_inquiry.ask(listed)):
            self._check_closed()
            if answer.failed is not None:
                failures.append(answer.failed)
                if len(failures) >= CHUNK_FAILURES:
                    break
                continue
            self._requests.answered(answer.routers, answer.mark)
            self._intake.take(answer, sync)
            self._serve_between()
        if failures:
            raise _IncompleteError(str(failures[0]))
        self._serve_between()  # positive words about routers count before their absence from the list does
        self._finish(sync, len(listed), strange)

    def _greet(self) -> None:
        """The questions with which an L3 agent begins."""
        if self._greeted:
            return
        plugins = self._plugin.get_service_plugin_list()
        if not isinstance(plugins, list) or L3_PLUGIN not in plugins:
            LOG.warning("the server does not list %s among its service plugins: it may have no routers", L3_PLUGIN)
        count = self._plugin.get_host_ha_router_count()
        if count:
            LOG.info("%s HA routers of this host are left alone", count)
        self._greeted = True

    def _listed(self) -> tuple[list[str], bool]:
        """Ids of all routers of this host, and whether there was something strange among them."""
        answer = self._plugin.get_router_ids()
        if not isinstance(answer, list):
            raise RemoteError("get_router_ids: the answer is no list")
        ids = [documents.canonical_id(item) for item in answer]
        found = dict.fromkeys(router_id for router_id in ids if router_id is not None)
        return list(found), None in ids

    def _finish(self, sync: FullSync, listed: int, strange: bool) -> None:
        self._failures = 0
        seconds = time.monotonic() - sync.began
        counts = {verdict.value: number for verdict, number in sync.counts.items()}
        self._last_sync = {"at": round(time.time(), 3), "seconds": round(seconds, 3), "listed": listed, **counts}
        self.synced = True
        why = "the server listed something that is no router id" if strange else ""
        known = self._store.confirm(sync.known, sync.question, not strange, why)
        if not strange:
            self._intake.complete(known)
        LOG.info(
            "full sync: %d routers listed, %d described; %d changed, %d unchanged, %d bad; %.2f s",
            listed,
            len(sync.known),
            sync.counts[Verdict.CHANGED],
            sync.counts[Verdict.UNCHANGED],
            sync.counts[Verdict.BAD],
            seconds,
        )

    # Rounds

    def _beside(self, answers: Iterator[Answer]) -> Iterator[Answer]:
        """The answers, each waited for in another thread while this one goes on with what comes meanwhile.

        :raises ServerError: there is no more answer
        """
        while True:
            following: Future[Answer | None] = Future()
            following.add_done_callback(lambda _: self._requests.wake())
            make_thread("neutron-sync", partial(_resolve, following, answers)).start()
            while not following.done():
                self._serve(self._requests.wait_beside(following.done))
                self._check_closed()
            answer = following.result()
            if answer is None:
                return
            yield answer

    def _serve_between(self) -> None:
        """Let through what came during a full sync."""
        self._check_closed()
        self._serve(self._requests.take())

    def _serve(self, work: Round) -> None:
        self._take_notes(work.notes)
        if work.routers:
            self._fetch(work.routers)
        if work.release:
            self._release()

    def _fetch(self, routers: dict[str, Reason]) -> None:
        """Ask for routers that somebody spoke of.

        :raises ServerError: not all could be asked for; the rest is noted again
        """
        rest = dict(routers)
        missing: dict[str, Reason] = {}
        try:
            for answer in self._inquiry.ask(list(routers)):
                self._check_closed()
                if answer.failed is not None:
                    raise answer.failed
                self._intake.take(answer)
                missing |= {router_id: routers[router_id] for router_id in answer.missing}
                for router_id in answer.asked:
                    del rest[router_id]
        except ServerError:
            self._requests.put_back(rest)
            raise
        finally:
            self._take_missing(missing, len(routers) - len(rest))
        self._contact.made()

    def _take_missing(self, missing: dict[str, Reason], asked: int) -> None:
        if is_mass(len(missing), asked):
            LOG.warning("the server left out %d of %d routers that were asked for: full sync", len(missing), asked)
            self._requests.sync()
            return
        for router_id, reason in missing.items():
            if reason is Reason.UPDATED:
                self._requests.later(router_id, self._options.timing.again, Reason.AGAIN)
            else:
                self._intake.gone(router_id)

    def _take_notes(self, notes: list[Note]) -> None:
        """Notifications that are about other things than one router."""
        for kind, group in groupby(notes, type):
            if kind is ArpEntry:
                self._intake.patch(note for note in group if isinstance(note, ArpEntry))
                continue
            for note in group:
                if isinstance(note, RouterDeleted):
                    self._intake.deleted(note.router_id)
                elif isinstance(note, NetworkUpdated | ExternalNetworkGone):
                    self._intake.supplements.forget_network(note.network_id)
                    of = self._store.with_network if kind is NetworkUpdated else self._store.with_gateway
                    self._requests.routers(of(note.network_id), Reason.UPDATED)

    def _release(self) -> None:
        """Give back agent gateway ports of networks whose last use has ended."""
        for network_id in self._uses.idle():
            if any(self._store.may_build(router_id) for router_id in self._store.with_gateway(network_id)):
                continue  # a router is about to use it
            try:
                self._plugin.delete_agent_gateway_port(network_id)
            except ServerAwayError:
                self._requests.release()
                raise
            except ServerError as exc:
                LOG.warning("agent gateway port of network %s could not be given back: %s", network_id, exc)
            self._intake.supplements.forget_network(network_id)
            self._uses.released(network_id)


def _resolve(future: Future[Answer | None], answers: Iterator[Answer]) -> None:
    """Have the next answer, None after the last."""
    try:
        future.set_result(next(answers, None))
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the asking thread's
        future.set_exception(exc)
