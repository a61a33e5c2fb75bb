"""The agent's connection to dvr-metadata-proxy."""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.control.connection import ControlConnection
from dvr_agent.desired import names
from dvr_agent.metadata import control_protocol


class ControlClient(ControlConnection):
    """A connection whose questions ``dvr_agent.metadata.control_protocol`` describes.

    :param path: ``[metadata_proxy] control_socket``
    """

    program = "dvr-metadata-proxy"
    version = control_protocol.VERSION
    first_timeout = 0.5
    """Routers would wait for a proxy that hangs."""

    def served(self) -> Iterator[tuple[str, int]]:
        """Return (router id, cookie of its network namespace) of all routers that the proxy serves.

        :raises ServiceError: see :meth:`listed`
        """
        return self.listed(_is_served)


def _is_served(router_id: object, cookie: object) -> bool:
    """Check an entry of the proxy's list: the id goes into names of namespaces and files."""
    known = isinstance(router_id, str) and names.parse_namespace(names.QROUTER + router_id) is not None
    return known and isinstance(cookie, int)
