"""The value :class:`Request` of all netlink families, and what their messages share: header, address families, flags.

Flags and layouts are pyroute2's.  ``schema`` makes and reads attributes; the modules of the kinds make requests;
``transport`` sends them.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple, Protocol

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, nlmsg

CREATE = NLM_F_CREATE | NLM_F_EXCL
"""Flags: make the object; EEXIST if it exists."""
REPLACE = NLM_F_CREATE | NLM_F_REPLACE
"""Flags: make the object, or replace the one that exists."""

HEADER = struct.Struct("=" + "".join(layout for _, layout in nlmsg.header))
"""struct nlmsghdr: length, type, flags, sequence number, port."""

AF_UNSPEC = socket.AF_UNSPEC
AF_INET = int(socket.AF_INET)
AF_INET6 = int(socket.AF_INET6)
AF_OF_FAMILY = {4: AF_INET, 6: AF_INET6}
FAMILY_OF_AF = {AF_INET: 4, AF_INET6: 6}


class Named(Protocol):
    """An object with a text for people, for example an item of :mod:`dvr_agent.state`."""

    @property
    def text(self) -> str:
        """The object as ``ip`` would print it."""


class Request(NamedTuple):
    """One netlink message that asks for something.

    :ivar kind: message type, ``RTM_…``
    :ivar flags: without NLM_F_REQUEST and NLM_F_ACK, which the transport adds
    :ivar body: family header and attributes
    :ivar what: the object, for errors; its text is made only if there is an error
    :ivar tolerate: errno values that are no error
    """

    kind: int
    flags: int
    body: bytes
    what: Named | str
    tolerate: frozenset[int] = frozenset()

    @property
    def text(self) -> str:
        """The object's name for people."""
        return self.what if isinstance(self.what, str) else self.what.text


def split_cidr(cidr: str) -> tuple[int, str, int]:
    """Return (address family, address, prefix length) of ``address/length``."""
    address, _, length = cidr.partition("/")
    return AF_INET6 if ":" in address else AF_INET, address, int(length)
