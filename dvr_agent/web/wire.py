"""Messages between the front and ``dvrctl web``: JSON objects over a socket pair, framed by ``multiprocessing``.

======================================================  ===========================================================
``{"token": text}``                                     first of all, to the front
``{"ready": true}``                                     the front has dropped its rights and serves
``{"id": n, "question": name, "argument": {...}}``      from the front
``{"id": n, "answer": value}``                          to the front
``{"id": n, "error": text, "kind": kind}``              likewise, see :class:`Kind`
======================================================  ===========================================================
"""

from __future__ import annotations

import json
import threading
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

from dvr_agent.errors import DvrError

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes: the status of some 100,000 routers."""

Message = dict[str, Any]


class Kind(Enum):
    """Why a question has no answer."""

    MISSING = "missing"
    """This version of the agent, or of dvrctl, has no such function."""
    UNREACHABLE = "unreachable"
    """The daemon does not answer."""
    BAD = "bad"
    """The question names something that does not exist, or makes no sense."""
    BUSY = "busy"
    """Too many questions, or the answer takes too long."""
    FAILED = "failed"


class QuestionError(DvrError):
    """A question has no answer."""

    def __init__(self, kind: Kind, text: str) -> None:
        self.kind = kind
        super().__init__(text)


class Channel:
    """One end of the socket pair; any thread may send, one thread receives.

    :param descriptor: of the socket; the channel's from now on
    """

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(descriptor)
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message.

        :raises OSError: the other process has ended
        """
        data = json.dumps(message).encode()
        with self._sending:
            self._connection.send_bytes(data)

    def receive(self) -> Message | None:
        """Receive the next message; None when the other process has ended, or sends what is no message."""
        try:
            message = json.loads(self._connection.recv_bytes(MAX_MESSAGE))
        except (EOFError, OSError, ValueError, RecursionError):
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        """Close this end."""
        self._connection.close()
