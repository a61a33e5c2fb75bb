"""Decode netlink messages by pyroute2's classes, as they are."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from dvr_agent.kernel.netlink.message import HEADER, Request
from dvr_agent.kernel.netlink.schema import Data
from dvr_agent.kernel.netlink.transport import NetlinkSocket

NO_FAMILY = frozenset({errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
"""Answers to a request for objects of a family that the kernel does not have."""


def decoded(cls: type, data: Data, kind: int = 0) -> Any:
    """Decode one message.

    :param data: without ``struct nlmsghdr``
    """
    message = cls(HEADER.pack(HEADER.size + len(data), kind, 0, 1, 0) + bytes(data))
    message.decode()
    return message


def dumped(sock: NetlinkSocket, request: Request, cls: type) -> Iterator[Any]:
    """Yield the decoded messages of a dump."""
    for data in sock.dump(request._replace(tolerate=request.tolerate | NO_FAMILY)):
        yield decoded(cls, data, request.kind)
