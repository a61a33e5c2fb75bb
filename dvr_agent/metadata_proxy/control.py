"""Answers the agent's questions; the messages are described in ``dvr_agent.metadata.control_protocol``.

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
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any

from dvr_agent import __version__
from dvr_agent.errors import ServiceError
from dvr_agent.metadata import control_protocol
from dvr_agent.metadata.control_protocol import Message
from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.metadata_proxy.control_socket import may_control
from dvr_agent.metadata_proxy.forward import why_unreachable
from dvr_agent.metadata_proxy.routers import Routers
from dvr_agent.metadata_proxy.shared import Shared

LOG = logging.getLogger(__name__)

CONNECTIONS = 8
"""At a time; one agent has one."""
PAUSE = 1.0
"""Seconds without accept after one that failed."""
ROUTER_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
"""It goes into a header."""
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class Control:
    """
    :param listener: see ``control_socket``
    :param end: called when the agent asks this process to end
    """

    def __init__(self, listener: socket.socket, routers: Routers, shared: Shared, end: Callable[[], None]) -> None:
        self._listener, self._routers, self._shared, self._end = listener, routers, shared, end
        self._loop = asyncio.get_running_loop()
        self._conversations: set[asyncio.Task[None]] = set()
        self._listen()

    def close(self) -> None:
        """Hang up; the listening socket is its owner's."""
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
            self._shared.journal.warn("control", "control socket: cannot accept: %s", exc.strerror)
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(PAUSE, self._listen)
            return
        if not may_control(connection):
            self._shared.journal.warn("control", "control socket: a user without permission is turned away")
            connection.close()
        elif len(self._conversations) >= CONNECTIONS:
            self._shared.journal.warn("control", "control socket: %d connections are open, no more", CONNECTIONS)
            connection.close()
        else:
            connection.setblocking(False)
            task = self._loop.create_task(self._converse(connection))
            self._conversations.add(task)
            task.add_done_callback(self._conversations.discard)

    async def _converse(self, connection: socket.socket) -> None:
        """Until the agent hangs up, or does not take its answer."""
        with connection:
            while True:
                await self._readable(connection)
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
                    self._shared.journal.warn("control", "control socket: an answer cannot be sent: %s", exc.strerror)
                    return

    async def _readable(self, connection: socket.socket) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(connection.fileno(), _set, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(connection.fileno())

    async def _answer(self, question: Message, descriptors: Sequence[int]) -> tuple[Message, list[int]]:
        """
        :param descriptors: the caller closes them
        :raises ServiceError: the question is wrong
        """
        match question.get("do"):
            case "hello":
                return {"ok": True, "version": control_protocol.VERSION, "pid": os.getpid()}, []
            case "set":
                self._set(question.get("settings"))
                return {"ok": True}, []
            case "probe":
                return {"ok": True, "upstream": why_unreachable(self._shared.settings.upstream)}, []
            case "list":
                return self._list(question.get("after", "")), []
            case "serve":
                sockets = _listening_sockets(descriptors)
                await self._serve(question, sockets)
                return {"ok": True}, []
            case "give":
                return self._give(_router_id(question))
            case "stop":
                await self._routers.stop(_router_id(question))
                return {"ok": True}, []
            case "end":
                self._end()
                return {"ok": True}, []
            case "status":
                return self._status(), []
            case other:
                raise ServiceError(f"do = {str(other)[:40]!r}: that is no question of the control protocol")

    def _set(self, values: object) -> None:
        settings = ProxySettings.from_json(values)
        if settings != self._shared.settings:
            self._shared.settings = settings
            self._routers.settings_changed()
            LOG.info("settings from dvr-agent: upstream %s", settings.upstream)

    def _list(self, after: object) -> Message:
        if not isinstance(after, str):
            raise ServiceError(f"after = {str(after)[:40]!r}: expected a router id or an empty text")
        found = sorted(one for one in self._routers.ids() if one > after)
        page = found[: control_protocol.PAGE]
        return {
            "ok": True,
            "routers": {one: router.namespace for one in page if (router := self._routers.get(one))},
            "more": len(found) > len(page),
        }

    async def _serve(self, question: Message, sockets: Sequence[socket.socket]) -> None:
        try:
            router_id, namespace = _router_id(question), question.get("namespace")
            if not isinstance(namespace, int) or isinstance(namespace, bool) or namespace < 0:
                raise ServiceError(f"namespace = {str(namespace)[:40]!r}: expected the number of a network namespace")
        except ServiceError:
            for one in sockets:
                one.close()
            raise
        await self._routers.serve(router_id, namespace, sockets)

    def _give(self, router_id: str) -> tuple[Message, list[int]]:
        router = self._routers.get(router_id)
        if router is None:
            raise ServiceError(f"router {router_id} is not served")
        if not router.listeners:
            raise ServiceError(f"router {router_id} has no listening sockets any more: this process ends")
        return {"ok": True, "namespace": router.namespace}, [one.fileno() for one in router.listeners]

    def _status(self) -> dict[str, Any]:
        return {
            "ok": True,
            "pid": os.getpid(),
            "version": __version__,
            "routers": len(self._routers),
            "connections": self._routers.connections(),
            **self._shared.counters.status(),
        }


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _router_id(question: Message) -> str:
    router_id = question.get("router")
    if not isinstance(router_id, str) or ROUTER_ID.fullmatch(router_id) is None:
        raise ServiceError(f"router = {str(router_id)[:40]!r}: expected a router id")
    return router_id


def _listening_sockets(descriptors: Sequence[int]) -> list[socket.socket]:
    """Copies of what the agent gave, non-blocking.

    :raises ServiceError: there are none, or something else is among them
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
