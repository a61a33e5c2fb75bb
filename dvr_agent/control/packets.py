"""Messages on a control socket (SOCK_SEQPACKET): one packet each, a JSON object with descriptors (SCM_RIGHTS)."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

from dvr_agent.errors import ServiceError

MAX_MESSAGE = 64 * 1024
"""Bytes."""
MAX_DESCRIPTORS = 8

Message = dict[str, Any]


def send(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a message, with descriptors.

    :raises OSError: the other side has gone, or does not take the message in time
    """
    data = json.dumps(message).encode()
    if descriptors:
        socket.send_fds(connection, [data], list(descriptors))
    else:
        connection.send(data)


def receive(connection: socket.socket) -> tuple[Message | None, list[int]]:
    """Receive the next message, None when the other side has closed, and its descriptors, which are now the caller's.

    :raises OSError: no message comes in time
    :raises ServiceError: the packet is no message of the protocol
    """
    data, descriptors, flags, _ = socket.recv_fds(connection, MAX_MESSAGE, MAX_DESCRIPTORS)
    try:
        if not data:
            return None, descriptors
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ServiceError("a message on the control socket is too long, or has too many descriptors")
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ServiceError(f"a message on the control socket is no object: {data[:80]!r}")
    except (ValueError, RecursionError, ServiceError) as exc:
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(exc, ServiceError):
            raise
        raise ServiceError(f"a message on the control socket is not JSON: {data[:80]!r}") from exc
    return message, descriptors
