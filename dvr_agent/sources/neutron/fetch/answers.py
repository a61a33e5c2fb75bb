"""Processes answers about routers: completes each router, asks for ports of its subnets, builds its document."""

from __future__ import annotations

from oslo_log import log as logging

from dvr_agent.backoff import delay
from dvr_agent.errors import DocumentError
from dvr_agent.sources.neutron import documents
from dvr_agent.sources.neutron.api import Json, RouterDeleted, ServerAwayError, ServerError
from dvr_agent.sources.neutron.crossing.fetch_inbox import Reason
from dvr_agent.sources.neutron.crossing.report_inbox import DocumentUnchanged, StatusesReceived
from dvr_agent.sources.neutron.crossing.router_store import OfferResult
from dvr_agent.sources.neutron.crossing.shared import SharedParts
from dvr_agent.sources.neutron.documents import RouterDraft
from dvr_agent.sources.neutron.fetch.chunked_fetch import RoutersAnswer
from dvr_agent.sources.neutron.fetch.enrichment import RouterEnrichment, SubnetPortsFetch
from dvr_agent.sources.neutron.fetch.ha_ports import HaPorts
from dvr_agent.sources.neutron.fetch.objects import ObjectFetch
from dvr_agent.sources.neutron.fetch.sync_progress import SyncProgress
from dvr_agent.sources.neutron.store.document_builder import DocumentBuilder

LOG = logging.getLogger(__name__)


class AnswerProcessor:
    """Completes the routers in answers of the server and offers their documents; one per source.

    :ivar enrichment: answers about networks, kept between routers
    :ivar objects: asks for versioned objects
    """

    def __init__(self, shared: SharedParts, builder: DocumentBuilder) -> None:
        self._shared, self._builder = shared, builder
        self.enrichment = RouterEnrichment(shared.plugin, shared.host)
        self.objects = ObjectFetch(shared, builder)
        self._subnets = SubnetPortsFetch(shared.plugin, shared.routers, builder)
        self._ha_ports = HaPorts(shared.routers, builder.cache, self._ask_again)
        self._failures: dict[str, int] = {}
        """Router id → how many answers in a row were errors."""
        self._internal: set[str] = set()
        """Routers without gateway that are left out, and logged."""

    def forget_errors(self) -> None:
        """Forget errors, so that failed questions may be asked again."""
        self.enrichment.forget_errors()
        self._subnets.forget_errors()

    def process(self, answer: RoutersAnswer, sync: SyncProgress | None = None) -> None:
        """Make documents of an answer.

        :raises ServerAwayError: the server became unreachable half way; documents made before count
        """
        if sync is None:
            self._subnets.forget_unused()
        self.objects.pull(answer.routers, everything=sync is not None)
        for router_id, error in answer.bad.items():
            self._offer_failure(router_id, error, answer.query, sync)
        for router_id, raw in answer.routers.items():
            if not self._is_left_out(router_id, raw):
                result = self._process_router(router_id, raw, answer.query, sync)
                if sync is not None:
                    sync.count(router_id, result)
                self._builder.rebuild()
        self.objects.processed(answer.routers)

    def remove(self, router_id: str) -> None:
        """Delete a router that has left this host, as the server has confirmed."""
        self._ha_ports.forget(router_id)
        self._failures.pop(router_id, None)
        self._builder.remove(router_id)

    def router_deleted(self, notification: RouterDeleted) -> None:
        """Forget a router that exists no more on any host; its Deleted event is out already."""
        self._ha_ports.forget(notification.router_id)
        self._failures.pop(notification.router_id, None)
        self._builder.router_deleted(notification)

    def _process_router(self, router_id: str, raw: Json, query: int, sync: SyncProgress | None) -> OfferResult:
        try:
            whole = self.enrichment.complete(self._ha_ports.complete(router_id, raw))
            draft = documents.make_draft(whole, router_id)
            self._subnets.pull(draft, query, sync)
        except ServerAwayError:
            raise
        except ServerError as exc:
            return self._retry_later(router_id, exc, query)
        except DocumentError as exc:
            return self._builder.offer_bad(router_id, exc, query)
        except Exception as exc:
            LOG.exception(
                "router %s: its answer cannot be processed by an unexpected exception: this is a bug", router_id
            )
            error = documents.unanswered(router_id, f"{type(exc).__name__}: {exc}")
            return self._builder.offer_bad(router_id, error, query)
        return self._offer(draft, query)

    def _offer(self, draft: RouterDraft, query: int) -> OfferResult:
        router_id = draft.router_id
        self._failures.pop(router_id, None)
        # Before the document is announced: a job that ends is compared with these statuses.
        self._shared.report_inbox.put(StatusesReceived(router_id, draft.statuses))
        result = self._builder.offer(draft, query)
        if result is OfferResult.UNCHANGED:
            self._shared.report_inbox.put(DocumentUnchanged(router_id))
        return result

    def _offer_failure(self, router_id: str, error: ServerError, query: int, sync: SyncProgress | None) -> None:
        result = self._retry_later(router_id, error, query)
        if sync is not None:
            sync.count(router_id, result)

    def _retry_later(self, router_id: str, error: ServerError, query: int) -> OfferResult:
        """Offer the server's error about a router as a bad document, and ask again with back-off."""
        result = self._builder.offer_bad(router_id, documents.unanswered(router_id, error), query)
        failures = self._failures[router_id] = self._failures.get(router_id, 0) + 1
        timing = self._shared.options.timing
        seconds = delay(failures, timing.retry_first, timing.retry_max)
        self._shared.fetch_inbox.ask_later(router_id, seconds, Reason.UPDATED)
        return result

    def _ask_again(self, router_id: str) -> None:
        self._shared.fetch_inbox.ask_later(router_id, self._shared.options.timing.again, Reason.UPDATED)

    def _is_left_out(self, router_id: str, raw: Json) -> bool:
        """Return True for a router without gateway where ``handle_internal_only_routers`` is off; it is removed."""
        if self._shared.options.handle_internal_only_routers or isinstance(raw.get("gw_port"), dict):
            self._internal.discard(router_id)
            return False
        if router_id not in self._internal:
            self._internal.add(router_id)
            LOG.info("router %s has no gateway: skipped (handle_internal_only_routers = false)", router_id)
        self.remove(router_id)
        return True
