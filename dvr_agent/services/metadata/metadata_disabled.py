"""The service "metadata" with ``enable_metadata_proxy = false``: has a running proxy stop serving routers, and end.

Otherwise the proxy would keep the namespaces of removed routers alive.  It ends as soon as it serves no router; systemd
does not start it again, since the condition of its unit (``dvrctl wants-metadata``) fails.  Without a proxy nothing is
done.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from dvr_agent.errors import ServiceError
from dvr_agent.eventfd import EventFd
from dvr_agent.model.router import Router
from dvr_agent.services.metadata.control_client import ControlClient

LOG = logging.getLogger(__name__)


class MetadataDisabled:
    """Implements :class:`dvr_agent.services.api.RouterService`.

    :param client: not connected; a connection is made for each question, since there is hardly ever a proxy
    :param writable: False: the proxy is left as it is, this process only makes plans
    """

    name = "metadata"

    def __init__(self, client: ControlClient, writable: bool = True) -> None:
        self._client, self._writable = client, writable
        self._never = EventFd()
        self._served = self._read_served()

    def plan(self, router: Router) -> list[str]:
        """Return the line for a listener that the proxy still has."""
        return self.plan_remove(router.id)

    def apply(self, router: Router) -> None:
        """Have the proxy close everything of the router."""
        self.remove(router.id)

    def plan_remove(self, router_id: str) -> list[str]:
        """Return the line for a listener that the proxy still has."""
        return ["- metadata listener"] if router_id in self._served else []

    def remove(self, router_id: str) -> None:
        """Have the proxy close everything of the router, and end if it was the last one."""
        if router_id not in self._served:
            return
        try:
            self._client.connect()
            self._client.ask({"do": "stop", "router": router_id})
            if self._served == {router_id}:
                self._end()
        except ServiceError as exc:  # the proxy has gone, and its sockets too; or it hangs until its watchdog acts
            LOG.debug("router %s: %s", router_id, exc)
        finally:
            self._client.close()
        self._served.discard(router_id)

    def routers(self) -> Collection[str]:
        """Return ids of the routers that the proxy still serves."""
        return self._served

    def fileno(self) -> int:
        """Return a descriptor that is never readable."""
        return self._never.fileno()

    def changed(self) -> Collection[str]:
        """Return nothing: there are no events."""
        return ()

    def check(self) -> Collection[str]:
        """Return nothing: the list of served routers was read at the start."""
        return ()

    def status(self) -> dict[str, object]:
        """Return how many routers the proxy still serves."""
        return {"routers": len(self._served)}

    def close(self) -> None:
        """Close the descriptor."""
        self._never.close()

    def _end(self) -> None:
        """End the proxy.

        :raises ServiceError: a proxy of an earlier version does not know the message
        """
        if self._writable:
            self._client.ask({"do": "end"})
            LOG.info("dvr-metadata-proxy ended: metadata is disabled")

    def _read_served(self) -> set[str]:
        """Return ids of the routers that the proxy serves; a proxy that serves none is ended."""
        try:
            self._client.connect()
            served = {router_id for router_id, _ in self._client.served()}
            if not served:
                self._end()
            return served
        except ServiceError as exc:
            LOG.debug("%s", exc)
            return set()
        finally:
            self._client.close()
