"""What ``dvrctl sync`` says of what a daemon does only now and then: server away, time over, a router that is gone."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from dvr_agent.cli import ctl
from dvr_agent.cli.admin_client import UnreachableError, ask
from tests.support.admin_script import Answers, admin_socket
from tests.support.daemon_lab import router_id


def router(number: int, **changes: object) -> dict[str, Any]:
    return {"id": router_id(number), "name": f"r{number}", "state": "in sync", "reason": "", "queued": False, **changes}


def script(*statuses: dict[str, Any], post: tuple[int, dict[str, Any]] = (202, {"queued": 1})) -> Answers:
    """Answers with one status after the other, the last one again and again."""
    left = list(statuses)

    def answer(method: str, path: str) -> tuple[int, dict[str, Any]]:
        if method == "POST":
            return post
        found = left.pop(0) if len(left) > 1 else left[0]
        return 200, {"state": "in sync", "progress": "", "source": {}, **found}

    return answer


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "dvr-agent.conf"
    path.write_text(f"[dvr_agent]\nadmin_socket = {tmp_path}/admin.sock\n")
    return path


def run(config: Path, answers: Answers, *words: str) -> int:
    with admin_socket(config.parent / "admin.sock", answers):
        return ctl.main(["--config-file", str(config), *words])


def test_routers_are_printed_as_they_end_and_each_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = router(2, state="degraded", reason="why")
    answers = script(
        {"routers": [router(1, queued=True), router(2, queued=True)]},
        {"routers": [router(1), router(2, queued=True)], "progress": "resync: 1 of 2 routers"},
        {"routers": [router(1), bad], "progress": "resync: 2 of 2 routers"},
        {"routers": [router(1), bad], "state": "degraded"},
    )
    assert run(config, answers, "sync") == 2
    assert capsys.readouterr().out.splitlines() == [
        f"in sync       {router_id(1)} (r1)",
        f"degraded      {router_id(2)} (r2): why",
        "2 routers: 1 degraded, 1 in sync",
    ]


def test_time_that_is_over_names_what_has_not_ended(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = script({"routers": [router(1, queued=True), router(2)]})
    assert run(config, answers, "sync", "--timeout", "0") == 1
    printed = capsys.readouterr()
    assert printed.out == f"in sync       {router_id(2)} (r2)\n"
    assert printed.err == f"dvrctl: not ended within 0 s: 1 router not tried yet: {router_id(1)}; the daemon goes on\n"


def test_server_that_does_not_answer_is_the_reason(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = {"asking": True, "error": "neutron-server: nobody there"}
    assert run(config, script({"routers": [router(1)], "source": source}), "sync", "r1", "--timeout", "0") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "neutron-server has not answered (neutron-server: nobody there)" in printed.err


def test_router_that_is_gone_has_ended(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, script({"routers": [router(1)]}, {"routers": []}), "sync", "r1") == 0
    assert capsys.readouterr().out.startswith(f"removed       {router_id(1)}")


def test_refusal_of_the_daemon_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = script({"routers": []}, post=(503, {"error": "the agent has not read kernel and state files yet"}))
    assert run(config, answers, "sync") == 1
    assert capsys.readouterr().err.splitlines() == [
        "dvrctl: the daemon answered 503 Service Unavailable: the agent has not read kernel and state files yet"
    ]


def test_router_of_that_name_is_needed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twins = {"routers": [router(1, name="web"), router(2, name="web")]}
    assert run(config, script(twins), "sync", "web") == 1
    assert router_id(1) in (err := capsys.readouterr().err)
    assert router_id(2) in err


def test_daemon_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "admin.sock"))
        listener.listen()
        with pytest.raises(UnreachableError, match=r"admin.sock does not answer within 0\.1 s"):
            ask(str(tmp_path / "admin.sock"), "/status", timeout=0.1)


def test_another_program_on_the_socket_is_named(tmp_path: Path) -> None:
    with (
        admin_socket(tmp_path / "admin.sock", lambda method, path: (500, {"nothing": 1})),
        pytest.raises(UnreachableError, match="no dvr-agent"),
    ):
        ask(str(tmp_path / "admin.sock"), "/status")
