"""Keeps the agent's questions, with the descriptors that came with them, in systemd's file descriptor store.

A helper process that crashes gets them back from systemd when it starts anew, and answers them as if the agent had just
asked: it goes on without an agent.  systemd keeps them through a crash and through ``systemctl restart``, and closes
them when the unit is stopped.

A question is stored as one descriptor, whatever belongs to it: a Unix socket that has the question waiting in it, its
descriptors with it.  A new process reads it by MSG_PEEK, so that it stays.  One descriptor each, since systemd compares
each new one with all it has (kcmp(2)), and passes all names in one environment variable, which execve(2) limits to
128 KiB; for the same reason names are short.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dvr_agent.control.packets import Message, receive, send
from dvr_agent.errors import ServiceError
from dvr_agent.notify import Notifier, passed_descriptors, store_lines, unstore_lines

NAME_LENGTH = 16


class Stored(NamedTuple):
    """A question from the store; None: it cannot be read.  The descriptors are the receiver's."""

    name: str
    question: Message | None
    descriptors: list[int]


class _Pending(NamedTuple):
    """A notification, and the socket that goes with it."""

    lines: tuple[str, ...]
    parcel: socket.socket | None = None


class FdStore:
    """Stores questions; without systemd nothing is stored.

    A notification that systemd does not take at once waits for the next one, or for :meth:`flush`.

    :param version: of the control protocol; a question of another one cannot be read
    """

    def __init__(self, notifier: Notifier, version: int) -> None:
        self._notifier, self._version = notifier, version
        self._passed = passed_descriptors()
        self._names = {name for name, _ in self._passed}
        self._pending: deque[_Pending] = deque()

    def restored(self) -> Iterator[Stored]:
        """Yield what an earlier process has stored, once."""
        passed, self._passed = self._passed, []
        for name, descriptor in passed:
            try:
                with socket.socket(fileno=descriptor) as parcel:
                    question, descriptors = receive(parcel, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except (OSError, ServiceError):
                question, descriptors = None, []
            if question is not None and question.get("version") != self._version:
                question = None
            yield Stored(name, question, descriptors)

    def put(self, question: Message, descriptors: Sequence[int], instead_of: str = "") -> str:
        """Store a question with copies of its descriptors; returns its name, empty if it cannot be stored.

        :param instead_of: name of what is removed afterwards
        """
        name = ""
        if self._notifier.is_managed:
            question = {**question, "version": self._version}
            name = _name(question, descriptors)
            if name not in self._names:
                parcel = _parcel(question, descriptors)
                if parcel is None:
                    name = ""
                else:
                    self._names.add(name)
                    self._notify(_Pending(store_lines(name), parcel))
        if instead_of != name:
            self.remove(instead_of)
        return name

    def remove(self, name: str) -> None:
        """Remove a question; one that is not stored is no error."""
        if name in self._names:
            self._names.discard(name)
            self._notify(_Pending(unstore_lines(name)))

    def wait_until_handled(self) -> None:
        """Wait until systemd has closed what was removed, so that the last to close it is this process, not systemd."""
        self._notifier.wait_until_handled()

    def flush(self) -> None:
        """Send the notifications that systemd has not taken yet."""
        while self._pending:
            lines, parcel = self._pending[0]
            if not self._notifier.send(*lines, descriptors=[] if parcel is None else [parcel.fileno()]):
                return
            self._pending.popleft()
            if parcel is not None:
                parcel.close()

    def _notify(self, pending: _Pending) -> None:
        self._pending.append(pending)
        self.flush()


def _name(question: Message, descriptors: Sequence[int]) -> str:
    """Name a question after its contents and the sockets and files that its descriptors are of."""
    files = [(found.st_dev, found.st_ino) for found in map(os.fstat, descriptors)]
    return hashlib.sha256(json.dumps([question, files], sort_keys=True).encode()).hexdigest()[:NAME_LENGTH]


def _parcel(question: Message, descriptors: Sequence[int]) -> socket.socket | None:
    """Return a socket that has a question waiting in it; None if the kernel has no memory, or no descriptor, for it.

    Of type SOCK_DGRAM: what waits in such a socket stays when the sender's end is closed, and no hang-up is reported.
    """
    try:
        ours, parcel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError:
        return None
    with ours:
        try:
            ours.setblocking(False)
            send(ours, question, descriptors)
        except OSError:
            parcel.close()
            return None
    return parcel
