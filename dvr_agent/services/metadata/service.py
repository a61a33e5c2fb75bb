"""Metadata for instances: a listening socket in each router's namespace, served by the host's one proxy.

The agent keeps a copy of every listening socket.  While the proxy is away, connections wait in the kernel, and the next
proxy gets the same sockets.  An agent that starts anew gets its copies back from the proxy.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from dvr_agent import backoff
from dvr_agent.desired import names
from dvr_agent.errors import ServiceError
from dvr_agent.kernel.inotify import Timer
from dvr_agent.model.router import Router
from dvr_agent.services.metadata.courier import Courier, ProxyAwayError, ProxyHangsError
from dvr_agent.services.metadata.haproxy import HaproxyOfReference
from dvr_agent.services.metadata.listener import (
    Listener,
    PortTakenError,
    adopt_listener,
    namespace_cookie,
    namespace_inode,
    open_listener,
)
from dvr_agent.services.metadata.settings import ProxySettings

LOG = logging.getLogger(__name__)

HAPROXY_SECONDS = 2.0
"""For a haproxy to close its sockets, once it was told."""
FIRST_RETRY, LAST_RETRY = 0.05, 2.0
"""Seconds between tries to reach a proxy that is away.  One try is a connect(2) on a Unix socket."""
PROBE_SECONDS = 5.0
"""Between looks whether the proxy can reach neutron-metadata-agent, while it cannot."""
LAST_RETRY_HANGING = 60.0
"""The same for one that hangs: each try has to wait for it.  What it serves it has already."""


class Trouble(Enum):
    """What keeps all routers' instances from their metadata; the words are for the log."""

    NONE = ""
    NO_PROXY = "instances wait for metadata until it is back"
    NO_UPSTREAM = "instances get 503 instead of metadata, see docs/metadata.md"


@dataclass(slots=True)
class _Held:
    """Our copy of a router's sockets.

    :ivar inode: of the namespace that they are in, as long as it has that name
    :ivar handed_over: the proxy of the present connection has them
    """

    listener: Listener
    inode: int
    handed_over: bool = False


class MetadataService:
    """Implements :class:`dvr_agent.services.api.RouterService`.

    :param courier: not connected yet
    :param settings: what the proxy is to go by; None: it is not told, since this process only looks
    :param port: ``metadata_port``
    :param reference: the haproxy processes of neutron-l3-agent, which ours take over from
    """

    name = "metadata"

    def __init__(
        self, courier: Courier, settings: ProxySettings | None, port: int, reference: HaproxyOfReference
    ) -> None:
        self._courier, self._settings, self._port, self._reference = courier, settings, port, reference
        self._held: dict[str, _Held] = {}
        self._at_proxy: dict[str, int] = {}
        """Router id → number of the namespace, of what the proxy serves and was not given by this process."""
        self._kind: Trouble | None = None
        self._trouble, self._since = "", 0.0
        self._failures = 0
        self._timer = Timer()
        self._poll = select.epoll()
        self._poll.register(self._timer.fileno(), select.EPOLLIN)
        self._connect()

    # --- one router ---------------------------------------------------------------------------------------------

    def plan(self, router: Router) -> list[str]:
        haproxy = self._reference.runs(router.id)
        if haproxy and self._trouble:
            return []
        lines = []
        if not self._serves(router.id, names.QROUTER + router.id):
            lines.append(f"+ metadata listener on port {self._port}")
        return [*lines, "- haproxy of neutron-l3-agent"] if haproxy else lines

    def apply(self, router: Router) -> None:
        haproxy = self._reference.runs(router.id)
        if haproxy and self._trouble:
            return  # it serves better than we would: the kernel would give us half of the connections
        namespace = names.QROUTER + router.id
        held = self._held.get(router.id)
        if held is None or not self._is_right(held, namespace):
            held = self._listen(router.id, namespace)
        if not held.handed_over:
            self._hand_over(router.id, held)
        if held.handed_over and haproxy:
            LOG.info("router %s: metadata is served by dvr-metadata-proxy now, its haproxy ends", router.id)
            self._reference.end_gently(router.id)

    def plan_remove(self, router_id: str) -> list[str]:
        lines = []
        if router_id in self._held or router_id in self._at_proxy:
            lines.append(f"- metadata listener on port {self._port}")
        if self._reference.runs(router_id):
            lines.append("- haproxy of neutron-l3-agent")
        return lines

    def remove(self, router_id: str) -> None:
        held = self._held.get(router_id)
        if router_id in self._at_proxy or (held is not None and held.handed_over):
            self._ask_to_stop(router_id)
        self._at_proxy.pop(router_id, None)
        if held is not None:
            held.listener.close()
            del self._held[router_id]
        self._reference.end(router_id)

    def routers(self) -> Collection[str]:
        return {*self._held, *self._at_proxy, *self._reference.routers()}

    def _serves(self, router_id: str, namespace: str) -> bool:
        inode = namespace_inode(namespace)
        held = self._held.get(router_id)
        if held is None and inode is not None:
            held = self._take_back(router_id, namespace, inode)
        if held is None or not self._is_right(held, namespace):
            return False
        self._held[router_id] = held
        return held.handed_over or not self._courier.connected

    def _is_right(self, held: _Held, namespace: str) -> bool:
        return held.inode == namespace_inode(namespace) and held.listener.port == self._port

    def _listen(self, router_id: str, namespace: str) -> _Held:
        """Sockets in the namespace as it is now: those that the proxy has already, if they are right.

        Old ones are known until there are new ones: the proxy must be told to close them if there never are.
        """
        inode = namespace_inode(namespace)
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
            if not (self._courier.connected and self._reference.runs(router_id)):
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
        cookie = self._at_proxy.get(router_id)
        if cookie is None or cookie != namespace_cookie(namespace):
            return None
        try:
            _, descriptors = self._courier.ask({"do": "give", "router": router_id})
        except ServiceError as exc:
            LOG.debug("router %s: %s", router_id, exc)
            return None
        listener = adopt_listener(descriptors)
        if listener is None:
            return None
        held = _Held(listener, inode, handed_over=True)
        if listener.cookie == cookie and self._is_right(held, namespace):
            del self._at_proxy[router_id]
            return held
        listener.close()
        return None

    def _hand_over(self, router_id: str, held: _Held) -> None:
        """To the proxy; one that is away gets it when it is back, which is no trouble of this router alone."""
        if not self._courier.connected:
            return
        question = {"do": "serve", "router": router_id, "namespace": held.listener.cookie}
        try:
            self._courier.ask(question, held.listener.descriptors)
        except ProxyAwayError as exc:
            lost = exc
        else:
            held.handed_over = True
            self._at_proxy.pop(router_id, None)
            return
        self._lost(lost)

    def _ask_to_stop(self, router_id: str) -> None:
        """One that is away has closed its sockets, or will be told of those that are left when it is back.

        :raises ServiceError: it refuses
        """
        try:
            self._courier.ask({"do": "stop", "router": router_id})
        except ProxyAwayError as exc:
            lost = exc
        else:
            return
        self._lost(lost)

    # --- the proxy ----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._poll.fileno()

    def changed(self) -> Collection[str]:
        ready = {fd for fd, _ in self._poll.poll(0)}
        if self._courier.connected and self._courier.fileno() in ready:
            self._lost(ProxyAwayError("dvr-metadata-proxy has gone"))
        elif self._timer.fileno() in ready:
            return self.check() if self._courier.connected else self._connect()
        return ()

    def check(self) -> Collection[str]:
        """Ask whether the proxy is well: one that hangs does not close its connection, and one that has lost
        neutron-metadata-agent tells nobody.
        """
        if not self._courier.connected:
            return ()
        before = self._trouble
        try:
            self._probe()
        except ServiceError as exc:
            lost = exc
        else:
            return self._reference.routers() if before and not self._trouble else ()
        self._lost(lost)
        return ()

    def status(self) -> dict[str, object]:
        return {
            "routers": len(self._held),
            "proxy": self._courier.pid or None,
            "trouble": self._trouble,
            "since": self._since,
        }

    def close(self) -> None:
        for held in self._held.values():
            held.listener.close()
        self._held.clear()
        self._courier.close()
        self._poll.close()
        self._timer.close()

    def _connect(self) -> Collection[str]:
        """Reach the proxy, and bring it up to what we hold; ids of routers that it refused, or can take over now."""
        try:
            self._courier.connect()
            if self._settings is not None:
                self._courier.ask({"do": "set", "settings": self._settings.to_json()})
            self._at_proxy = dict(self._courier.served())
            self._probe()
        except ServiceError as exc:
            lost = exc
        else:
            self._poll.register(self._courier.fileno(), select.EPOLLIN)
            self._failures = 0
            return {*self._hand_over_all(), *self._reference.routers()}
        self._lost(lost)  # not above: oslo.log would say the exception once more
        return ()

    def _hand_over_all(self) -> Collection[str]:
        refused = []
        for router_id, held in self._held.items():
            if self._at_proxy.pop(router_id, None) == held.listener.cookie:
                held.handed_over = True
                continue
            try:
                self._hand_over(router_id, held)
            except ServiceError as exc:
                LOG.debug("router %s: %s", router_id, exc)
                refused.append(router_id)
        return refused

    def _lost(self, why: ServiceError) -> None:
        """There is no proxy now: try again soon, then less often."""
        self._courier.close()  # which takes it out of the poll
        self._at_proxy.clear()
        for held in self._held.values():
            held.handed_over = False
        self._failures += 1
        longest = LAST_RETRY_HANGING if isinstance(why, ProxyHangsError) else LAST_RETRY
        self._timer.set(backoff.delay(self._failures, FIRST_RETRY, longest))
        self._note(Trouble.NO_PROXY, str(why))

    def _probe(self) -> None:
        """Can the proxy reach neutron-metadata-agent?  Often it may not, until somebody has set that up.

        :raises ServiceError: the proxy does not answer
        """
        answer, _ = self._courier.ask({"do": "probe"})
        why = str(answer.get("upstream", ""))
        self._note(Trouble.NO_UPSTREAM if why else Trouble.NONE, why and f"dvr-metadata-proxy cannot use {why}")
        self._timer.set(PROBE_SECONDS if why else None)

    def _note(self, kind: Trouble, text: str = "") -> None:
        """The log tells of a change once, however often the proxy is looked for."""
        changed = kind is not self._kind
        self._kind, self._trouble = kind, text
        if not changed:
            return
        self._since = time.time()
        if self._settings is None:
            return
        if kind is Trouble.NONE:
            LOG.info("metadata is served by dvr-metadata-proxy (process %d)", self._courier.pid)
        else:
            LOG.warning("%s: %s", kind.value, text)
