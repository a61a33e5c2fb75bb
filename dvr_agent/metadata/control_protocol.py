"""The control protocol between dvr-agent and dvr-metadata-proxy: its messages, and functions to send and receive them.

The proxy listens on a Unix socket of type SOCK_SEQPACKET; the agent connects and asks, one question at a time, and gets
one answer each.  A message is one packet: a JSON object, and descriptors (SCM_RIGHTS) where the table says so.

======== ============================================= ==================================================
``do``   further keys of the question                  keys of the answer, beside ``ok`` or ``error``
======== ============================================= ==================================================
hello    ``version``                                   ``version``, ``pid``
set      ``settings``: see ``settings``                (none)
probe    (none)                                        ``upstream``: why neutron-metadata-agent's socket
                                                       cannot be connected to, empty if it can
list     ``after``: a router id or ``""``              ``routers``: {router id: number of its network
                                                       namespace}, sorted, at most :data:`PAGE`; ``more``
serve    ``router``, ``namespace``: that number;       (none); what was served for the router before, in
         descriptors: its listening sockets            another namespace too, is closed
give     ``router``                                    ``namespace``; descriptors: its listening sockets
stop     ``router``                                    (none); all its sockets are closed, connections too
end      (none)                                        (none); the process ends, since metadata is not wanted
status   (none)                                        counters, see ``dvr_agent.metadata_proxy.control_server``
======== ============================================= ==================================================

The number of a network namespace is its cookie (SO_NETNS_COOKIE), which is never used twice.  The proxy goes on serving
when the agent disconnects.  A question that is wrong gets ``{"error": …}``.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

from dvr_agent.errors import ServiceError

VERSION = 1
PAGE = 200
"""Routers in one answer to ``list``."""
MAX_MESSAGE = 64 * 1024
"""Bytes."""
MAX_DESCRIPTORS = 4

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
