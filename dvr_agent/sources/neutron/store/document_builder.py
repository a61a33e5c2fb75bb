"""Makes documents of the server's answers: what is missing is asked for, neighbours are added, the store is told.

Also holds the neighbour cache and the kept documents.  Belongs to the fetch thread; used by ``fetcher``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from oslo_log import log as logging

from dvr_agent.backoff import delay
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.errors import DocumentError
from dvr_agent.sources.neutron import documents
from dvr_agent.sources.neutron.api import ArpEntry, Json, L3Plugin, RemoteError, ServerAwayError, ServerError
from dvr_agent.sources.neutron.crossing.fetch_inbox import Reason, Requests
from dvr_agent.sources.neutron.crossing.router_store import Store, Verdict
from dvr_agent.sources.neutron.documents import Draft
from dvr_agent.sources.neutron.fetch.chunked_fetch import Answer
from dvr_agent.sources.neutron.fetch.enrichment import Supplements
from dvr_agent.sources.neutron.options import NeutronOptions
from dvr_agent.sources.neutron.report.reporter import Reporter
from dvr_agent.sources.neutron.store.document_cache import KeptDocuments
from dvr_agent.sources.neutron.store.neighbours import Neighbours

LOG = logging.getLogger(__name__)

MASS_MISSING = 10
"""So many routers less, if they are more than half, look like a fault of the server."""


@dataclass(slots=True)
class FullSync:
    """A full sync under way.

    :ivar question: the first one of it
    :ivar between: lets other work through before a question
    :ivar pulled: subnets whose ports were asked for in it
    :ivar known: routers that the server described, well or badly
    """

    question: int
    between: Callable[[], None]
    began: float = field(default_factory=time.monotonic)
    pulled: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    counts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))

    def count(self, router_id: str, verdict: Verdict) -> None:
        self.known.add(router_id)
        self.counts[verdict] += 1


def is_mass(missing: int, of: int) -> bool:
    """True if so many of so many are missing that it is rather an error than the truth."""
    return missing >= MASS_MISSING and 2 * missing > of


class Intake:
    """One per source."""

    def __init__(
        self,
        plugin: L3Plugin,
        settings: HostSettings,
        options: NeutronOptions,
        store: Store,
        requests: Requests,
        reporter: Reporter,
        kept: KeptDocuments,
    ) -> None:
        self._plugin, self._options = plugin, options
        self._store, self._requests, self._reporter, self._kept = store, requests, reporter, kept
        self.supplements = Supplements(plugin, settings)
        self._neighbours = Neighbours()
        self._refused: dict[str, int] = {}
        """Router id → how often in a row the server could not tell us of it."""
        self._subnet_errors: dict[str, RemoteError] = {}
        """Subnets that could not be pulled in this round."""
        self._outdated: set[str] = set()
        """Subnets with other ports than those in the documents of routers that were told of earlier."""
        self._under_way: tuple[str, ...] = ()
        """Subnets of the router that a full sync has come to."""
        self._internal: set[str] = set()
        """Routers left out since they have no gateway, already logged."""
        self._unlisted: frozenset[str] = frozenset()
        """Kept documents that the last full sync did not list, and that were left since they were so many."""

    def begin_round(self) -> None:
        """What the server could not tell may be asked again."""
        self.supplements.begin_round()
        self._subnet_errors.clear()

    def take(self, answer: Answer, sync: FullSync | None = None) -> None:
        """Make documents of an answer.

        :raises ServerAwayError: the server went away in the middle; what was made up to then counts
        """
        if sync is None:
            self._forget_subnets()
        for router_id, error in answer.bad.items():
            self._spoil(router_id, documents.unanswered(router_id, error), answer.question, sync, retry=True)
        for router_id, raw in answer.routers.items():
            if not self._is_left_out(router_id, raw):
                self._take_router(router_id, raw, answer.question, sync)
                self._rebuild()

    def gone(self, router_id: str) -> None:
        """The server has confirmed that the router is not of this host."""
        if router_id in self._store:
            self._store.delete(router_id)
        self.drop_kept(router_id)

    def drop_kept(self, router_id: str) -> None:
        """The router was deleted: a start without the server must not bring it back."""
        self._refused.pop(router_id, None)
        self._kept.remove(router_id)

    def deleted(self, router_id: str) -> None:
        """The router exists no more, on any host; so do its ports."""
        self.drop_kept(router_id)
        self._outdated |= self._neighbours.retain_ports(router_id, {})
        self._rebuild()

    def patch(self, entries: Iterable[ArpEntry]) -> None:
        """Change the neighbour cache, and the documents of the routers of this host that are concerned."""
        for entry in entries:
            self._patch(entry)
        self._rebuild()

    def complete(self, known: frozenset[str]) -> None:
        """A full sync is complete, and so are neighbours and kept documents after this."""
        drafts = {draft.router_id: draft for draft in self._store.drafts()}
        self._neighbours.retain({subnet_id for draft in drafts.values() for subnet_id in draft.subnets})
        there = self._kept.names()
        for router_id in known - there:
            if router_id in drafts and self._store.is_good(router_id):
                self._kept.write(router_id, self._text(drafts[router_id]))
        gone = self._kept.noted() - known
        if is_mass(len(gone), len(there)):  # as the daemon's guard does, but two listings that agree are believed
            gone, self._unlisted = gone & self._unlisted, frozenset(gone)
        self._kept.complete(gone)

    def _take_router(self, router_id: str, raw: Json, question: int, sync: FullSync | None) -> None:
        try:
            draft = documents.make_draft(self.supplements.complete(raw), router_id)
            self._pull(draft, sync)
            self._retain_ports(draft, question)
        except ServerAwayError:
            raise
        except ServerError as exc:
            self._spoil(router_id, documents.unanswered(router_id, exc), question, sync, retry=True)
            return
        except DocumentError as exc:
            self._spoil(router_id, exc, question, sync)
            return
        except Exception as exc:
            LOG.exception("router %s: its answer cannot be taken in, by an error that should not happen", router_id)
            self._spoil(router_id, documents.unanswered(router_id, f"{type(exc).__name__}: {exc}"), question, sync)
            return
        self._refused.pop(router_id, None)
        self._reporter.heard(router_id, draft.statuses)
        verdict = self._offer(draft, question)
        if verdict is Verdict.UNCHANGED:
            self._reporter.unchanged(router_id)
        if sync is not None:
            sync.count(router_id, verdict)

    def _is_left_out(self, router_id: str, raw: Json) -> bool:
        """True for a router without gateway where such routers are not wanted."""
        if self._options.handle_internal_only_routers or isinstance(raw.get("gw_port"), dict):
            self._internal.discard(router_id)
            return False
        if router_id not in self._internal:
            self._internal.add(router_id)
            LOG.info("router %s has no gateway: left out (handle_internal_only_routers = false)", router_id)
        self.gone(router_id)
        return True

    def _pull(self, draft: Draft, sync: FullSync | None) -> None:
        """Have the ports of the router's subnets: of those not known yet, in a full sync of all, once each.

        :raises RemoteError: the server could not tell
        """
        rejoined = self._rejoined(draft)
        self._under_way = draft.subnets if sync is not None else self._under_way
        try:
            for subnet_id in draft.subnets:
                there = subnet_id in self._neighbours and (sync is None or subnet_id in sync.pulled)
                if there and subnet_id not in rejoined:
                    continue
                if subnet_id in self._subnet_errors:
                    raise self._subnet_errors[subnet_id]
                if sync is not None:
                    sync.between()  # older notifications must not be applied to newer ports
                self._ask_ports(subnet_id, draft)
                if sync is not None:
                    sync.pulled.add(subnet_id)
                if there:
                    self._outdated.add(subnet_id)
        finally:
            self._under_way = () if sync is not None else self._under_way

    def _retain_ports(self, draft: Draft, question: int) -> None:
        """Forget ports of the router that its newest answer does not have any more."""
        if draft.own_ports is not None and not self._store.is_late(draft.router_id, question):
            self._outdated |= self._neighbours.retain_ports(draft.router_id, draft.own_ports, question)

    def _ask_ports(self, subnet_id: str, draft: Draft) -> None:
        asked = self._store.begin()
        try:
            answer = self._plugin.get_ports_by_subnet(subnet_id)
            self._neighbours.put(subnet_id, answer, draft.cidrs.get(subnet_id), asked)
        except RemoteError as exc:
            self._subnet_errors[subnet_id] = exc
            raise

    def _rejoined(self, draft: Draft) -> set[str]:
        """Subnets that the router was in by other interfaces.

        Between the two it may have been in none, and of a subnet without router the server sends no notifications.
        """
        before = self._store.draft(draft.router_id)
        if before is None:
            return set()
        return {
            subnet_id
            for subnet_id in draft.subnets
            if subnet_id in before.interfaces and before.interfaces[subnet_id].isdisjoint(draft.interfaces[subnet_id])
        }

    def _forget_subnets(self) -> None:
        """Forget the ports of subnets that no router of this host is in: the server tells nothing of them any more."""
        used = {subnet_id for draft in self._store.drafts() for subnet_id in draft.subnets}
        self._neighbours.retain(used.union(self._under_way))

    def _rebuild(self) -> None:
        """Make documents anew where ports of their subnets have changed."""
        subnet_ids, self._outdated = self._outdated, set()
        if not subnet_ids:
            return
        question = self._store.begin()
        for draft in self._store.drafts():
            concerned = not subnet_ids.isdisjoint(draft.subnets)
            if concerned and all(subnet_id in self._neighbours for subnet_id in draft.subnets):
                self._offer(draft, question, rebuilt=True)

    def _patch(self, entry: ArpEntry) -> None:
        subnet_id = documents.canonical_id(entry.subnet_id)
        try:
            if subnet_id is not None and self._neighbours.patch(replace(entry, subnet_id=subnet_id)):
                self._outdated.add(subnet_id)
        except ValueError as exc:
            LOG.warning("ARP entry of subnet %s ignored: %s", entry.subnet_id, exc)

    def _text(self, draft: Draft) -> bytes:
        return documents.assemble(draft, {subnet_id: self._neighbours.text(subnet_id) for subnet_id in draft.subnets})

    def _offer(self, draft: Draft, question: int, rebuilt: bool = False) -> Verdict:
        text = self._text(draft)
        verdict = self._store.offer(draft, text, question, rebuilt)
        if verdict is Verdict.CHANGED:
            self._kept.write(draft.router_id, text)
        elif verdict is Verdict.UNCHANGED:
            self._kept.accept(draft.router_id)
        elif verdict is Verdict.BAD:
            self._refuse(draft.router_id)
        return verdict

    def _refuse(self, router_id: str) -> None:
        error = self._store.error(router_id)
        if error is not None:
            self._kept.refuse(router_id, str(error))

    def _spoil(
        self, router_id: str, error: DocumentError, question: int, sync: FullSync | None, retry: bool = False
    ) -> None:
        verdict = self._store.spoil(router_id, error, question)
        if verdict is Verdict.BAD:
            self._refuse(router_id)
        if sync is not None:
            sync.count(router_id, verdict)
        if retry:
            failures = self._refused[router_id] = self._refused.get(router_id, 0) + 1
            timing = self._options.timing
            self._requests.later(router_id, delay(failures, timing.retry_first, timing.retry_max), Reason.UPDATED)
