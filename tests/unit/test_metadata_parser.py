"""Requests of instances as the metadata proxy parses them: piece by piece, and refused before they cost much."""

from __future__ import annotations

from http import HTTPStatus

import h11
import pytest

from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.metadata_proxy.fd_budget import FdBudget
from dvr_agent.metadata_proxy.proxy_state import ProxyState
from dvr_agent.metadata_proxy.request import IncomingRequest
from dvr_agent.metadata_proxy.request_parser import FRAMING, LINES, UNREAD, Event, RequestParser, RequestRefusedError
from dvr_agent.metadata_proxy.served_router import BODIES, ServedRouter

HEADER_SIZE = 16384
GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def events(parser: RequestParser, data: bytes = b"") -> list[Event]:
    """All events of what was received, up to the end of one request."""
    parser.receive(data)
    found: list[Event] = []
    while (event := parser.next_event(HEADER_SIZE)) is not False:
        if event is not True:
            found.append(event)
            if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
    return found


def answer(parser: RequestParser) -> None:
    assert parser.http is not None
    parser.http.send(h11.Response(status_code=200, headers=[(b"Content-Length", b"0")]))
    parser.http.send(h11.EndOfMessage())


def refused(parser: RequestParser, data: bytes) -> tuple[HTTPStatus, str]:
    with pytest.raises(RequestRefusedError) as error:
        events(parser, data)
    return error.value.status, error.value.cause


def test_a_request_byte_by_byte() -> None:
    parser = RequestParser()
    found = [event for number in range(len(GET)) for event in events(parser, GET[number : number + 1])]
    assert [type(event) for event in found] == [h11.Request, h11.EndOfMessage]
    assert parser.is_read_up


def test_requests_sent_ahead_stay_with_the_parser() -> None:
    parser = RequestParser()
    assert len(events(parser, GET + GET)) == 2
    assert parser.has_unread
    assert not parser.next_request(), "the first one is not answered yet"
    answer(parser)
    assert parser.next_request()
    assert len(events(parser)) == 2
    assert not parser.has_unread


def test_a_body_with_a_length_and_what_follows_it() -> None:
    parser = RequestParser()
    found = events(parser, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET")
    assert b"".join(bytes(event.data) for event in found if isinstance(event, h11.Data)) == b"hello"
    assert parser.has_unread


def test_the_end_of_the_clients_bytes() -> None:
    parser = RequestParser()
    parser.end()
    assert parser.has_input
    assert [type(event) for event in events(parser)] == [h11.ConnectionClosed]


def test_so_many_header_lines_and_no_more() -> None:
    lines = b"a: b\r\n" * (LINES - 3)
    assert len(events(RequestParser(), b"GET / HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n")) == 2
    many = b"GET / HTTP/1.1\r\nHost: h\r\n" + lines + b"a: b\r\n\r\n"
    assert refused(RequestParser(), many) == (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large")


def test_a_body_of_tiny_chunks_is_refused() -> None:
    chunks = b"1\r\na\r\n" * (FRAMING + 1000)
    assert refused(RequestParser(), CHUNKED + chunks) == (HTTPStatus.BAD_REQUEST, "malformed")


def test_no_http_is_refused() -> None:
    assert refused(RequestParser(), b"\x16\x03\x01\r\n\r\n") == (HTTPStatus.BAD_REQUEST, "malformed")


def test_a_parser_that_is_full_says_so() -> None:
    parser = RequestParser()
    parser.receive(b"x" * UNREAD)
    assert not parser.is_full
    parser.receive(b"x")
    assert parser.is_full


def test_sizes_of_a_request_and_the_routers_share_of_memory() -> None:
    settings = ProxySettings("/x", max_header_size=100, max_body_size=10)
    router = ServedRouter("r", ProxyState(settings, FdBudget(1000)))
    request = IncomingRequest(router)
    head = h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Content-Length", "11")])
    with pytest.raises(RequestRefusedError) as error:
        request.begin(head, settings)
    assert error.value.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    with pytest.raises(RequestRefusedError):
        request.begin(h11.Request(method="GET", target="/" + "x" * 90, headers=[("Host", "h")]), settings)
    for _ in range(BODIES - 1):
        IncomingRequest(router).add(b"x" * 10, settings)
    request.add(b"x" * 10, settings)
    assert router.bodies == BODIES * 10
    with pytest.raises(RequestRefusedError) as error:
        request.add(b"x", settings)
    assert error.value.cause == "too_large"
    with pytest.raises(RequestRefusedError) as error:
        IncomingRequest(router).add(b"x", settings)
    assert error.value.cause == "bodies"
    request.forget()
    assert router.bodies == (BODIES - 1) * 10
