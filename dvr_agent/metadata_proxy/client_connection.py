"""One connection of an instance, from the first byte to the close: requests, one after the other, and their answers.

It coordinates: ``client_socket`` moves the bytes, ``request_parser`` and ``request`` parse them, ``deadlines`` limit
the waiting, ``upstream_exchange`` gets the answer, ``response_writer`` writes it, and ``closer`` closes.  A request is
forwarded when it is complete (bodies are small), and the answer is taken into memory unless it is large, so that a slow
client does not occupy neutron-metadata-agent; it is passed on as it comes, not faster than the client takes it.

An idle connection costs a socket and these objects: the task and h11's state come with the first request.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from functools import partial
from http import HTTPStatus

import h11

from dvr_agent.metadata_proxy import headers
from dvr_agent.metadata_proxy.client_socket import ClientSocket, SlowClientError
from dvr_agent.metadata_proxy.closer import Closer
from dvr_agent.metadata_proxy.deadlines import RequestDeadlines
from dvr_agent.metadata_proxy.parse_scheduler import ANSWER_UNITS
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.request import IncomingRequest
from dvr_agent.metadata_proxy.request_parser import Event, RequestParser, RequestRefusedError
from dvr_agent.metadata_proxy.response_writer import ResponseWriter
from dvr_agent.metadata_proxy.served_router import ServedRouter
from dvr_agent.metadata_proxy.upstream_exchange import UpstreamExchange
from dvr_agent.metadata_proxy.upstream_request import UpstreamError


class Phase(enum.Enum):
    """Phases of a connection, named by the event for which it waits."""

    FIRST = "the first byte"
    HEADERS = "the end of the headers"
    BODY = "the end of the body"
    ANSWERING = "neutron-metadata-agent, or the client to take the answer"
    IDLE = "the next request"
    CLOSING = "the client to take the rest"


class ClientConnection:
    """Implements ``SocketOwner``, ``ParseJob`` and ``RouterMember``.

    :param accepted: non-blocking, and this object's from now on
    :param client: address, without scope
    """

    __slots__ = (
        "_closer",
        "_deadlines",
        "_exchange",
        "_loop",
        "_parser",
        "_request",
        "_router",
        "_scheduled",
        "_socket",
        "_state",
        "_task",
        "_writer",
        "client",
        "phase",
    )

    def __init__(
        self,
        accepted: socket.socket,
        client: str,
        router: ServedRouter,
        state: ProxyState,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.client, self.phase = client, Phase.FIRST
        self._router, self._state, self._loop = router, state, loop
        self._socket = ClientSocket(accepted, self, loop)
        self._parser = RequestParser()
        self._writer = ResponseWriter(self._socket, self._parser, state)
        self._request = IncomingRequest(router)
        self._deadlines = RequestDeadlines(state, loop, self._expired)
        self._deadlines.headers()
        self._closer: Closer | None = None
        self._exchange: UpstreamExchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._scheduled = False

    # --- events of the socket, the timer and the scheduler ---------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take bytes of the client, and have the scheduler parse them when it is the router's turn."""
        if self.phase is Phase.CLOSING:
            return
        self._parser.receive(data)
        if self._parser.is_full:
            self._socket.read(False)
        if self.phase is Phase.ANSWERING:
            return
        if self.phase is Phase.IDLE:
            self._deadlines.headers()
        elif self.phase is Phase.BODY:
            self._deadlines.body_moves()
        if self.phase in (Phase.FIRST, Phase.IDLE):
            self.phase = Phase.HEADERS
        self._schedule()

    def ended(self) -> None:
        """Note the client's FIN: it still gets answers to its requests."""
        self._parser.end()
        if self._closer is not None:
            self._closer.client_ended()
        elif self.phase in (Phase.FIRST, Phase.IDLE):
            self.close()
        elif self.phase is not Phase.ANSWERING:
            self._schedule()

    def lost(self) -> None:
        """Clean up after the socket was closed, and leave the router."""
        self.phase = Phase.CLOSING
        self._deadlines.cancel()
        if self._closer is not None:
            self._closer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._exchange is not None:
            self._exchange.abandon()
        self._request.forget()
        self._router.leave(self)

    def _expired(self) -> None:
        if self.phase in (Phase.HEADERS, Phase.BODY):
            self._refuse(RequestRefusedError(HTTPStatus.REQUEST_TIMEOUT, "slow"))
        elif self.phase is not Phase.CLOSING:
            self.close()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._state.scheduler.put(self._router, self)

    # --- ends -----------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Close at once, with a reset."""
        self.phase = Phase.CLOSING
        self._socket.reset()

    def close(self) -> None:
        """Close once the client has all written bytes: until then the descriptor stays ours, and can be reset."""
        if self._socket.closed or self.phase is Phase.CLOSING:
            return
        self.phase = Phase.CLOSING
        self._deadlines.cancel()
        self._router.mark_leaving(self)
        parser, timeout = self._parser, self._state.settings.timeout_client
        self._closer = Closer(self._socket, self._loop, not parser.is_read_up, parser.client_ended, timeout)
        self._closer.begin()

    # --- requests -------------------------------------------------------------------------------------------------

    def work(self, units: int) -> int:
        """Parse received bytes, up to the end of one request; returns the number of units that it took."""
        self._scheduled = False
        try:
            done = self._parse(units)
        except BaseException:
            self.abort()
            raise
        if self.phase is not Phase.CLOSING and not self._parser.client_ended:
            self._socket.read(not self._parser.is_full)
        return done

    def _parse(self, units: int) -> int:
        done = 0
        while self.phase in (Phase.HEADERS, Phase.BODY):
            if done >= units:
                self._schedule()
                break
            done += 1
            try:
                event = self._parser.next_event(self._state.settings.max_header_size)
                if event is False:
                    if self._parser.awaits_continue:
                        self._writer.send_continue()
                    break
                done += self._act_on(event)
            except RequestRefusedError as exc:
                self._refuse(exc)
                done += ANSWER_UNITS
        return done

    def _act_on(self, event: Event | bool) -> int:
        """Act on an event of the parser; returns the units that it counts beyond one."""
        if isinstance(event, h11.Request):
            self.phase = Phase.BODY
            self._deadlines.body_begins()
            self._request.begin(event, self._state.settings)
            return len(event.headers)
        if isinstance(event, h11.Data):
            self._request.add(event.data, self._state.settings)
        elif isinstance(event, h11.EndOfMessage):
            return self._complete()
        elif event is not True:
            self.close()  # ConnectionClosed: there is no further request
        return 0

    def _refuse(self, refused: RequestRefusedError) -> None:
        """Send the last answer of this connection: the rest of the request is not read."""
        if refused.cause:
            self._state.counters.refused(refused.cause)
        if self._writer.may_begin:
            self._writer.answer(refused.status, self._request.wants_body, last=True)
        self._request.forget()
        self.close()

    def _complete(self) -> int:
        """Answer the request: at once if the proxy refuses it, else by a task; returns the units that it counts."""
        self.phase = Phase.ANSWERING
        self._deadlines.suspend()
        self._router.mark_busy(self)
        self._state.counters.requests += 1
        status = self._refusal()
        if status is None:
            if self._router.slots.take(self.client):
                self._begin_exchange()
            self._task = self._loop.create_task(self._answer())
            return 0
        self._writer.answer(status, self._request.wants_body)
        if self._socket.is_congested:
            self._task = self._loop.create_task(self._answer(written=True))
        else:
            self._next()
        return ANSWER_UNITS

    def _refusal(self) -> HTTPStatus | None:
        """Return the status with which the proxy itself refuses the request, None if it is forwarded."""
        limited = headers.ip_version(self.client) in self._state.settings.limited_versions
        if limited and not self._router.rates.allows(self.client, self._loop.time()):
            self._state.counters.refused("rate")
            return HTTPStatus.TOO_MANY_REQUESTS
        if not self._router.slots.may_wait(self.client):
            self._state.counters.refused("waited")
            return HTTPStatus.SERVICE_UNAVAILABLE
        return None

    # --- answers --------------------------------------------------------------------------------------------------

    async def _answer(self, written: bool = False) -> None:
        """Answer the request, wait until the client has taken enough of it, and go on with its next request.

        :param written: the answer has been written already
        """
        done = False
        try:
            if not written:
                await self._respond()
            await self._socket.drain(self._state.settings.timeout_client)
            self._task = None
            self._next()
            done = True
        except SlowClientError:
            self._state.counters.refused("slow")
        except UpstreamError:  # in the midst of the answer: only a cut-off tells the client
            pass
        finally:
            if not done:
                self._task = None
                self.abort()

    async def _respond(self) -> None:
        """Forward the request, once there is a slot for it, and write the answer."""
        if self._exchange is not None or await self._wait_for_slot():
            await self._pass_on()
        else:
            self._state.counters.refused("waited")
            self._writer.answer(HTTPStatus.SERVICE_UNAVAILABLE, self._request.wants_body)

    async def _wait_for_slot(self) -> bool:
        """Begin the exchange as soon as there is a slot for it; returns False if there is none in time."""
        if self.phase is not Phase.CLOSING:
            self._router.waiting[self] = None
        try:
            await self._router.slots.acquire(self.client, self._state.settings.timeout_connect)
        except TimeoutError:
            return False
        finally:
            self._router.waiting.pop(self, None)
        self._begin_exchange()
        return True

    def _begin_exchange(self) -> None:
        """Send the request to neutron-metadata-agent, in the slot taken before, which the exchange releases."""
        request, body = self._request.head, bytes(self._request.body)
        assert request is not None
        towards = headers.towards_agent(request.headers.raw_items(), self._router.id, self.client, len(body))
        release = partial(self._router.slots.release, self.client)
        self._exchange = UpstreamExchange(self._state, (request.method, request.target, towards), body, release)

    async def _pass_on(self) -> None:
        """Write the answer of neutron-metadata-agent to the client, as it comes.

        :raises UpstreamError: in the midst of the answer
        :raises SlowClientError: the client does not take it
        """
        exchange = self._exchange
        assert exchange is not None
        try:
            answer = await exchange.head()
            back = headers.towards_instance(answer.headers.raw_items(), answer.status_code)
            self._writer.begin(answer.status_code, answer.reason, back)
            if not exchange.has_more:
                self._writer.flush()
            while piece := await exchange.read():
                self._writer.data(piece)
                if not exchange.is_exhausted:
                    self._writer.flush()
                    await self._socket.drain(self._state.settings.timeout_client)
        except UpstreamError as exc:
            if not self._writer.may_begin:
                self._writer.flush()
                raise
            self._writer.answer(exc.status, self._request.wants_body)
        else:
            self._writer.end()
        finally:
            exchange.abandon()
            self._exchange = None

    def _next(self) -> None:
        """Go on after an answer: with the next request, or by closing."""
        self._request.forget()
        if self._socket.closed:
            return
        if not self._parser.next_request():
            self.close()
            return
        self._router.mark_idle(self)
        if self._parser.has_input:
            self.phase = Phase.HEADERS
            self._deadlines.headers()
            self._schedule()
        else:
            self.phase = Phase.IDLE
            self._deadlines.idle()
