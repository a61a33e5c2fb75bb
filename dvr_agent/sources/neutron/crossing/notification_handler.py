"""Turns notifications of neutron-server into work for the fetch thread.

``wire.endpoint`` calls it, in threads of oslo.messaging; ``source`` makes it.  Nothing here asks the server: the work
goes into ``fetch_inbox``.  Only ``router_deleted`` also acts at once: the deletion is final, so the event goes out.
"""

from __future__ import annotations

from oslo_log import log as logging

from dvr_agent.model.values import canonical_id
from dvr_agent.sources.neutron.api import (
    AgentUpdated,
    Notification,
    Reconnected,
    RouterDeleted,
    RouterRemoved,
    RoutersUpdated,
)
from dvr_agent.sources.neutron.crossing.fetch_inbox import FetchInbox, Reason
from dvr_agent.sources.neutron.crossing.router_store import RouterStore

LOG = logging.getLogger(__name__)


class NotificationHandler:
    """Turns each notification into work.  It has no state of its own, so any thread may call it.

    :param jitter: seconds; a full sync that all hosts request at the same moment begins after a random part of it
    """

    def __init__(self, inbox: FetchInbox, routers: RouterStore, jitter: float) -> None:
        self._inbox, self._routers, self._jitter = inbox, routers, jitter

    def handle(self, notification: Notification) -> None:
        """Put the work that follows from a notification into the inbox."""
        if isinstance(notification, RoutersUpdated):
            self._ask(notification.router_ids, Reason.UPDATED)
        elif isinstance(notification, RouterRemoved):
            self._ask((notification.router_id,), Reason.REMOVED)
        elif isinstance(notification, RouterDeleted):
            self._delete(notification.router_id)
        elif isinstance(notification, AgentUpdated):
            LOG.info("an operator switched this agent %s: full sync", "on" if notification.admin_state_up else "off")
            self._inbox.sync()
        elif isinstance(notification, Reconnected):
            LOG.info("recovered: the message bus is connected: full sync")
            self._inbox.sync(self._jitter, recovered=True)
        else:
            self._inbox.add_note(notification)

    def _ask(self, router_ids: tuple[str, ...], reason: Reason) -> None:
        ids = [canonical_id(router_id) for router_id in router_ids]
        self._inbox.ask([router_id for router_id in ids if router_id], reason)

    def _delete(self, text: str) -> None:
        router_id = canonical_id(text)
        if router_id is None:
            return
        self._inbox.forget(router_id)
        self._routers.delete(router_id)
        self._inbox.add_note(RouterDeleted(router_id))  # its file and its ports belong to the fetch thread
