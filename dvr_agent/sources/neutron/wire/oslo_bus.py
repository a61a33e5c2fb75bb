"""The message bus by oslo.messaging: calls out, notifications in, in native threads.

``oslo_options`` reads the options, ``rpc_client`` makes the calls, ``listener`` consumes what the server casts.
Everything here works without eventlet: oslo.messaging uses threads as long as nothing is monkey-patched, and the daemon
patches nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

import oslo_messaging
from oslo_config import cfg

from dvr_agent.errors import ConfigError
from dvr_agent.settings import NeutronSettings
from dvr_agent.sources.neutron.api import L3Plugin, Notify
from dvr_agent.sources.neutron.wire.library_lines import LibraryLines
from dvr_agent.sources.neutron.wire.listener import Listener
from dvr_agent.sources.neutron.wire.oslo_options import brokers_of, hide, messaging_options, secrets_of
from dvr_agent.sources.neutron.wire.readiness import BusReadiness
from dvr_agent.sources.neutron.wire.rpc_client import L3PluginClient, RpcCaller, Timeouts
from dvr_agent.sources.neutron.wire.versioned_objects import push_topic
from dvr_agent.threads import start_thread

LOG = logging.getLogger(__name__)

PLUGIN_TOPIC = "q-l3-plugin"
REPORTS_TOPIC = "q-reports-plugin"
OBJECTS_TOPIC = "q-plugin"
"""Topic of questions about versioned objects (neutron_lib.rpc topics.PLUGIN)."""
CLOSE_SECONDS = 1.5


class OsloBus:
    """Implements :class:`dvr_agent.sources.neutron.api.Bus`.

    Two transports: reports of agent state have connections of their own, so that they show whether this agent is alive
    however busy the other calls are.
    """

    def __init__(self, options: cfg.ConfigOpts, host: str, report_timeout: float) -> None:
        """Make transports and clients; nothing is connected.

        :param options: of :func:`messaging_options`
        :param report_timeout: seconds to wait for the answer to a report
        :raises ConfigError: ``transport_url`` cannot be used
        """
        secrets = secrets_of(options)
        self._transports = [_transport(options), _transport(options)]
        timeouts = Timeouts(options.rpc_response_timeout, options.rpc_response_max_timeout)
        report_timeouts = Timeouts(report_timeout, report_timeout)
        self.brokers = brokers_of(options)
        self._readiness = BusReadiness(self.brokers)
        LibraryLines(self.brokers).install()
        common = (secrets, self._readiness, self.brokers)
        self._calls = RpcCaller(self._transports[0], PLUGIN_TOPIC, timeouts, *common)
        self._reports = RpcCaller(self._transports[1], REPORTS_TOPIC, report_timeouts, *common)
        self._objects = RpcCaller(self._transports[0], OBJECTS_TOPIC, timeouts, *common)
        self._plugin = L3PluginClient(self._calls, self._reports, self._objects, host)
        self._host, self._secrets = host, secrets
        self._listener: Listener | None = None

    @property
    def plugin(self) -> L3Plugin:
        """Calls to the server."""
        return self._plugin

    def listen(self, notify: Notify, pushed: Iterable[tuple[str, str]] = ()) -> None:
        """Begin to consume; calls wait from now on until the queues exist."""
        topics = [push_topic(resource_type, version) for resource_type, version in pushed]
        common = (self._readiness, self.brokers, self._secrets)
        self._listener = Listener(self._transports[0], self._host, notify, *common, topics)
        self._listener.start()

    def status(self) -> dict[str, Any]:
        """Return the state of connection and calls, for the admin socket."""
        consumer = self._listener.status() if self._listener is not None else {"connected": False, "notifications": 0}
        calls = {"calls": self._calls, "objects": self._objects, "reports": self._reports}
        return {**consumer, **{name: caller.status() for name, caller in calls.items()}}

    def close(self) -> None:
        """Have calls fail at once, and close connections; one that hangs is left to the end of the process."""
        self._readiness.close()
        for caller in (self._calls, self._objects, self._reports):
            caller.close()
        stopping = self._listener.close() if self._listener is not None else []
        start_thread("neutron-close", self._clean_up, stopping)
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in stopping:
            thread.join(max(deadline - time.monotonic(), 0))

    def _clean_up(self, stopping: list[threading.Thread]) -> None:
        for thread in stopping:
            thread.join()
        for transport in self._transports:
            try:
                transport.cleanup()
            except Exception as exc:  # noqa: BLE001 - the broker may be unreachable: it drops the connection by itself
                LOG.debug("connection not closed: %s", hide(str(exc), self._secrets))


def open_bus(settings: NeutronSettings, host: str) -> OsloBus:
    """Make the bus of this configuration; it is not connected yet.

    :raises ConfigError: ``transport_url`` is missing or cannot be used
    """
    return OsloBus(messaging_options(settings.config_arguments), host, settings.report_interval)


def _transport(options: cfg.ConfigOpts) -> Any:
    """Make a transport; errors do not repeat oslo.messaging's text about the URL, which has its password."""
    try:
        return oslo_messaging.get_rpc_transport(options)
    except oslo_messaging.InvalidTransportURL:
        reason = "expected rabbit://user:password@host:port/virtual_host"
    except oslo_messaging.DriverLoadFailure as exc:
        reason = f"there is no driver {exc.driver!r} in this installation of oslo.messaging"
    except (RuntimeError, ValueError, cfg.Error) as exc:
        reason = type(exc).__name__ if _any_in(secrets_of(options), str(exc)) else str(exc)
    raise ConfigError(f"[DEFAULT] transport_url and [oslo_messaging_rabbit]: cannot be used: {reason}")


def _any_in(secrets: tuple[str, ...], text: str) -> bool:
    return any(secret in text for secret in secrets)
