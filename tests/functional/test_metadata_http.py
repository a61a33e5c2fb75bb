"""dvr-metadata-proxy as a process: HTTP between instances and neutron-metadata-agent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading

import h11
import pytest

from tests.support import lab
from tests.support.metadata_proxy import Client, get, listener
from tests.support.metadata_rig import R1, R2, Rig, Start, memory
from tests.support.waiting import wait_for

pytest_plugins = ("tests.support.metadata_rig",)


def test_a_request_is_forwarded_with_who_asks(rig: Rig) -> None:
    assert get(rig.one, "/latest/meta-data?a=b", b"User-Agent: u\r\n")[::2] == (200, b"/latest/meta-data?a=b ")
    (seen,) = rig.upstream.seen
    assert (seen.method, seen.target) == ("GET", "/latest/meta-data?a=b")
    assert sorted(seen.headers) == [
        ("connection", "close"),
        ("host", "h"),
        ("user-agent", "u"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-neutron-router-id", R1),
    ]


def test_ipv6_clients_and_each_router_under_its_own_id(rig: Rig) -> None:
    six = listener("::1")
    four = listener()
    rig.agent.serve(R2, [four, six])
    for target in (six, four, rig.one):
        assert get(target)[0] == 200
    seen = [(one.all("x-forwarded-for"), one.all("x-neutron-router-id")) for one in rig.upstream.seen]
    assert seen == [(["::1"], [R2]), (["127.0.0.1"], [R2]), (["127.0.0.1"], [R1])]


def test_link_local_clients_are_known_without_their_interface(rig: Rig) -> None:
    for words in ("link add d0 type veth peer d1", "link set d0 up", "link set d1 up"):
        lab.run("ip", *words.split())
    lab.run("ip", "addr", "add", "fe80::5/64", "dev", "d0", "nodad")
    index = socket.if_nametoindex("d0")
    target = socket.socket(socket.AF_INET6)
    target.bind(("fe80::5", 0, 0, index))
    target.listen()
    rig.agent.serve(R2, [target])
    assert get(target)[0] == 200
    assert rig.upstream.seen[0].all("x-forwarded-for") == ["fe80::5"]


def test_what_an_instance_says_about_itself_is_dropped(rig: Rig) -> None:
    forged = (
        b"X-Neutron-Router-ID: evil\r\nx_neutron_router_id: evil\r\nX-Neutron_Router-ID: evil\r\n"
        b"X-Forwarded-For: 6.6.6.6\r\nX_FORWARDED_FOR: 6.6.6.6\r\nX-Instance-ID: evil\r\nX-Tenant-ID: evil\r\n"
        b"X-Instance-ID-Signature: evil\r\nX-Neutron-Network-ID: evil\r\nX-Hop: evil\r\nConnection: X-Hop\r\n"
        b"Keep-Alive: evil\r\nProxy-Authorization: evil\r\nTE: trailers\r\nTrailer: evil\r\nX-Good: 1\r\n"
    )
    assert get(rig.one, "/", forged)[0] == 200
    (seen,) = rig.upstream.seen
    assert seen.names() == {"host", "x-good", "x-forwarded-for", "x-neutron-router-id", "connection"}
    assert (seen.all("x-forwarded-for"), seen.all("x-neutron-router-id")) == (["127.0.0.1"], [R1])


def test_answers_lose_their_hop_by_hop_headers(rig: Rig) -> None:
    status, headers, body = get(rig.one, "/hop")
    assert (status, headers, body) == (200, {"x-end": "1", "content-length": "2", "connection": "close"}, b"ok")


def test_http_1_0(rig: Rig) -> None:
    client = Client(rig.one).send(b"GET /chunked HTTP/1.0\r\n\r\n")
    status, headers, body = client.answer()
    assert (status, body) == (200, b"hello world")
    assert "transfer-encoding" not in headers
    assert client.is_closed()
    assert rig.upstream.seen[0].all("host") == ["169.254.169.254"]


def test_keep_alive_pipelining_and_the_last_request_of_a_connection(rig: Rig) -> None:
    client = Client(rig.one)
    assert [client.get(f"/{number}")[2] for number in range(3)] == [b"/0 ", b"/1 ", b"/2 "]
    one = b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n%02d"
    client.send(b"".join(one % (number, number) for number in range(50)))
    client.send(b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert [client.answer()[2] for _ in range(50)] == [b"/%d %02d" % (n, n) for n in range(50)]
    assert client.answer()[1]["connection"] == "close"
    assert client.is_closed()
    assert rig.upstream.targets()[-51:] == [*(f"/{number}" for number in range(50)), "/last"]


def test_bodies_with_a_length_and_in_chunks_both_ways(rig: Rig) -> None:
    client = Client(rig.one)
    client.send(b"PUT /put HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe").send(b"llo")
    assert client.answer()[2] == b"/put hello"
    client.send(b"POST /post HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\n")
    client.send(b"de\r\n0\r\nX-Trailer: 1\r\n\r\n")
    assert client.answer()[2] == b"/post abcde"
    assert [one.all("content-length") for one in rig.upstream.seen] == [["5"], ["5"]]
    assert "x-trailer" not in rig.upstream.seen[1].names()
    for path, body in (("/chunked", b"hello world"), ("/until-close", b"until close")):
        assert client.get(path)[::2] == (200, body)
    assert client.get("/")[0] == 200


def test_expect_100_continue(rig: Rig) -> None:
    client = Client(rig.one)
    client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert client.socket.recv(100).startswith(b"HTTP/1.1 100 ")
    assert client.send(b"hi").answer()[2] == b"/x hi"
    assert "expect" not in rig.upstream.seen[0].names()
    client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")
    assert client.answer()[0] == 413
    assert client.informational == []


def test_answers_without_a_body(rig: Rig) -> None:
    client = Client(rig.one)
    client.send(b"HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n")
    status, headers, body = client.answer(b"HEAD")
    assert (status, headers["content-length"], body) == (200, "6", b"")
    assert client.get("/204")[::2] == (204, b"")
    assert client.get("/304")[::2] == (304, b"")
    assert client.get("/404")[::2] == (404, b"no")
    assert client.get("/after")[::2] == (200, b"/after ")


def test_large_answers_wait_for_the_client_in_bounded_memory(rig: Rig) -> None:
    size = 48 * 1024 * 1024
    client = Client(rig.one)
    client.send(b"GET /big/%d HTTP/1.1\r\nHost: h\r\n\r\n" % size)
    assert get(rig.one, "/other")[0] == 200
    status, _, body = client.answer()
    assert (status, len(body)) == (200, size)
    assert memory(rig) < size * 2


def test_requests_sent_ahead_wait_in_the_kernel(rig: Rig) -> None:
    """The client sends as fast as it can, and takes all answers."""
    assert get(rig.one)[0] == 200
    before, client = memory(rig), Client(rig.one)
    rig.upstream.stop()  # our own answers are the fastest
    client.socket.setblocking(True)

    def take() -> None:
        with contextlib.suppress(OSError):
            while client.socket.recv(1 << 20):
                pass

    def send() -> None:
        with contextlib.suppress(OSError):
            while True:
                client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 4000)

    reader = threading.Thread(target=take)
    reader.start()
    flood = threading.Thread(target=send)
    flood.start()
    wait_for(lambda: rig.status()["requests"] > 5000)
    client.socket.shutdown(socket.SHUT_RDWR)
    for thread in (reader, flood):
        thread.join()
    assert memory(rig) - before < 8 << 20


def test_no_upstream_is_503_and_its_return_is_noticed(rig: Rig) -> None:
    client = Client(rig.one)
    assert client.get("/")[0] == 200
    rig.upstream.stop()
    assert [client.get("/")[0] for _ in range(3)] == [503, 503, 503]
    assert rig.status()["upstream"]["last_error"]["what"] == "Connection refused"
    rig.upstream.path.unlink()
    assert client.get("/")[0] == 503
    rig.upstream.start()
    assert client.get("/")[0] == 200


def test_a_silent_upstream_is_504(start: Start) -> None:
    rig = start(metadata_haproxy={"timeout_server": 1})
    assert get(rig.one, "/never")[0] == 504
    assert get(rig.one, "/")[0] == 200


def test_an_upstream_that_does_not_accept_is_504(start: Start) -> None:
    rig = start(metadata_haproxy={"timeout_connect": 1}, metadata_proxy={"requests_per_router": 20})
    rig.upstream.stop()
    rig.upstream.path.unlink()
    with socket.socket(socket.AF_UNIX) as deaf, contextlib.ExitStack() as waiting:
        deaf.bind(str(rig.upstream.path))
        deaf.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
                one.connect(str(rig.upstream.path))
        assert get(rig.one)[0] == 504


@pytest.mark.parametrize("path", ["/garbage", "/nothing"])
def test_a_broken_upstream_is_502(rig: Rig, path: str) -> None:
    client = Client(rig.one)
    assert client.get(path)[0] == 502
    assert client.get("/")[0] == 200
    assert "no HTTP\n" in rig.proxy.log.read_text(), "no traceback"
    assert "this is" not in rig.proxy.log.read_text(), "no content"


def test_an_answer_that_is_cut_off_is_cut_off_for_the_client_too(rig: Rig) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        get(rig.one, "/cut-off")
    assert get(rig.one, "/")[0] == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n" + 200000 * b"x", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n11111\r\n" + 0x11111 * b"x", 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + 20000 * b"x" + b"\r\n\r\n", 431),
        (b"GET /" + 16300 * b"x" + b" HTTP/1.1\r\nHost: a\r\nX: " + 100 * b"x" + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + 100000 * b"x", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + 100 * b"x:\r\n" + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + 4000 * b"1\r\na\r\n", 400),
    ],
)
def test_what_is_wrong_or_too_large_is_refused_and_the_connection_closed(
    rig: Rig, request_: bytes, status: int
) -> None:
    client = Client(rig.one)
    client.send(request_)
    got, headers, _ = client.answer()
    assert (got, headers["connection"]) == (status, "close")
    assert client.is_closed()
    assert rig.upstream.seen == []


def test_a_hundred_header_lines_and_small_chunks_are_allowed(rig: Rig) -> None:
    client = Client(rig.one)
    for _ in range(3):
        client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n" + 99 * b"x:\r\n" + b"\r\n")
    assert [client.answer()[0] for _ in range(3)] == [200] * 3
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.send(head + 1000 * b"1\r\na\r\n" + b"0\r\n\r\n")
    assert client.answer()[2] == b"/x " + 1000 * b"a"
    client.send(head + 4000 * b"8\r\nabcdefgh\r\n" + b"0\r\n\r\n")
    assert client.answer()[2] == b"/x " + 4000 * b"abcdefgh"


def test_expensive_requests_of_one_router_delay_no_other(rig: Rig) -> None:
    other = Client(rig.second_router())
    many = [Client(rig.one, f"127.0.0.{2 + number % 10}") for number in range(30)]
    wait_for(lambda: rig.status()["connections"] == 31)
    os.kill(rig.proxy.process.pid, signal.SIGSTOP)
    for one in many:
        one.send(b"POST /many HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        one.send(600 * b"1\r\na\r\n" + b"0\r\n\r\n")
    other.send(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
    os.kill(rig.proxy.process.pid, signal.SIGCONT)
    assert [one.answer()[0] for one in [other, *many]] == [200] * 31
    assert rig.upstream.targets()[0] == "/other"


def test_nothing_can_be_smuggled(rig: Rig) -> None:
    inner = b"GET /inner HTTP/1.1\r\nHost: h\r\nX-Neutron-Router-ID: evil\r\n\r\n"
    client = Client(rig.one)
    client.send(
        b"POST /outer HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    )
    assert client.answer()[0] == 200
    (seen,) = rig.upstream.seen
    assert (seen.target, seen.body, seen.all("content-length")) == ("/outer", inner, [str(len(inner))])
    assert seen.all("transfer-encoding") == []
