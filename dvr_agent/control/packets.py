"""Messages on a control socket (SOCK_SEQPACKET): one packet each, a JSON object with descriptors (SCM_RIGHTS)."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

from dvr_agent.errors import ServiceError

MAX_MESSAGE = 64 * 1024
"""Bytes."""
MAX_DESCRIPTORS = 8
INT = struct.Struct("i")

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


def receive(connection: socket.socket, flags: int = 0) -> tuple[Message | None, list[int]]:
    """Receive the next message, None when the other side has closed, and its descriptors, which are now the caller's.

    :param flags: of recvmsg(2)
    :raises OSError: no message comes in time
    :raises ServiceError: the packet is no message of the protocol
    """
    # Not by socket.recv_fds(), which ignores the flags (Python 3.11).
    data, ancillary, found, _ = connection.recvmsg(MAX_MESSAGE, socket.CMSG_LEN(MAX_DESCRIPTORS * INT.size), flags)
    rights = (one for level, kind, one in ancillary if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS))
    descriptors = [one for part in rights for (one,) in INT.iter_unpack(part[: len(part) // INT.size * INT.size])]
    try:
        if not data:
            return None, descriptors
        if found & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
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
