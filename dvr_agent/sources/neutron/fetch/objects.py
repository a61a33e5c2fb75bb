"""Asks for versioned objects: those of new groups with the routers' answers, all in a full sync, changed ones again.

A notification is a hint: it may come before the change can be seen, and objects of an earlier change may be under way.
So what it is about is asked for, and asked for again a moment later if the answer does not show it.  The one
exception is a deletion, which counts at once.  A failed question never fails a router: what is known stays, what was
kept on disk is used, the rest is not known; it is asked again with back-off.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from oslo_log import log as logging

from dvr_agent.backoff import delay
from dvr_agent.model.values import canonical_id
from dvr_agent.sources.neutron.api import Json, ObjectsPushed, ServerError
from dvr_agent.sources.neutron.crossing.fetch_inbox import Lookup, Reason
from dvr_agent.sources.neutron.crossing.shared import SharedParts
from dvr_agent.sources.neutron.fetch.ndp_hosts import with_hosts
from dvr_agent.sources.neutron.objects import (
    CONNTRACK_HELPER,
    NDP_PROXY,
    PORT_FORWARDING,
    QOS_POLICY,
    ObjectType,
    checked,
)
from dvr_agent.sources.neutron.store.document_builder import DocumentBuilder
from dvr_agent.sources.neutron.store.feature_objects import ObjectsOfType

LOG = logging.getLogger(__name__)

TRIES = 3
"""How often a change that was announced is looked for."""


@dataclass(slots=True)
class _Progress:
    """Questions about one type.

    :ivar failures: in a row
    :ivar retry_at: when (monotonic) the server may be asked again
    :ivar waiting: groups that are asked for then; while there are any, one question is scheduled
    :ivar deleted: object id → when (monotonic) answers that list it are believed again
    :ivar expected: object id → (group, revision that was announced, how often it may still be looked for)
    """

    failures: int = 0
    retry_at: float = 0.0
    waiting: set[str] = field(default_factory=set)
    deleted: dict[str, float] = field(default_factory=dict)
    expected: dict[str, tuple[str, int, int]] = field(default_factory=dict)


class ObjectFetch:
    """Fills the builder's store of objects; one per source."""

    def __init__(self, shared: SharedParts, builder: DocumentBuilder) -> None:
        self._shared, self._builder = shared, builder
        self._known = builder.objects.by_name
        self._progress = {name: _Progress() for name in self._known}
        self._routers: set[str] = set()
        """Routers of answers that are being processed: the router store may not have them yet."""
        self._errors: dict[str, str] = {}

    def pull(self, routers: Mapping[str, Json], everything: bool) -> None:
        """Ask for the objects of the routers of an answer, where they are not known.

        Those with the hosts of their ports are asked for again: an instance that moves changes no object.

        :param everything: ask for known ones too
        """
        self._routers |= routers.keys()
        for objects in self._known.values():
            groups = {group for raw in routers.values() for group in objects.kind.groups(raw)}
            if everything:
                groups |= self._named_groups(objects, routers)
            else:
                groups = {group for group in groups if group not in objects or objects.kind is NDP_PROXY}
            if groups:
                self._ask_if_possible(objects, groups)
            if any(group not in objects for group in groups):
                for router_id in routers:
                    self._builder.adopt_objects(router_id)

    def processed(self, routers: Iterable[str]) -> None:
        """Note that the routers of an answer are in the router store."""
        self._routers.difference_update(routers)

    def note(self, notes: Iterable[ObjectsPushed | Lookup]) -> None:
        """Process notifications and questions that are due, each group once."""
        wanted: dict[str, set[str]] = {}
        for note in notes:
            if isinstance(note, Lookup):
                progress = self._progress[note.resource_type]
                wanted.setdefault(note.resource_type, set()).update(note.groups, progress.waiting)
                progress.waiting.clear()
            elif note.resource_type == CONNTRACK_HELPER[0]:
                self._ask_for_routers(note)
            elif note.resource_type in self._known:
                wanted.setdefault(note.resource_type, set()).update(self._pushed(self._known[note.resource_type], note))
        for name, groups in wanted.items():
            if groups:
                self._ask_if_possible(self._known[name], groups)
                self._builder.outdate_objects(self._known[name].kind.key, groups)
        self._builder.rebuild()

    def _ask_if_possible(self, objects: ObjectsOfType, groups: set[str]) -> None:
        """Ask for groups, unless the last question has failed just now: then later."""
        kind = objects.kind
        if time.monotonic() >= self._progress[kind.name].retry_at:
            self._ask(objects, groups)
        else:
            self._wait(kind, groups)

    def _wait(self, kind: ObjectType, groups: Iterable[str]) -> None:
        """Have groups asked for when the server may be asked again: all of them by one question."""
        progress = self._progress[kind.name]
        if not progress.waiting:
            seconds = max(progress.retry_at - time.monotonic(), 0.001)
            self._shared.fetch_inbox.add_note(Lookup(kind.name, frozenset()), seconds)
        progress.waiting |= set(groups)

    def _ask_for_routers(self, note: ObjectsPushed) -> None:
        ids = (canonical_id(one.get("router_id")) for one in note.objects)
        here = [router_id for router_id in ids if router_id is not None and self._is_here(router_id)]
        self._shared.fetch_inbox.ask(here, Reason.UPDATED)

    def _pushed(self, objects: ObjectsOfType, note: ObjectsPushed) -> set[str]:
        """Return the groups to ask for now because of a notification; deleted objects go at once."""
        progress, now = self._progress[objects.kind.name], set()
        for data in note.objects:
            group, object_id = objects.kind.group(data), canonical_id(data.get("id"))
            if group is None or object_id is None or not self._is_wanted(objects, group, data):
                continue
            if note.event == "deleted":
                self._delete(objects, group, object_id)
                continue
            progress.deleted.pop(object_id, None)
            progress.expected[object_id] = (group, _revision(data), TRIES)
            now.add(group)
            self._ask_for_policy(objects, group, data)
        return now

    def _ask_for_policy(self, objects: ObjectsOfType, group: str, data: Json) -> None:
        """Ask for a router that does not list the floating IP of a port forwarding: its QoS policy stands there alone.

        The server announces no change of the router when a floating IP gets its first forwarding.
        """
        router_id = canonical_id(data.get("router_id"))
        if objects.kind is not PORT_FORWARDING or QOS_POLICY.name not in self._known or router_id is None:
            return
        stored = self._shared.routers.get(router_id)
        draft = stored.draft if stored is not None else None
        if draft is not None and group not in draft.groups.get(objects.kind.key, ()):
            self._shared.fetch_inbox.ask([router_id], Reason.UPDATED)

    def _delete(self, objects: ObjectsOfType, group: str, object_id: str) -> None:
        name, seconds = objects.kind.name, self._shared.options.timing.again
        progress = self._progress[name]
        progress.expected.pop(object_id, None)
        progress.deleted[object_id] = time.monotonic() + seconds
        if objects.delete(group, object_id):
            self._builder.outdate_objects(objects.kind.key, {group})
        self._shared.fetch_inbox.add_note(Lookup(name, frozenset({group})), seconds)

    def _is_wanted(self, objects: ObjectsOfType, group: str, data: Json) -> bool:
        """Return True if a router of this host needs the group; a group that none needs now is forgotten."""
        named = canonical_id(data.get("router_id"))
        needed = any(group in objects.groups_of(draft) for draft in self._shared.routers.drafts())
        if needed or (named is not None and self._is_here(named)) or (named is None and self._routers):
            return True
        objects.forget(group)
        return False

    def _is_here(self, router_id: str) -> bool:
        return router_id in self._routers or self._shared.routers.get(router_id) is not None

    def _named_groups(self, objects: ObjectsOfType, routers: Mapping[str, Json]) -> set[str]:
        """Return the groups whose known objects name one of these routers: its answer may not list them yet."""
        drafts = (self._shared.routers.get(router_id) for router_id in routers)
        return {group for one in drafts if one is not None and one.draft for group in objects.groups_of(one.draft)}

    def _ask(self, objects: ObjectsOfType, groups: Iterable[str]) -> None:
        """Ask for groups; an answer replaces them, an error leaves them as they are and is followed by another try."""
        kind, wanted = objects.kind, sorted(set(groups))
        progress, began = self._progress[kind.name], time.monotonic()
        try:
            answer = self._bulk_pull(kind.name, kind.version, {kind.group_by: wanted})
            if kind is NDP_PROXY:
                answer = with_hosts(answer, self._bulk_pull)
        except ServerError as exc:
            objects.outdate(wanted)
            self._failed(kind, wanted, exc)
            return
        self._answered(kind)
        gone = {object_id for object_id, until in progress.deleted.items() if began < until}
        progress.deleted = {object_id: progress.deleted[object_id] for object_id in gone}
        objects.put(wanted, [one for one in answer if canonical_id(one.get("id")) not in gone])
        self._look_again(objects, progress, wanted)

    def _bulk_pull(self, resource_type: str, version: str, filters: Mapping[str, object]) -> list[Json]:
        return checked(self._shared.plugin.bulk_pull(resource_type, version, filters))

    def _look_again(self, objects: ObjectsOfType, progress: _Progress, groups: Iterable[str]) -> None:
        """Ask again a moment later for changes that were announced, and that the answer does not show."""
        asked = {group: objects.get(group) for group in groups}
        lacking: set[str] = set()
        for object_id, (group, revision, tries) in list(progress.expected.items()):
            if group not in asked:
                continue
            del progress.expected[object_id]
            if _revision(asked[group].get(object_id, {})) < revision and tries > 1:
                progress.expected[object_id] = (group, revision, tries - 1)
                lacking.add(group)
        if lacking:
            lookup = Lookup(objects.kind.name, frozenset(lacking))
            self._shared.fetch_inbox.add_note(lookup, self._shared.options.timing.again)

    def _failed(self, kind: ObjectType, groups: Iterable[str], error: ServerError) -> None:
        progress, timing = self._progress[kind.name], self._shared.options.timing
        progress.failures += 1
        seconds = delay(progress.failures, timing.retry_first, timing.retry_max)
        progress.retry_at = time.monotonic() + seconds
        if kind.name not in self._errors:
            LOG.warning("%s objects cannot be fetched, known ones stay in use: %s", kind.name, error)
        self._errors[kind.name] = str(error)
        self._shared.server.publish(objects_not_fetched=dict(self._errors))
        self._wait(kind, groups)

    def _answered(self, kind: ObjectType) -> None:
        progress = self._progress[kind.name]
        progress.failures, progress.retry_at = 0, 0.0
        if self._errors.pop(kind.name, None) is not None:
            LOG.info("recovered: %s objects are fetched", kind.name)
            self._shared.server.publish(objects_not_fetched=dict(self._errors))


def _revision(data: Json) -> int:
    revision = data.get("revision_number")
    return revision if isinstance(revision, int) else 0 if data else -1
