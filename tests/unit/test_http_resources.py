"""The table of resources: which function answers a request, and what others get."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from dvr_agent.daemon.http_application import HttpApplication
from dvr_agent.daemon.http_resources import Answer, Request, Resource, ResourceTable


def echo(request: Request) -> Answer:
    return Answer("200 OK", {"rest": request.rest, "query": dict(request.query), "method": request.method})


def stream(request: Request) -> Answer:
    def pieces() -> Iterator[bytes]:
        yield b"one\n"
        yield b"two\n"

    return Answer("200 OK", pieces(), "text/event-stream", (("Cache-Control", "no-store"),))


def fail(request: Request) -> Answer:
    raise ZeroDivisionError


TABLE = ResourceTable(
    [
        Resource("/one", echo),
        Resource("/one", echo, method="POST"),
        Resource("/below/<id>", echo),
        Resource("/text", lambda request: Answer("200 OK", b"plain", "text/plain")),
        Resource("/stream", stream),
        Resource("/fail", fail),
    ]
)


def ask(method: str, path: str, query: str = "") -> tuple[str, dict[str, str], bytes]:
    heads: list[tuple[str, list[tuple[str, str]]]] = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
    data = b"".join(HttpApplication("test", TABLE)(environ, lambda code, headers: heads.append((code, headers))))
    code, headers = heads[0]
    return code, dict(headers), data


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("GET", "/one", "a=1&b=&a=2", {"rest": "", "query": {"a": "2", "b": ""}, "method": "GET"}),
        ("POST", "/one", "", {"rest": "", "query": {}, "method": "POST"}),
        ("GET", "/below/x/y", "", {"rest": "x/y", "query": {}, "method": "GET"}),
    ],
)
def test_path_and_method_name_the_function(method: str, path: str, query: str, body: object) -> None:
    code, headers, data = ask(method, path, query)
    assert (code, json.loads(data)) == ("200 OK", body)
    assert headers == {"Content-Type": "application/json", "Content-Length": str(len(data))}


def test_an_unknown_path_is_404_with_any_method_and_names_those_that_there_are() -> None:
    for method in ("GET", "POST", "DELETE"):
        code, _headers, data = ask(method, "/one/more")
        assert code == "404 Not Found"
        assert json.loads(data)["paths"] == ["/one", "/below/<id>", "/text", "/stream", "/fail"]


def test_another_method_is_405_and_says_which_are_allowed() -> None:
    code, headers, data = ask("PUT", "/one")
    assert (code, headers["Allow"]) == ("405 Method Not Allowed", "GET, POST")
    assert json.loads(data)["allow"] == "GET, POST"


def test_bytes_go_out_as_they_are() -> None:
    assert ask("GET", "/text") == ("200 OK", {"Content-Type": "text/plain", "Content-Length": "5"}, b"plain")


def test_a_stream_has_no_length() -> None:
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    assert ask("GET", "/stream") == ("200 OK", headers, b"one\ntwo\n")


def test_a_function_that_fails_is_500_and_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    code, _headers, data = ask("GET", "/fail")
    assert code == "500 Internal Server Error"
    assert json.loads(data) == {"error": "see the log of dvr-agent"}
    assert "test: GET /fail failed" in caplog.text
