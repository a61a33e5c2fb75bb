"""Closes a client's connection: half-close, wait until the client has our last answer, close.

Until the client's kernel has acknowledged everything the descriptor stays ours, so that the connection can be reset and
nothing of it stays in the router's namespace.  No event tells that the last acknowledgement came, so the closer checks.
"""

from __future__ import annotations

import asyncio

from dvr_agent.metadata_proxy.client_socket import PATIENCE, ClientSocket

LINGER = 2.0
"""Seconds for a client to take our last answer, while what it still sends is thrown away."""
FIRST_PAUSE, LAST_PAUSE = 0.01, 0.5
"""Seconds between checks."""


class Closer:
    """Closes one connection; :meth:`begin` once, then :meth:`client_ended` when the client has sent its FIN.

    :param waits_for_client: True if the client may send on, and has to close first: else the kernel would answer its
        bytes with a reset, which can overtake our last answer
    :param ended: True if the client has sent its FIN already
    :param timeout: seconds within which a client has to acknowledge some of the pending bytes (``timeout_client``)
    """

    __slots__ = ("_checks", "_deadline", "_ended", "_left", "_loop", "_socket", "_through_since", "_timeout", "_timer",
                 "_waits_for_client")  # fmt: skip

    def __init__(
        self, client: ClientSocket, loop: asyncio.AbstractEventLoop, waits_for_client: bool, ended: bool, timeout: float
    ) -> None:
        self._socket, self._loop, self._timeout = client, loop, timeout
        self._waits_for_client, self._ended = waits_for_client, ended
        self._deadline = self._through_since = 0.0
        self._left = self._checks = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Half-close, and close as soon as the client has everything."""
        if not self._ended:
            self._socket.read(True)
        try:
            self._socket.half_close()
        except OSError:  # the client has reset the connection
            self._socket.reset()
            return
        self._left = self._socket.unacknowledged()
        self._deadline = self._loop.time() + (self._timeout if self._left else LINGER)
        self._check(FIRST_PAUSE)

    def client_ended(self) -> None:
        """Check now: the client has sent its FIN."""
        self._ended = True
        self._check(FIRST_PAUSE)

    def cancel(self) -> None:
        """Check no more: the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _check(self, pause: float) -> None:
        self.cancel()
        if self._socket.closed:
            return
        through = not self._socket.unacknowledged()
        if through and (self._ended or not self._waits_for_client):
            self._socket.close()  # nothing of it stays in the kernel
            return
        now = self._loop.time()
        if through:
            self._through_since = self._through_since or now
            self._deadline = min(self._deadline, self._through_since + LINGER)
        if now >= self._deadline:
            if through or not self._has_moved():
                self._socket.reset()
                return
            self._deadline = now + self._timeout
        self._timer = self._loop.call_later(pause, self._check, min(2 * pause, LAST_PAUSE))

    def _has_moved(self) -> bool:
        """Return True if the client has taken bytes since the last call, and has not been slow for too long."""
        before, self._left = self._left, self._socket.unacknowledged()
        self._checks += 1
        return self._left < before and self._checks <= PATIENCE
