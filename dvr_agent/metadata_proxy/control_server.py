"""Answers the agent's questions on the control socket; ``dvr_agent.metadata.control_protocol`` describes them.

Answer to ``status``, beside ``ok``:

============== =======================================================================================================
pid, version   of this process; the project's version
routers        how many are served
connections    of instances, open now
requests       complete ones since the start
answers        how many began with ``2xx``, ``3xx``, ``4xx``, ``5xx``, our own ones too
refused        by cause, those that occurred: ``client_connections``, ``router_connections`` (closed when made),
               ``evicted`` (idle, or one of very many, for a newer one), ``descriptors`` (left waiting in the
               kernel), ``rate`` (429), ``waited`` (no turn within timeout_connect, or too many of the client wait,
               503), ``bodies`` (too many bytes of the router's request bodies in memory, 503), ``too_large`` (413,
               431), ``malformed`` (400, 501), ``slow`` (408, or cut off)
upstream       ``last_error``: null or ``time`` (seconds since 1970) and ``what``; ``last_ok``: such a time or null
============== =======================================================================================================
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence

from dvr_agent import __version__
from dvr_agent.control.fd_store import FdStore, Stored
from dvr_agent.control.questions import handler_of, page_of, router_of
from dvr_agent.control.unix_socket import may_control
from dvr_agent.errors import ServiceError
from dvr_agent.metadata import control_protocol
from dvr_agent.metadata.control_protocol import Message
from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.metadata_proxy.event_loop import readable
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.served_routers import ServedRouters
from dvr_agent.metadata_proxy.upstream_request import why_unreachable
from dvr_agent.plural import count

LOG = logging.getLogger(__name__)

CONNECTIONS = 8
"""Maximum number of open connections; an agent has one."""
PAUSE = 1.0
"""Seconds without accept(2) after a failure of it."""
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

Answer = tuple[Message, list[int]]
"""A message, and descriptors to send with it."""


class ControlServer:
    """Answers the agent on the control socket.

    :param listener: the socket that ``control_socket`` made
    :param store: keeps what the agent has handed over, for the process after a crash of this one
    :param end: called when the agent asks this process to end
    """

    def __init__(
        self,
        listener: socket.socket,
        routers: ServedRouters,
        state: ProxyState,
        store: FdStore,
        end: Callable[[], None],
    ) -> None:
        self._listener, self._routers, self._state, self._end = listener, routers, state, end
        self._store = store
        self._stored_settings = ""
        self._loop = asyncio.get_running_loop()
        self._conversations: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[[Message, Sequence[int]], Awaitable[Answer]]] = {
            "hello": self._hello,
            "set": self._set,
            "probe": self._probe,
            "list": self._list,
            "serve": self._serve,
            "give": self._give,
            "stop": self._stop,
            "end": self._end_process,
            "status": self._status,
        }
        self._listen()

    async def restore(self) -> None:
        """Go on with the settings and routers that an earlier process has stored."""
        for name, question, descriptors in sorted(self._store.restored(), key=_is_about_router):
            try:
                if question is None:
                    raise ServiceError("it cannot be read")
                await self._answer(question, descriptors)
            except ServiceError as exc:
                LOG.warning("a stored router is dropped: %s", exc)
                self._store.remove(name)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
        if len(self._routers):
            LOG.info("going on with %s of an earlier process", count(len(self._routers), "router"))

    def close(self) -> None:
        """Disconnect all agents; the caller closes the listening socket."""
        self._loop.remove_reader(self._listener.fileno())
        for task in self._conversations:
            task.cancel()

    def _listen(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as exc:
            self._state.log.warn("control", "control socket: cannot accept: %s", exc.strerror)
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(PAUSE, self._listen)
            return
        if not may_control(connection):
            self._state.log.warn("control", "control socket: a user without permission is refused")
            connection.close()
        elif len(self._conversations) >= CONNECTIONS:
            self._state.log.warn("control", "control socket: %s open, no more", count(CONNECTIONS, "connection"))
            connection.close()
        else:
            connection.setblocking(False)
            task = self._loop.create_task(self._converse(connection))
            self._conversations.add(task)
            task.add_done_callback(self._conversations.discard)

    async def _converse(self, connection: socket.socket) -> None:
        """Answer questions until the agent disconnects, or does not take its answer."""
        with connection:
            while True:
                await readable(connection)
                descriptors: Sequence[int] = ()
                try:
                    question, descriptors = control_protocol.receive(connection)
                    if question is None:
                        return
                    answer, given = await self._answer(question, descriptors)
                except (BlockingIOError, InterruptedError):
                    continue
                except ServiceError as exc:
                    answer, given = {"error": str(exc)}, []
                except OSError:
                    return
                finally:
                    for descriptor in descriptors:
                        os.close(descriptor)
                try:
                    control_protocol.send(connection, answer, given)
                except OSError as exc:
                    self._state.log.warn("control", "control socket: an answer cannot be sent: %s", exc.strerror)
                    return

    async def _answer(self, question: Message, descriptors: Sequence[int]) -> Answer:
        """Answer a question.

        :param descriptors: the caller closes them
        :raises ServiceError: the question is wrong
        """
        return await handler_of(question, self._handlers)(question, descriptors)

    async def _hello(self, question: Message, descriptors: Sequence[int]) -> Answer:
        return {"ok": True, "version": control_protocol.VERSION, "pid": os.getpid()}, []

    async def _probe(self, question: Message, descriptors: Sequence[int]) -> Answer:
        return {"ok": True, "upstream": why_unreachable(self._state.settings.upstream)}, []

    async def _stop(self, question: Message, descriptors: Sequence[int]) -> Answer:
        router_id = router_of(question)
        router = self._routers.get(router_id)
        if router is not None:
            self._store.remove(router.stored)
        await self._routers.stop(router_id)
        return {"ok": True}, []

    async def _end_process(self, question: Message, descriptors: Sequence[int]) -> Answer:
        self._end()
        return {"ok": True}, []

    async def _set(self, question: Message, descriptors: Sequence[int]) -> Answer:
        settings = ProxySettings.from_json(question.get("settings"))
        if settings != self._state.settings:
            self._state.settings = settings
            self._routers.settings_changed()
            LOG.info("settings from dvr-agent: upstream %s", settings.upstream)
        stored = {"do": "set", "settings": settings.to_json()}
        self._stored_settings = self._store.put(stored, (), instead_of=self._stored_settings)
        return {"ok": True}, []

    async def _list(self, question: Message, descriptors: Sequence[int]) -> Answer:
        page, more = page_of(question, self._routers.ids())
        return {
            "ok": True,
            "routers": {one: router.namespace for one in page if (router := self._routers.get(one))},
            "more": more,
        }, []

    async def _serve(self, question: Message, descriptors: Sequence[int]) -> Answer:
        sockets = _listening_sockets(descriptors)
        try:
            router_id, namespace = router_of(question), question.get("namespace")
            if not isinstance(namespace, int) or isinstance(namespace, bool) or namespace < 0:
                raise ServiceError(f"namespace = {str(namespace)[:40]!r}: expected the number of a network namespace")
        except ServiceError:
            for one in sockets:
                one.close()
            raise
        await self._routers.serve(router_id, namespace, sockets)
        router = self._routers.get(router_id)
        if router is not None:
            stored = {"do": "serve", "router": router_id, "namespace": router.namespace}
            router.stored = self._store.put(stored, descriptors, instead_of=router.stored)
        return {"ok": True}, []

    async def _give(self, question: Message, descriptors: Sequence[int]) -> Answer:
        router_id = router_of(question)
        router = self._routers.get(router_id)
        if router is None:
            raise ServiceError(f"router {router_id} is not served")
        if not router.listeners:
            raise ServiceError(f"router {router_id} has no listening sockets any more: this process ends")
        return {"ok": True, "namespace": router.namespace}, [one.fileno() for one in router.listeners]

    async def _status(self, question: Message, descriptors: Sequence[int]) -> Answer:
        return {
            "ok": True,
            "pid": os.getpid(),
            "version": __version__,
            "routers": len(self._routers),
            "connections": self._routers.connections(),
            **self._state.counters.status(),
        }, []


def _is_about_router(stored: Stored) -> bool:
    """Return False for settings, which routers need."""
    return stored.question is not None and "router" in stored.question


def _listening_sockets(descriptors: Sequence[int]) -> list[socket.socket]:
    """Copy the agent's descriptors to non-blocking sockets.

    :raises ServiceError: there are no descriptors, or one is no listening stream socket
    """
    if not descriptors:
        raise ServiceError("serve: expected the router's listening sockets with the message")
    sockets: list[socket.socket] = []
    try:
        for descriptor in descriptors:
            sockets.append(socket.socket(fileno=os.dup(descriptor)))
        for one in sockets:
            listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if not listens or one.type != socket.SOCK_STREAM or one.family not in FAMILIES:
                raise ServiceError("serve: expected listening stream sockets")
            one.setblocking(False)
    except OSError as exc:
        _close(sockets)
        raise ServiceError(f"serve: expected listening stream sockets: {exc.strerror}") from exc
    except ServiceError:
        _close(sockets)
        raise
    return sockets


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()
