"""Sends one request to neutron-metadata-agent, over a connection of its own, and reads the answer piece by piece.

The socket is not read and written by asyncio's streams, since they need three more turns of the event loop (see
``client_socket``).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from http import HTTPStatus
from types import TracebackType
from typing import Self

import h11

from dvr_agent.metadata_proxy.event_loop import readable, writable
from dvr_agent.metadata_proxy.headers import Headers
from dvr_agent.metadata_proxy.proxy_state import ProxyState

PIECE = 64 * 1024
"""Maximum number of bytes of one read, and of an answer's headers."""
FIRST_PAUSE, LAST_PAUSE = 0.01, 0.2
"""Seconds between tries to connect to a socket whose backlog is full."""


def why_unreachable(path: str) -> str:
    """Return why neutron-metadata-agent's socket cannot be connected to now, empty if it can."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:  # its backlog is full
            return ""
        except OSError as exc:
            return f"{path}: {exc.strerror or exc}"
    return ""


class UpstreamError(Exception):
    """neutron-metadata-agent gave no answer, or only a part of it.

    :ivar status: status of the answer that the instance gets instead, if no answer has begun
    """

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class UpstreamRequest:
    """A request as a context manager: :meth:`ask` once, then :meth:`read` until it returns no bytes.

    All methods raise :class:`UpstreamError`.

    :ivar asked: True if the request has been sent, at least in part
    """

    def __init__(self, state: ProxyState) -> None:
        self._state, self._settings = state, state.settings
        self.asked = False
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=PIECE)
        self._socket: socket.socket | None = None

    async def __aenter__(self) -> Self:
        self._state.budget.upstream += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._state.budget.upstream -= 1
        if self._socket is not None:
            self._socket.close()
        if isinstance(exc, UpstreamError):
            self._state.counters.upstream_failed(str(exc))
            self._state.log.warn("upstream", "%s: %s", self._settings.upstream, exc)
        elif exc is None:
            self._state.counters.upstream_ok()

    async def ask(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> h11.Response:
        """Send the request; returns the beginning of the answer."""
        if not self._state.budget.room_for_upstream():
            raise UpstreamError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at a time on this host")
        await self._connect()
        data = self._http.send(h11.Request(method=method, target=target, headers=headers))
        data += self._http.send(h11.Data(data=body)) if body else b""
        self.asked = True
        await self._send(data + self._http.send(h11.EndOfMessage()))
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise UpstreamError(HTTPStatus.BAD_GATEWAY, "no answer, the connection was closed")

    async def read(self) -> bytes:
        """Wait for the next piece of the body; empty at the end."""
        while True:
            event = await self._event()
            if isinstance(event, h11.EndOfMessage):
                return b""
            if not isinstance(event, h11.Data):
                raise UpstreamError(HTTPStatus.BAD_GATEWAY, "the answer is cut off")
            if event.data:
                return bytes(event.data)

    async def _connect(self) -> None:
        try:
            flags = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, flags)
        except OSError as exc:
            raise UpstreamError(HTTPStatus.SERVICE_UNAVAILABLE, f"no socket: {exc.strerror}") from exc
        try:
            async with asyncio.timeout(self._settings.timeout_connect):
                await self._reach(self._socket)
        except TimeoutError as exc:
            raise UpstreamError(HTTPStatus.GATEWAY_TIMEOUT, "it does not accept connections in time") from exc
        except OSError as exc:
            raise UpstreamError(HTTPStatus.SERVICE_UNAVAILABLE, f"{exc.strerror or exc}") from exc

    async def _reach(self, connection: socket.socket) -> None:
        """Connect, in a loop: with a Unix socket a full backlog is EAGAIN, and no event tells when it has room."""
        pause = FIRST_PAUSE
        while True:
            with contextlib.suppress(BlockingIOError):
                connection.connect(self._settings.upstream)
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    async def _send(self, data: bytes) -> None:
        assert self._socket is not None
        rest = memoryview(data)
        try:
            async with asyncio.timeout(self._settings.timeout_server):
                while rest:
                    try:
                        rest = rest[self._socket.send(rest) :]
                    except BlockingIOError:
                        await writable(self._socket)
        except BrokenPipeError:  # neutron-metadata-agent may have answered without reading the whole request
            return
        except TimeoutError as exc:
            raise UpstreamError(HTTPStatus.GATEWAY_TIMEOUT, "it does not take the request in time") from exc
        except OSError as exc:
            raise _connection_lost(exc) from exc

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as exc:
                # h11's text would quote the answer
                raise UpstreamError(HTTPStatus.BAD_GATEWAY, "the answer is cut off or no HTTP") from exc
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            self._http.receive_data(await self._receive())

    async def _receive(self) -> bytes:
        assert self._socket is not None
        try:
            async with asyncio.timeout(self._settings.timeout_server):
                while True:
                    try:
                        return self._socket.recv(PIECE)
                    except BlockingIOError:
                        await readable(self._socket)
        except TimeoutError as exc:
            raise UpstreamError(HTTPStatus.GATEWAY_TIMEOUT, "no answer in time") from exc
        except OSError as exc:
            raise _connection_lost(exc) from exc


def _connection_lost(exc: OSError) -> UpstreamError:
    return UpstreamError(HTTPStatus.BAD_GATEWAY, f"connection lost: {exc.strerror or exc}")
