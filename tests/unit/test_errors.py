"""Texts of errors: nothing stands twice in a line, and every connection names its address."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from pathlib import Path

import pytest

from dvr_agent.control.connection import AwayError, HangsError
from dvr_agent.errors import DvrError, KernelError, ServiceError, about, joined
from dvr_agent.reconcile.api import Plan, RefusedError, Result
from dvr_agent.services.metadata.control_client import ControlClient
from dvr_agent.sources.neutron.wire import library_lines
from dvr_agent.sources.neutron.wire.library_lines import LibraryLines
from tests.support.log_lines import doubled

QROUTER, SNAT = "qrouter-one", "snat-one"


def kernel_error(what: str, code: int = errno.EPERM, namespace: str = QROUTER, hint: str = "") -> KernelError:
    return KernelError(namespace, what, code, hint)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("router x: failed: route a: EPERM (Operation not permitted)", []),
        ("failed: cannot be read: cannot be read", ["cannot be read"]),
        ("EPERM (Operation not permitted): [Errno 1] Operation not permitted", ["Operation not permitted"]),
        ("radvd is away: /run/x: Connection refused", []),
        ("connected to one; connected to one", ["connected to one"]),
    ],
)
def test_what_stands_twice_is_found(line: str, found: list[str]) -> None:
    assert doubled(line) == found


def test_objects_that_were_refused_for_one_reason_share_its_text() -> None:
    errors = [
        kernel_error("route a"),
        kernel_error("route b"),
        kernel_error("link c", errno.EBUSY),
        kernel_error("route a"),
        kernel_error("rule d", namespace=SNAT, hint="see ip rule"),
        ServiceError("radvd is not installed"),
        ServiceError("radvd is not installed"),
    ]
    text = (
        "namespace qrouter-one: route a, route b: EPERM (Operation not permitted); "
        "link c: EBUSY (Device or resource busy); "
        "namespace snat-one: rule d: EPERM (Operation not permitted): see ip rule; radvd is not installed"
    )
    assert joined(errors) == text
    assert str(RefusedError(errors, (), Result(Plan("router"), 0.0))) == text
    assert doubled(joined(errors[:4])) == []


def test_the_first_errors_and_how_many_more() -> None:
    errors: list[DvrError] = [kernel_error(f"route {number}") for number in range(5)]
    brief = RefusedError(errors, (), Result(Plan("router"), 0.0)).brief()
    assert brief == "namespace qrouter-one: route 0, route 1, route 2: EPERM (Operation not permitted); and 2 more"


def test_a_hint_that_only_repeats_the_error_is_left_out() -> None:
    assert str(kernel_error("route a", hint="Operation not permitted")).count("Operation not permitted") == 1


def test_a_subject_that_the_text_names_is_not_said_again() -> None:
    assert about("radvd", "radvd is not installed") == "radvd is not installed"
    assert about("metadata", "dvr-metadata-proxy is away") == "metadata: dvr-metadata-proxy is away"


class Peer:
    """The other end of a control socket: accepts, and then hangs up or stays silent."""

    def __init__(self, path: Path, hangs_up: bool) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._hangs_up = hangs_up
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        if self._hangs_up:
            connection.close()
        else:
            self._kept.append(connection)


@pytest.mark.parametrize("kind", ["missing", "hangs up", "silent"])
def test_errors_of_control_sockets_name_the_socket(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control.sock"
    if kind != "missing":
        peer = Peer(path, kind == "hangs up")
        assert peer
    client = ControlClient(str(path))
    monkeypatch.setattr(client, "first_timeout", 0.1)
    with pytest.raises(HangsError if kind == "silent" else AwayError) as raised:
        client.connect()
    assert str(path) in str(raised.value)
    assert client.program in str(raised.value)
    assert doubled(str(raised.value)) == []


def test_lines_of_the_messaging_library_name_the_broker_and_come_again_after_growing_pauses(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("dvr_agent.repeats.time.monotonic", lambda: now[0])
    filtered = LibraryLines("192.0.2.1:5672")
    filtered.install()
    logger = logging.getLogger(library_lines.NAME)
    try:
        for _ in range(1200):
            logger.error("Connection failed: %s (retrying in %s seconds)", "[Errno 111] ECONNREFUSED", 1.0)
            now[0] += 1
        assert (
            caplog.messages
            == ["Connection failed: [Errno 111] ECONNREFUSED (retrying in 1.0 seconds) (message bus at 192.0.2.1:5672)"]
            * 5
        ), "at once, after 1, 3, 7 and 15 minutes"
        logger.error("AMQP server on %s is unreachable", "192.0.2.1:5672")
        assert caplog.messages[-1] == "AMQP server on 192.0.2.1:5672 is unreachable"
        filtered.recovered()
        logger.error("Connection failed: %s (retrying in %s seconds)", "again", 1.0)
        assert "again" in caplog.messages[-1]
    finally:
        logger.removeFilter(filtered)
