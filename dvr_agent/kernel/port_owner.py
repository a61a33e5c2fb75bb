"""Says who has changed an object of the kernel, as far as netlink tells (:class:`Author`)."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from dvr_agent.kernel.netlink.own_port import MAX_PROCESS_ID
from dvr_agent.kernel.process_name import name_of, parent_text

ENDED = "which has ended"
"""What is said of a process whose program cannot be read any more."""


class Author(NamedTuple):
    """Who has changed an object.

    :ivar pid: process id; 0: not known, or one of several
    :ivar program: name of the process's program; empty: it has ended, or is in another process namespace
    :ivar protocol: of a route or rule that was added, as iproute2 names it (``zebra``): the program that it is of;
        empty: it says nothing
    :ivar parent: the process that has started this one, with its command line; empty: not known
    """

    pid: int = 0
    program: str = ""
    protocol: str = ""
    parent: str = ""

    @property
    def text(self) -> str:
        """``ip (process 4711), protocol zebra``; empty where nothing is known."""
        process = f"{self.program} (process {self.pid})" if self.program else f"process {self.pid}, {ENDED}"
        protocol = f"protocol {self.protocol}" if self.protocol else ""
        parent = f"started by {self.parent}" if self.parent else ""
        return ", ".join(filter(None, (process if self.pid else self.program, parent, protocol)))


NOBODY = Author()


def any_of(authors: Collection[Author]) -> Author:
    """Return who has changed an object that one of several authors has changed."""
    if len(authors) == 1:
        return next(iter(authors))
    return Author(program=" or ".join(sorted({author.program for author in authors})))


def owner_of(port: int, protocol: str = "") -> Author:
    """Return the process behind ``nlmsg_pid``.

    The first netlink socket of a process has its process id; others have numbers that tell nothing.  The process may
    have ended, or be in another process namespace.
    """
    if not 0 < port < MAX_PROCESS_ID:
        return Author(protocol=protocol)
    return Author(port, name_of(port), protocol, parent_text(port))
