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

from dvr_agent.control.packets import Message, receive, send
from dvr_agent.control.questions import PAGE

__all__ = ["PAGE", "VERSION", "Message", "receive", "send"]

VERSION = 1
