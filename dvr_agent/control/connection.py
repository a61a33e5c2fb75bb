"""The agent's connection to a helper process: sends questions, receives answers, notices when the process is away."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from dvr_agent.control.packets import Message, receive, send
from dvr_agent.errors import ServiceError

TIMEOUT = 5.0
"""Seconds for an answer: a process that takes longer hangs."""


class AwayError(ServiceError):
    """No process answers on the control socket."""


class HangsError(AwayError):
    """A process has the control socket and does not answer."""


class ControlConnection:
    """One connection, made by :meth:`connect`.

    :param path: of the control socket
    :cvar program: name of the process, for errors
    :cvar version: of the control protocol
    :cvar first_timeout: seconds for the first answer of a connection
    :ivar pid: process id of the other side, 0 while there is none
    :ivar features: what that process has, and others of this version of the protocol have not
    """

    program: ClassVar[str]
    version: ClassVar[int]
    first_timeout: ClassVar[float] = TIMEOUT

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: socket.socket | None = None
        self.pid = 0
        self.features: frozenset[str] = frozenset()

    @property
    def connected(self) -> bool:
        """True if a connection is open, and the process has answered on it."""
        return self._connection is not None

    @property
    def where(self) -> str:
        """The process and its socket, for messages."""
        return f"{self.program} at {self._path}"

    def gone(self) -> AwayError:
        """Return the error that says that the process has ended."""
        return AwayError(f"{self.where} has gone")

    def fileno(self) -> int:
        """Return the descriptor of the connection, readable when the process has gone; -1 without a connection."""
        return -1 if self._connection is None else self._connection.fileno()

    def connect(self) -> None:
        """Connect, and check the version of the protocol.

        :raises AwayError: there is no process
        :raises ServiceError: the process has another version of the protocol
        """
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        connection.settimeout(self.first_timeout)
        try:
            connection.connect(self._path)
        except OSError as exc:
            connection.close()
            raise AwayError(f"{self.program} is away: {self._path}: {exc.strerror or exc}") from exc
        self._connection = connection
        try:
            answer, _ = self.ask({"do": "hello", "version": self.version})
        except ServiceError:
            self.close()
            raise
        version, pid = answer.get("version"), answer.get("pid")
        if version != self.version or not isinstance(pid, int):
            self.close()
            raise ServiceError(f"{self.where} speaks version {version!r} of the control protocol")
        self.pid = pid
        features = answer.get("features")
        self.features = frozenset(map(str, features)) if isinstance(features, list) else frozenset()
        connection.settimeout(TIMEOUT)

    def ask(self, question: Message, descriptors: Sequence[int] = ()) -> tuple[Message, list[int]]:
        """Send a question; returns the answer and its descriptors, which are the caller's now.

        :raises HangsError: no answer in time; the connection is closed
        :raises AwayError: the process has gone; the connection is closed
        :raises ServiceError: the process refuses
        """
        if self._connection is None:
            raise AwayError(f"{self.program} is away: {self._path}: not connected")
        try:
            send(self._connection, question, descriptors)
            answer, received = receive(self._connection)
        except TimeoutError as exc:
            self.close()
            raise HangsError(f"{self.where} hangs: no answer to {question['do']}") from exc
        except (OSError, ServiceError) as exc:
            self.close()
            reason = exc.strerror if isinstance(exc, OSError) else exc
            raise AwayError(f"{self.where} does not answer {question['do']}: {reason}") from exc
        if answer is None:
            self.close()
            raise self.gone()
        if "error" in answer:
            for descriptor in received:
                os.close(descriptor)
            raise ServiceError(f"{self.where}: {answer['error']}")
        return answer, received

    def listed(self, is_sound: Callable[[object, object], bool]) -> Iterator[tuple[str, Any]]:
        """Yield (router id, entry) of all routers that the process serves, asked for page by page.

        :param is_sound: returns True for a router id and an entry as they have to be
        :raises ServiceError: see :meth:`ask`, or the answer is malformed: the process is not trusted
        """
        after, more = "", True
        while more:
            answer, _ = self.ask({"do": "list", "after": after})
            routers = answer.get("routers")
            if not isinstance(routers, dict) or not all(is_sound(*item) for item in routers.items()):
                raise ServiceError(f"{self.where}: its list of routers makes no sense")
            yield from routers.items()
            more = bool(answer.get("more"))
            if more and max(routers, default="") <= after:
                raise ServiceError(f"{self.where}: its list of routers has no end")
            after = max(routers, default=after)

    def close(self) -> None:
        """Disconnect, if connected."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self.pid = None, 0
