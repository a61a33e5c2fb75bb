"""What the admin socket says while it cannot take connections."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Iterator

import pytest

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.admin_listener import CONNECTIONS, IDLE_SECONDS, AdminListener


class Short:
    """A listening socket that is short of descriptors for some time."""

    def __init__(self, codes: Iterator[int]) -> None:
        self._codes = codes

    def accept(self) -> tuple[socket.socket, str]:
        for code in self._codes:
            raise OSError(code, os.strerror(code))
        return socket.socket(socket.AF_UNIX), ""


def test_a_shortage_of_descriptors_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    codes = iter([errno.EMFILE] * 5 + [errno.ENFILE] * 5 + [errno.EMFILE])
    with caplog.at_level(logging.WARNING):
        connection, _address = AdminListener(Short(codes), accept_pause=0.0).accept()
    connection.close()
    assert [record.getMessage() for record in caplog.records] == [
        "admin socket: a connection cannot be accepted, retrying: Too many open files",
        "admin socket: a connection cannot be accepted, retrying: Too many open files in system",
    ]


class Plenty:
    """A listening socket with a client for each accept."""

    def __init__(self) -> None:
        self.clients: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, str]:
        client, connection = socket.socketpair()
        self.clients.append(client)
        return connection, ""


def test_a_connection_whose_request_a_busy_hub_has_not_read_yet_is_not_idle() -> None:
    """The hub stood still longer than a connection may be idle: what was asked meanwhile is answered first."""
    listener = AdminListener(Plenty())
    opened = [listener.accept() for _ in range(CONNECTIONS)]
    time.sleep(IDLE_SECONDS)  # what is idle is told by time
    first, (_, number) = opened[0]

    def serve() -> None:
        listener.note_request({"REMOTE_PORT": str(number)})
        for connection, _ in opened[1:]:
            connection.close()

    eventlet_shim.spawn(serve)
    last, _ = listener.accept()
    first.send(b"answer")  # not shut down
    for one in (first, last):
        one.close()
