"""One connection of an instance: its requests in, one after the other, and the answers out.

h11 is the parser; what it accepted is what ``forward`` sends on, written anew by h11.  A request is forwarded when it
is complete (bodies are small), and the answer is taken into memory unless it is large, so that a slow client does not
occupy neutron-metadata-agent; it is passed on as it comes, not faster than the client takes it.

An idle connection costs a transport and this object: the task and the parser come with the first bytes.
"""

from __future__ import annotations

import asyncio
import enum
from functools import partial
from http import HTTPStatus

import h11

from dvr_agent.metadata_proxy import headers
from dvr_agent.metadata_proxy.client_writer import PATIENCE, Outlet, SlowClientError
from dvr_agent.metadata_proxy.exchange import Exchange
from dvr_agent.metadata_proxy.forward import UpstreamError
from dvr_agent.metadata_proxy.router import Router
from dvr_agent.metadata_proxy.shared import Shared

LINGER = 2.0
"""Seconds for a client to take our last words, while what it still sends is thrown away."""
FIRST_LOOK, LAST_LOOK = 0.01, 0.5
"""Seconds between looks whether it has them."""
UNREAD = 16 * 1024
"""Bytes of a client that we take before the parser has seen them: requests sent ahead while one is answered."""
PIECE = 4 * 1024
"""Bytes for the parser at a time."""
LINES = 102
"""Of a request's headers, with its first and its empty line: Python's http.client takes no more either."""
FRAMING = 4 * 1024
"""Bytes that a body in chunks may have beyond twice its size: less means thousands of chunks for nothing."""

_BUFFER = memoryview(bytearray(4 * 1024))
"""Where all connections receive: the bytes are taken out before the event loop goes on."""


class Phase(enum.Enum):
    """What a connection waits for."""

    FIRST = "the first byte"
    HEADERS = "the end of the headers"
    BODY = "the end of the body"
    ANSWERING = "neutron-metadata-agent, or the client to take the answer"
    IDLE = "the next request"
    CLOSING = "the client to take the rest"


class Connection(asyncio.BufferedProtocol):
    """Implements :class:`dvr_agent.metadata_proxy.router.Member`.

    :param client: address, without scope
    """

    __slots__ = (
        "_aborted",
        "_began",
        "_body",
        "_deadline",
        "_eof",
        "_given",
        "_gone",
        "_held",
        "_http",
        "_lines",
        "_lingers",
        "_loop",
        "_out",
        "_request",
        "_router",
        "_shared",
        "_task",
        "_through_since",
        "_timer",
        "_unread",
        "_waits",
        "_wire",
        "client",
        "phase",
    )

    def __init__(self, router: Router, client: str, shared: Shared, loop: asyncio.AbstractEventLoop) -> None:
        self.client, self.phase = client, Phase.FIRST
        self._router, self._shared, self._loop = router, shared, loop
        self._out: Outlet | None = None
        self._http: h11.Connection | None = None
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._held = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._began = 0.0
        self._unread = bytearray()  # what the client sent and the parser has not understood
        self._given = 0  # so many bytes at its beginning the parser has, nevertheless
        self._lines = self._wire = 0  # of the headers, and bytes of the body, that the parser was given
        self._waits = False  # for our turn
        self._aborted = self._eof = self._gone = False
        self._through_since = 0.0
        self._lingers = False  # closing: the client may send on, and has to close first

    # --- the transport's calls ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out = Outlet(transport)
        if self._aborted:
            self.abort()
        else:
            self._arm(self._shared.settings.timeout_http_request)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self.phase is Phase.CLOSING:
            return
        self._unread += _BUFFER[:nbytes]
        if len(self._unread) > UNREAD and self._out is not None:
            self._out.read(False)
        if self.phase is Phase.ANSWERING:
            return
        if self.phase is Phase.IDLE:
            self._arm(self._shared.settings.timeout_http_request)
        elif self.phase is Phase.BODY:
            self._wait_for_body()
        if self.phase in (Phase.FIRST, Phase.IDLE):
            self.phase = Phase.HEADERS
        self._go_on()

    def eof_received(self) -> bool:
        """True: the connection stays open for our answer, and until we have seen the end of it."""
        self._eof = True
        if self.phase in (Phase.FIRST, Phase.IDLE):
            self.close()
        elif self.phase is Phase.CLOSING:
            self._look(FIRST_LOOK)
        elif self.phase is not Phase.ANSWERING:
            self._go_on()
        return True

    def pause_writing(self) -> None:
        if self._out is not None:
            self._out.pause()

    def resume_writing(self) -> None:
        if self._out is not None:
            self._out.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._gone:
            return
        self._gone = True
        self._cancel_timer()
        if self._task is not None:
            self._task.cancel()
        self._forget_body()
        self._out = None
        self._router.leave(self)

    # --- ends -----------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        self._aborted = True
        self.phase = Phase.CLOSING
        if self._out is not None:
            self._out.reset()

    def close(self) -> None:
        """Once the client has what is written: until then the descriptor stays ours, and can be reset."""
        out = self._out
        if out is None or out.is_closing or self.phase is Phase.CLOSING:
            return
        self._lingers = not self._is_read_up()
        self.phase = Phase.CLOSING
        self._router.evictable.pop(self, None)
        self._router.leaving[self] = None
        self._end_by(LINGER)
        try:
            out.finish()
        except OSError:  # it has reset the connection
            self.abort()
            return
        if not out.is_through():
            self._end_by(self._shared.settings.timeout_client)
        self._look(FIRST_LOOK)

    def _end_by(self, seconds: float) -> None:
        self._deadline = self._loop.time() + seconds

    def _look(self, pause: float) -> None:
        """While closing: nothing tells when the last acknowledgement comes."""
        self._cancel_timer()
        out = self._out
        if out is None or out.is_closing:
            return
        through = out.is_through()
        if through and (self._eof or not self._lingers):
            out.close()
            return
        if through:
            self._through_since = self._through_since or self._loop.time()
            self._deadline = min(self._deadline, self._through_since + LINGER)
        if self._loop.time() >= self._deadline:
            if through or not out.moves():
                self.abort()
                return
            self._end_by(self._shared.settings.timeout_client)
        self._timer = self._loop.call_later(pause, self._look, min(2 * pause, LAST_LOOK))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _is_read_up(self) -> bool:
        """All that the client sent has been understood."""
        return self._http is None or (
            self._http.their_state is not h11.ERROR and self._http.their_state is not h11.SEND_BODY and not self._unread
        )

    def _arm(self, seconds: float) -> None:
        """:meth:`_expired` in so many seconds, if nothing else happens.  Later deadlines leave the timer as it is."""
        self._deadline = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._out is None:
            return
        if self.phase is Phase.ANSWERING:  # which has its own limits; the timer is there for what comes then
            self._deadline = self._loop.time() + self._shared.settings.timeout_client
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._tick)
        else:
            self._expired()

    def _expired(self) -> None:
        if self.phase in (Phase.HEADERS, Phase.BODY):
            self._shared.counters.refused("slow")
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.close()

    # --- requests -------------------------------------------------------------------------------------------------

    def _parser(self) -> h11.Connection:
        """One for each request, so that what was sent ahead stays ours; it is made when the first byte has come."""
        if self._http is None:
            self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._shared.settings.max_header_size)
        return self._http

    def _feed(self, http: h11.Connection) -> bool:
        """The parser has understood all that it has: give it more.  False: there is no more, for now."""
        self._understood(self._given)
        if self._unread:
            piece = bytes(self._unread[:PIECE])
            if self.phase is Phase.BODY:
                self._feed_body(http, piece)
            else:
                self._feed_headers(http, piece)
            return True
        if self._eof and not http.trailing_data[1]:
            http.receive_data(b"")
            return True
        return False

    def _feed_headers(self, http: h11.Connection, piece: bytes) -> None:
        """Thousands of very short lines are refused before the parser takes them apart, all at once."""
        left = LINES - self._lines
        if left <= 0:
            self._shared.counters.refused("too_large")
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        lines = piece.split(b"\n", left)
        if len(lines) > left:
            piece = piece[: len(piece) - len(lines[-1])]
        self._lines += len(lines) - 1
        self._give(http, piece)

    def _feed_body(self, http: h11.Connection, piece: bytes) -> None:
        if self._wire > 2 * len(self._body) + FRAMING:
            self._shared.counters.refused("malformed")
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        self._wire += len(piece)
        self._give(http, piece)

    def _give(self, http: h11.Connection, piece: bytes) -> None:
        self._given = len(piece)
        http.receive_data(piece)

    def _understood(self, size: int) -> None:
        """So many bytes need not be kept; there may be room for more."""
        del self._unread[:size]
        self._given = 0
        if len(self._unread) <= UNREAD and self._out is not None and self.phase is not Phase.CLOSING:
            self._out.read(True)

    def _go_on(self) -> None:
        """There is something to understand, or was not all understood: when it is our turn."""
        if not self._waits:
            self._waits = True
            self._shared.turns.put(self._router, self)

    def work(self, units: int) -> int:
        """For :class:`dvr_agent.metadata_proxy.parse_scheduler.Turns`."""
        self._waits = False
        try:
            return self._advance(units)
        except BaseException:
            self.abort()
            raise

    def _advance(self, units: int) -> int:
        """Understand what has been received, as far as the end of one request; returns how many units it was."""
        http, done = self._parser(), 0
        while self.phase in (Phase.HEADERS, Phase.BODY) and self._out is not None:
            if done >= units:
                self._go_on()
                break
            done += 1
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as exc:
                # a body is never too long for the parser: what is, are the lines between its chunks
                status = 400 if self.phase is Phase.BODY else exc.error_status_hint
                self._shared.counters.refused("malformed" if status != 431 else "too_large")
                self._refuse(HTTPStatus(status))
                break
            if isinstance(event, h11.Request):
                done += len(event.headers)
                self._wire = len(http.trailing_data[0])
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._more(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._complete()
            elif event is h11.NEED_DATA:
                if self._feed(http):
                    continue
                if http.they_are_waiting_for_100_continue and self._out is not None:
                    self._out.write(http.send(h11.InformationalResponse(status_code=100, headers=[])))
                break
            else:  # the client has said that this is all
                self.close()
        return done

    def _begin(self, request: h11.Request) -> None:
        self._request = request
        self.phase, self._began = Phase.BODY, self._loop.time()
        self._wait_for_body()
        size = len(request.method) + len(request.target) + 12
        size += sum(len(name) + len(value) + 4 for name, value in request.headers)
        length = next((int(value) for name, value in request.headers if name == b"content-length"), 0)
        # The parser knows no limit for headers that come complete in one piece.
        if size > self._shared.settings.max_header_size:
            self._shared.counters.refused("too_large")
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif not request.http_version.startswith(b"1."):
            self._refuse(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        elif request.method == b"CONNECT":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)
        elif length > self._shared.settings.max_body_size:
            self._shared.counters.refused("too_large")
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _wait_for_body(self) -> None:
        """``timeout_client`` from now on, but not for ever: one byte at a time is too slow."""
        patience = self._began + PATIENCE * self._shared.settings.timeout_client - self._loop.time()
        self._arm(max(0.0, min(self._shared.settings.timeout_client, patience)))

    def _more(self, data: bytes) -> None:
        if len(self._body) + len(data) > self._shared.settings.max_body_size:
            self._shared.counters.refused("too_large")
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif not self._router.room_for_body(len(data)):
            self._shared.counters.refused("bodies")
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._router.bodies += len(data)
            self._held += len(data)
            self._body += data

    def _forget_body(self) -> None:
        self._router.bodies -= self._held
        self._held, self._request = 0, None
        self._body = bytearray()

    def _complete(self) -> None:
        self.phase = Phase.ANSWERING
        self._understood(self._given - len(self._parser().trailing_data[0]))
        self._router.evictable.pop(self, None)
        self._shared.counters.requests += 1
        self._task = self._loop.create_task(self._answer())

    # --- answers --------------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        done = False
        try:
            await self._serve()
            await self._drain()
            self._task = None
            self._forget_body()
            self._next()
            done = True
        except SlowClientError:
            self._shared.counters.refused("slow")
        except UpstreamError:  # in the midst of the answer: only a cut-off tells the client
            pass
        finally:
            if not done:
                self._task = None
                self.abort()

    async def _serve(self) -> None:
        """Answer the request: by neutron-metadata-agent, or why not."""
        shared, request, http = self._shared, self._request, self._http
        assert request is not None
        assert http is not None
        if headers.ip_version(self.client) in shared.settings.limited_versions and not self._router.rates.allows(
            self.client, self._loop.time()
        ):
            shared.counters.refused("rate")
            self._say(HTTPStatus.TOO_MANY_REQUESTS)
            return
        try:
            await self._wait_for_slot()
        except TimeoutError:
            shared.counters.refused("waited")
            self._say(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        try:
            await self._forward(request)
        except UpstreamError as exc:
            if http.our_state is not h11.SEND_RESPONSE:
                raise
            self._say(exc.status)

    async def _wait_for_slot(self) -> None:
        if not self._aborted:
            self._router.waiting[self] = None
        try:
            await self._router.slots.acquire(self.client, self._shared.settings.timeout_connect)
        finally:
            self._router.waiting.pop(self, None)

    async def _forward(self, request: h11.Request) -> None:
        """A slot is held, which is the exchange's now."""
        towards = headers.towards_agent(request.headers.raw_items(), self._router.id, self.client, len(self._body))
        release = partial(self._router.slots.release, self.client)
        exchange = Exchange(self._shared, (request.method, request.target, towards), bytes(self._body), release)
        try:
            answer = await exchange.head()
            back = headers.towards_instance(answer.headers.raw_items(), answer.status_code)
            self._start(answer.status_code, answer.reason, back)
            while piece := await exchange.read():
                self._write(h11.Data(data=piece))
                await self._drain()
        finally:
            exchange.abandon()
        self._write(h11.EndOfMessage())

    def _start(self, status: int, reason: bytes, given: headers.Headers) -> None:
        assert self._http is not None
        # Requests that the client has sent already, one behind the other, still get their answers.
        if self._shared.stopping and not self._unread:
            given = [*given, (b"Connection", b"close")]
        self._shared.counters.answered(status)
        self._write(h11.Response(status_code=status, reason=reason, headers=given))

    def _write(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        assert self._http is not None
        data = self._http.send(event)
        if self._out is not None:
            self._out.write(data or b"")

    async def _drain(self) -> None:
        if self._out is not None:
            await self._out.drain(self._shared.settings.timeout_client)

    def _next(self) -> None:
        """After an answer: the next request, or the end."""
        http, out = self._http, self._out
        if http is None or out is None or out.is_closing:
            return
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            self.close()
            return
        self._http, self._lines = None, 0
        self._router.evictable[self] = None
        if self._unread or self._eof:
            self.phase = Phase.HEADERS
            self._arm(self._shared.settings.timeout_http_request)
            self._go_on()
        else:
            self.phase = Phase.IDLE
            self._arm(self._shared.settings.timeout_http_keep_alive)

    def _say(self, status: HTTPStatus, more: headers.Headers | None = None) -> None:
        """An answer of our own."""
        assert self._http is not None
        text = f"{status.value} {status.phrase}\n".encode()
        own = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(text)), *(more or [])]
        self._start(status.value, status.phrase.encode(), own)
        if self._request is None or self._request.method != b"HEAD":
            self._write(h11.Data(data=text))
        self._write(h11.EndOfMessage())

    def _refuse(self, status: HTTPStatus) -> None:
        """The last answer of this connection: the rest of the request is not read."""
        if self._http is not None and self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._say(status, [(b"Connection", b"close")])
        self._forget_body()
        self.close()
