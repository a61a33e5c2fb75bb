"""Makes the metrics of floating IPs' bytes and dropped packets as text.  For the worker thread: there may be many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import generate_latest

from dvr_agent.daemon.metrics.families import Families
from dvr_agent.reconcile.api import Traffic


class _Registry:
    """What prometheus_client makes a text of."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterable[Any]:
        return self._families


def traffic_text(found: Iterable[Traffic]) -> bytes:
    """Return the text; of a floating IP that two routers have, both are there."""
    by_label = {(one.floating_ip, one.router_id): one for one in found}
    families = Families()
    families.counters("floating_ip_receive_bytes_total", {labels: one.received for labels, one in by_label.items()})
    families.counters("floating_ip_transmit_bytes_total", {labels: one.sent for labels, one in by_label.items()})
    dropped = {labels: one.dropped for labels, one in by_label.items() if one.dropped is not None}
    families.counters("floating_ip_receive_dropped_packets_total", {labels: one[0] for labels, one in dropped.items()})
    families.counters("floating_ip_transmit_dropped_packets_total", {labels: one[1] for labels, one in dropped.items()})
    text: bytes = generate_latest(_Registry(families))
    return text
