"""``dvrctl web`` by real HTTP: who gets an answer, what it has in its headers, what the serving process may do.

The daemon is real, on a scripted reconciler; the browser's side of the page is in ``test_web_page``.
"""

from __future__ import annotations

import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.web.checks import POLICY
from dvr_agent.web.live import SUBSCRIBERS
from tests.support import lab
from tests.support.daemon_lab import Daemon, router_id
from tests.support.page import Page, environment_of, status_of
from tests.support.waiting import PATIENCE, wait_for

Served = tuple[Daemon, Page]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A daemon with one router, and its page, for all tests here: each leaves both as they were."""
    base = tmp_path_factory.mktemp("served")
    with lab.fresh_host():
        daemon = Daemon(base / "daemon", "tests.support.fake_daemon")
        daemon.write(1, "blue")
        daemon.start()
        page = Page(daemon.config, base)
        yield daemon, page
        page.end()
        daemon.kill()


@pytest.fixture
def page_alone(host: lab.Host, tmp_path: Path) -> Iterator[Page]:
    """A page whose daemon does not run."""
    page = Page(Daemon(tmp_path / "daemon").config, tmp_path)
    yield page
    if page.process.poll() is None:
        page.end()


def test_who_gets_an_answer(served: Served) -> None:
    _, page = served
    assert page.get("/").status == 200
    assert b"dvr-agent" in page.get("/", Authorization="").body
    question = "/api/host"
    assert page.get(question).status == 200
    for wrong in (
        "",
        "Bearer",
        "Bearer x",
        f"Bearer {page.token}x",
        f"Basic {page.token}",
        f"Bearer {page.token[:-1]}\xe9",
    ):
        refused = page.get(question, Authorization=wrong)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert page.token.encode() not in refused.body
    assert page.get("/events", Authorization="").status == 401
    assert page.get(f"{question}?token={page.token}", Authorization="").status == 401
    assert page.get(question, Cookie=f"token={page.token}", Authorization="").status == 401


def test_names_of_other_sites_are_refused(served: Served) -> None:
    _, page = served
    for host in ("localhost", "localhost:8080", "127.0.0.1", "[::1]:1", "LOCALHOST:9", f"127.8.9.1:{page.port}"):
        assert page.get("/", Host=host).status == 200, host
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "192.0.2.1:80",
        "localhost.",
        "[::2]",
        "",
        "localhost:x",
        "a@127.0.0.1",
    ):
        assert page.get("/", Host=host).status == 421, host
    assert page.get("/", Sec_Fetch_Site="cross-site").status == 403
    assert page.get("/api/host", Sec_Fetch_Site="same-site").status == 403
    assert page.get("/api/host", Sec_Fetch_Site="same-origin").status == 200


def test_every_answer_has_the_policy(served: Served) -> None:
    _, page = served
    files = ["/", "/main.js", "/page.css", "/icon.svg"]
    answers = [page.get(path) for path in (*files, "/api/host", "/nothing", "/api/nothing", "/api/why?of=%22%3Cb%3E")]
    answers += [page.get("/", Host="evil.example"), page.get("/api/host", Authorization=""), page.get("/", "POST")]
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers
        assert "waitress" not in str(answer.headers).lower()
    assert [answer.headers["content-type"].partition(";")[0] for answer in answers[:4]] == [
        "text/html", "text/javascript", "text/css", "image/svg+xml",
    ]  # fmt: skip
    assert all(answer.headers["content-type"] == "application/json" for answer in answers[4:])


def test_only_get(served: Served) -> None:
    _, page = served
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"):
        answer = page.get("/api/host", method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET")


def test_paths_outside_are_not_served(served: Served) -> None:
    _, page = served
    for path in ("/../wire.py", "/%2e%2e/wire.py", "/__init__.py", "/static/main.js", "/main.js/", "/api/status",
                 "/api/index", "/api/", "/page.css%00.html"):  # fmt: skip
        assert page.get(path).status == 404, path


def test_questions_are_checked(served: Served) -> None:
    _, page = served
    for path in ("router", "router?id=--help", "router?id=x", "why?of=--config-file", "why?of=-o", "why?of=1;reboot",
                 "rules?namespace=../../etc", "rules?namespace=host", "counters?namespaces=",
                 "history?router=x&limit=1", "history?limit=-1", f"why?of={'a' * 70}",
                 "counters?namespaces=" + ",".join(["qrouter-" + router_id(1)] * 9)):  # fmt: skip
        answer = page.get(f"/api/{path}")
        assert (answer.status, answer.json["kind"]) == (404, "bad"), path
    assert page.get("/api/host?" + "&".join(f"a{number}=1" for number in range(20))).status == 404


def test_live(served: Served) -> None:
    daemon, page = served
    stream = page.events()
    assert stream.answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    whole = stream.until("status")
    assert [router["name"] for router in whole["routers"]] == ["blue"]
    assert whole["host"]["pid"] == daemon.process.pid  # type: ignore[union-attr]
    two = daemon.write(2, "<img src=x onerror=alert(1)>")
    delta = stream.until("delta", lambda value: value["routers"])
    assert delta["routers"][0]["name"] == "<img src=x onerror=alert(1)>"
    assert stream.until("events", bool)[0]["router"] == router_id(2)
    two.unlink()
    stream.until("delta", lambda value: value["gone"] == [router_id(2)])
    daemon.stop()
    assert "is not reachable" in stream.until("down")["error"]
    daemon.start()
    # The daemon answers before it has read its documents.
    listed = stream.until("status")["routers"] or stream.until("delta", lambda value: value["routers"])["routers"]
    assert [router["name"] for router in listed] == ["blue"]
    stream.close()


def test_what_does_not_exist_is_said(page_alone: Page) -> None:
    answer = page_alone.get(f"/api/router?id={router_id(7)}")
    assert (answer.status, answer.json["kind"]) == (500, "failed")
    assert router_id(7) in answer.json["error"]
    answer = page_alone.get("/api/history")
    assert (answer.status, answer.json["kind"]) == (502, "unreachable")


def test_the_front_has_no_rights(served: Served) -> None:
    _, page = served
    front = page.front()
    status = status_of(front)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert set(environment_of(front)) == {"PYTHONPATH", "PYTHONSAFEPATH"}
    assert page.token not in Path(f"/proc/{front}/cmdline").read_text()


@pytest.mark.usefixtures("real_root")
def test_the_front_is_another_user(served: Served) -> None:
    _, page = served
    front = page.front()
    assert "0" not in status_of(front)["Uid"].split()
    assert "0" not in status_of(front)["Gid"].split()
    assert status_of(front)["Groups"] == ""
    assert Path(f"/proc/{front}/ns/net").readlink() != Path(f"/proc/{page.process.pid}/ns/net").readlink()


def test_token_file(served: Served) -> None:
    _, page = served
    assert stat.S_IMODE(page.token_file.stat().st_mode) == 0o600
    assert page.token_file.read_text() == f"{page.token}\n"
    words = [*page.command(), "web", "--url", "--listen"]
    told = subprocess.run([*words, f"127.0.0.1:{page.port}"], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout == f"{page.url}\n"
    told = subprocess.run([*words, "127.0.0.1:1"], capture_output=True, text=True, check=False, timeout=30)
    assert (told.returncode, told.stderr) == (1, "dvrctl: no page is served at 127.0.0.1:1 (dvrctl web serves one)\n")


def test_a_slow_request_is_closed(served: Served) -> None:
    _, page = served
    with socket.create_connection(("127.0.0.1", page.port), timeout=PATIENCE) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")

        def closed() -> bool:
            try:
                slow.sendall(b"X: 1\r\n")  # one more line again and again: never idle, never complete
                slow.settimeout(0.05)
                return slow.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_for(closed, "the connection is closed")
    assert page.get("/").status == 200


def test_too_much_at_once(served: Served) -> None:
    _, page = served
    streams = [page.events() for _ in range(SUBSCRIBERS)]
    assert {stream.answer.status for stream in streams} == {200}
    refused = page.events()
    assert refused.answer.status == 503
    assert page.get("/api/host").status == 200  # open pages leave threads for questions
    for stream in (*streams, refused):
        stream.close()
    wait_for(lambda: page.events().answer.status == 200, "pages that were closed make room")


def test_long_requests_are_refused(served: Served) -> None:
    _, page = served
    assert page.get("/", X=20000 * "x").status == 431
    assert page.get("/" + 20000 * "x").status == 431


def test_end(page_alone: Page) -> None:
    page = page_alone
    front = page.front()
    stream = page.events()
    assert page.end() == 0
    wait_for(lambda: not Path(f"/proc/{front}").exists(), "the front has ended")
    stream.close()


def test_the_front_dies(page_alone: Page) -> None:
    page = page_alone
    subprocess.run(["kill", "-9", str(page.front())], check=True)
    assert page.process.wait(PATIENCE) == 1


def test_only_loopback(served: Served) -> None:
    _, page = served
    for listen in ("0.0.0.0:9699", "[::]:9699"):
        done = subprocess.run(
            [*page.command(), "web", "--listen", listen], capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 64
        assert done.stderr.startswith(
            f"dvrctl web: argument --listen: {listen!r}: expected a loopback address and a port"
        )
    done = subprocess.run(
        [*page.command(), "web", "--listen", f"127.0.0.1:{page.port}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (
        1, f"dvrctl: [web] listen = 127.0.0.1:{page.port}: Address already in use (does dvrctl web run already?)\n",
    )  # fmt: skip


def test_wants_web(page_alone: Page) -> None:
    page = page_alone
    words = [*page.command(), "wants-web"]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 1
    page.config.write_text(page.config.read_text() + "listen = 127.0.0.1:9699\n")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (0, "the page is served at 127.0.0.1:9699\n")
