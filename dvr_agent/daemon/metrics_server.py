"""The TCP port of ``[metrics] listen``: metrics and health for programs that cannot use the admin socket.

The address is of the loopback device (``dvr_agent.config`` checks it): what other hosts may read is decided by whatever
forwards it.  Any user of this host can ask here, so nothing of documents is answered, and nothing changed.
"""

from __future__ import annotations

import os
import socket as native_socket
from functools import partial
from typing import Any

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.admin_listener import BACKLOG, AdminListener
from dvr_agent.daemon.http_application import HttpApplication
from dvr_agent.daemon.http_resources import ResourceTable
from dvr_agent.errors import ConfigError


class MetricsServer:
    """Listens from :meth:`start` to the end of the process.

    :param address: address and port; None: it does not listen
    """

    def __init__(self, address: tuple[str, int] | None, resources: ResourceTable) -> None:
        self._address, self._application = address, HttpApplication("metrics", resources)

    def start(self) -> None:
        """Open the port and serve in the background.

        :raises ConfigError: it cannot be opened
        """
        if self._address is None:
            return
        try:
            listener = _listen(*self._address)
        except OSError as exc:
            host, port = self._address
            raise ConfigError(f"[metrics] listen = {host}, port {port}: {_reason(exc)}") from exc
        eventlet_shim.spawn(partial(self._application.serve, AdminListener(listener)))


def _listen(host: str, port: int) -> Any:
    family = native_socket.AF_INET6 if ":" in host else native_socket.AF_INET
    listener = eventlet_shim.socket.socket(family, native_socket.SOCK_STREAM)
    try:
        # A restart must not wait for connections of the last run to time out.
        listener.setsockopt(native_socket.SOL_SOCKET, native_socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _reason(exc: OSError) -> str:
    return os.strerror(exc.errno) if exc.errno else str(exc)
