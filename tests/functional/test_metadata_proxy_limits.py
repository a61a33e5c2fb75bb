"""dvr-metadata-proxy as a process: limits per client, per router, and of the host."""

from __future__ import annotations

import contextlib
import resource
import threading

import h11
import pytest

from tests.support.metadata_proxy import Client, get, listener
from tests.support.metadata_rig import MANY, R1, R2, Rig, Start, is_stuck, is_turned_away, reset
from tests.support.waiting import wait_for

pytest_plugins = ("tests.support.metadata_rig",)


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
    wait_for(lambda: rig.refused("slow") == 3, "a client that takes nothing is cut off")
    with pytest.raises(h11.RemoteProtocolError):
        slow.answer()
    wait_for(lambda: rig.status()["connections"] == 0)


def test_connections_of_one_client_are_limited_but_not_those_of_others(start: Start) -> None:
    rig = start(metadata_proxy={"connections_per_client": 3})
    mine = [Client(rig.one) for _ in range(3)]
    assert [one.get("/")[0] for one in mine] == [200, 200, 200]
    assert is_turned_away(rig.one)
    assert get(rig.one, source="127.0.0.2")[0] == 200
    assert get(rig.second_router())[0] == 200
    mine[0].close()
    wait_for(lambda: rig.status()["connections"] == 2)
    assert get(rig.one)[0] == 200
    assert rig.refused("client_connections") == 1


def test_a_full_router_closes_its_oldest_idle_connection(start: Start) -> None:
    rig = start(metadata_proxy={"connections_per_router": 3})
    busy = Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_for(lambda: rig.upstream.targets() == ["/wait"])
    older, newer = Client(rig.one), Client(rig.one)
    wait_for(lambda: rig.status()["connections"] == 3)
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
    wait_for(lambda: rig.status()["requests"] == 6 and len(rig.upstream.seen) == 1)
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
    wait_for(lambda: rig.status()["requests"] == 9)
    assert get(rig.one)[0] == 503
    assert rig.refused("waited") == 1
    rig.upstream.gate.set()
    assert [one.answer()[0] for one in waiting] == [200] * 9


def test_a_router_full_of_requests_takes_no_more(start: Start) -> None:
    rig = start(metadata_proxy={"connections_per_router": 3})
    busy = [Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(3)]
    wait_for(lambda: len(rig.upstream.seen) == 3)
    assert is_turned_away(rig.one)
    assert rig.refused("router_connections") == 1
    rig.upstream.gate.set()
    assert [one.answer()[0] for one in busy] == [200] * 3


def test_so_many_requests_of_a_router_at_a_time_the_others_wait_their_turn(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 4})
    greedy = [Client(rig.one).send(b"GET /wait/a HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(10)]
    wait_for(lambda: rig.status()["requests"] == 10)
    modest = Client(rig.one, "127.0.0.2").send(b"GET /wait/b HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_for(lambda: rig.status()["requests"] == 11)
    wait_for(
        lambda: len(rig.upstream.targets()) == 3 and "/wait/b" in rig.upstream.targets(),
        "one client has at most half of the slots",
    )
    assert get(rig.second_router(), "/")[0] == 200
    # They come by connections of their own: which one the server takes first says nothing.
    assert sorted(rig.upstream.targets()) == ["/", "/wait/a", "/wait/a", "/wait/b"]
    more = [Client(rig.one, "127.0.0.3").send(b"GET /wait/c HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(2)]
    wait_for(lambda: rig.status()["requests"] == 14 and len(rig.upstream.targets()) == 5)
    assert rig.upstream.targets()[4:] == ["/wait/c"]
    rig.upstream.gate.set()
    assert [one.answer()[0] for one in [*greedy, modest, *more]] == [200] * 13
    # In the order of coming it would be the last of nine; answers at once let some pass it on their way to the server.
    assert "/wait/c" in rig.upstream.targets()[5:11]
    assert rig.upstream.most_at_once <= 5


def test_a_client_that_goes_away_leaves_its_slot_occupied_until_the_answer(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 1})
    gone = Client(rig.one).send(b"GET /wait/1 HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_for(lambda: rig.upstream.targets() == ["/wait/1"])
    reset(gone)
    wait_for(lambda: rig.status()["connections"] == 0)
    given_up = Client(rig.one).send(b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_for(lambda: rig.status()["requests"] == 2)
    reset(given_up)
    wait_for(lambda: rig.status()["connections"] == 0)
    last = Client(rig.one).send(b"GET /3 HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_for(lambda: rig.status()["requests"] == 3)
    assert rig.upstream.targets() == ["/wait/1"]
    rig.upstream.gate.set()
    assert last.answer()[0] == 200
    assert rig.upstream.targets() == ["/wait/1", "/3"]


def test_stop_does_not_wait_for_what_was_asked(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 1})
    Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_for(lambda: rig.upstream.targets() == ["/wait"])
    assert rig.agent.ask("stop", router=R1) == {"ok": True}
    assert rig.upstream.at_once == 1, "neutron-metadata-agent is at it still"


def test_a_client_that_takes_its_answer_slowly_holds_no_slot(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 1})
    many = 150
    slow = Client(rig.one, receive=2048)
    slow.send(b"GET /big/200000 HTTP/1.1\r\nHost: h\r\n\r\n" * many)
    wait_for(lambda: is_stuck(slow), "the kernel takes no more for it")
    assert get(rig.one, source="127.0.0.2")[0] == 200
    assert len(rig.upstream.seen) < many
    assert [len(slow.answer()[2]) for _ in range(many)] == [200000] * many


def test_waiting_for_a_turn_has_an_end(start: Start) -> None:
    rig = start(metadata_proxy={"requests_per_router": 1}, metadata_haproxy={"timeout_connect": 1})
    first = Client(rig.one).send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_for(lambda: rig.upstream.targets() == ["/wait"])
    assert get(rig.one)[0] == 503
    rig.upstream.gate.set()
    assert first.answer()[0] == 200
    assert get(rig.one)[0] == 200


def test_bodies_in_memory_are_bounded_per_router(start: Start) -> None:
    rig = start(metadata_proxy={"max_body_size": 1000})
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"
    slow = [Client(rig.one).send(head + 999 * b"x") for _ in range(16)]
    wait_for(lambda: rig.status()["connections"] == 16)
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
    wait_for(lambda: rig.status()["connections"] == 0)
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
        wait_for(lambda: rig.status()["connections"] == number)
        assert [get(other)[0] for _ in range(20)] == [200] * 20
        assert [one.send(b"t: h\r\n\r\n").answer()[0] for one in slow[:: number // 20]].count(200) >= 20
    finally:
        for one in slow:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for(lambda: rig.status()["connections"] == 0)


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
