"""Find the network namespace of a process (:func:`inode_of_process`), also where its ``/proc`` entry is unreadable.

Used by ``services`` to tell its own children from other processes with the same process id.

``/proc/<pid>/ns/net`` of a process of another user, or of one that has changed its user, needs CAP_SYS_PTRACE.  But
every process may ask for the number (NSID) that its own namespace has for the namespace of another process, and compare
it with the numbers of the named namespaces (net/core/net_namespace.c, rtnl_net_getid).
"""

from __future__ import annotations

import errno
import os

from dvr_agent.errors import KernelError
from dvr_agent.kernel import netns
from dvr_agent.kernel.netlink.nsid import (
    NETNSA_FD,
    NETNSA_PID,
    NOT_ASSIGNED,
    decode_nsid,
    get_nsid,
    new_nsid,
)
from dvr_agent.kernel.netlink.transport import NetlinkSocket


def inode_of_process(pid: int, likely: str = "") -> int:
    """Return the inode of a process's network namespace; 0 if ``/proc`` is unreadable and the namespace has no name.

    :param likely: name of the namespace to be compared first
    :raises FileNotFoundError: the process has ended
    """
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except PermissionError:
        pass
    try:
        with NetlinkSocket.open("", None) as sock:
            wanted = _number(sock, f"namespace of process {pid}", NETNSA_PID, pid)
            return _named(sock, wanted, likely)
    except KernelError as exc:
        raise FileNotFoundError(exc.code, str(exc)) from exc


def _named(sock: NetlinkSocket, wanted: int, likely: str) -> int:
    """Return the inode of the named namespace that has this number, 0 if none has."""
    try:
        names = os.listdir(netns.NETNS_DIR)
    except OSError:
        return 0
    for name in sorted(names, key=lambda name: name != likely):
        try:
            fd = netns.open_namespace(name)
        except KernelError:
            continue
        try:
            if _number(sock, f"namespace {name}", NETNSA_FD, fd, give=False) == wanted:
                return os.fstat(fd).st_ino
        except KernelError:  # a plain file in /run/netns
            continue
        finally:
            os.close(fd)
    return 0


def _number(sock: NetlinkSocket, what: str, member: str, value: int, give: bool = True) -> int:
    """Return the number (NSID) that the thread's namespace has for another one.

    :param give: a namespace without a number gets one first
    :raises KernelError: there is no such process or namespace
    """
    for _ in range(2):
        (answer,) = sock.get([get_nsid(what, member, value)])
        number = NOT_ASSIGNED if answer is None else decode_nsid(answer)
        if number != NOT_ASSIGNED or not give:
            break
        sock.batch([new_nsid(what, member, value, frozenset({errno.EEXIST}))])
    return number
