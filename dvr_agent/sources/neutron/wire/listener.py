"""Consumes notifications: opens a server of oslo.messaging per topic.

As Neutron's own agent does, this listens on two topics, and on one for each type of versioned objects; each has three
queues: the topic's, this host's, and one for fan-out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

import oslo_messaging

from dvr_agent.sources.neutron.api import Notify, Reconnected
from dvr_agent.sources.neutron.wire.endpoint import Endpoint
from dvr_agent.sources.neutron.wire.oslo_options import hide
from dvr_agent.sources.neutron.wire.readiness import BusReadiness
from dvr_agent.threads import start_thread

LOG = logging.getLogger(__name__)

AGENT_TOPIC = "l3_agent"
NETWORK_TOPIC = "q-agent-notifier-network-update"
RETRY_SECONDS = (1.0, 2.0, 4.0)


class Listener:
    """Consumes from :meth:`start` to :meth:`close`.

    :param topics: further ones beside those of every L3 agent
    :param readiness: state of the connections, kept up to date here
    :param secrets: texts that must not appear in the log
    """

    def __init__(
        self,
        transport: Any,
        host: str,
        notify: Notify,
        readiness: BusReadiness,
        brokers: str,
        secrets: tuple[str, ...] = (),
        topics: Iterable[str] = (),
    ) -> None:
        self._transport, self._host, self._notify, self._readiness = transport, host, notify, readiness
        self._topics = (AGENT_TOPIC, NETWORK_TOPIC, *topics)
        self._brokers, self._secrets = brokers, secrets
        self._refused = ""
        """The last error, which is logged once."""
        self._endpoint = Endpoint(notify)
        self._servers: list[Any] = []
        self._closing = threading.Event()

    def start(self) -> None:
        """Begin to connect in a thread, which retries until it works; returns at once."""
        self._readiness.need_queues(lambda: self._notify(Reconnected()))
        start_thread("neutron-listen", self._run)

    def status(self) -> dict[str, Any]:
        """Return state and numbers for the admin socket."""
        return {
            "connected": self._readiness.connected,
            "notifications": self._endpoint.count,
            "reconnects": self._readiness.reconnects,
        }

    def close(self) -> list[threading.Thread]:
        """Begin to stop; returns the threads that do it, which may hang while the broker cannot be reached."""
        self._closing.set()
        return [start_thread("neutron-stop", self._stop, server) for server in list(self._servers)]

    def _run(self) -> None:
        for topic in self._topics:
            failures = 0
            while not self._closing.is_set() and not self._open(topic):
                self._closing.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
        if self._closing.is_set():
            return
        LOG.info("listening to the message bus at %s for host %s", self._brokers, self._host)
        self._readiness.queues_exist()

    def _open(self, topic: str) -> bool:
        """Connect and begin to consume; may block while the broker cannot be reached.  One worker keeps the order."""
        target = oslo_messaging.Target(topic=topic, server=self._host)
        server = oslo_messaging.get_rpc_server(self._transport, target, [self._endpoint])
        try:
            server.start(override_pool_size=1)
        except Exception as exc:  # noqa: BLE001 - a refused login, a queue of other properties: many libraries' errors
            why = f"topic {topic} of the message bus at {self._brokers}: {hide(str(exc), self._secrets)}"
            LOG.log(logging.DEBUG if why == self._refused else logging.ERROR, "cannot listen on %s", why)
            self._refused = why
            return False
        self._servers.append(server)
        self._readiness.watch(server)
        return True

    def _stop(self, server: Any) -> None:
        try:
            server.stop()
            server.wait()
        except Exception as exc:  # noqa: BLE001 - the broker may be away: its queues expire by themselves
            LOG.debug("listener not closed: %s", hide(str(exc), self._secrets))
