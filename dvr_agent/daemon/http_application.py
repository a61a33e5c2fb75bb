"""Serves a table of resources as a WSGI application, for eventlet's server.

Errors are JSON, too.  Long answers are made in portions, so that other green threads have their turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dvr_agent.daemon import eventlet_shim, json_portions
from dvr_agent.daemon.admin_listener import CONNECTIONS, AdminListener
from dvr_agent.daemon.http_resources import Answer, ResourceTable

LOG = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 30
REQUEST_SECONDS = 10

StartResponse = Callable[[str, list[tuple[str, str]]], object]


class HttpApplication:
    """Answers requests of one listening socket.

    :param subject: of log lines: ``admin socket``
    """

    def __init__(self, subject: str, resources: ResourceTable) -> None:
        self._subject, self._resources = subject, resources

    def serve(self, listener: AdminListener) -> None:
        """Serve; never returns."""

        def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
            listener.note_request(environ)
            return self(environ, start_response)

        eventlet_shim.wsgi_server(
            listener,
            application,
            log=_WsgiLog(),
            protocol=eventlet_shim.HttpProtocol,
            log_output=False,
            debug=False,
            keepalive=KEEPALIVE_SECONDS,
            socket_timeout=REQUEST_SECONDS,
            max_size=2 * CONNECTIONS,  # connections that give way need a moment to close
        )

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        try:
            answer = self._resources.answer(method, path, environ.get("QUERY_STRING", ""))
            data = _encoded(answer.body)
        except Exception:
            LOG.exception("%s: %s %s failed", self._subject, method, path)
            answer = Answer("500 Internal Server Error", {"error": "see the log of dvr-agent"})
            data = _encoded(answer.body)
        LOG.debug("%s: %s %s → %s", self._subject, method, path, answer.code)
        headers = [("Content-Type", answer.content_type), *answer.headers]
        if isinstance(data, bytes):
            headers.append(("Content-Length", str(len(data))))
        start_response(answer.code, headers)
        if method == "HEAD":
            return []
        return [data] if isinstance(data, bytes) else data


def _encoded(body: object) -> bytes | Iterator[bytes]:
    if isinstance(body, bytes | Iterator):
        return body
    return json_portions.encode(body) + b"\n"


class _WsgiLog:
    """Logs messages of eventlet.wsgi at DEBUG, its errors too: they are about clients that went away."""

    def info(self, text: str, *args: object) -> None:
        """Log a message."""
        LOG.debug("wsgi: %s", text.rstrip())

    debug = error = warning = info
