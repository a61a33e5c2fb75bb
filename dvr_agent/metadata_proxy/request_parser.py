"""Parses the bytes of one client with h11, a bounded number of bytes at a time.

h11 parses all the bytes that it is given at once.  So it is given few, and requests of thousands of tiny lines or
chunks are refused before h11 gets them.
"""

from __future__ import annotations

from http import HTTPStatus

import h11

UNREAD = 16 * 1024
"""Maximum number of unparsed bytes of a client in memory: requests sent ahead while one is answered."""
PIECE = 4 * 1024
"""Bytes for h11 at a time."""
LINES = 102
"""Maximum number of a request's header lines, with the request line and the empty line, as in Python's http.client."""
FRAMING = 4 * 1024
"""Bytes that a body in chunks may have on the wire beyond twice its size: more means thousands of tiny chunks."""

Event = h11.Request | h11.Data | h11.EndOfMessage | h11.ConnectionClosed


class RequestRefusedError(Exception):
    """The request is answered by an error, and its rest is not read.

    :ivar cause: for the counters, see ``control_server``; empty: the refusal is not counted
    """

    def __init__(self, status: HTTPStatus, cause: str = "") -> None:
        super().__init__(status.phrase)
        self.status, self.cause = status, cause


class RequestParser:
    """The parser of one connection; call :meth:`next_request` between two requests.

    :ivar http: h11's state of the request under way and of its answer, None between requests
    """

    __slots__ = ("_body", "_client_ended", "_given", "_lines", "_reads_body", "_unread", "_wire", "http")

    def __init__(self) -> None:
        self.http: h11.Connection | None = None
        self._unread = bytearray()  # bytes of the client that h11 has not parsed
        self._given = 0  # number of bytes at its beginning that were given to h11
        self._lines = 0  # number of header lines that were given to h11
        self._wire = self._body = 0  # size of the body with and without framing, in bytes
        self._reads_body = self._client_ended = False

    def receive(self, data: bytes) -> None:
        """Append bytes of the client."""
        self._unread += data

    def end(self) -> None:
        """Note that no more bytes come: the client has sent its FIN."""
        self._client_ended = True

    @property
    def is_full(self) -> bool:
        """True if more than :data:`UNREAD` bytes are unparsed: the client's bytes have to stay in the kernel."""
        return len(self._unread) > UNREAD

    @property
    def has_unread(self) -> bool:
        """True if bytes are unparsed; between two requests: if a request was sent ahead."""
        return bool(self._unread)

    @property
    def has_input(self) -> bool:
        """True if :meth:`next_event` may return an event: bytes are unparsed, or the client has sent its FIN."""
        return bool(self._unread) or self._client_ended

    @property
    def client_ended(self) -> bool:
        """True if the client has sent its FIN."""
        return self._client_ended

    @property
    def is_read_up(self) -> bool:
        """True if all bytes of the client are parsed, up to the end of a request."""
        if self.http is None:
            return True
        return self.http.their_state not in (h11.ERROR, h11.SEND_BODY) and not self._unread

    @property
    def awaits_continue(self) -> bool:
        """True if the client sends the body only after a ``100 Continue``."""
        return self.http is not None and self.http.they_are_waiting_for_100_continue

    def next_event(self, max_header_size: int) -> Event | bool:
        """Parse up to the next event of the request.

        :param max_header_size: bytes
        :returns: the event; True: h11 got more bytes, call again; False: all received bytes are parsed
        :raises RequestRefusedError: the bytes are no HTTP, or have too many lines or chunks
        """
        if self.http is None:  # one for each request, so that what was sent ahead stays here
            self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=max_header_size)
        try:
            event = self.http.next_event()
        except h11.RemoteProtocolError as exc:
            # h11 has no limit for bodies: in a body the error is about the lines between chunks.
            status = 400 if self._reads_body else exc.error_status_hint
            raise RequestRefusedError(HTTPStatus(status), "malformed" if status != 431 else "too_large") from exc
        if event is h11.NEED_DATA:
            return self._feed(self.http)
        if isinstance(event, h11.Request):
            self._reads_body, self._wire = True, len(self.http.trailing_data[0])
        elif isinstance(event, h11.Data):
            self._body += len(event.data)
        elif isinstance(event, h11.EndOfMessage):
            self._drop(self._given - len(self.http.trailing_data[0]))
        return event  # type: ignore[return-value]  # PAUSED comes only after the end of a request

    def next_request(self) -> bool:
        """Forget the answered request; returns False if the connection cannot carry another one."""
        http = self.http
        if http is None or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return False
        self.http, self._reads_body = None, False
        self._lines = self._wire = self._body = 0
        return True

    def _feed(self, http: h11.Connection) -> bool:
        """Give h11, which has parsed all its bytes, more of them; returns False if there are none now."""
        self._drop(self._given)
        if self._unread:
            piece = bytes(self._unread[:PIECE])
            piece = self._checked_body(piece) if self._reads_body else self._checked_headers(piece)
            self._given = len(piece)
            http.receive_data(piece)
            return True
        if self._client_ended and not http.trailing_data[1]:
            http.receive_data(b"")
            return True
        return False

    def _checked_headers(self, piece: bytes) -> bytes:
        """Cut the piece after the last line that a request may have."""
        left = LINES - self._lines
        if left <= 0:
            raise RequestRefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large")
        lines = piece.split(b"\n", left)
        if len(lines) > left:
            piece = piece[: len(piece) - len(lines[-1])]
        self._lines += len(lines) - 1
        return piece

    def _checked_body(self, piece: bytes) -> bytes:
        if self._wire > 2 * self._body + FRAMING:
            raise RequestRefusedError(HTTPStatus.BAD_REQUEST, "malformed")
        self._wire += len(piece)
        return piece

    def _drop(self, size: int) -> None:
        """Forget so many bytes, which h11 has parsed."""
        del self._unread[:size]
        self._given = 0
