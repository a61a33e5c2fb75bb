"""Keeps the versioned objects of the routers of this host: port forwardings, QoS policies, NDP proxies.

Questions are answered by whole groups (:mod:`dvr_agent.sources.neutron.objects`); notifications delete single objects.
A group that was never answered is not known, and the list of a router that needs it is null.  ``fetch.objects`` fills
the store, ``document_builder`` takes the lists of documents from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dvr_agent.model.feature_objects import NOT_CURRENT
from dvr_agent.model.values import canonical_id
from dvr_agent.sources.neutron.api import Json
from dvr_agent.sources.neutron.documents import RouterDraft, encode
from dvr_agent.sources.neutron.objects import TYPES, ObjectType

Objects = dict[str, Json]
"""Object id → data."""


class ObjectsOfType:
    """All known objects of one type."""

    def __init__(self, kind: ObjectType) -> None:
        self.kind = kind
        self._groups: dict[str, Objects] = {}
        self._of_router: dict[str, set[str]] = {}
        """Router id → groups with objects that name it: a router's answer may not list a new group yet."""
        self._touched: set[str] = set()
        self._outdated: set[str] = set()
        """Groups of which the newest question has failed."""

    def __contains__(self, group: str) -> bool:
        return group in self._groups

    def get(self, group: str) -> Objects:
        """Return the objects of a group; none if it is not known."""
        return self._groups.get(group, {})

    def put(self, groups: Iterable[str], objects: Iterable[Json]) -> None:
        """Replace groups by the objects of an answer."""
        found: dict[str, Objects] = {group: {} for group in groups}
        for data in objects:
            group, object_id = self.kind.group(data), canonical_id(data.get("id"))
            if group in found and object_id is not None:
                found[group][object_id] = data
        self._outdated.difference_update(found)
        for group, members in found.items():
            self.forget(group)
            self._groups[group] = members
            for data in members.values():
                self._touched.add(_router_of(data))
                self._of_router.setdefault(_router_of(data), set()).add(group)

    def outdate(self, groups: Iterable[str]) -> None:
        """Note that the server could not be asked for these groups."""
        self._outdated.update(groups)

    def is_current(self, draft: RouterDraft) -> bool:
        """Return False if the newest question for a group of the router has failed."""
        return self._outdated.isdisjoint(self.groups_of(draft))

    def delete(self, group: str, object_id: str) -> bool:
        """Delete an object; returns False if it is not there."""
        members = self._groups.get(group, {})
        if object_id not in members:
            return False
        self.put([group], [data for known, data in members.items() if known != object_id])
        return True

    def forget(self, group: str) -> None:
        """Forget a group: it is not known any more."""
        for data in self._groups.pop(group, {}).values():
            self._touched.add(_router_of(data))
            self._of_router.get(_router_of(data), set()).discard(group)

    def retain(self, groups: Iterable[str]) -> None:
        """Forget all groups but these."""
        for group in self._groups.keys() - set(groups):
            self.forget(group)

    def take_touched(self) -> set[str]:
        """Return the routers that objects named which came or went since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def groups_of(self, draft: RouterDraft) -> frozenset[str]:
        """Return the groups that a router needs: those of its answer, and those whose objects name it."""
        return draft.groups.get(self.kind.key, frozenset()) | self._of_router.get(draft.router_id, set())

    def of_router(self, draft: RouterDraft) -> list[Json] | None:
        """Return the objects of a router, sorted by id; None: not all of its groups are known.

        An object that has changed its group is in both until the old one is asked for again.
        """
        groups = self.groups_of(draft)
        if any(group not in self._groups for group in groups):
            return None
        members = {object_id: data for group in sorted(groups) for object_id, data in self._groups[group].items()}
        return [members[one] for one in sorted(members) if _router_of(members[one]) in ("", draft.router_id)]


class FeatureObjects:
    """The objects of the types that are served."""

    def __init__(self, kinds: Iterable[ObjectType] = TYPES) -> None:
        self.by_name = {kind.name: ObjectsOfType(kind) for kind in kinds}

    def lists(self, draft: RouterDraft) -> dict[str, bytes]:
        """Return the lists of a router's document as JSON, by key; empty ones are left out."""
        found = {objects.kind.key: objects.of_router(draft) for objects in self.by_name.values()}
        older = [one.kind.key for one in self.by_name.values() if found[one.kind.key] and not one.is_current(draft)]
        listed: dict[str, object] = {key: members for key, members in found.items() if members != []}
        if older:
            listed[NOT_CURRENT] = sorted(older)
        return {key: encode(value, f"neutron:{key} of router {draft.router_id}") for key, value in listed.items()}

    def take_touched(self) -> set[str]:
        """Return the routers that objects named which came or went since the last call."""
        return {router_id for objects in self.by_name.values() for router_id in objects.take_touched()}

    def adopt(self, document: Mapping[str, object]) -> None:
        """Take what is not known from a document that was made earlier."""
        router = document.get("router")
        for objects in self.by_name.values():
            members = document.get(objects.kind.key, [])
            if isinstance(router, dict) and isinstance(members, list):
                data = [one for one in members if isinstance(one, dict)]
                groups = objects.kind.groups(router) | {objects.kind.group(one) for one in data}
                unknown = [group for group in groups if group is not None and group not in objects]
                objects.put(unknown, data)
                objects.outdate(unknown)

    def retain(self, drafts: Iterable[RouterDraft]) -> None:
        """Forget what none of these routers needs."""
        known = list(drafts)
        for objects in self.by_name.values():
            objects.retain({group for draft in known for group in objects.groups_of(draft)})


def _router_of(data: Json) -> str:
    """Return the router that an object names; empty: none."""
    return canonical_id(data.get("router_id")) or ""
