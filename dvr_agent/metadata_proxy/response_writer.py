"""Writes answers to a client: serialises them with h11, counts them, and adds ``Connection: close`` where needed."""

from __future__ import annotations

from http import HTTPStatus

import h11

from dvr_agent.metadata_proxy.client_socket import ClientSocket
from dvr_agent.metadata_proxy.headers import Headers
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.request_parser import RequestParser


class ResponseWriter:
    """Writer of one connection: collects parts of an answer until :meth:`flush`, so that a small one fits a packet."""

    __slots__ = ("_collected", "_parser", "_socket", "_state")

    def __init__(self, client: ClientSocket, parser: RequestParser, state: ProxyState) -> None:
        self._socket, self._parser, self._state = client, parser, state
        self._collected = bytearray()

    @property
    def may_begin(self) -> bool:
        """True if no answer to the request under way has begun."""
        http = self._parser.http
        return http is not None and http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    def begin(self, status: int, reason: bytes, headers: Headers) -> None:
        """Collect status line and headers."""
        # Requests that the client has sent already, one behind the other, still get their answers.
        if self._state.stopping and not self._parser.has_unread:
            headers = [*headers, (b"Connection", b"close")]
        self._state.counters.answered(status)
        self._collect(h11.Response(status_code=status, reason=reason, headers=headers))

    def data(self, piece: bytes) -> None:
        """Collect a piece of the body."""
        self._collect(h11.Data(data=piece))

    def end(self) -> None:
        """Complete the answer, and send it."""
        self._collect(h11.EndOfMessage())
        self.flush()

    def flush(self) -> None:
        """Send the collected parts."""
        if self._collected:
            data, self._collected = bytes(self._collected), bytearray()
            self._socket.write(data)

    def answer(self, status: HTTPStatus, with_body: bool, last: bool = False) -> None:
        """Send an answer of the proxy itself; its body is status and phrase.

        :param last: announce that the connection is closed after it
        """
        text = f"{status.value} {status.phrase}\n".encode()
        headers = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(text))]
        headers += [(b"Connection", b"close")] if last else []
        self.begin(status.value, status.phrase.encode(), headers)
        if with_body:
            self.data(text)
        self.end()

    def send_continue(self) -> None:
        """Ask the client to send the body (``100 Continue``)."""
        self._collect(h11.InformationalResponse(status_code=100, headers=[]))
        self.flush()

    def _collect(self, event: h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage) -> None:
        assert self._parser.http is not None
        self._collected += self._parser.http.send(event) or b""
