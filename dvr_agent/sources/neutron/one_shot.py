"""Makes one full sync and caches the documents of this host, for ``dvrctl fetch``; reports and consumes nothing.

An operator runs it while the ``neutron-l3-agent`` that is to be replaced still works.  It asks the server nothing that
neutron-l3-agent does not ask too, so nothing changes at the server, and takes no message from that agent's queue.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from dvr_agent.config import Settings
from dvr_agent.errors import SourceError
from dvr_agent.sources.api import Bad, Changed, Event, Failed, Synced
from dvr_agent.sources.neutron.api import Bus, L3Plugin, Notify
from dvr_agent.sources.neutron.broker_probe import BrokerProbe
from dvr_agent.sources.neutron.open import neutron_options, open_bus
from dvr_agent.sources.neutron.source import NeutronSource


class _SilentPlugin:
    """The server's L3 plugin, but agent state is not reported."""

    def __init__(self, plugin: L3Plugin) -> None:
        self._plugin = plugin

    def report_state(self, agent_state: Mapping[str, Any]) -> str | None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plugin, name)


class _SilentBus:
    """The message bus, but notifications are not consumed."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.plugin: L3Plugin = _SilentPlugin(bus.plugin)

    def listen(self, notify: Notify, pushed: Iterable[tuple[str, str]] = ()) -> None:
        """Leave messages to the agent that consumes them."""

    def status(self) -> dict[str, Any]:
        return self._bus.status()

    def close(self) -> None:
        self._bus.close()


def fetch(settings: Settings, seconds: float, begins: Callable[[str], None]) -> tuple[list[Changed], list[Bad]]:
    """Ask for all routers of this host and cache their documents; returns the good and the bad ones.

    :param seconds: time-out
    :param begins: called with the names of the brokers before neutron-server is asked
    :raises ConfigError: the source cannot be used as it is configured
    :raises SourceError: the server did not answer, or not fully, or the documents cannot be kept
    """
    options = replace(neutron_options(settings), fallback_after=threading.TIMEOUT_MAX)
    bus = open_bus(settings)
    brokers = str(getattr(bus, "brokers", "the message bus"))
    source = NeutronSource(_SilentBus(bus), settings.dataplane, options)
    deadline = time.monotonic() + seconds
    probe = BrokerProbe(brokers.split(", ") if hasattr(bus, "brokers") else ())
    good: dict[str, Changed] = {}
    bad: dict[str, Bad] = {}
    begins(brokers)
    try:
        probe.start()
        source.rescan()
        while not _take(_events(source, deadline), good, bad):
            if time.monotonic() >= deadline:
                why = probe.faults or _last_error(source)
                raise SourceError(
                    f"neutron-server: no answer by {brokers} within {seconds:g} s" + (f" ({why})" if why else "")
                )
    finally:
        probe.stop()
        source.close()
    if source.status()["not_kept"]:
        raise SourceError(source.status()["not_kept"])
    return list(good.values()), list(bad.values())


def _last_error(source: NeutronSource) -> str:
    """Return why the last call to the server failed; empty if none has."""
    return str(source.status()["bus"].get("calls", {}).get("last_error") or "")


def _events(source: NeutronSource, deadline: float) -> list[Event]:
    """Return the next events; none if there are none before the deadline."""
    poll = select.poll()
    poll.register(source.fileno(), select.POLLIN)
    return source.poll() if poll.poll(max(deadline - time.monotonic(), 0) * 1e3) else []


def _take(events: list[Event], good: dict[str, Changed], bad: dict[str, Bad]) -> bool:
    """Sort events into good and bad documents; returns True at the end of the listing.

    :raises SourceError: the server could not be asked
    """
    for event in events:
        if isinstance(event, Changed):
            good[event.document.router.id] = event
        elif isinstance(event, Bad):
            bad[event.name] = event
        elif isinstance(event, Failed):
            raise event.error
        elif isinstance(event, Synced):
            return True
    return False
