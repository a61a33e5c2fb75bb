"""Metadata for instances: a listening socket in each router's namespace, served by the host's one proxy.

The agent keeps a copy of every listening socket.  While the proxy is away, connections wait in the kernel, and the next
proxy gets the same sockets, from systemd or from the agent.  An agent that starts anew gets its copies back from the
proxy.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass

from dvr_agent.desired import names
from dvr_agent.errors import ServiceError
from dvr_agent.kernel import netns
from dvr_agent.model.router import Router
from dvr_agent.services.metadata.haproxy import L3AgentHaproxies
from dvr_agent.services.metadata.listener import (
    PortTakenError,
    RouterListener,
    adopt_listener,
    namespace_cookie,
    open_listener,
)
from dvr_agent.services.metadata.proxy_session import ProxySession

LOG = logging.getLogger(__name__)

HAPROXY_SECONDS = 2.0
"""Seconds for a haproxy to close its sockets, after the signal."""


@dataclass(slots=True)
class _OpenListener:
    """A router's listener, of which the proxy may have a copy.

    :ivar inode: inode of the sockets' namespace
    :ivar generation: connection to the proxy on which the sockets were handed over, or came back; 0: none
    """

    listener: RouterListener
    inode: int
    generation: int = 0


class MetadataService:
    """Implements :class:`dvr_agent.services.api.RouterService`.

    :param port: ``metadata_port``
    :param haproxies: the haproxy processes of neutron-l3-agent, which our proxy replaces
    """

    name = "metadata"

    def __init__(self, session: ProxySession, port: int, haproxies: L3AgentHaproxies) -> None:
        self._session, self._port, self._haproxies = session, port, haproxies
        self._listeners: dict[str, _OpenListener] = {}
        self._postponed: set[str] = set()
        """Routers that a proxy which hangs may serve: with new sockets beside its own, connections would be split."""
        self._removed: set[str] = set()
        """Routers removed while the proxy was away: systemd keeps their sockets for the next one."""

    # --- one router ---------------------------------------------------------------------------------------------

    def plan(self, router: Router) -> list[str]:
        """Return the lines for a missing listener, and for a haproxy that ends."""
        haproxy = self._haproxies.runs(router.id)
        if (haproxy and self._session.trouble) or self._session.hangs:
            return []
        lines = []
        if not self._serves(router.id, names.QROUTER + router.id):
            lines.append(f"+ metadata listener on port {self._port}")
        return [*lines, "- haproxy of neutron-l3-agent"] if haproxy else lines

    def apply(self, router: Router) -> None:
        """Open the router's listener, hand it to the proxy, and end the router's haproxy."""
        haproxy = self._haproxies.runs(router.id)
        if haproxy and self._session.trouble:
            return  # haproxy serves; with a listener of ours the kernel would divide the connections
        namespace = names.QROUTER + router.id
        opened = self._listeners.get(router.id)
        if opened is None or not self._is_right(opened, namespace):
            if self._session.hangs:
                self._postponed.add(router.id)
                return
            opened = self._listen(router.id, namespace)
        if not self._is_handed_over(opened):
            self._hand_over(router.id, opened)
        if haproxy and self._is_handed_over(opened):
            LOG.info("router %s: metadata is served by dvr-metadata-proxy now, its haproxy ends", router.id)
            self._haproxies.end_gently(router.id)

    def plan_remove(self, router_id: str) -> list[str]:
        """Return the lines for closing the router's listener and ending its haproxy."""
        lines = []
        if router_id in self._listeners or router_id in self._session.served:
            lines.append(f"- metadata listener on port {self._port}")
        if self._haproxies.runs(router_id):
            lines.append("- haproxy of neutron-l3-agent")
        return lines

    def remove(self, router_id: str) -> None:
        """Have the proxy close everything of the router, close our listener, and end its haproxy."""
        opened = self._listeners.get(router_id)
        if router_id in self._session.served or opened is not None:
            self._stop(router_id)
        self._session.served.pop(router_id, None)
        self._postponed.discard(router_id)
        if opened is not None:
            opened.listener.close()
            del self._listeners[router_id]
        self._haproxies.end(router_id)

    def _stop(self, router_id: str) -> None:
        """Have the proxy close everything of a router, when it is back if it is away.

        :raises ServiceError: the proxy refuses
        """
        if self._session.ask({"do": "stop", "router": router_id}) is None:
            self._removed.add(router_id)

    def routers(self) -> Collection[str]:
        """Return ids of the routers that have a listener here, in the proxy, or a haproxy."""
        return {*self._listeners, *self._session.served, *self._haproxies.routers()}

    def _serves(self, router_id: str, namespace: str) -> bool:
        inode = netns.inode_of(namespace)
        opened = self._listeners.get(router_id)
        if opened is None and inode is not None:
            opened = self._take_back(router_id, namespace, inode)
        if opened is None or not self._is_right(opened, namespace):
            return False
        self._listeners[router_id] = opened
        return self._is_handed_over(opened) or not self._session.connected

    def _is_right(self, opened: _OpenListener, namespace: str) -> bool:
        return opened.inode == netns.inode_of(namespace) and opened.listener.port == self._port

    def _is_handed_over(self, opened: _OpenListener) -> bool:
        return self._session.connected and opened.generation == self._session.generation

    def _listen(self, router_id: str, namespace: str) -> _OpenListener:
        """Open the router's listener: the sockets that the proxy has already, if they are right, else new ones.

        Old sockets are kept until there are new ones: if opening fails, :meth:`remove` must still have the proxy close
        them.

        :raises ServiceError: the namespace has gone, or the port is taken
        """
        inode = netns.inode_of(namespace)
        if inode is None:
            raise ServiceError(f"no metadata for router {router_id}: namespace {namespace} has gone")
        opened = self._take_back(router_id, namespace, inode)
        if opened is None:
            opened = _OpenListener(self._open(router_id, namespace), inode)
        old = self._listeners.get(router_id)
        if old is not None:
            old.listener.close()
        self._listeners[router_id] = opened
        return opened

    def _open(self, router_id: str, namespace: str) -> RouterListener:
        """Listen beside haproxy, or after haproxy has ended where it does not share the port."""
        try:
            return open_listener(namespace, self._port)
        except PortTakenError:
            if not (self._session.connected and self._haproxies.runs(router_id)):
                raise
        began = time.monotonic()
        self._haproxies.end_gently(router_id)  # it closes its sockets at once
        while True:
            try:
                listener = open_listener(namespace, self._port)
            except PortTakenError:
                if time.monotonic() > began + HAPROXY_SECONDS:
                    raise
                time.sleep(0.002)
            else:
                gap = (time.monotonic() - began) * 1e3
                LOG.warning("router %s: metadata was unavailable for at most %.0f ms", router_id, gap)
                return listener

    def _take_back(self, router_id: str, namespace: str, inode: int) -> _OpenListener | None:
        """Get copies of the sockets that the proxy has, if they are in the right namespace and on the right port."""
        cookie = self._session.served.get(router_id)
        if cookie is None or cookie != namespace_cookie(namespace):
            return None
        try:
            answer = self._session.ask({"do": "give", "router": router_id})
        except ServiceError as exc:
            LOG.debug("router %s: %s", router_id, exc)
            return None
        listener = adopt_listener(answer[1]) if answer is not None else None
        if listener is None:
            return None
        opened = _OpenListener(listener, inode, self._session.generation)
        if listener.cookie == cookie and self._is_right(opened, namespace):
            self._session.served.pop(router_id, None)
            return opened
        listener.close()
        return None

    def _hand_over(self, router_id: str, opened: _OpenListener) -> None:
        """Hand a listener over to the proxy, in place of the router's former one; :meth:`changed` does so later if the
        proxy is away.

        :raises ServiceError: the proxy refuses
        """
        question = {"do": "serve", "router": router_id, "namespace": opened.listener.cookie}
        if self._session.ask(question, opened.listener.descriptors) is not None:
            opened.generation = self._session.generation
            self._session.served.pop(router_id, None)

    # --- all routers --------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return a descriptor that is readable when the proxy came or went, or a retry is due."""
        return self._session.fileno()

    def changed(self) -> Collection[str]:
        """Hand listeners over to a proxy that is back; returns ids of routers to reconcile again."""
        return self._catch_up() if self._session.changed() else ()

    def check(self) -> Collection[str]:
        """Probe the proxy; returns ids of routers to reconcile again."""
        return self._catch_up() if self._session.check() else ()

    def status(self) -> dict[str, object]:
        """Return how many routers have a listener, and the trouble of the proxy with its begin."""
        session = self._session
        return {
            "routers": len(self._listeners),
            "proxy": session.pid,
            "trouble": session.trouble,
            "since": session.since,
        }

    def close(self) -> None:
        """Close our copies of the listeners; the proxy goes on with its own."""
        for opened in self._listeners.values():
            opened.listener.close()
        self._listeners.clear()
        self._session.close()

    def _catch_up(self) -> Collection[str]:
        """Hand over listeners that the proxy lacks.

        :returns: ids of routers to reconcile again: refused or postponed ones, and those with a haproxy
        """
        again = {*self._postponed, *self._haproxies.routers()}
        self._postponed.clear()
        removed, self._removed = self._removed - self._listeners.keys(), set()
        for router_id in removed & self._session.served.keys():
            with contextlib.suppress(ServiceError):
                self._stop(router_id)
                self._session.served.pop(router_id, None)
        for router_id, opened in self._listeners.items():
            if self._is_handed_over(opened):
                continue
            try:
                self._hand_over(router_id, opened)
            except ServiceError as exc:
                LOG.debug("router %s: %s", router_id, exc)
                again.add(router_id)
        return again
