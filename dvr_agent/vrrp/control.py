"""Answers the agent's questions on the control socket; ``protocol`` describes them."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence

from dvr_agent.control import packets
from dvr_agent.control.packets import Message
from dvr_agent.control.questions import handler_of, page_of, router_of
from dvr_agent.control.unix_socket import may_control
from dvr_agent.errors import ServiceError
from dvr_agent.vrrp.instance import State
from dvr_agent.vrrp.loop import Loop
from dvr_agent.vrrp.protocol import FEATURES, MAX_SIZE, VERSION, Descriptors, digest, loads
from dvr_agent.vrrp.speaker import Sockets, Speaker

LOG = logging.getLogger(__name__)

CONNECTIONS = 8
STACK = 256 * 1024
"""Bytes of the other thread's stack: all memory of the process is locked, and the default is 8 MiB."""

Handler = Callable[[Message, Sequence[int]], Message]


class ControlServer:
    """Answers the agent.

    :param listener: the control socket
    """

    def __init__(self, listener: socket.socket, loop: Loop) -> None:
        self._listener, self._loop = listener, loop
        self._closing = Closing()
        self._connections: set[socket.socket] = set()
        self._handlers: dict[str, Handler] = {
            "hello": self._hello,
            "serve": self._serve,
            "stop": self._stop,
            "forget": self._forget,
            "list": self._list,
            "status": self._status,
        }
        loop.watch(listener.fileno(), self._accept)

    def end(self) -> None:
        """Yield all virtual routers: the process is told to end for good."""
        now = time.monotonic()
        for speaker in list(self._loop):
            speaker.end(now)

    def close(self) -> None:
        """Disconnect all agents; the caller closes the listening socket."""
        for connection in list(self._connections):
            self._disconnect(connection)
        self._loop.unwatch(self._listener.fileno())

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._connections) >= CONNECTIONS or not may_control(connection):
            LOG.warning("control socket: a connection is refused: no permission, or too many are open")
            connection.close()
            return
        connection.setblocking(False)
        self._connections.add(connection)
        self._loop.watch(connection.fileno(), lambda: self._converse(connection))

    def _disconnect(self, connection: socket.socket) -> None:
        self._loop.unwatch(connection.fileno())
        self._connections.discard(connection)
        connection.close()

    def _converse(self, connection: socket.socket) -> None:
        """Answer one question."""
        descriptors: Sequence[int] = ()
        try:
            question, descriptors = packets.receive(connection)
            if question is None:
                self._disconnect(connection)
                return
            answer = self._answer(question, descriptors)
        except (BlockingIOError, InterruptedError):
            return
        except ServiceError as exc:
            answer = {"error": str(exc)}
        except OSError:
            self._disconnect(connection)
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        try:
            packets.send(connection, answer)
        except OSError:
            self._disconnect(connection)

    def _answer(self, question: Message, descriptors: Sequence[int]) -> Message:
        return {"ok": True, **handler_of(question, self._handlers)(question, descriptors)}

    def _hello(self, question: Message, descriptors: Sequence[int]) -> Message:
        return {"version": VERSION, "pid": os.getpid(), "features": FEATURES}

    def _serve(self, question: Message, descriptors: Sequence[int]) -> Message:
        router_id, namespace = router_of(question), question.get("namespace")
        if not isinstance(namespace, int) or len(descriptors) < len(Descriptors._fields):
            raise ServiceError("serve: expected the number of a namespace and five descriptors or more")
        given, echo = Descriptors(*descriptors[: len(Descriptors._fields)]), descriptors[len(Descriptors._fields) :]
        data = _contents(given.description)
        router, name = loads(data), digest(data)
        earlier = self._loop.get(router_id)
        try:
            if earlier is not None and earlier.can_become(namespace, router):
                earlier.change(router, name, echo)
                self._loop.schedule(earlier)
                return {}
            speaker = Speaker(router_id, namespace, router, name, Sockets(given, echo))
        except OSError as exc:
            raise ServiceError(f"serve: expected sockets: {exc.strerror}") from exc
        self._end(router_id)
        try:
            speaker.start(time.monotonic())
        except OSError as exc:
            self._closing.close(speaker.sockets)
            raise ServiceError(f"router {router_id}: its namespace cannot be read: {exc.strerror}") from exc
        self._loop.add(speaker)
        return {}

    def _stop(self, question: Message, descriptors: Sequence[int]) -> Message:
        self._end(router_of(question))
        return {}

    def _forget(self, question: Message, descriptors: Sequence[int]) -> Message:
        speaker = self._loop.remove(router_of(question))
        if speaker is not None:
            self._closing.close(speaker.sockets)
        return {}

    def _end(self, router_id: str) -> None:
        speaker = self._loop.remove(router_id)
        if speaker is not None:
            speaker.end(time.monotonic())
            self._closing.close(speaker.sockets)

    def _list(self, question: Message, descriptors: Sequence[int]) -> Message:
        speakers = {one.router_id: one for one in self._loop}
        page, more = page_of(question, speakers)
        routers = {one: [speakers[one].namespace, speakers[one].digest, speakers[one].state.value] for one in page}
        return {"routers": routers, "more": more}

    def _status(self, question: Message, descriptors: Sequence[int]) -> Message:
        late = max((one.late for one in self._loop), default=0.0)
        for one in self._loop:
            one.late = 0.0
        masters = sum(one.state is State.MASTER for one in self._loop)
        return {"routers": len(self._loop), "masters": masters, "late": round(late, 6)}


class Closing:
    """Closes sockets in a thread of its own: the kernel takes some milliseconds for each packet socket."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Sockets] = queue.SimpleQueue()
        threading.stack_size(STACK)
        threading.Thread(target=self._run, name="dvr-vrrp-close", daemon=True).start()

    def close(self, sockets: Sockets) -> None:
        """Close the sockets of a virtual router soon."""
        self._queue.put(sockets)

    def _run(self) -> None:
        while True:
            self._queue.get().close()


def _contents(descriptor: int) -> bytes:
    """Return the contents of a memory file.

    :raises ServiceError: it is too large, or no file
    """
    try:
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, size, 0) if size <= MAX_SIZE else b""
    except OSError as exc:
        raise ServiceError(f"serve: the description cannot be read: {exc.strerror}") from exc
    if not data:
        raise ServiceError(f"serve: the description has {size} bytes, expected 1 to {MAX_SIZE}")
    return data
