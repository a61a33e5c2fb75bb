"""Parses the bytes of one client: events of h11, from a bounded number of bytes at a time.

h11 is the parser.  It takes what it is given apart all at once, so it is given little, and requests that are made of
thousands of tiny lines or chunks are refused before it sees them.
"""

from __future__ import annotations

from http import HTTPStatus

import h11

UNREAD = 16 * 1024
"""Bytes of a client in memory before they are parsed: requests sent ahead while one is answered."""
PIECE = 4 * 1024
"""Bytes for h11 at a time."""
LINES = 102
"""Lines of a request's headers, with its first and its empty line: Python's http.client takes no more either."""
FRAMING = 4 * 1024
"""Bytes that a body in chunks may have beyond twice its size: more means thousands of chunks for nothing."""

Event = h11.Request | h11.Data | h11.EndOfMessage | h11.ConnectionClosed


class RequestRefusedError(Exception):
    """The request is answered by an error, and its rest is not read.

    :ivar cause: for the counters, see ``control_server``; empty: the refusal is not counted
    """

    def __init__(self, status: HTTPStatus, cause: str = "") -> None:
        super().__init__(status.phrase)
        self.status, self.cause = status, cause


class RequestParser:
    """One per connection; :meth:`next_request` between two requests.

    :ivar http: state of the request under way, None between requests; its answer is written with it, too
    """

    __slots__ = ("_body", "_client_ended", "_given", "_lines", "_reads_body", "_unread", "_wire", "http")

    def __init__(self) -> None:
        self.http: h11.Connection | None = None
        self._unread = bytearray()  # what the client sent and h11 has not understood
        self._given = 0  # so many bytes at its beginning h11 has, nevertheless
        self._lines = 0  # of the headers, given to h11
        self._wire = self._body = 0  # bytes of the body as they came, and without framing
        self._reads_body = self._client_ended = False

    def receive(self, data: bytes) -> None:
        """Append bytes of the client."""
        self._unread += data

    def end(self) -> None:
        """No more bytes will come: the client has sent its FIN."""
        self._client_ended = True

    @property
    def is_full(self) -> bool:
        """More than :data:`UNREAD` bytes are unparsed: the client's bytes are to be left in the kernel."""
        return len(self._unread) > UNREAD

    @property
    def has_unread(self) -> bool:
        """Bytes are unparsed; between two requests: a request that was sent ahead."""
        return bool(self._unread)

    @property
    def has_input(self) -> bool:
        """:meth:`next_event` may find something: bytes are unparsed, or the client has sent its FIN."""
        return bool(self._unread) or self._client_ended

    @property
    def client_ended(self) -> bool:
        """The client has sent its FIN."""
        return self._client_ended

    @property
    def is_read_up(self) -> bool:
        """All that the client sent has been understood, up to the end of a request."""
        if self.http is None:
            return True
        return self.http.their_state not in (h11.ERROR, h11.SEND_BODY) and not self._unread

    @property
    def awaits_continue(self) -> bool:
        """The client sends the body only after a ``100 Continue``."""
        return self.http is not None and self.http.they_are_waiting_for_100_continue

    def next_event(self, max_header_size: int) -> Event | bool:
        """Parse up to the next event of the request.

        :param max_header_size: bytes
        :returns: the event; True: h11 has got more bytes, ask again; False: all received bytes are parsed
        :raises RequestRefusedError: it is no HTTP, or made of too many lines or chunks
        """
        if self.http is None:  # one for each request, so that what was sent ahead stays here
            self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=max_header_size)
        try:
            event = self.http.next_event()
        except h11.RemoteProtocolError as exc:
            # A body is never too long for h11: what is, are the lines between its chunks.
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
        """Forget the request that has been answered; False if the connection cannot carry another one."""
        http = self.http
        if http is None or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return False
        self.http, self._reads_body = None, False
        self._lines = self._wire = self._body = 0
        return True

    def _feed(self, http: h11.Connection) -> bool:
        """Give h11, which has understood all that it has, more bytes; False: there are none for now."""
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
        """Forget so many bytes, which h11 has understood."""
        del self._unread[:size]
        self._given = 0
