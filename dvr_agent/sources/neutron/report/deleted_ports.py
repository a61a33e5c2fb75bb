"""Asks the server which ports do not exist any more, for floating IPs that have left a document.

``fip_statuses`` says why; used by ``reporter``.
"""

from __future__ import annotations

from collections.abc import Mapping

from dvr_agent.sources.neutron.api import BulkPull
from dvr_agent.sources.neutron.objects import PORT, PORT_VERSION, checked


def with_deleted_port(ports: Mapping[str, str], bulk_pull: BulkPull) -> list[str]:
    """Return the floating IPs whose ports do not exist.

    :param ports: floating IP id → id of the port that it was associated with
    :raises ServerError: the question failed
    """
    if not ports:
        return []
    answer = checked(bulk_pull(PORT, PORT_VERSION, {"id": sorted(set(ports.values()))}))
    existing = {port.get("id") for port in answer}
    return [fip_id for fip_id, port_id in ports.items() if port_id not in existing]
