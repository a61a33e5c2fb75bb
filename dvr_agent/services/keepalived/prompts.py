"""After a split of the HA network: a host that yields has the master that stays announce its addresses again.

Both masters have announced their addresses, and switches believe the later one.  keepalived announces them again when
it hears of another master; but the one that yields may do so before it has advertised once.  Used by ``service``.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import time
from typing import NamedTuple

from dvr_agent.errors import ServiceError
from dvr_agent.services.vrrp.sockets import open_vrrp
from dvr_agent.state.virtual_router import VirtualRouterState
from dvr_agent.vrrp.advert import GROUP, LOWEST, Advert, Speech, decode, encode, make_speech

LOG = logging.getLogger(__name__)

PACKET = 2048
MARGIN = 0.5
"""Seconds more than an interval, in which a master advertises."""


class _Yielded(NamedTuple):
    """A router whose host has yielded, and a socket that hears the new master.

    :ivar due: time of the monotonic clock by which a living master has advertised
    """

    listener: socket.socket
    speech: Speech
    due: float


class Prompts:
    """Routers whose host has yielded, and whose new master is not yet told to announce its addresses.

    Only a master that was heard is told: where there is none, those who wait to become one would take the message for
    an advertisement, and wait longer.

    :param poll: has the sockets that hear new masters
    """

    def __init__(self, poll: select.epoll) -> None:
        self._poll = poll
        self._yielded: dict[str, _Yielded] = {}

    def begin(self, router_id: str, namespace: str, state: VirtualRouterState) -> None:
        """Listen for the router's new master: this host has yielded."""
        self.forget(router_id)
        speech = make_speech(state.vr_id, state.interval, state.primary.ip, state.password)
        try:
            listener = open_vrrp(namespace, state.device, state.source)
        except ServiceError as exc:
            LOG.debug("router %s: its new master is not told: %s", router_id, exc)
            return
        self._poll.register(listener.fileno(), select.EPOLLIN)
        self._yielded[router_id] = _Yielded(listener, speech, time.monotonic() + state.interval + MARGIN)

    def tell(self, now: float) -> None:
        """Tell the new masters that were heard; give those up that should have been heard by now."""
        for router_id, one in list(self._yielded.items()):
            if _hears_master(one):
                with contextlib.suppress(OSError):
                    one.listener.sendto(encode(one.speech, LOWEST), (GROUP, 0))
            elif now < one.due:
                continue
            self.forget(router_id)

    @property
    def times(self) -> list[float]:
        """Times of the monotonic clock at which :meth:`tell` gives something up."""
        return [one.due for one in self._yielded.values()]

    def forget(self, router_id: str) -> None:
        """Forget a router."""
        one = self._yielded.pop(router_id, None)
        if one is not None:
            self._poll.unregister(one.listener.fileno())
            one.listener.close()

    def close(self) -> None:
        """Forget all routers."""
        for router_id in list(self._yielded):
            self.forget(router_id)


def _hears_master(one: _Yielded) -> bool:
    """Return True if a master has advertised since the socket is there; one that yields does not count."""
    with contextlib.suppress(OSError):
        while True:
            heard = decode(one.listener.recv(PACKET), one.speech)
            if isinstance(heard, Advert) and heard.priority:
                return True
    return False
