"""Deadlines of one client's connection: for the first byte, a request's headers and body, and the next request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from dvr_agent.metadata_proxy.client_socket import PATIENCE
from dvr_agent.metadata_proxy.proxy_state import ProxyState


class RequestDeadlines:
    """The deadline of a connection: one at a time.

    It moves with every request, mostly to a later time; then the timer stays, and is set again when it fires.

    :param expired: called when the deadline has passed
    """

    __slots__ = ("_at", "_body_began", "_expired", "_loop", "_state", "_timer")

    def __init__(self, state: ProxyState, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._state, self._loop, self._expired = state, loop, expired
        self._at, self._body_began = math.inf, 0.0
        self._timer: asyncio.TimerHandle | None = None

    def headers(self) -> None:
        """Wait ``timeout_http_request`` for the end of a request's headers."""
        self._set(self._state.settings.timeout_http_request)

    def body_begins(self) -> None:
        """Wait for the body of a request whose headers have just ended."""
        self._body_began = self._loop.time()
        self.body_moves()

    def body_moves(self) -> None:
        """Wait ``timeout_client`` from now on, but not for ever: one byte at a time is too slow."""
        timeout = self._state.settings.timeout_client
        left = self._body_began + PATIENCE * timeout - self._loop.time()
        self._set(max(0.0, min(timeout, left)))

    def idle(self) -> None:
        """Wait ``timeout_http_keep_alive`` for the next request."""
        self._set(self._state.settings.timeout_http_keep_alive)

    def suspend(self) -> None:
        """Wait without a deadline: while a request is answered, which has limits of its own."""
        self._at = math.inf

    def cancel(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _set(self, seconds: float) -> None:
        self._at = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._loop.time() >= self._at:
            self._expired()
        elif self._at < math.inf:
            self._timer = self._loop.call_at(self._at, self._tick)
