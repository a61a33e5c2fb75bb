"""A client's stream socket on the event loop: received bytes go to the owner, written bytes are buffered and sent.

It is no transport of asyncio: a transport needs a task and three turns of the event loop before the first byte can be
read, and during a flood of another router's requests each turn is long.  This socket reads from the next turn on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios
from typing import Protocol

RESET = struct.pack("ii", 1, 0)
"""struct linger: close(2) resets, so that nothing of the connection stays in the router's namespace."""
UNSENT = 4 * 1024
"""Bytes of answers in memory, beside those in the kernel, up to which :meth:`ClientSocket.drain` does not wait.  Few,
since the client's next request begins after that."""
PATIENCE = 4
"""Factor of ``timeout_client``: maximum time for a client that takes its answer, but very slowly."""
RECEIVE = 4 * 1024
"""Bytes of one read: one client's part of a turn of the event loop."""


class SlowClientError(Exception):
    """The client does not take its answer."""


class SocketOwner(Protocol):
    """Receives the events of a :class:`ClientSocket`; an exception from any of the methods resets the connection."""

    def received(self, data: bytes) -> None:
        """Handle bytes of the client."""

    def ended(self) -> None:
        """Handle the client's FIN; it may still receive."""

    def lost(self) -> None:
        """Handle the close of the socket, by either side.  Called once, in a turn of its own."""


class ClientSocket:
    """A connected socket that reads from the start; closed by :meth:`reset`, by :meth:`close`, or by an error.

    :param connected: non-blocking, and this object's from now on
    """

    __slots__ = ("_drained", "_loop", "_owner", "_reading", "_shut", "_socket", "_unsent", "_writing", "closed")

    def __init__(self, connected: socket.socket, owner: SocketOwner, loop: asyncio.AbstractEventLoop) -> None:
        self._socket, self._owner, self._loop = connected, owner, loop
        self._unsent = bytearray()
        self._reading = self._writing = False
        self._shut = False  # half-close once everything is sent
        self._drained: asyncio.Future[None] | None = None
        self.closed = False
        self.read(True)

    # --- in -----------------------------------------------------------------------------------------------------

    def read(self, wanted: bool) -> None:
        """Read what the client sends, or leave it in the kernel."""
        if wanted and not self._reading and not self.closed:
            self._loop.add_reader(self._socket.fileno(), self._readable)
            self._reading = True
        elif not wanted and self._reading:
            self._loop.remove_reader(self._socket.fileno())
            self._reading = False

    def _readable(self) -> None:
        try:
            data = self._socket.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        try:
            if data:
                self._owner.received(data)
            else:
                self.read(False)
                self._owner.ended()
        except BaseException:
            self.reset()
            raise

    # --- out ----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes, or buffer them until the client takes them."""
        if self.closed:
            return
        self._unsent += data
        if not self._writing:
            self._send()

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            if not self._writing:
                self._loop.add_writer(self._socket.fileno(), self._send)
                self._writing = True
        except OSError:
            self.close()
            return
        if len(self._unsent) <= UNSENT // 4:
            self._note_drained()
        if not self._unsent:
            self._stop_writing()
            self._half_close_if_due()

    def _half_close_if_due(self) -> None:
        if self._shut:
            with contextlib.suppress(OSError):  # reset by the client: seen by unacknowledged()
                self._socket.shutdown(socket.SHUT_WR)

    def _stop_writing(self) -> None:
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
            self._writing = False

    def _note_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    @property
    def is_congested(self) -> bool:
        """True if more than :data:`UNSENT` bytes are buffered: :meth:`drain` would wait."""
        return len(self._unsent) > UNSENT

    async def drain(self, seconds: float) -> None:
        """Wait until the client has taken enough of the buffered bytes.

        :raises SlowClientError: it takes nothing for so many seconds, or too little for :data:`PATIENCE` times as many
        """
        if self.closed or not self.is_congested:
            return
        drained = self._drained = self._drained or self._loop.create_future()
        for _ in range(PATIENCE):
            before = len(self._unsent)
            await asyncio.wait([drained], timeout=seconds)
            if drained.done():
                return
            if len(self._unsent) >= before:
                break
        raise SlowClientError

    # --- end ----------------------------------------------------------------------------------------------------

    def half_close(self) -> None:
        """Send a FIN once the buffered bytes are sent, and read on.

        Bytes that the client still sends must be read: else the kernel resets the connection, and our last answer is
        lost.

        :raises OSError: the client has reset the connection
        """
        if not self._unsent:
            self._socket.shutdown(socket.SHUT_WR)
        else:
            self._shut = True

    def unacknowledged(self) -> int:
        """Return the number of bytes that the client's kernel has not acknowledged; a FIN counts as one.

        It is 0 for a broken connection too.  A socket that is closed before all bytes are acknowledged stays in the
        kernel, in the router's namespace, for as long as the client likes.
        """
        try:
            if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return 0
            queued = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # closed
            return 0
        return len(self._unsent) + int.from_bytes(queued, sys.byteorder)

    def reset(self) -> None:
        """Close at once, with a reset."""
        with contextlib.suppress(OSError):  # closed already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.close()

    def close(self) -> None:
        """Close at once; buffered bytes are dropped.  :meth:`SocketOwner.lost` is called in the next turn.

        A task that waits in :meth:`drain` goes on waiting: the owner cancels it in :meth:`SocketOwner.lost`.
        """
        if self.closed:
            return
        self.closed = True
        self.read(False)
        self._stop_writing()
        self._unsent.clear()
        self._socket.close()
        self._loop.call_soon(self._owner.lost)
