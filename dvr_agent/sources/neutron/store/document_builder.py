"""Makes documents of drafts and neighbours: offers them to the router store, and keeps the good ones in the cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from oslo_log import log as logging

from dvr_agent.errors import DocumentError
from dvr_agent.mass_removal import is_mass_removal
from dvr_agent.model.values import canonical_id
from dvr_agent.sources.neutron import documents
from dvr_agent.sources.neutron.api import ArpEntry, RouterDeleted
from dvr_agent.sources.neutron.crossing.router_store import OfferResult, RouterStore
from dvr_agent.sources.neutron.documents import RouterDraft
from dvr_agent.sources.neutron.store.document_cache import DocumentCache
from dvr_agent.sources.neutron.store.feature_objects import FeatureObjects
from dvr_agent.sources.neutron.store.neighbours import SubnetPorts

LOG = logging.getLogger(__name__)


class DocumentBuilder:
    """Builds documents, offers them to the router store, caches the good ones; one per source.

    :ivar cache: of documents; this class alone changes it
    :ivar objects: versioned objects beside the routers; a caller that changes them calls :meth:`outdate_objects`
    :ivar ports: the neighbours; a caller that changes them calls :meth:`outdate`, then :meth:`rebuild`
    """

    def __init__(self, routers: RouterStore, cache: DocumentCache, objects: FeatureObjects | None = None) -> None:
        self._routers, self.cache = routers, cache
        self.ports = SubnetPorts()
        self.objects = objects or FeatureObjects(())
        self._changed_objects: set[tuple[str, str]] = set()
        """(Key of a document, group) of objects that have changed since documents were made of them."""
        self._outdated: set[str] = set()
        """Subnets whose ports differ from those in the documents of routers that were offered earlier."""
        self._unlisted: frozenset[str] = frozenset()
        """Routers that the last full sync lacked, and whose cached documents stay since they were suspiciously many."""

    def offer(self, draft: RouterDraft, query: int, rebuilt: bool = False) -> OfferResult:
        """Make the document of a draft, offer it and cache it; the ports of its subnets must be known."""
        text = self._text(draft)
        result = self._routers.offer(draft, text, query, rebuilt)
        if result is OfferResult.CHANGED:
            self.cache.write(draft.router_id, text)
        elif result is OfferResult.UNCHANGED:
            self.cache.accept(draft.router_id)
        elif result is OfferResult.BAD:
            self._refuse(draft.router_id)
        return result

    def offer_bad(self, router_id: str, error: DocumentError, query: int) -> OfferResult:
        """Offer the error of an answer of which no document can be made."""
        result = self._routers.offer_bad(router_id, error, query)
        if result is OfferResult.BAD:
            self._refuse(router_id)
        return result

    def outdate(self, subnet_ids: Iterable[str]) -> None:
        """Note that the ports of these subnets have changed."""
        self._outdated.update(subnet_ids)

    def outdate_objects(self, key: str, groups: Iterable[str]) -> None:
        """Note that the objects of these groups have changed.

        :param key: of their list in a document
        """
        self._changed_objects |= {(key, group) for group in groups}

    def adopt_objects(self, router_id: str) -> None:
        """Take objects that are not known from the router's cached document."""
        document = self.cache.read(router_id)
        if document is not None:
            self.objects.adopt(document)

    def rebuild(self) -> None:
        """Make the documents of routers anew whose subnets have changed ports, or that have other objects."""
        subnet_ids, self._outdated = self._outdated, set()
        changed, self._changed_objects = self._changed_objects, set()
        if not subnet_ids and not changed:
            return
        query, named = self._routers.begin_query(), self.objects.take_touched()
        for draft in self._routers.drafts():
            concerned = draft.router_id in named or not subnet_ids.isdisjoint(draft.subnets)
            concerned = concerned or any(changed & {(key, group) for group in ids} for key, ids in draft.groups.items())
            if concerned and all(subnet_id in self.ports for subnet_id in draft.subnets):
                self.offer(draft, query, rebuilt=True)

    def patch(self, entries: Iterable[ArpEntry]) -> None:
        """Apply ARP notifications to the neighbours, and rebuild the documents of this host's routers."""
        for entry in entries:
            self._patch(entry)
        self.rebuild()

    def remove(self, router_id: str) -> None:
        """Delete a router that has left this host, as the server has confirmed, and its cached document."""
        if self._routers.get(router_id) is not None:
            self._routers.delete(router_id)
        self.cache.remove(router_id)

    def router_deleted(self, notification: RouterDeleted) -> None:
        """Remove the document and the ports of a router that exists no more on any host."""
        self.cache.remove(notification.router_id)  # a start without the server must not bring it back
        self.outdate(self.ports.retain_ports(notification.router_id, {}))
        self.rebuild()

    def complete(self, known: frozenset[str]) -> None:
        """End a full sync: forget unused neighbours, and make the cache a complete set.

        :param known: ids of all routers of this host
        """
        routers = self._routers.all()
        drafts = {router_id: one.draft for router_id, one in routers.items() if one.draft is not None}
        self.ports.retain({subnet_id for draft in drafts.values() for subnet_id in draft.subnets})
        self.objects.retain(drafts.values())
        cached = self.cache.with_document()
        for router_id in known - cached:
            if router_id in drafts and routers[router_id].is_good:
                self.cache.write(router_id, self._text(drafts[router_id]))
        gone = self.cache.with_any_file() - known
        if is_mass_removal(len(gone), len(cached)):  # two listings in a row that agree are believed
            gone, self._unlisted = gone & self._unlisted, frozenset(gone)
        self.cache.complete(gone)

    def _patch(self, entry: ArpEntry) -> None:
        subnet_id = canonical_id(entry.subnet_id)
        try:
            if subnet_id is not None and self.ports.patch(replace(entry, subnet_id=subnet_id)):
                self._outdated.add(subnet_id)
        except ValueError as exc:
            LOG.warning("ARP entry of subnet %s ignored: %s", entry.subnet_id, exc)

    def _text(self, draft: RouterDraft) -> bytes:
        ports = {subnet_id: self.ports.text(subnet_id) for subnet_id in draft.subnets}
        return documents.assemble(draft, ports, self.objects.lists(draft))

    def _refuse(self, router_id: str) -> None:
        stored = self._routers.get(router_id)
        if stored is not None and stored.error is not None:
            self.cache.refuse(router_id, str(stored.error))
