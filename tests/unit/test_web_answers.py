"""What ``dvrctl web`` answers its front, which may have been taken over: only questions it knows, in their form."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from dvr_agent import config
from dvr_agent.cli.web.answers import Answers
from dvr_agent.cli.web.counters import parse
from dvr_agent.cli.web.documents import DocumentIndex, entry
from dvr_agent.cli.web.listener import Address, open_listener, parse_address
from dvr_agent.cli.web.token import keep_token, read_token
from dvr_agent.errors import ConfigError
from dvr_agent.model.parse import parse_document
from dvr_agent.settings import SourceSettings
from dvr_agent.web.made import made_event
from dvr_agent.web.wire import Channel
from tests.support.ctl import TWO_VMS
from tests.support.waiting import wait_for

ROUTER = "1ea71481-0c58-5b39-8d83-30b053d31c06"


@pytest.fixture
def front(tmp_path: Path) -> Any:
    """The front's end of a channel whose other end answers."""

    conf = tmp_path / "dvr-agent.conf"
    conf.write_text(f"[dvr_agent]\nadmin_socket = {tmp_path}/none\n[directory]\npath = {tmp_path}/routers\n")
    (tmp_path / "routers").mkdir()
    ours, theirs = socket.socketpair()
    channel = Channel(ours.detach())
    other = Channel(theirs.detach())
    thread = threading.Thread(target=Answers(config.load(["--config-file", str(conf)]), other).run)
    thread.start()
    yield channel
    channel.close()
    thread.join()
    other.close()


@pytest.mark.parametrize(
    ("question", "argument"),
    [
        ("shell", {"command": "id"}),
        ("router", {}),
        ("router", {"id": "--help"}),
        ("router", {"id": ROUTER + "\n"}),
        ("router", {"id": [ROUTER]}),
        ("router", {"id": True}),
        ("why", {"of": "-o"}),
        ("why", {"of": "--config-file=/etc/shadow"}),
        ("why", {"of": "$(id)"}),
        ("rules", {"namespace": "../../../etc"}),
        ("rules", {"namespace": f"qrouter-{ROUTER}/x"}),
        ("counters", {"namespaces": f"qrouter-{ROUTER},host"}),
        ("history", {"limit": "1&router=x"}),
        ("index", {"version": "../x"}),
        ("router", None),
        (None, {}),
    ],
)
def test_bad_questions(front: Channel, question: Any, argument: Any) -> None:
    front.send({"id": 1, "question": question, "argument": argument})
    answer = front.receive()
    assert answer is not None
    assert (answer["id"], answer["kind"]) == (1, "bad")


def test_a_message_without_a_number_is_ignored_and_the_next_is_answered(front: Channel) -> None:
    front.send({"question": "status"})
    front.send({"id": 7, "question": "status", "argument": {}})
    answer = front.receive()
    assert answer is not None
    assert (answer["id"], answer["kind"]) == (7, "unreachable")


def test_the_index_is_sent_once_per_version(front: Channel, tmp_path: Path) -> None:
    front.send({"id": 1, "question": "index", "argument": {"version": None}})
    first = front.receive()
    assert first is not None
    assert first["answer"]["routers"] == {}
    front.send({"id": 2, "question": "index", "argument": {"version": first["answer"]["version"]}})
    assert front.receive() == {"id": 2, "answer": {"version": first["answer"]["version"]}}


def test_what_a_router_is_found_by() -> None:
    found = entry(parse_document(TWO_VMS.read_bytes(), "two", 1 << 20))
    assert ("203.0.113.183", "10.1.0.112") in found["fips"]
    assert {"10.1.0.112", "10.1.0.16"} <= set(found["vms"])
    assert "10.1.0.1" in found["own"]
    assert not set(found["own"]) & set(found["vms"])


@pytest.mark.parametrize("text", ["", "9699", "localhost:9699", "0.0.0.0:1", "[::]:1", "127.0.0.1", "127.0.0.1:65536",
                                  "::1:80", "127.0.0.256:1", "[::1]", "127.0.0.1:1 "])  # fmt: skip
def test_addresses_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_address(text)


def test_addresses() -> None:
    assert parse_address("127.0.0.1:9699") == Address("127.0.0.1", 9699)
    assert str(parse_address("[::1]:80")) == "[::1]:80"
    listener, address = open_listener(Address("127.0.0.1", 0))
    with listener, pytest.raises(ConfigError, match="in use"):
        open_listener(address)


def test_the_token_is_kept_and_only_for_root_to_read(tmp_path: Path) -> None:
    path = tmp_path / "run" / "token"
    token = keep_token(path)
    assert len(token) == 43
    assert path.stat().st_mode & 0o777 == 0o600
    assert keep_token(path) == token == read_token(path)


@pytest.mark.parametrize("content", ["short\n", "a" * 44, "\xff" * 43, "b" * 2000, "root:x:0:0:root:/root:/bin/sh\n"])
def test_a_file_of_another_purpose_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"token_file = .*token: "):
        keep_token(path)
    assert path.read_text(encoding="latin-1") == content


def test_an_empty_file_gets_a_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    assert len(keep_token(path)) == 43


def test_a_token_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = keep_token(path)
    path.chmod(0o644)
    assert read_token(path) == ""
    assert keep_token(path) != token
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_token_file_that_is_a_link_or_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x" * 43)
    (tmp_path / "elsewhere").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "directory").mkdir(mode=0o700)
    for name in ("link", "directory"):
        with pytest.raises(ConfigError, match=f"token_file = .*{name}"):
            keep_token(tmp_path / name)


def test_counters_are_those_of_proc() -> None:
    found = parse(Path("/proc/net/dev").read_text())
    assert set(found) == set(os.listdir("/sys/class/net")) or "lo" in found
    text = (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes packets errs drop fifo frame compressed multicast"
        "|bytes packets errs drop fifo colls carrier compressed\n"
        "qr-x: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
    )
    assert parse(text) == {
        "qr-x": {"rx_bytes": 1, "rx_packets": 2, "rx_errors": 3, "rx_dropped": 4,
                 "tx_bytes": 9, "tx_packets": 10, "tx_errors": 11, "tx_dropped": 12},
    }  # fmt: skip


def test_an_event_names_three_changes_and_their_author() -> None:
    changes = [{"action": "+", "kind": "route", "text": f"route {number}", "was": None} for number in range(5)]
    namespaces = [{"name": "qrouter-x", "action": "~", "changes": changes}]
    event = made_event(
        {
            "job": "drift",
            "namespaces": namespaces,
            "by": [{"text": "route gone", "program": "ip", "pid": 5}] * 2,
            "state": "in sync",
        }
    )
    assert event["text"] == "5 added: + route 0; + route 1; + route 2 and 2 more: changed by ip (process 5)"
    assert event["severity"] == "wait"
    assert made_event({})["text"] == "unchanged"
    assert made_event({"job": "update", "state": "degraded", "reason": "refused"})["severity"] == "bad"


def test_the_index_follows_the_documents(tmp_path: Path) -> None:

    directory = tmp_path / "routers"
    directory.mkdir()
    settings = SourceSettings("directory", "h", str(tmp_path), str(directory), 30, 1 << 20)
    index = DocumentIndex(settings)
    first = index.answer(None)
    assert first["routers"] == {}
    text = TWO_VMS.read_text()
    (directory / "new").write_text(text)
    (directory / "new").rename(directory / "one.json")
    second = wait_for(lambda: index.answer(first["version"]).get("routers"))
    assert [found["name"] for found in second.values()] == [parse_document(text.encode(), "", 1 << 20).name]
    (directory / "one.json").unlink()
    wait_for(lambda: index.answer("").get("routers") == {})
