"""What the admin socket says while it cannot take connections."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator

import pytest

from dvr_agent.daemon.admin_listener import AdminListener


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
