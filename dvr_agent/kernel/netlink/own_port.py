"""Port ids of this process's own netlink sockets: notifications about our own writes are recognised by them.

The kernel puts the port id of the socket that asked for a change into the notification (``nlmsg_pid``).  It chooses
process ids (up to 2^22) and numbers from 2^31 on by itself (netlink_autobind in net/netlink/af_netlink.c), so that the
range from 2^30 to 2^31 is free: 16 random bits for this process, 14 bits that count its sockets.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket

COUNT_BITS = 14
MASK = 0xFFFFFFFF & ~((1 << COUNT_BITS) - 1)
"""The part of a port id that all sockets of this process share."""
BASE = 1 << 30 | random.randrange(1 << 16) << COUNT_BITS
"""The value of that part."""
MAX_PROCESS_ID = 1 << 22
"""PID_MAX_LIMIT (include/linux/threads.h); a smaller port id is most often that of its process."""
TRIES = 4

_numbers = itertools.count()


def bind_own(raw: socket.socket) -> None:
    """Give a netlink socket a port id of this process.

    Where all tries hit ports in use the kernel chooses one at the first send, and the socket's writes are heard as
    those of another process: that costs a check of a router, which finds nothing.
    """
    for _ in range(TRIES):
        with contextlib.suppress(OSError):
            raw.bind((BASE | next(_numbers) & ~MASK, 0))
            return
