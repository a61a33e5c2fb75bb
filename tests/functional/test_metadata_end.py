"""dvr-metadata-proxy as a process: its end, and the next process."""

from __future__ import annotations

import os
import signal
import threading

from tests.support.metadata_proxy import Client, get, listener
from tests.support.metadata_rig import R1, R2, Rig
from tests.support.waiting import wait_for

pytest_plugins = ("tests.support.metadata_rig",)


def test_the_end_waits_for_requests_and_closes_idle_connections(rig: Rig) -> None:
    idle, busy = Client(rig.one), Client(rig.one)
    assert idle.get("/")[0] == 200
    busy.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
    wait_for(lambda: "/wait" in rig.upstream.targets())
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
    wait_for(lambda: "/wait" in rig.upstream.targets())
    rig.proxy.terminate()
    wait_for(lambda: "stopping" in rig.proxy.log.read_text())
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
    wait_for(lambda: "/wait" in rig.upstream.targets())
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
            wait_for(lambda before=before: answers[0] > before + 20 or failures)
            rig.proxy.terminate()
            assert rig.proxy.exit_code() == 0
            rig.proxy.start()
            rig.proxy.agent().serve(R1, [rig.one])
        before = answers[0]
        wait_for(lambda: answers[0] > before + 20 or failures)
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
