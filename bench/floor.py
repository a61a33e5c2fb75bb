"""The floor: the same kernel objects by the fewest system calls we know of, from bytes made beforehand.

No reading, no comparing, no look-up, no error handling beyond "it must not fail", one window per namespace.  What
Python costs here is a loop over ready bytes; the rest is the kernel.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence

from bench.encode import FIP_FD, HOST_FD, Files, Part, Removal
from bench.libiptc_tables import begin, fill
from bench.ready_tables import open_sockets, write
from dvr_agent.desired import names
from dvr_agent.kernel.netns import OWN_NAMESPACE, setns
from dvr_agent.libc import CLONE_NEWNET

MS_BIND, MNT_DETACH = 1 << 12, 2
SO_SNDBUFFORCE = 32
"""include/uapi/asm-generic/socket.h: not in Python."""
_ANSWER = struct.Struct("=IHHIIi")
"""struct nlmsghdr and the errno of struct nlmsgerr."""
_libc = ctypes.CDLL(None, use_errno=True)


class Floor:
    """Makes routers from their parts."""

    def __init__(self) -> None:
        own = os.open(OWN_NAMESPACE, os.O_RDONLY)
        os.dup2(own, HOST_FD)
        os.dup2(own, FIP_FD)  # until the fip namespace is there
        os.close(own)
        self._host = _netlink()
        self._fip: socket.socket | None = None
        self._buffer = bytearray(1 << 15)

    def close(self) -> None:
        """Let go of the namespaces."""
        self._host.close()
        if self._fip is not None:
            self._fip.close()
        os.close(HOST_FD)
        os.close(FIP_FD)

    def build(self, parts: Sequence[Part]) -> None:
        """Make one namespace after the other, or add a slice to the fip namespace."""
        for part in parts:
            self._part(part)

    def remove(self, removals: Sequence[Removal]) -> None:
        """Remove namespaces, and a slice of the fip namespace."""
        for removal in removals:
            if removal.messages and self._fip is not None:
                self._send(self._fip, removal.messages)
            if removal.whole:
                path = f"/run/netns/{removal.name}"
                _check(_libc.umount2(path.encode(), MNT_DETACH), "umount2")
                os.unlink(path)

    def _part(self, part: Part) -> None:
        if part.before:
            self._send(self._host, part.before)
        if part.make:
            self._new(part)
        else:
            assert self._fip is not None
            self._send(self._fip, part.messages)
        _write(part.switches)
        if part.after:
            self._send(self._host, part.after)

    def _new(self, part: Part) -> None:
        _check(_libc.unshare(CLONE_NEWNET), "unshare")
        own = os.open(OWN_NAMESPACE, os.O_RDONLY)
        inside = _netlink()
        self._send(inside, part.messages)
        _write(part.parameters)
        sockets, handles = open_sockets(part.tables), begin(part.entries)
        setns(HOST_FD, CLONE_NEWNET)
        write(part.tables, sockets, self._buffer)
        for entries, handle in zip(part.entries, handles, strict=True):
            fill(entries, handle)
        path = f"/run/netns/{part.name}"
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0))
        source = f"/proc/thread-self/fd/{own}".encode()
        _check(_libc.mount(source, path.encode(), b"none", ctypes.c_ulong(MS_BIND), None), "mount")
        if part.name.startswith(names.FIP):
            os.dup2(own, FIP_FD)
            self._fip = inside
        else:
            inside.close()
        os.close(own)

    def _send(self, sock: socket.socket, messages: bytes) -> None:
        sock.send(messages)
        sock.recv_into(self._buffer)
        _length, _kind, _flags, number, _port, code = _ANSWER.unpack_from(self._buffer)
        if code:
            raise OSError(-code, f"floor: message {number} of a batch: {os.strerror(-code)}")


def _netlink() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    made.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 22)  # thousands of neighbours in one send
    return made


def _write(files: Files) -> None:
    for path, content in files:
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, content)
        os.close(fd)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"floor: {what}")
