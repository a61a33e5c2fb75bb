"""The way out to a client: what is written, how fast the client takes it, and how a connection is closed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios

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

    __slots__ = ("_left", "_looks", "_resumed", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._resumed: asyncio.Future[None] | None = None
        self._left = self._looks = 0
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
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    def finish(self) -> None:
        """Say no more, once what is written has been sent; look after it with :meth:`is_through` and :meth:`moves`.

        What the client sends on must be read: else the kernel resets the connection, and our last words are lost.

        :raises OSError: the client has reset the connection
        """
        self._transport.resume_reading()
        self._transport.write_eof()
        self._left, self._looks = self._unacknowledged(), 0

    def is_through(self) -> bool:
        """After :meth:`finish`: the client's kernel has everything, or the connection is broken."""
        return not self._unacknowledged()

    def close(self) -> None:
        """When it is through: nothing stays in the kernel."""
        self._transport.abort()

    def moves(self) -> bool:
        """After :meth:`finish`, from time to time: the client has taken something since the last call."""
        before, self._left = self._left, self._unacknowledged()
        self._looks += 1
        return self._left < before and self._looks <= PATIENCE

    @property
    def _socket(self) -> socket.socket:
        found: socket.socket = self._transport.get_extra_info("socket")
        return found

    def _unacknowledged(self) -> int:
        """Bytes, our end of the connection counts as one.

        A socket that is closed before they are acknowledged lives on in the kernel, in the router's namespace, for as
        long as the client likes.
        """
        try:
            if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return 0
            queued = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # closed
            return 0
        return self._transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)
