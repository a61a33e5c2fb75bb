"""The agent's session with dvr-metadata-proxy: connected, away, hanging, or without neutron-metadata-agent.

Used by ``service``; of routers it knows only the list of those that the proxy serves.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Sequence
from enum import Enum

from dvr_agent import backoff
from dvr_agent.control.connection import AwayError, HangsError
from dvr_agent.errors import ServiceError
from dvr_agent.kernel.timerfd import TimerFd
from dvr_agent.metadata.control_protocol import Message
from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.services.metadata.control_client import ControlClient

LOG = logging.getLogger(__name__)

FIRST_RETRY, LAST_RETRY = 0.05, 2.0
"""Seconds between tries to reach a proxy that is away.  One try is a connect(2) on a Unix socket."""
LAST_RETRY_HANGING = 60.0
"""The same for a proxy that hangs: each try blocks for a while, and routers served already are served on."""
PROBE_SECONDS = 5.0
"""Between two checks whether the proxy can reach neutron-metadata-agent, while it cannot."""


class Outage(Enum):
    """Why instances of all routers get no metadata; the values are log texts."""

    NONE = ""
    NO_PROXY = "instances wait for metadata until it is back"
    NO_UPSTREAM = "instances get 503 instead of metadata, see docs/metadata.md"


class ProxySession:
    """Keeps a connection to the proxy: connects, retries, probes, and notes outages.

    :param client: not connected yet
    :param settings: settings for the proxy; None: none are sent, since this process only makes plans
    :ivar served: router id → cookie of its namespace, of the routers that the proxy served when the connection was made
    :ivar generation: number of the connection; a listener handed over by an earlier one has to be handed over again
    :ivar trouble: reason of the present outage, empty if there is none
    :ivar since: begin of the present state, in seconds since the epoch
    """

    def __init__(self, client: ControlClient, settings: ProxySettings | None) -> None:
        self._client, self._settings = client, settings
        self.served: dict[str, int] = {}
        self.generation = 0
        self.trouble, self.since = "", 0.0
        self._kind: Outage | None = None
        self._hangs = False
        self._failures = 0
        self._timer = TimerFd()
        self._poll = select.epoll()
        self._poll.register(self._timer.fileno(), select.EPOLLIN)
        self._connect()

    @property
    def connected(self) -> bool:
        """True if the proxy answers."""
        return self._client.connected

    @property
    def hangs(self) -> bool:
        """True if a process has the control socket, and may serve, but does not answer."""
        return self._hangs and not self.connected

    @property
    def pid(self) -> int | None:
        """Process id of the proxy."""
        return self._client.pid or None

    def ask(self, question: Message, descriptors: Sequence[int] = ()) -> tuple[Message, list[int]] | None:
        """Send a question; returns the answer and descriptors, the caller's now, or None if the proxy is away.

        :raises ServiceError: the proxy refuses
        """
        if not self.connected:
            return None
        try:
            return self._client.ask(question, descriptors)
        except AwayError as exc:
            lost = exc
        self._lost(lost)  # not above: oslo.log would append the exception to the log line
        return None

    def fileno(self) -> int:
        """Return a descriptor that is readable when :meth:`changed` must be called."""
        return self._poll.fileno()

    def changed(self) -> bool:
        """Handle events; returns True if the proxy is back, or can reach neutron-metadata-agent again."""
        ready = {fd for fd, _ in self._poll.poll(0)}
        if self.connected and self._client.fileno() in ready:
            self._lost(self._client.gone())
        elif self._timer.fileno() in ready:
            return self.check() if self.connected else self._connect()
        return False

    def check(self) -> bool:
        """Probe the proxy; returns True if it can reach neutron-metadata-agent again.

        No event tells that a proxy hangs, or cannot reach neutron-metadata-agent any more.
        """
        before = self.trouble
        if not self._probe():
            return False
        return bool(before) and not self.trouble

    def close(self) -> None:
        """Disconnect; the proxy goes on."""
        self._client.close()
        self._poll.close()
        self._timer.close()

    def _connect(self) -> bool:
        try:
            self._client.connect()
            if self._settings is not None:
                self._client.ask({"do": "set", "settings": self._settings.to_json()})
            self.served = dict(self._client.served())
        except ServiceError as exc:
            lost = exc
        else:
            self._poll.register(self._client.fileno(), select.EPOLLIN)
            self._failures = 0
            self.generation += 1
            return self._probe()
        self._lost(lost)
        return False

    def _probe(self) -> bool:
        """Ask whether the proxy can reach neutron-metadata-agent: often its user lacks the permission at first.

        :returns: False if there is no proxy
        """
        try:
            answer = self.ask({"do": "probe"})
        except ServiceError as exc:
            why = f"neutron-metadata-agent cannot be used: {exc}"
        else:
            if answer is None:
                return False
            upstream = str(answer[0].get("upstream", ""))
            why = f"dvr-metadata-proxy cannot use {upstream}" if upstream else ""
        self._note(Outage.NO_UPSTREAM if why else Outage.NONE, why)
        self._timer.set(PROBE_SECONDS if why else None)
        return True

    def _lost(self, why: ServiceError) -> None:
        """Note that the proxy is away, and retry soon, then less often."""
        self._client.close()  # the epoll forgets a closed descriptor
        self.served.clear()
        self._hangs = isinstance(why, HangsError)
        self._failures += 1
        longest = LAST_RETRY_HANGING if self._hangs else LAST_RETRY
        self._timer.set(backoff.delay(self._failures, FIRST_RETRY, longest))
        self._note(Outage.NO_PROXY, str(why))

    def _note(self, kind: Outage, text: str = "") -> None:
        """Note the state, and log a change of it once, however often the proxy is tried."""
        changed = kind is not self._kind
        self._kind, self.trouble = kind, text
        if not changed:
            return
        self.since = time.time()
        if self._settings is None:
            return
        if kind is Outage.NONE:
            LOG.info("metadata is served by dvr-metadata-proxy (process %d)", self._client.pid)
        else:
            LOG.warning("%s: %s", kind.value, text)
