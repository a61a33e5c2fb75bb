"""The way out to a client: what is written, how fast the client takes it, and how a connection is closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

RESET = struct.pack("ii", 1, 0)
"""struct linger: close(2) resets, so that nothing of the connection stays in the router's namespace."""
UNSENT = 4 * 1024
"""Bytes of answers in memory, beside what is in the kernel, that need not be waited for.  Few: the client's next
request is not begun before."""
PATIENCE = 4
"""A client that moves all the same, but very slowly, has so many times ``timeout_client``."""


class SlowClientError(Exception):
    """The client does not take its answer."""


class Outlet:
    """
    :param transport: connected
    """

    __slots__ = ("_looks", "_resumed", "_transport", "_unsent")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._resumed: asyncio.Future[None] | None = None
        self._unsent = self._looks = 0
        transport.set_write_buffer_limits(high=UNSENT, low=UNSENT // 4)

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if data:
            self._transport.write(data)

    def read(self, wanted: bool) -> None:
        """Take what the client sends, or leave it in the kernel."""
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def pause(self) -> None:
        """The transport has more than it likes."""
        self._resumed = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        self._resumed = None

    async def drain(self, seconds: float) -> None:
        """Wait until the client has taken enough of what was written.

        :raises SlowClientError: it takes nothing for so many seconds, or too little for :data:`PATIENCE` times as many
        """
        for _ in range(PATIENCE):
            if self._resumed is None:
                return
            before = self._transport.get_write_buffer_size()
            done, _pending = await asyncio.wait([self._resumed], timeout=seconds)
            if not done and self._transport.get_write_buffer_size() >= before:
                break
        if self._resumed is not None:
            raise SlowClientError

    def reset(self) -> None:
        """Close at once."""
        with contextlib.suppress(OSError, AttributeError):  # closed already
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    def close(self, unread: bool) -> bool:
        """Say no more, once what is written has been sent; look after it with :meth:`moves`.

        :param unread: the client may send on.  That must be read: else the kernel resets the connection, and our last
            words are lost.  The client closes, then.
        :returns: something has not been sent yet
        """
        self._unsent, self._looks = self._transport.get_write_buffer_size(), 0
        if unread:
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()
        return self._unsent > 0

    def moves(self) -> bool:
        """After :meth:`close`, from time to time: the client has taken something since the last call."""
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        self._looks += 1
        return self._unsent < before and self._looks <= PATIENCE
