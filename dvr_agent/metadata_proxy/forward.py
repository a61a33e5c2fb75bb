"""One request to neutron-metadata-agent, over a connection of its own, and its answer as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from http import HTTPStatus
from types import TracebackType
from typing import Self

import h11

from dvr_agent.metadata_proxy.headers import Headers
from dvr_agent.metadata_proxy.shared import Shared

PIECE = 64 * 1024
"""Bytes of an answer in memory: read ahead, and largest headers."""
FIRST_PAUSE, LAST_PAUSE = 0.01, 0.2
"""Seconds between tries to connect to a socket whose backlog is full."""


def why_unreachable(path: str) -> str:
    """Why neutron-metadata-agent's socket cannot be connected to now, empty if it can."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:  # it is there, and busy
            return ""
        except OSError as exc:
            return f"{path}: {exc.strerror or exc}"
    return ""


class UpstreamError(Exception):
    """There is no (whole) answer.

    :ivar status: what the instance is told, if it is told anything
    """

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Upstream:
    """A context manager; inside, :meth:`ask` once, then :meth:`read` until it returns nothing.

    All methods raise :class:`UpstreamError`.

    :ivar asked: the request has been sent, at least in part
    """

    def __init__(self, shared: Shared) -> None:
        self._shared, self._settings = shared, shared.settings
        self.asked = False
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=PIECE)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        self._shared.budget.upstream += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._shared.budget.upstream -= 1
        if self._writer is not None:
            self._writer.transport.abort()
        if isinstance(exc, UpstreamError):
            self._shared.counters.upstream_failed(str(exc))
            self._shared.journal.warn("upstream", "%s: %s", self._settings.upstream, exc)
        elif exc is None:
            self._shared.counters.upstream_ok()

    async def ask(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> h11.Response:
        """Send the request; returns the beginning of the answer."""
        if not self._shared.budget.room_for_upstream():
            raise UpstreamError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at a time on this host")
        self._reader, self._writer = await self._connect()
        data = self._http.send(h11.Request(method=method, target=target, headers=headers))
        data += self._http.send(h11.Data(data=body)) if body else b""
        self.asked = True
        self._writer.write(data + self._http.send(h11.EndOfMessage()))
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise UpstreamError(HTTPStatus.BAD_GATEWAY, "no answer, the connection was closed")

    async def read(self) -> bytes:
        """The next piece of the body; empty: that was all."""
        while True:
            event = await self._event()
            if isinstance(event, h11.EndOfMessage):
                return b""
            if not isinstance(event, h11.Data):
                raise UpstreamError(HTTPStatus.BAD_GATEWAY, "the answer is cut off")
            if event.data:
                return bytes(event.data)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        except OSError as exc:
            raise UpstreamError(HTTPStatus.SERVICE_UNAVAILABLE, f"no socket: {exc.strerror}") from exc
        try:
            async with asyncio.timeout(self._settings.timeout_connect):
                await self._reach(connection)
                return await asyncio.open_unix_connection(sock=connection, limit=PIECE)
        except TimeoutError as exc:
            connection.close()
            raise UpstreamError(HTTPStatus.GATEWAY_TIMEOUT, "it does not accept connections in time") from exc
        except OSError as exc:
            connection.close()
            raise UpstreamError(HTTPStatus.SERVICE_UNAVAILABLE, f"{exc.strerror or exc}") from exc
        except BaseException:
            connection.close()
            raise

    async def _reach(self, connection: socket.socket) -> None:
        """connect(2), not by asyncio: with a Unix socket a full backlog is EAGAIN, and nothing tells its end."""
        pause = FIRST_PAUSE
        while True:
            with contextlib.suppress(BlockingIOError):
                connection.connect(self._settings.upstream)
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        assert self._reader is not None
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as exc:
                # h11's text would quote the answer
                raise UpstreamError(HTTPStatus.BAD_GATEWAY, "the answer is cut off or no HTTP") from exc
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            try:
                async with asyncio.timeout(self._settings.timeout_server):
                    data = await self._reader.read(PIECE)
            except TimeoutError as exc:
                raise UpstreamError(HTTPStatus.GATEWAY_TIMEOUT, "no answer in time") from exc
            except OSError as exc:
                raise UpstreamError(HTTPStatus.BAD_GATEWAY, f"connection lost: {exc.strerror or exc}") from exc
            self._http.receive_data(data)
