"""One exchange with neutron-metadata-agent, request and answer, in a task of its own that the client cannot end.

neutron-metadata-agent works on a request whether or not the client waits for the answer.  So a client that closes its
connection must not free its slot: else it could have any number of requests in work.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

import h11

from dvr_agent.metadata_proxy.headers import Headers
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.upstream_request import UpstreamError, UpstreamRequest

AHEAD = 256 * 1024
"""Bytes of an answer that are read from neutron-metadata-agent into memory, however slow the client is."""


class UpstreamExchange:
    """An exchange that begins at once; the caller reads the answer by :meth:`head` and :meth:`read`, or calls
    :meth:`abandon`.

    :param request: method, target and headers
    :param release: called when neutron-metadata-agent has finished this request
    """

    def __init__(
        self, state: ProxyState, request: tuple[bytes, bytes, Headers], body: bytes, release: Callable[[], None]
    ) -> None:
        self._upstream, self._release = UpstreamRequest(state), release
        self._answer: h11.Response | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._abandoned = self._ended = self._whole = False
        self._error = UpstreamError(HTTPStatus.BAD_GATEWAY, "the request was abandoned")
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(request, body))
        state.exchanges.add(self._task)
        self._task.add_done_callback(state.exchanges.discard)
        self._task.add_done_callback(self._end)

    @property
    def has_more(self) -> bool:
        """True if :meth:`read` returns without waiting."""
        return bool(self._pieces) or self._whole

    @property
    def is_exhausted(self) -> bool:
        """True if the caller has read the whole answer."""
        return self._whole and not self._pieces

    async def head(self) -> h11.Response:
        """Wait for status and headers of the answer.

        :raises UpstreamError: there is no answer
        """
        while self._answer is None:
            if self._ended:
                raise self._error
            await self._news_come()
        return self._answer

    async def read(self) -> bytes:
        """Wait for the next piece of the body; empty at the end.

        :raises UpstreamError: the answer is cut off
        """
        while not self._pieces:
            if self._whole:
                return b""
            if self._ended:
                raise self._error
            await self._news_come()
        piece = self._pieces.popleft()
        self._size -= len(piece)
        self._room.set()
        return piece

    def abandon(self) -> None:
        """Drop the answer, and the request if it has not been sent yet."""
        self._abandoned = True
        self._pieces.clear()
        self._room.set()
        if not self._upstream.asked:
            self._task.cancel()

    async def _news_come(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _run(self, request: tuple[bytes, bytes, Headers], body: bytes) -> None:
        try:
            async with self._upstream as upstream:
                self._answer = await upstream.ask(*request, body)
                self._news.set()
                while piece := await upstream.read():
                    await self._keep(piece)
                self._whole = True
        except UpstreamError as exc:
            self._error = exc

    async def _keep(self, piece: bytes) -> None:
        if self._abandoned:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        self._news.set()
        while self._size > AHEAD and not self._abandoned:
            self._room.clear()
            await self._room.wait()

    def _end(self, task: asyncio.Task[None]) -> None:
        """Release the slot; called too if the task was cancelled before it began."""
        self._ended = True
        self._release()
        self._news.set()
