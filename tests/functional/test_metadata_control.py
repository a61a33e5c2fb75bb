"""dvr-metadata-proxy as a process: the agent's questions."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from dvr_agent.metadata import control_protocol
from tests.support.metadata_proxy import Client, get, listener
from tests.support.metadata_rig import R1, R2, Rig, Start, is_stuck, reset
from tests.support.waiting import wait_for

pytest_plugins = ("tests.support.metadata_rig",)


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
    wait_for(lambda: "/wait" in rig.upstream.targets())
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
    wait_for(lambda: is_stuck(slow))
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
    wait_for(lambda: rig.status()["connections"] == 0)


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
