"""Says which process a netlink port id belongs to, as far as that can be told (:func:`owner_of`)."""

from __future__ import annotations

from dvr_agent.kernel.netlink.own_port import MAX_PROCESS_ID
from dvr_agent.kernel.process_name import program_of


def owner_of(port: int) -> str:
    """Return the process behind ``nlmsg_pid``: ``ip (process 4711)``; empty where nothing is known.

    The first netlink socket of a process has its process id; others have numbers that tell nothing.  The process may
    have ended, or be in another process namespace.
    """
    if not 0 < port < MAX_PROCESS_ID:
        return ""
    return program_of(port) or f"process {port}, which has ended"
