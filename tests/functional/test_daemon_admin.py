"""The admin socket of the daemon.

Only the kernel work is scripted (tests/support/fake_daemon.py).
"""

from __future__ import annotations

import contextlib
import socket
import stat

import pytest

from tests.support.daemon_lab import Daemon
from tests.support.scripted_daemon import MakeDaemon


def _connect(daemon: Daemon, text: bytes = b"") -> socket.socket:
    """A client that sends this and then nothing more."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(daemon.socket))
    client.sendall(text)
    return client


def test_the_admin_socket_is_private_and_answers_in_json(daemon: MakeDaemon) -> None:
    one = daemon()
    one.write(1)
    one.start()
    assert stat.S_IMODE(one.socket.stat().st_mode) == 0o600
    status = one.status()
    assert {"version", "host", "mode", "pid", "started", "state", "last_sync", "last_audit", "next_audit",
            "queue_depth", "guard", "source", "counters", "routers"} <= set(status)  # fmt: skip
    assert status["source"]["path"] == str(one.routers)
    (listed,) = status["routers"]
    assert one.router(1) == {**listed, "floating_ips": {}}
    code, body = one.ask("/nothing")
    assert (code, body["error"]) == (404, "no /nothing here")
    assert {"/status", "/routers/<id>", "/history", "/sync", "/metrics", "/healthz", "/readyz"} <= set(body["paths"])
    assert one.ask("/routers/x")[0] == 404
    assert one.ask("/status", "POST")[0] == 405
    assert one.ask("/sync", "GET")[0] == 405
    assert one.ask("/sync", "POST") == (202, {"queued": 1})


def test_malformed_and_aborted_requests_do_not_stop_the_admin_socket(daemon: MakeDaemon) -> None:
    one = daemon().start()
    for text in (b"", b"\0\xff\r\n\r\n", b"GET /status", b"GET /status HTTP/1.1\r\n", b"G" * 100_000):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(one.socket))
            client.settimeout(0.2)
            client.sendall(text)
            if text:
                try:
                    client.recv(100)
                except TimeoutError:
                    pass
                except ConnectionError:
                    pass
    assert one.status()["state"] == "in sync"
    assert "Traceback" not in one.out + one.err
    assert one.err == ""


@pytest.mark.parametrize("text", [b"", b"GET /status HTTP/1.1\r\nHost: x\r\n", b"GET /status HTTP/1.1\r\n\r\n"])
def test_many_idle_clients_do_not_silence_the_admin_socket(daemon: MakeDaemon, text: bytes) -> None:
    one = daemon().start()
    with contextlib.ExitStack() as clients:
        for _ in range(200):
            clients.enter_context(_connect(one, text))
        for _ in range(5):
            assert one.status()["state"] == "in sync"
    assert one.status()["state"] == "in sync"
    assert "Traceback" not in one.out + one.err
    assert one.err == ""


def test_many_clients_at_once_are_all_answered(daemon: MakeDaemon) -> None:
    one = daemon().start()
    with contextlib.ExitStack() as clients:
        request = b"GET /status HTTP/1.1\r\nConnection: close\r\n\r\n"
        all_of_them = [clients.enter_context(_connect(one, request)) for _ in range(200)]
        for client in all_of_them:
            assert client.recv(15) == b"HTTP/1.1 200 OK"


def test_the_oldest_idle_client_gives_way_and_a_busy_one_stays(daemon: MakeDaemon) -> None:
    one = daemon().start()
    request = b"GET /status HTTP/1.1\r\n\r\n"
    with contextlib.ExitStack() as clients:
        busy = clients.enter_context(_connect(one))
        idle = [clients.enter_context(_connect(one)) for _ in range(30)]
        for _ in range(10):
            busy.sendall(request)
            assert busy.recv(1 << 20).startswith(b"HTTP/1.1 200 OK")
            idle += [clients.enter_context(_connect(one)) for _ in range(10)]
        assert idle[0].recv(1) == b""


def test_an_admin_socket_that_another_process_serves_is_not_taken_over(daemon: MakeDaemon) -> None:
    one = daemon("one").start()
    other = daemon("two", dvr_agent={"admin_socket": one.socket}).start(ready=False)
    assert other.process is not None
    assert other.process.wait(20) == 1
    assert "another process answers there" in other.out
    assert one.status()["host"] == one.options["DEFAULT"]["host"]
