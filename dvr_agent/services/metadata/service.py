"""Metadata for instances: a listening socket in each router's namespace, served by the host's one proxy.

The agent keeps a copy of every listening socket.  While the proxy is away, connections wait in the kernel, and the next
proxy gets the same sockets.  An agent that starts anew gets its copies back from the proxy.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass

from dvr_agent.desired import names
from dvr_agent.errors import ServiceError
from dvr_agent.kernel import netns
from dvr_agent.model.router import Router
from dvr_agent.services.metadata.haproxy import HaproxyOfReference
from dvr_agent.services.metadata.listener import (
    Listener,
    PortTakenError,
    adopt_listener,
    namespace_cookie,
    open_listener,
)
from dvr_agent.services.metadata.proxy_session import ProxyLink

LOG = logging.getLogger(__name__)

HAPROXY_SECONDS = 2.0
"""For a haproxy to close its sockets, once it was told."""


@dataclass(slots=True)
class _Held:
    """Our copy of a router's sockets.

    :ivar inode: of the namespace that they are in, as long as it has that name
    :ivar handed_over: generation of the link by which the proxy has got them, or given them
    """

    listener: Listener
    inode: int
    handed_over: int = 0


class MetadataService:
    """Implements :class:`dvr_agent.services.api.RouterService`.

    :param port: ``metadata_port``
    :param reference: the haproxy processes of neutron-l3-agent, which ours take over from
    """

    name = "metadata"

    def __init__(self, link: ProxyLink, port: int, reference: HaproxyOfReference) -> None:
        self._link, self._port, self._reference = link, port, reference
        self._held: dict[str, _Held] = {}
        self._postponed: set[str] = set()
        """Routers that may be served by a proxy which hangs: sockets of ours beside its own would split connections."""

    # --- one router ---------------------------------------------------------------------------------------------

    def plan(self, router: Router) -> list[str]:
        haproxy = self._reference.runs(router.id)
        if (haproxy and self._link.trouble) or self._link.hangs:
            return []
        lines = []
        if not self._serves(router.id, names.QROUTER + router.id):
            lines.append(f"+ metadata listener on port {self._port}")
        return [*lines, "- haproxy of neutron-l3-agent"] if haproxy else lines

    def apply(self, router: Router) -> None:
        haproxy = self._reference.runs(router.id)
        if haproxy and self._link.trouble:
            return  # it serves better than we would: the kernel would give us half of the connections
        namespace = names.QROUTER + router.id
        held = self._held.get(router.id)
        if held is None or not self._is_right(held, namespace):
            if self._link.hangs:
                self._postponed.add(router.id)
                return
            held = self._listen(router.id, namespace)
        if not self._is_handed_over(held):
            self._hand_over(router.id, held)
        if haproxy and self._is_handed_over(held):
            LOG.info("router %s: metadata is served by dvr-metadata-proxy now, its haproxy ends", router.id)
            self._reference.end_gently(router.id)

    def plan_remove(self, router_id: str) -> list[str]:
        lines = []
        if router_id in self._held or router_id in self._link.served:
            lines.append(f"- metadata listener on port {self._port}")
        if self._reference.runs(router_id):
            lines.append("- haproxy of neutron-l3-agent")
        return lines

    def remove(self, router_id: str) -> None:
        held = self._held.get(router_id)
        if router_id in self._link.served or held is not None:
            # One that is away has closed its sockets, or will be told of those that are left when it is back.
            self._link.ask({"do": "stop", "router": router_id})
        self._link.served.pop(router_id, None)
        self._postponed.discard(router_id)
        if held is not None:
            held.listener.close()
            del self._held[router_id]
        self._reference.end(router_id)

    def routers(self) -> Collection[str]:
        return {*self._held, *self._link.served, *self._reference.routers()}

    def _serves(self, router_id: str, namespace: str) -> bool:
        inode = netns.inode_of(namespace)
        held = self._held.get(router_id)
        if held is None and inode is not None:
            held = self._take_back(router_id, namespace, inode)
        if held is None or not self._is_right(held, namespace):
            return False
        self._held[router_id] = held
        return self._is_handed_over(held) or not self._link.connected

    def _is_right(self, held: _Held, namespace: str) -> bool:
        return held.inode == netns.inode_of(namespace) and held.listener.port == self._port

    def _is_handed_over(self, held: _Held) -> bool:
        return self._link.connected and held.handed_over == self._link.generation

    def _listen(self, router_id: str, namespace: str) -> _Held:
        """Sockets in the namespace as it is now: those that the proxy has already, if they are right.

        Old ones are known until there are new ones: the proxy must be told to close them if there never are.
        """
        inode = netns.inode_of(namespace)
        if inode is None:
            raise ServiceError(f"no metadata for router {router_id}: namespace {namespace} has gone")
        held = self._take_back(router_id, namespace, inode)
        if held is None:
            held = _Held(self._open(router_id, namespace), inode)
        old = self._held.get(router_id)
        if old is not None:
            old.listener.close()
        self._held[router_id] = held
        return held

    def _open(self, router_id: str, namespace: str) -> Listener:
        """Beside haproxy; or after it, where it does not let anybody listen beside it."""
        try:
            return open_listener(namespace, self._port)
        except PortTakenError:
            if not (self._link.connected and self._reference.runs(router_id)):
                raise
        began = time.monotonic()
        self._reference.end_gently(router_id)  # it closes its sockets at once
        while True:
            try:
                listener = open_listener(namespace, self._port)
            except PortTakenError:
                if time.monotonic() > began + HAPROXY_SECONDS:
                    raise
                time.sleep(0.002)
            else:
                gap = (time.monotonic() - began) * 1e3
                LOG.warning("router %s: nobody listened for metadata for at most %.0f ms", router_id, gap)
                return listener

    def _take_back(self, router_id: str, namespace: str, inode: int) -> _Held | None:
        """Copies of the sockets that the proxy has, if it is in the namespace and on the port that are right now."""
        cookie = self._link.served.get(router_id)
        if cookie is None or cookie != namespace_cookie(namespace):
            return None
        try:
            answer = self._link.ask({"do": "give", "router": router_id})
        except ServiceError as exc:
            LOG.debug("router %s: %s", router_id, exc)
            return None
        listener = adopt_listener(answer[1]) if answer is not None else None
        if listener is None:
            return None
        held = _Held(listener, inode, self._link.generation)
        if listener.cookie == cookie and self._is_right(held, namespace):
            self._link.served.pop(router_id, None)
            return held
        listener.close()
        return None

    def _hand_over(self, router_id: str, held: _Held) -> None:
        """To the proxy, instead of what it has; one that is away gets it when it is back.

        :raises ServiceError: it refuses
        """
        question = {"do": "serve", "router": router_id, "namespace": held.listener.cookie}
        if self._link.ask(question, held.listener.descriptors) is not None:
            held.handed_over = self._link.generation
            self._link.served.pop(router_id, None)

    # --- all of them --------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._link.fileno()

    def changed(self) -> Collection[str]:
        return self._catch_up() if self._link.changed() else ()

    def check(self) -> Collection[str]:
        return self._catch_up() if self._link.check() else ()

    def status(self) -> dict[str, object]:
        link = self._link
        return {"routers": len(self._held), "proxy": link.pid, "trouble": link.trouble, "since": link.since}

    def close(self) -> None:
        for held in self._held.values():
            held.listener.close()
        self._held.clear()
        self._link.close()

    def _catch_up(self) -> Collection[str]:
        """Hand over what the proxy has not got from us; ids of routers that it refused, or that waited for it."""
        again = {*self._postponed, *self._reference.routers()}
        self._postponed.clear()
        for router_id, held in self._held.items():
            if self._is_handed_over(held):
                continue
            try:
                self._hand_over(router_id, held)
            except ServiceError as exc:
                LOG.debug("router %s: %s", router_id, exc)
                again.add(router_id)
        return again
