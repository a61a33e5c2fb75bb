"""Parts of a client's connection to the metadata proxy, each alone: socket, closer, deadlines, writer, exchange."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import h11
import pytest

from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.metadata_proxy.client_socket import PATIENCE, ClientSocket, SlowClientError
from dvr_agent.metadata_proxy.closer import LINGER, Closer
from dvr_agent.metadata_proxy.deadlines import RequestDeadlines
from dvr_agent.metadata_proxy.fd_budget import FdBudget
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.request_parser import RequestParser
from dvr_agent.metadata_proxy.response_writer import ResponseWriter
from dvr_agent.metadata_proxy.upstream_exchange import UpstreamExchange

PATIENT = 60.0


class Owner:
    """Records the events of a socket."""

    def __init__(self) -> None:
        self.data, self.events = b"", [""]
        self.happened = asyncio.Event()

    def received(self, data: bytes) -> None:
        self.data += data
        self._note("received")

    def ended(self) -> None:
        self._note("ended")

    def lost(self) -> None:
        self._note("lost")

    def _note(self, event: str) -> None:
        self.events.append(event)
        self.happened.set()

    async def until(self, event: str) -> None:
        async with asyncio.timeout(PATIENT):
            while event not in self.events:
                self.happened.clear()
                await self.happened.wait()


class Clock:
    """An event loop's time and timers, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., None], *args: object) -> Timer:
        self.timers.append(Timer(when, call, args))
        return self.timers[-1]

    def call_later(self, seconds: float, call: Callable[..., None], *args: object) -> Timer:
        return self.call_at(self.now + seconds, call, *args)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((one for one in self.timers if one.at <= end and not one.over), key=lambda one: one.at):
            self.now = max(self.now, due[0].at)
            due[0].over = True
            due[0].call(*due[0].args)
        self.now = end


class Timer:
    def __init__(self, at: float, call: Callable[..., None], args: tuple[object, ...]) -> None:
        self.at, self.call, self.args, self.over = at, call, args, False

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.over = True


class Peer:
    """A client's socket whose kernel acknowledges what the test says."""

    def __init__(self, unacknowledged: int, broken: bool = False) -> None:
        self.left, self.broken = unacknowledged, broken
        self.reads = self.closed = False
        self.end = ""

    def read(self, wanted: bool) -> None:
        self.reads = wanted

    def half_close(self) -> None:
        if self.broken:
            raise OSError("reset")

    def unacknowledged(self) -> int:
        return self.left

    def close(self) -> None:
        self.closed, self.end = True, "closed"

    def reset(self) -> None:
        self.closed, self.end = True, "reset"


def state(**settings: Any) -> ProxyState:
    return ProxyState(ProxySettings("/x", **settings), FdBudget(1000))


def run(story: Callable[[ClientSocket, socket.socket, Owner], Awaitable[None]]) -> None:
    async def begin() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        owner = Owner()
        try:
            await story(ClientSocket(ours, owner, asyncio.get_running_loop()), theirs, owner)
        finally:
            theirs.close()

    asyncio.run(begin())


# --- socket -----------------------------------------------------------------------------------------------------------


def test_bytes_come_and_go_and_a_half_close_leaves_the_other_direction() -> None:
    async def story(client: ClientSocket, peer: socket.socket, owner: Owner) -> None:
        peer.send(b"question")
        await owner.until("received")
        peer.shutdown(socket.SHUT_WR)
        await owner.until("ended")
        client.write(b"answer")
        assert peer.recv(100) == b"answer"
        client.close()
        client.close()
        await owner.until("lost")
        assert owner.data == b"question"
        assert owner.events.count("lost") == 1
        client.write(b"nobody reads this")

    run(story)


def test_what_the_client_does_not_take_is_buffered_and_waited_for() -> None:
    async def story(client: ClientSocket, peer: socket.socket, owner: Owner) -> None:
        size = 4_000_000
        client.write(b"x" * size)
        assert client.is_congested
        client.half_close()
        task = asyncio.create_task(client.drain(PATIENT))
        taken = 0
        while data := await asyncio.get_running_loop().sock_recv(peer, 1 << 20):
            taken += len(data)
        await task
        assert taken == size
        assert not client.is_congested
        client.close()

    run(story)


def test_a_client_that_takes_nothing_is_slow() -> None:
    async def story(client: ClientSocket, peer: socket.socket, owner: Owner) -> None:
        client.write(b"x" * 4_000_000)
        with pytest.raises(SlowClientError):
            await client.drain(0.01)
        client.reset()
        await owner.until("lost")

    run(story)


def test_an_exception_of_the_owner_closes_the_connection() -> None:
    async def story(client: ClientSocket, peer: socket.socket, owner: Owner) -> None:
        def fail(data: bytes) -> None:
            raise ValueError

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        owner.received = fail  # type: ignore[method-assign]
        peer.send(b"x")
        await owner.until("lost")
        assert client.closed

    run(story)


# --- closer -----------------------------------------------------------------------------------------------------------


def closer(peer: Peer, waits: bool = False, ended: bool = False) -> tuple[Closer, Clock]:
    clock = Clock()
    one = Closer(cast(Any, peer), cast(Any, clock), waits, ended, timeout=10)
    one.begin()
    return one, clock


def test_it_closes_as_soon_as_the_client_has_everything() -> None:
    peer = Peer(0)
    closer(peer)
    assert peer.end == "closed"
    assert peer.reads
    peer = Peer(7)
    _, clock = closer(peer)
    clock.advance(5)
    assert not peer.end
    peer.left = 0
    clock.advance(1)
    assert peer.end == "closed"


def test_a_client_that_may_send_on_has_to_close_first_or_is_reset() -> None:
    peer = Peer(0)
    one, clock = closer(peer, waits=True)
    clock.advance(LINGER / 2)
    assert not peer.end
    one.client_ended()
    assert peer.end == "closed"
    peer = Peer(0)
    _, clock = closer(peer, waits=True)
    clock.advance(LINGER + 1)
    assert peer.end == "reset"


def test_a_client_that_takes_nothing_or_too_little_is_reset() -> None:
    peer = Peer(100)
    _, clock = closer(peer)
    clock.advance(11)
    assert peer.end == "reset"
    peer = Peer(100)
    _, clock = closer(peer)
    for _ in range(PATIENCE):
        peer.left -= 1
        clock.advance(11)
        assert not peer.end
    peer.left -= 1
    clock.advance(11)
    assert peer.end == "reset"


def test_a_connection_that_is_broken_is_reset() -> None:
    peer = Peer(5, broken=True)
    closer(peer)
    assert peer.end == "reset"


# --- deadlines --------------------------------------------------------------------------------------------------------


def deadlines() -> tuple[RequestDeadlines, Clock, list[float]]:
    clock, expired = Clock(), list[float]()
    settings = state(timeout_http_request=30, timeout_client=10, timeout_http_keep_alive=5)
    one = RequestDeadlines(settings, cast(Any, clock), lambda: expired.append(clock.now - 1000))
    return one, clock, expired


def test_one_deadline_at_a_time() -> None:
    one, clock, expired = deadlines()
    one.headers()
    clock.advance(29)
    one.idle()
    clock.advance(3)
    one.headers()
    clock.advance(29)
    assert not expired
    clock.advance(2)
    assert expired == [62]


def test_a_body_may_come_slowly_but_not_for_ever() -> None:
    one, clock, expired = deadlines()
    one.body_begins()
    for _ in range(10):
        clock.advance(5)
        one.body_moves()
    clock.advance(20)
    assert expired[0] == 40


def test_no_deadline_while_a_request_is_answered() -> None:
    one, clock, expired = deadlines()
    one.headers()
    one.suspend()
    clock.advance(1000)
    assert not expired
    one.idle()
    clock.advance(5)
    assert expired == [1005]
    one.idle()
    one.cancel()
    clock.advance(1000)
    assert len(expired) == 1


# --- writer -----------------------------------------------------------------------------------------------------------


class Sent:
    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.packets.append(data)


def asked() -> RequestParser:
    parser = RequestParser()
    parser.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    while not isinstance(parser.next_event(1000), h11.EndOfMessage):
        pass
    return parser


def test_an_answer_of_the_proxy_is_one_packet() -> None:
    sent, parser, proxy = Sent(), asked(), state()
    ResponseWriter(cast(Any, sent), parser, proxy).answer(HTTPStatus.TOO_MANY_REQUESTS, with_body=True)
    assert len(sent.packets) == 1
    assert sent.packets[0].startswith(b"HTTP/1.1 429")
    assert sent.packets[0].endswith(b"429 Too Many Requests\n")
    assert proxy.counters.status()["answers"]["4xx"] == 1
    assert parser.next_request()


def test_the_last_answers_of_the_process_say_so() -> None:
    sent, parser, proxy = Sent(), asked(), state()
    proxy.stopping = True
    ResponseWriter(cast(Any, sent), parser, proxy).answer(HTTPStatus.NOT_FOUND, with_body=True)
    assert b"connection: close\r\n" in sent.packets[0].lower()
    assert not parser.next_request()


# --- exchange ---------------------------------------------------------------------------------------------------------


def test_an_exchange_that_is_abandoned_occupies_its_slot_only_once_it_was_sent(tmp_path: Path) -> None:
    async def story() -> None:
        released: list[int] = []
        asked_, go = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked_.set()
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            writer.close()

        path = tmp_path / "upstream"
        async with await asyncio.start_unix_server(serve, str(path)):
            proxy = ProxyState(ProxySettings(str(path)), FdBudget(1000))

            def begin(number: int) -> UpstreamExchange:
                request = (b"GET", b"/", [(b"Host", b"h")])
                return UpstreamExchange(proxy, request, b"", lambda: released.append(number))

            begin(1).abandon()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert released == [1], "not sent: the slot is free at once"
            sent, read = begin(2), begin(3)
            await asked_.wait()
            sent.abandon()
            await asyncio.sleep(0)
            assert released == [1], "neutron-metadata-agent is occupied still"
            go.set()
            assert (await read.head()).status_code == 200
            assert await read.read() == b"ok"
            assert await read.read() == b""
            assert read.is_exhausted
            async with asyncio.timeout(PATIENT):
                await asyncio.gather(*proxy.exchanges)
            assert sorted(released) == [1, 2, 3]

    asyncio.run(story())
