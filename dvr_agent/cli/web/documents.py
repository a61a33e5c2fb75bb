"""Makes the index by which the page finds routers: floating IPs, addresses of routers and of instances in documents."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from typing import Any

from dvr_agent.model.router import Router
from dvr_agent.settings import SourceSettings
from dvr_agent.sources.api import Changed, Deleted, Failed, Synced
from dvr_agent.sources.factory import open_documents
from dvr_agent.web.wire import Kind, QuestionError

LIST_SECONDS = 60.0
"""The directory is listed again after so long; in between the kernel tells which files change."""


class DocumentIndex:
    """The index, brought up to date when it is asked for: files that have changed are read."""

    def __init__(self, settings: SourceSettings) -> None:
        self._source = open_documents(settings)
        self._lock = threading.Lock()
        self._list_due = 0.0
        self._routers: dict[str, Any] = {}
        self._version = ""

    def answer(self, version: str | None) -> dict[str, Any]:
        """Return the index with its version, or only that if the asker has this version already.

        :raises QuestionError: the documents cannot be listed
        """
        with self._lock:
            self._read()
            if version == self._version:
                return {"version": version}
            return {"version": self._version, "routers": self._routers}

    def _read(self) -> None:
        listing = time.monotonic() >= self._list_due
        events = self._source.rescan() if listing else self._source.poll()
        routers = dict(self._routers)
        for event in events:
            if isinstance(event, Failed):
                raise QuestionError(Kind.FAILED, str(event.error)) from event.error
            if isinstance(event, Changed):
                routers[event.document.router.id] = entry(event.document.router)
            elif isinstance(event, Deleted):
                routers.pop(event.router_id, None)
            elif isinstance(event, Synced):
                routers = {one: found for one, found in routers.items() if one in event.known}
        if listing:
            self._list_due = time.monotonic() + LIST_SECONDS
        if routers != self._routers or not self._version:
            self._routers = routers
            self._version = hashlib.sha256(json.dumps(routers).encode()).hexdigest()[:16]


def entry(router: Router) -> dict[str, Any]:
    """Return what a router can be found by.

    :returns: ``fips``: (floating IP, fixed IP); ``own``: its own addresses; ``vms``: addresses of ports in its
        subnets; ``network``: external network, empty without one
    """
    own = {str(fixed.address) for port in router.interfaces for fixed in port.fixed_ips}
    outside = [str(fixed.address) for fixed in router.gateway.fixed_ips] if router.gateway else []
    csnat = {str(fixed.address) for port in router.snat_interfaces for fixed in port.fixed_ips}
    vms = {str(address) for _, ports in router.ports_by_subnet for port in ports for _, address in port.addresses}
    forwarded = [(str(one.address), "") for one in router.features.forwarding_ips]
    return {
        "name": router.name,
        "fips": [*((str(fip.address), str(fip.fixed_address)) for fip in router.floating_ips), *forwarded],
        "own": [*outside, *sorted(own | csnat)],
        "vms": sorted(vms - own - csnat),
        "network": router.gateway.network_id if router.gateway else "",
    }
