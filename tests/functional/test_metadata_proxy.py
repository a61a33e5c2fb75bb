"""dvr-metadata-proxy as a process: HTTP of instances, limits, its end, and what the agent asks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h11
import pytest

from dvr_agent.metadata import control_protocol
from dvr_agent.metadata_proxy.client_writer import RESET
from tests.support import lab
from tests.support.lab import Host
from tests.support.metadata_proxy import PATIENCE, Agent, Client, Proxy, get, listener, until
from tests.support.metadata_upstream import Upstream

R1, R2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
MANY = {"connections_per_client": 100000, "connections_per_router": 100000}


class Rig:
    """A proxy, its upstream, and router R1 served on 127.0.0.1."""

    def __init__(self, tmp: Path, options: dict[str, dict[str, Any]], descriptors: int | None) -> None:
        self.upstream = Upstream(tmp / "upstream")
        self.proxy = Proxy(tmp, self.upstream.path, options, descriptors)
        self.agent = self.proxy.agent()
        self.one = listener()
        self.agent.serve(R1, [self.one])

    def second_router(self) -> socket.socket:
        another = listener()
        self.agent.serve(R2, [another])
        return another

    def status(self) -> dict[str, Any]:
        agent = self.proxy.agent()
        try:
            return agent.ask("status")
        finally:
            agent.close()

    def refused(self, cause: str) -> int:
        return int(self.status()["refused"].get(cause, 0))


def reset(client: Client) -> None:
    """Close, so that the other side sees a reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def is_stuck(client: Client) -> bool:
    """What waits at the other end for this client to be taken does not become more or less."""

    def waiting() -> tuple[int, ...]:
        words = ["ss", "-Htn", "dst", f"127.0.0.1:{client.socket.getsockname()[1]}"]
        out = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        return int(out[1]), int(out[2])

    before = waiting()
    time.sleep(0.3)
    return before[1] > 0 and waiting() == before


def is_turned_away(target: socket.socket) -> bool:
    """True if a new connection is closed at once."""
    try:
        return Client(target).is_closed()
    except ConnectionResetError:
        return True


def memory(rig: Rig) -> int:
    """Most bytes that the proxy had so far."""
    peak = next(x for x in Path(f"/proc/{rig.proxy.process.pid}/status").read_text().splitlines() if "VmHWM" in x)
    return int(peak.split()[1]) * 1024


Start = Callable[..., Rig]


@pytest.fixture
def start(tmp_path: Path, host: Host) -> Iterator[Start]:
    rigs: list[Rig] = []

    def begin(descriptors: int | None = None, **options: dict[str, Any]) -> Rig:
        rigs.append(Rig(tmp_path, options, descriptors))
        return rigs[-1]

    yield begin
    for rig in rigs:
        rig.proxy.close()
        rig.upstream.stop()


@pytest.fixture
def rig(start: Start) -> Rig:
    return start()


# --- HTTP -------------------------------------------------------------------------------------------------------------


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
    until(lambda: rig.status()["requests"] > 5000)
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
    until(lambda: rig.status()["connections"] == 31)
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


# --- limits -----------------------------------------------------------------------------------------------------------


def test_slow_clients_are_cut_off(start: Start) -> None:
    rig = start(metadata_haproxy={"timeout_http_request": 1, "timeout_client": 1, "timeout_http_keep_alive": 1})
    silent, headers, body, idle = (Client(rig.one) for _ in range(4))
    headers.send(b"GET / HTTP/1.1\r\nHo")
    body.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe")
    assert idle.get("/")[0] == 200
    assert silent.is_closed()
    assert headers.answer()[0] == 408
    assert body.answer()[0] == 408
    assert idle.is_closed()
    assert all(one.is_closed() for one in (headers, body))
    slow = Client(rig.one)
    slow.send(b"GET /big/100000000 HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: rig.refused("slow") == 3, "a client that takes nothing is cut off")
    with pytest.raises(h11.RemoteProtocolError):
        slow.answer()
    until(lambda: rig.status()["connections"] == 0)


def test_connections_of_one_client_are_limited_but_not_those_of_others(start: Start) -> None:
    rig = start(metadata_proxy={"connections_per_client": 3})
    mine = [Client(rig.one) for _ in range(3)]
    assert [one.get("/")[0] for one in mine] == [200, 200, 200]
    assert is_turned_away(rig.one)
    assert get(rig.one, source="127.0.0.2")[0] == 200
    assert get(rig.second_router())[0] == 200
    mine[0].close()
    until(lambda: rig.status()["connections"] == 2)
    assert get(rig.one)[0] == 200
    assert rig.refused("client_connections") == 1


def test_a_full_router_closes_its_oldest_idle_connection(start: Start) -> None:
    rig = start(metadata_proxy={"connections_per_router": 3})
    busy = Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: rig.upstream.targets() == ["/wait"])
    older, newer = Client(rig.one), Client(rig.one)
    until(lambda: rig.status()["connections"] == 3)
    newest = Client(rig.one)
    assert newest.get("/")[0] == 200
    assert older.is_closed()
    assert newer.is_open()
    rig.upstream.gate.set()
    assert busy.answer()[0] == 200


def test_who_leaves_a_full_router_is_the_first_to_go(start: Start) -> None:
    rig = start(metadata_proxy={"connections_per_router": 2})
    idle, wrong = Client(rig.one), Client(rig.one)
    assert wrong.send(b"garbage\r\n\r\n").answer()[0] == 400
    assert get(rig.one)[0] == 200
    assert idle.is_open()


def test_requests_that_wait_cannot_fill_a_router(start: Start) -> None:
    rig = start(
        metadata_proxy={"connections_per_router": 6, "requests_per_router": 2}, metadata_haproxy={"timeout_connect": 60}
    )
    many = [Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(6)]
    until(lambda: rig.status()["requests"] == 6 and len(rig.upstream.seen) == 1)
    assert is_turned_away(rig.one)
    neighbours = [Client(rig.one, f"127.0.0.{number}") for number in (2, 3)]
    for one in neighbours:
        assert one.get("/")[0] == 200
    rig.upstream.gate.set()
    answered = 0
    for one in many:
        with contextlib.suppress(h11.RemoteProtocolError):
            answered += one.answer()[0] == 200
    assert answered == 4


def test_one_client_has_few_requests_that_wait(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 2}, metadata_haproxy={"timeout_connect": 60})
    waiting = [Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(9)]
    until(lambda: rig.status()["requests"] == 9)
    assert get(rig.one)[0] == 503
    assert rig.refused("waited") == 1
    rig.upstream.gate.set()
    assert [one.answer()[0] for one in waiting] == [200] * 9


def test_a_router_full_of_requests_takes_no_more(start: Start) -> None:
    rig = start(metadata_proxy={"connections_per_router": 3})
    busy = [Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(3)]
    until(lambda: len(rig.upstream.seen) == 3)
    assert is_turned_away(rig.one)
    assert rig.refused("router_connections") == 1
    rig.upstream.gate.set()
    assert [one.answer()[0] for one in busy] == [200] * 3


def test_so_many_requests_of_a_router_at_a_time_the_others_wait_their_turn(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 4})
    greedy = [Client(rig.one).send(b"GET /wait/a HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(10)]
    until(lambda: rig.status()["requests"] == 10)
    modest = Client(rig.one, "127.0.0.2").send(b"GET /wait/b HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: rig.status()["requests"] == 11)
    until(lambda: "/wait/b" in rig.upstream.targets(), "one client has at most half of the slots")
    assert get(rig.second_router(), "/")[0] == 200
    assert rig.upstream.targets() == ["/wait/a", "/wait/a", "/wait/b", "/"]
    more = [Client(rig.one, "127.0.0.3").send(b"GET /wait/c HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(2)]
    until(lambda: rig.status()["requests"] == 14 and len(rig.upstream.targets()) == 5)
    assert rig.upstream.targets()[4:] == ["/wait/c"]
    rig.upstream.gate.set()
    assert [one.answer()[0] for one in [*greedy, modest, *more]] == [200] * 13
    assert "/wait/c" in rig.upstream.targets()[5:8]
    assert rig.upstream.most_at_once <= 5


def test_a_client_that_goes_away_leaves_its_slot_occupied_until_the_answer(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 1})
    gone = Client(rig.one).send(b"GET /wait/1 HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: rig.upstream.targets() == ["/wait/1"])
    reset(gone)
    until(lambda: rig.status()["connections"] == 0)
    given_up = Client(rig.one).send(b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: rig.status()["requests"] == 2)
    reset(given_up)
    until(lambda: rig.status()["connections"] == 0)
    last = Client(rig.one).send(b"GET /3 HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: rig.status()["requests"] == 3)
    assert rig.upstream.targets() == ["/wait/1"]
    rig.upstream.gate.set()
    assert last.answer()[0] == 200
    assert rig.upstream.targets() == ["/wait/1", "/3"]


def test_stop_does_not_wait_for_what_was_asked(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 1})
    Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: rig.upstream.targets() == ["/wait"])
    assert rig.agent.ask("stop", router=R1) == {"ok": True}
    assert rig.upstream.at_once == 1, "neutron-metadata-agent is at it still"


def test_a_client_that_takes_its_answer_slowly_holds_no_slot(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 1})
    many = 150
    slow = Client(rig.one, receive=2048)
    slow.send(b"GET /big/200000 HTTP/1.1\r\nHost: h\r\n\r\n" * many)
    until(lambda: is_stuck(slow), "the kernel takes no more for it")
    assert get(rig.one, source="127.0.0.2")[0] == 200
    assert len(rig.upstream.seen) < many
    assert [len(slow.answer()[2]) for _ in range(many)] == [200000] * many


def test_waiting_for_a_turn_has_an_end(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 1}, metadata_haproxy={"timeout_connect": 1})
    first = Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: rig.upstream.targets() == ["/wait"])
    assert get(rig.one)[0] == 503
    rig.upstream.gate.set()
    assert first.answer()[0] == 200
    assert get(rig.one)[0] == 200


def test_bodies_in_memory_are_bounded_per_router(start: Start) -> None:
    rig = start(metadata_proxy={"max_body_size": 1000})
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"
    slow = [Client(rig.one).send(head + 999 * b"x") for _ in range(16)]
    until(lambda: rig.status()["connections"] == 16)
    late = Client(rig.one)
    assert late.send(head + 500 * b"x").answer()[0] == 503
    assert get(rig.one)[0] == 200, "requests without a body go on"
    assert [one.send(b"x").answer()[0] for one in slow] == [200] * 16
    assert Client(rig.one).send(head + 1000 * b"x").answer()[0] == 200


def test_the_rate_limit_is_per_client_and_for_the_ip_versions_named(start: Start) -> None:
    limits = {"rate_limit_enabled": True, "base_window_duration": 1000, "base_query_rate_limit": 3}
    rig = start(metadata_rate_limiting={**limits, "burst_query_rate_limit": 100})
    six = listener("::1")
    rig.agent.serve(R2, [six])
    client = Client(rig.one)
    assert [client.get("/")[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    assert [get(rig.one, source="127.0.0.2")[0] for _ in range(4)] == [200, 200, 200, 429]
    assert [get(six)[0] for _ in range(5)] == [200] * 5
    assert len(rig.upstream.seen) == 11
    assert rig.status()["answers"]["4xx"] == 3


def test_one_routers_flood_of_connections_delays_no_other(rig: Rig) -> None:
    other, enough = rig.second_router(), threading.Event()

    def flood() -> None:
        while not enough.is_set():
            with contextlib.suppress(OSError, AssertionError):
                for one in [Client(rig.one) for _ in range(50)]:
                    one.close()

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert [get(other)[0] for _ in range(50)] == [200] * 50
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    until(lambda: rig.status()["connections"] == 0)
    assert get(rig.one)[0] == 200


def test_ten_thousand_slow_connections_break_no_others(start: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = min(10_000, hard - 1000, (hard - 200) * 3 // 4)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    slow: list[Client] = []
    try:
        rig = start(metadata_proxy=MANY)
        other = rig.second_router()
        for _ in range(number):
            slow.append(Client(rig.one).send(b"GET / HTTP/1.1\r\nHos"))
        until(lambda: rig.status()["connections"] == number)
        assert [get(other)[0] for _ in range(20)] == [200] * 20
        assert [one.send(b"t: h\r\n\r\n").answer()[0] for one in slow[:: number // 20]].count(200) >= 20
    finally:
        for one in slow:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until(lambda: rig.status()["connections"] == 0)


def test_without_descriptors_the_control_socket_and_other_routers_still_work(start: Start) -> None:
    rig = start(descriptors=256, metadata_proxy=MANY)
    slow = [Client(rig.one) for _ in range(400)]
    other = rig.second_router()
    assert [get(other)[0] for _ in range(5)] == [200] * 5
    assert 0 < rig.status()["connections"] < 256
    assert rig.refused("evicted") > 0
    assert slow[-1].get("/")[0] == 200
    assert rig.agent.ask("stop", router=R1) == {"ok": True}
    assert get(other)[0] == 200


# --- the end ----------------------------------------------------------------------------------------------------------


def test_the_end_waits_for_requests_and_closes_idle_connections(rig: Rig) -> None:
    idle, busy = Client(rig.one), Client(rig.one)
    assert idle.get("/")[0] == 200
    busy.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: "/wait" in rig.upstream.targets())
    fresh = Client(rig.one)
    rig.proxy.terminate()
    assert idle.is_closed()
    assert fresh.get("/")[0] == 200
    rig.upstream.gate.set()
    status, headers, _ = busy.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert rig.proxy.exit_code() == 0
    assert not rig.proxy.control.exists()


def test_what_waited_in_the_kernel_when_the_end_came_is_answered(rig: Rig) -> None:
    os.kill(rig.proxy.process.pid, signal.SIGSTOP)
    clients = [Client(rig.one, f"127.0.0.{2 + number % 10}") for number in range(30)]
    waiting = [client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") for client in clients]
    rig.proxy.terminate()
    os.kill(rig.proxy.process.pid, signal.SIGCONT)
    assert [one.answer()[0] for one in waiting] == [200] * 30
    assert rig.proxy.exit_code() == 0


def test_what_comes_after_the_end_has_begun_waits_for_the_next_process(rig: Rig) -> None:
    busy = Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: "/wait" in rig.upstream.targets())
    rig.proxy.terminate()
    until(lambda: "stopping" in rig.proxy.log.read_text())
    late = listener()
    rig.agent.serve(R2, [late])
    assert rig.agent.ask("stop", router=R2) == {"ok": True}
    assert rig.agent.ask("give", router=R1)["error"], "closed already: whoever has a copy is next"
    rig.upstream.gate.set()
    assert busy.answer()[0] == 200
    assert rig.proxy.exit_code() == 0
    waiting = Client(rig.one).send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    rig.proxy.start()
    rig.proxy.agent().serve(R1, [rig.one])
    assert waiting.answer()[0] == 200


def test_the_end_comes_even_if_requests_do_not_end(rig: Rig) -> None:
    stuck = Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: "/wait" in rig.upstream.targets())
    rig.proxy.terminate()
    assert rig.proxy.exit_code() == 0
    assert stuck.is_closed()


def test_a_new_process_gets_the_same_sockets_and_no_request_is_lost(rig: Rig) -> None:
    """Clients that never try again, while the process is ended and started anew three times."""
    enough, answers, failures = threading.Event(), [0], []

    def ask(number: int) -> None:
        while not enough.is_set():
            try:
                assert get(rig.one, f"/slow/{number}")[0] == 200
                answers[0] += 1
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is what the test is about
                failures.append(repr(exc))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before = answers[0]
            until(lambda before=before: answers[0] > before + 20 or failures)
            rig.proxy.terminate()
            assert rig.proxy.exit_code() == 0
            rig.proxy.start()
            rig.proxy.agent().serve(R1, [rig.one])
        before = answers[0]
        until(lambda: answers[0] > before + 20 or failures)
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_requests_wait_in_the_kernel_while_the_proxy_is_dead(rig: Rig) -> None:
    rig.proxy.kill()
    waiting = [Client(rig.one).send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(10)]
    rig.proxy.start()
    rig.proxy.agent().serve(R1, [rig.one])
    assert [one.answer()[0] for one in waiting] == [200] * 10


# --- control ----------------------------------------------------------------------------------------------------------


def test_hello_and_status(rig: Rig) -> None:
    pid = rig.proxy.process.pid
    assert rig.agent.ask("hello", version=1) == {"ok": True, "version": control_protocol.VERSION, "pid": pid}
    get(rig.one)
    status = rig.status()
    assert status.keys() == {
        *("ok", "pid", "version", "routers", "connections", "requests", "answers", "refused", "upstream")
    }
    assert (status["pid"], status["routers"], status["requests"]) == (pid, 1, 1)
    assert status["answers"] == {"2xx": 1, "3xx": 0, "4xx": 0, "5xx": 0}
    assert status["upstream"]["last_ok"] > 0


def test_the_proxy_goes_on_when_the_agent_goes(rig: Rig) -> None:
    rig.agent.close()
    assert get(rig.one)[0] == 200
    assert rig.proxy.agent().ask("list")["routers"] == {R1: 7}


def test_given_descriptors_are_the_same_sockets(rig: Rig) -> None:
    address = rig.one.getsockname()
    rig.one.close()
    (given,) = rig.agent.give(R1)
    assert given.getsockname() == address
    rig.proxy.kill()
    client = Client(given).send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    rig.proxy.start()
    rig.proxy.agent().serve(R1, [given])
    assert client.answer()[0] == 200
    assert rig.proxy.agent().ask("give", router=R2)["error"]


def test_stop_closes_all_sockets_of_a_router_and_no_others(rig: Rig) -> None:
    other = rig.second_router()
    idle, headers, body, busy, safe = *(Client(rig.one) for _ in range(4)), Client(other)
    assert (idle.get("/")[0], safe.get("/")[0]) == (200, 200)
    headers.send(b"GET / HT")
    body.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
    busy.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    until(lambda: "/wait" in rig.upstream.targets())
    fresh = Client(rig.one)
    address = rig.one.getsockname()
    rig.one.close()
    assert rig.agent.ask("stop", router=R1) == {"ok": True}
    assert f":{address[1]} " not in _sockets_of(rig.proxy.process.pid)
    assert all(one.is_closed() for one in (idle, headers, body, busy, fresh))
    assert safe.get("/")[0] == 200
    assert rig.agent.ask("list") == {"ok": True, "routers": {R2: 7}, "more": False}
    assert rig.agent.ask("stop", router=R1) == {"ok": True}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def _sockets_of(pid: int) -> str:
    """``ss`` lines of a process."""
    out = subprocess.run(["ss", "-tanp"], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in out.splitlines() if f"pid={pid}," in line)


def test_stop_resets_what_a_client_has_not_taken_yet(rig: Rig) -> None:
    """A socket that is closed with data on its way lives on in the kernel, and keeps the namespace alive."""
    slow = Client(rig.one, receive=2048).send(b"GET /big/65000 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    until(lambda: is_stuck(slow))
    assert rig.status()["connections"] == 1
    assert rig.agent.ask("stop", router=R1) == {"ok": True}
    words = ["ss", "-Htan", "dst", f"127.0.0.1:{slow.socket.getsockname()[1]}"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == ""


def test_a_client_that_resets_before_the_end_of_its_answer_leaves_nothing_behind(start: Start) -> None:
    rig = start(metadata_haproxy={"timeout_http_request": 1})
    client = Client(rig.one).send(b"GET /until-gate HTTP/1.0\r\n\r\n" + 200000 * b"x")
    while b"hello" not in client.rest:
        client.rest += client.socket.recv(4096)
    time.sleep(1.5)  # the time limit for the request is over: nothing but this end closes it
    reset(client)
    rig.upstream.gate.set()
    until(lambda: rig.status()["connections"] == 0)


def test_serve_replaces_and_connections_in_the_same_namespace_go_on(rig: Rig) -> None:
    client, second, third = Client(rig.one), listener(), listener()
    assert client.get("/")[0] == 200
    rig.agent.serve(R1, [second])
    assert client.get("/")[0] == 200
    assert get(second)[0] == 200
    waiting = Client(rig.one)  # our copy listens still, but nobody accepts
    waiting.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    newer = Client(second)
    assert newer.get("/")[0] == 200
    rig.agent.serve(R1, [third], namespace=8)
    assert newer.is_closed()
    assert get(third)[0] == 200
    assert waiting.is_open()
    assert rig.agent.ask("list")["routers"] == {R1: 8}
    rig.agent.serve(R1, [rig.one], namespace=8)
    assert waiting.answer()[0] == 200


def test_unix_sockets_are_served_too(rig: Rig, tmp_path: Path) -> None:
    target = socket.socket(socket.AF_UNIX)
    target.bind(str(tmp_path / "instance"))
    target.listen()
    rig.agent.serve(R2, [target])
    assert get(target)[0] == 200
    assert rig.upstream.seen[0].all("x-forwarded-for") == [""]


def test_wrong_messages_get_an_error_and_the_conversation_goes_on(rig: Rig, tmp_path: Path) -> None:
    no_listener, datagram = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
    with (tmp_path / "file").open("w") as file:
        for descriptors in ([], [file.fileno()], [no_listener.fileno()], [datagram.fileno()]):
            assert rig.agent.ask("serve", descriptors, router=R2, namespace=1)["error"]
    good = [rig.one.fileno()]
    assert rig.agent.ask("serve", [*good, no_listener.fileno()], router=R2, namespace=1)["error"]
    for wrong in (None, 7, "", "a\r\nX-Evil: 1", "é", "x" * 100):
        assert rig.agent.ask("serve", good, router=wrong, namespace=1)["error"]
    for namespace in (None, "7", -1, True, 1.5):
        assert rig.agent.ask("serve", good, router=R2, namespace=namespace)["error"]
    for raw in (
        b"no json",
        b"[]",
        b"7",
        b"\xff",
        b"{}",
        b'{"do": {}}',
        b'{"do": "dance"}',
        b'{"do": "list", "after": 1}',
    ):
        assert rig.agent.send_raw(raw)["error"]
    before = len(os.listdir(f"/proc/{rig.proxy.process.pid}/fd"))
    for _ in range(20):
        assert rig.agent.ask("hello", good * 4)["ok"]
        assert rig.agent.ask("dance", good * 4)["error"]
        assert rig.agent.ask("hello", good * 10)["error"], "more descriptors than a message has"
    assert len(os.listdir(f"/proc/{rig.proxy.process.pid}/fd")) == before
    assert rig.agent.ask("list")["routers"] == {R1: 7}
    assert get(rig.one)[0] == 200


def test_450_routers_are_listed_in_pages(rig: Rig) -> None:
    ids = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(450)]
    for number, router in enumerate(ids):
        rig.agent.serve(router, [rig.one], namespace=number)
    assert rig.agent.ask("stop", router=R1)["ok"]
    found: dict[str, int] = {}
    pages, after, more = 0, "", True
    while more:
        answer = rig.agent.ask("list", after=after)
        assert list(answer["routers"]) == sorted(answer["routers"])
        assert len(answer["routers"]) <= control_protocol.PAGE
        found.update(answer["routers"])
        pages, after, more = pages + 1, max(answer["routers"]), answer["more"]
    assert (pages, found) == (3, {router: number for number, router in enumerate(ids)})
    assert get(rig.one)[0] == 200
    assert rig.upstream.seen[0].all("x-neutron-router-id")[0] in ids


def test_several_agents_at_a_time(rig: Rig) -> None:
    agents = [rig.proxy.agent() for _ in range(4)]
    for number, agent in enumerate(agents):
        control_protocol.send(agent._connection, {"do": "list" if number % 2 else "hello"})
    for agent in reversed(agents):
        assert (control_protocol.receive(agent._connection)[0] or {})["ok"] is True


# --- the control socket's file ----------------------------------------------------------------------------------------


def test_the_file_is_for_its_user_only_and_that_of_a_dead_process_is_replaced(rig: Rig) -> None:
    assert stat.S_IMODE(rig.proxy.control.stat().st_mode) == 0o600
    rig.proxy.kill()
    assert rig.proxy.control.exists()
    rig.proxy.start()
    assert rig.proxy.agent().ask("list")["routers"] == {}


def test_a_second_process_is_refused_and_the_first_goes_on(rig: Rig) -> None:
    rig.proxy.agent()
    first, second = rig.proxy.process, rig.proxy.launch()
    rig.proxy.process = first
    assert second.wait(PATIENCE) == 1
    assert f"another dvr-metadata-proxy runs with [metadata_proxy] control_socket = {rig.proxy.control}" in (
        rig.proxy.log.read_text()
    )
    assert rig.proxy.agent().ask("hello")["pid"] == first.pid


def test_no_other_user_can_keep_it_from_starting(rig: Rig) -> None:
    """Whoever can open a directory can flock(2) it."""
    folder = rig.proxy.control.parent
    rig.proxy.kill()
    lock = folder / "control.sock.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    directory = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        rig.proxy.start()
        assert rig.proxy.agent().ask("hello")["ok"]
        rig.proxy.terminate()
        assert rig.proxy.process.wait(PATIENCE) == 0
    finally:
        os.close(directory)
    assert not rig.proxy.control.exists()


def test_a_lock_that_is_held_for_ever_is_an_error_and_no_hang(rig: Rig) -> None:
    rig.proxy.kill()
    with (rig.proxy.control.parent / "control.sock.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert rig.proxy.launch().wait(PATIENCE) == 1
    assert "another process holds the lock" in rig.proxy.log.read_text()
    rig.proxy.start()


def test_what_is_no_socket_is_left_alone(rig: Rig) -> None:
    rig.proxy.terminate()
    assert rig.proxy.exit_code() == 0
    rig.proxy.control.write_text("precious")
    assert rig.proxy.launch().wait(PATIENCE) == 1
    assert rig.proxy.control.read_text() == "precious"


def test_a_bad_option_is_told_in_one_line(rig: Rig) -> None:
    rig.proxy.config.write_text("[metadata_proxy]\nmax_body_size = much\n")
    words = [sys.executable, "-m", "dvr_agent.metadata_proxy.main", "--config-file", str(rig.proxy.config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == os.EX_CONFIG
    assert f"{rig.proxy.config}: [metadata_proxy] max_body_size = 'much': expected an integer" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_configuration_is_read_that_nobody_named(tmp_path: Path) -> None:
    """Those of the agent are closed to its user: it would never start."""
    folder = tmp_path / ".dvr-agent"
    (folder / "dvr-agent.conf.d").mkdir(parents=True)
    (folder / "dvr-metadata-proxy.conf.d").mkdir()
    for name in ("dvr-agent.conf", "dvr-agent.conf.d/10.conf", "dvr-metadata-proxy.conf.d/10.conf"):
        (folder / name).write_text("no configuration")
    control = tmp_path / "control.sock"
    words = [sys.executable, "-m", "dvr_agent.metadata_proxy.main"]
    environment = {**os.environ, "HOME": str(tmp_path), "OS_METADATA_PROXY__CONTROL_SOCKET": str(control)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(lambda: control.exists() or process.poll() is not None, "it listens")
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, printed
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_no_signal_of_operators_ends_it(rig: Rig, number: signal.Signals) -> None:
    rig.proxy.process.send_signal(number)
    if number is signal.SIGUSR2:
        until(lambda: "Current thread" in rig.proxy.log.read_text(), "stacks are written to stderr")
    assert rig.proxy.agent().ask("hello")["pid"] == rig.proxy.process.pid


def test_it_ends_when_the_agent_says_so(rig: Rig) -> None:
    assert rig.proxy.agent().ask("end") == {"ok": True}
    assert rig.proxy.exit_code() == 0
    assert not rig.proxy.control.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_other_users_are_turned_away(host: Host) -> None:
    if "4294967295" not in Path("/proc/self/uid_map").read_text():
        pytest.skip("no other users in this user namespace")
    tmp = Path(tempfile.mkdtemp())
    upstream = Upstream(tmp / "upstream")
    proxy = Proxy(tmp, upstream.path)
    try:
        for path, mode in ((tmp, 0o755), (proxy.control.parent, 0o755), (proxy.control, 0o666)):
            path.chmod(mode)
        ask = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1])\n"
            'try: s.send(b\'{"do": "hello"}\'); print(s.recv(100))\nexcept OSError: print(b"")'
        )
        for user, told in ((65534, False), (0, True)):
            done = subprocess.run(
                ["/usr/bin/python3", "-c", ask, str(proxy.control)],
                capture_output=True,
                text=True,
                user=user,
                check=True,
                timeout=PATIENCE,
            )
            assert ("ok" in done.stdout) is told
    finally:
        proxy.close()
        upstream.stop()
        shutil.rmtree(tmp)


def test_systemd_is_told(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(PATIENCE)
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    proxy = Proxy(tmp_path, tmp_path / "nobody")
    try:
        assert manager.recv(1000).startswith(b"READY=1")
        proxy.process.send_signal(signal.SIGINT)
        assert manager.recv(1000).startswith(b"STOPPING=1")
        assert proxy.exit_code() == 0
    finally:
        proxy.close()


# --- its user ---------------------------------------------------------------------------------------------------------


AS_NOBODY = """
import os, sys
from dvr_agent.metadata_proxy import main
import dvr_agent.metadata.settings, encodings.idna, h11, logging.handlers
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main.main(sys.argv[1:]))
"""


def test_a_user_without_any_rights_is_enough(tmp_path: Path, host: Host) -> None:
    """Root opens the sockets and hands them over; the process itself is nobody, with no capabilities."""
    if os.getuid() != 0 or "4294967295" not in Path("/proc/self/uid_map").read_text():
        pytest.skip("in a user namespace there is no other user")
    folder = Path(tempfile.mkdtemp(dir="/run"))  # pytest's own folders are closed to others
    folder.chmod(0o755)
    run = folder / "run"
    run.mkdir()
    os.chown(run, 65534, 65534)
    upstream = Upstream(folder / "upstream")
    upstream.path.chmod(0o666)
    (folder / "conf").write_text(
        f"[DEFAULT]\nmetadata_proxy_socket = {upstream.path}\n[metadata_proxy]\ncontrol_socket = {run}/control.sock\n"
    )
    words = [sys.executable, "-c", AS_NOBODY, "--config-file", str(folder / "conf")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        until((run / "control.sock").exists, "it listens")
        agent = Agent(run / "control.sock")
        one = listener()
        agent.serve(R1, [one])
        assert get(one)[0] == 200
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
        assert "\nCapEff:\t0000000000000000\n" in status
        upstream.path.chmod(0o600)
        assert get(one)[0] == 503
        assert "Permission denied" in agent.ask("status")["upstream"]["last_error"]["what"]
        agent.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert "Permission denied" in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
        upstream.stop()
        shutil.rmtree(folder)
