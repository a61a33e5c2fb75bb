"""The admin socket: HTTP/1.1 on a unix socket that only its owner may use; ``dvrctl status`` reads it.

========================  ====================================================================================
``GET /status``           everything, see :meth:`dvr_agent.daemon.status.DaemonStatus.to_json`
``GET /routers/<id>``     one router of it
``POST /sync``            rescan, then resync of every router; answers 202 with the number of routers
========================  ====================================================================================

Answers are JSON, errors too.  Requests are handled in green threads; none of them waits for the kernel, and a long
answer is made in portions.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket as native_socket
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dvr_agent.daemon import eventlet_shim, json_portions
from dvr_agent.daemon.admin_listener import BACKLOG, CONNECTIONS, AdminListener
from dvr_agent.daemon.status import DaemonStatus
from dvr_agent.errors import ConfigError
from dvr_agent.securedirs import make_directory

LOG = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 30
REQUEST_SECONDS = 10

StartResponse = Callable[[str, list[tuple[str, str]]], object]
Answer = tuple[str, dict[str, object]]


class AdminServer:
    """Listens from :meth:`start` to :meth:`close`.

    :param resync: begins a rescan and a resync; returns the number of routers, or why it cannot be done
    """

    def __init__(self, path: str, status: DaemonStatus, resync: Callable[[], int | str]) -> None:
        self._path, self._status, self._resync = Path(path), status, resync
        self._socket: Any = None

    def start(self) -> None:
        """Open the socket and serve in the background.

        :raises ConfigError: it cannot be opened, or another process answers on it
        """
        try:
            os.close(make_directory(self._path.parent, inherit_owner=False))
            _remove_stale(self._path)
            self._socket = _listen(self._path)
        except OSError as exc:
            raise ConfigError(f"[dvr_agent] admin_socket = {self._path}: {exc.strerror or exc}") from exc
        self._inode = self._path.stat().st_ino
        self._listener = AdminListener(self._socket)
        eventlet_shim.spawn(self._serve)

    def close(self) -> None:
        """Stop listening and remove the socket, unless another socket has taken its place."""
        with contextlib.suppress(OSError):
            if self._socket is not None and self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _serve(self) -> None:
        eventlet_shim.wsgi_server(
            self._listener,
            self._application,
            log=_WsgiLog(),
            protocol=eventlet_shim.HttpProtocol,
            log_output=False,
            debug=False,
            keepalive=KEEPALIVE_SECONDS,
            socket_timeout=REQUEST_SECONDS,
            max_size=2 * CONNECTIONS,  # connections that give way need a moment to close
        )

    def _application(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self._listener.note_request(environ)
        try:
            code, body = self._answer(method, path)
            data = self._encoded(body)
        except Exception:
            LOG.exception("admin socket: %s %s failed", method, path)
            code, body = "500 Internal Server Error", {"error": "see the log of dvr-agent"}
            data = self._encoded(body)
        LOG.debug("admin socket: %s %s → %s", method, path, code)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
        if code.startswith("405"):
            headers.append(("Allow", str(body["allow"])))
        start_response(code, headers)
        return [data] if method != "HEAD" else []

    @staticmethod
    def _encoded(body: Mapping[str, object]) -> bytes:
        return json_portions.encode(body) + b"\n"

    def _answer(self, method: str, path: str) -> Answer:
        """Answer a request; the resource is checked before the method, so an unknown path is 404 with any method."""
        if path == "/status":
            return ("200 OK", self._status.to_json()) if method == "GET" else _not_allowed("GET")
        if path == "/sync":
            return self._begin_resync() if method == "POST" else _not_allowed("POST")
        if path.startswith("/routers/"):
            router_id = path.removeprefix("/routers/")
            if method != "GET":
                return _not_allowed("GET")
            router = self._status.router(router_id)
            if router is None:
                return "404 Not Found", {"error": f"no router {router_id}"}
            return "200 OK", router
        return "404 Not Found", {"error": f"no {path} here", "paths": ["/status", "/routers/<id>", "/sync"]}

    def _begin_resync(self) -> Answer:
        queued = self._resync()
        if isinstance(queued, str):
            return "503 Service Unavailable", {"error": queued}
        return "202 Accepted", {"queued": queued}


def _not_allowed(method: str) -> Answer:
    return "405 Method Not Allowed", {"error": f"only {method} is allowed here", "allow": method}


def _listen(path: Path) -> Any:
    listener = eventlet_shim.socket.socket(native_socket.AF_UNIX, native_socket.SOCK_STREAM)
    before = os.umask(0o177)  # mode 0600 from birth; nothing else creates files at this moment
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket of a killed process.

    :raises OSError: another process answers on the socket, or the file is no socket
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "exists and is no socket")
        with native_socket.socket(native_socket.AF_UNIX, native_socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                path.unlink()
                return
        raise OSError(errno.EADDRINUSE, "another process answers there")


class _WsgiLog:
    """Logs messages of eventlet.wsgi at DEBUG, its errors too: they are about clients that went away."""

    def info(self, text: str, *args: object) -> None:
        """Log a message."""
        LOG.debug("wsgi: %s", text.rstrip())

    debug = error = warning = info
