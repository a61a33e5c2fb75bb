"""The agent's connection to dvr-vrrp: sends questions, receives answers, notices when the process is away."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from dvr_agent.control import packets
from dvr_agent.control.packets import Message
from dvr_agent.errors import ServiceError
from dvr_agent.services.vrrp.sockets import VrrpSockets
from dvr_agent.vrrp.protocol import VERSION

TIMEOUT = 5.0
"""Seconds for an answer."""


class SpeakerAwayError(ServiceError):
    """No process answers on the control socket."""


class Served(NamedTuple):
    """A virtual router of dvr-vrrp.

    :ivar namespace: number of its network namespace
    :ivar digest: of its description
    :ivar state: ``backup``, ``master`` or ``fault``
    """

    namespace: int
    digest: str
    state: str


class VrrpClient:
    """One connection, made by :meth:`connect`.

    :param path: of the control socket
    :ivar pid: process id of dvr-vrrp, 0 while there is none
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: socket.socket | None = None
        self.pid = 0

    @property
    def connected(self) -> bool:
        """True if a connection is open, and the process has answered on it."""
        return self._connection is not None

    def fileno(self) -> int:
        """Return the descriptor of the connection, readable when the process has gone; -1 without a connection."""
        return -1 if self._connection is None else self._connection.fileno()

    def connect(self) -> None:
        """Connect, and check the version of the protocol.

        :raises SpeakerAwayError: there is no process
        :raises ServiceError: the process has another version of the protocol
        """
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(self._path)
        except OSError as exc:
            connection.close()
            raise SpeakerAwayError(f"dvr-vrrp is away: {self._path}: {exc.strerror or exc}") from exc
        self._connection = connection
        answer = self.ask({"do": "hello", "version": VERSION})
        if answer.get("version") != VERSION:
            self.close()
            raise ServiceError(f"dvr-vrrp speaks version {answer.get('version')!r} of the control protocol")
        self.pid = int(answer["pid"])

    def serve(self, router_id: str, sockets: VrrpSockets, description: bytes) -> None:
        """Hand a virtual router over.

        :raises ServiceError: it is refused
        """
        memory = os.memfd_create("dvr-vrrp", os.MFD_CLOEXEC)
        try:
            os.write(memory, description)
            descriptors = [one.fileno() for one in sockets[:4]]
            self.ask({"do": "serve", "router": router_id, "namespace": sockets.cookie}, (*descriptors, memory))
        finally:
            os.close(memory)

    def stop(self, router_id: str) -> None:
        """Yield a virtual router, and forget it; one that is not served is no error."""
        self.ask({"do": "stop", "router": router_id})

    def forget(self, router_id: str) -> None:
        """Forget a virtual router, and leave its addresses as they are; one that is not served is no error."""
        self.ask({"do": "forget", "router": router_id})

    def served(self) -> dict[str, Served]:
        """Return all virtual routers by router id."""
        found: dict[str, Served] = {}
        more = True
        while more:
            answer = self.ask({"do": "list", "after": max(found, default="")})
            page = {router_id: Served(*values) for router_id, values in answer["routers"].items()}
            more = bool(answer["more"]) and bool(page)
            found.update(page)
        return found

    def status(self) -> Message:
        """Return numbers: ``routers``, ``masters``, ``late``."""
        return self.ask({"do": "status"})

    def ask(self, question: Message, descriptors: Sequence[int] = ()) -> Message:
        """Send a question; returns the answer.

        :raises SpeakerAwayError: the process has gone, or does not answer; the connection is closed
        :raises ServiceError: the process refuses
        """
        if self._connection is None:
            raise SpeakerAwayError("dvr-vrrp is away")
        try:
            packets.send(self._connection, question, descriptors)
            answer, received = packets.receive(self._connection)
        except (OSError, ServiceError) as exc:
            self.close()
            raise SpeakerAwayError(f"dvr-vrrp does not answer {question['do']}: {exc}") from exc
        for descriptor in received:
            os.close(descriptor)
        if answer is None:
            self.close()
            raise SpeakerAwayError("dvr-vrrp has gone")
        if "error" in answer:
            raise ServiceError(f"dvr-vrrp: {answer['error']}")
        return answer

    def close(self) -> None:
        """Disconnect, if connected."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self.pid = None, 0
