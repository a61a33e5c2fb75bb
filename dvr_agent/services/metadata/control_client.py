"""The agent's connection to dvr-metadata-proxy: sends questions, receives answers, notices when the proxy is away."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence

from dvr_agent.desired import names
from dvr_agent.errors import ServiceError
from dvr_agent.metadata import control_protocol
from dvr_agent.metadata.control_protocol import Message

TIMEOUT = 5.0
"""Seconds for an answer: a proxy that takes longer hangs."""
FIRST_TIMEOUT = 0.5
"""Seconds for the first answer of a connection: routers would wait for a proxy that hangs."""


class ProxyAwayError(ServiceError):
    """No process answers on the control socket."""


class ProxyHangsError(ProxyAwayError):
    """A process has the control socket and does not answer."""


class ControlClient:
    """One connection, made by :meth:`connect`.

    :param path: ``[metadata_proxy] control_socket``
    :ivar pid: process id of the proxy, 0 while there is none
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: socket.socket | None = None
        self.pid = 0

    @property
    def connected(self) -> bool:
        """True if a connection is open, and the proxy has answered on it."""
        return self._connection is not None

    def fileno(self) -> int:
        """Return the descriptor of the connection, readable when the proxy has gone; -1 without a connection."""
        return -1 if self._connection is None else self._connection.fileno()

    def connect(self) -> None:
        """Connect, and check the version of the protocol.

        :raises ProxyAwayError: there is no proxy
        :raises ServiceError: the proxy has another version of the protocol
        """
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        connection.settimeout(FIRST_TIMEOUT)
        try:
            connection.connect(self._path)
        except OSError as exc:
            connection.close()
            raise ProxyAwayError(f"dvr-metadata-proxy is away: {self._path}: {exc.strerror or exc}") from exc
        self._connection = connection
        try:
            answer, _ = self.ask({"do": "hello", "version": control_protocol.VERSION})
        except ServiceError:
            self.close()
            raise
        version, pid = answer.get("version"), answer.get("pid")
        if version != control_protocol.VERSION or not isinstance(pid, int):
            self.close()
            raise ServiceError(f"dvr-metadata-proxy speaks version {version!r} of the control protocol")
        self.pid = pid
        connection.settimeout(TIMEOUT)

    def ask(self, question: Message, descriptors: Sequence[int] = ()) -> tuple[Message, list[int]]:
        """Send a question; returns the answer and its descriptors, which are the caller's now.

        :raises ProxyHangsError: no answer in time; the connection is closed
        :raises ProxyAwayError: the proxy has gone; the connection is closed
        :raises ServiceError: the proxy refuses
        """
        if self._connection is None:
            raise ProxyAwayError("dvr-metadata-proxy is away")
        try:
            control_protocol.send(self._connection, question, descriptors)
            answer, received = control_protocol.receive(self._connection)
        except TimeoutError as exc:
            self.close()
            raise ProxyHangsError(f"dvr-metadata-proxy hangs: no answer to {question['do']}") from exc
        except (OSError, ServiceError) as exc:
            self.close()
            raise ProxyAwayError(f"dvr-metadata-proxy does not answer {question['do']}: {exc}") from exc
        if answer is None:
            self.close()
            raise ProxyAwayError("dvr-metadata-proxy has gone")
        if "error" in answer:
            for descriptor in received:
                os.close(descriptor)
            raise ServiceError(f"dvr-metadata-proxy: {answer['error']}")
        return answer, received

    def served(self) -> Iterator[tuple[str, int]]:
        """Yield (router id, cookie of its network namespace) of all routers that the proxy serves.

        :raises ServiceError: see :meth:`ask`, or the answer is malformed: the proxy is not trusted
        """
        after, more = "", True
        while more:
            answer, _ = self.ask({"do": "list", "after": after})
            routers = answer.get("routers")
            if not isinstance(routers, dict) or not all(_is_served(*item) for item in routers.items()):
                raise ServiceError("dvr-metadata-proxy: its list of routers makes no sense")
            yield from routers.items()
            more = bool(answer.get("more"))
            if more and max(routers, default="") <= after:
                raise ServiceError("dvr-metadata-proxy: its list of routers has no end")
            after = max(routers, default=after)

    def close(self) -> None:
        """Disconnect, if connected."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self.pid = None, 0


def _is_served(router_id: object, cookie: object) -> bool:
    """Check an entry of the proxy's list: the id goes into names of namespaces and files."""
    known = isinstance(router_id, str) and names.parse_namespace(names.QROUTER + router_id) is not None
    return known and isinstance(cookie, int)
