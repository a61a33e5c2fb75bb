"""The counters of the daemon as the status shows them."""

from __future__ import annotations

import pytest

from dvr_agent.daemon.counters import DaemonCounters
from dvr_agent.daemon.floating_ip_counts import FloatingIpCounts
from dvr_agent.desired.host_settings import AgentMode, HostSettings


class EndOfProbeError(Exception):
    """Ends the measurement."""


def test_a_second_reader_sees_how_late_the_hub_was() -> None:
    counters = DaemonCounters(FloatingIpCounts(HostSettings("host", AgentMode.DVR)))
    measured: list[int] = []

    def watch() -> None:
        measured.append(1)
        if len(measured) == 2:
            raise EndOfProbeError

    with pytest.raises(EndOfProbeError):
        counters.probe_hub(watch)
    first = counters.to_json()
    assert first["hub_lateness_ms"] == first["hub_lateness_worst_ms"] != 0
    assert counters.to_json() == first
