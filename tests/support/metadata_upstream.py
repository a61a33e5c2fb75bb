"""A stand-in for neutron-metadata-agent: HTTP on a Unix socket, in a thread, with answers that a test chooses.

It parses requests with h11, as strictly as it can, and remembers them.  What it answers depends on the path; see
:meth:`Upstream._answer`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import h11


@dataclass
class Seen:
    """A request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found == name]

    def names(self) -> set[str]:
        return {name for name, _ in self.headers}


class Upstream:
    """Listens from the start; :meth:`stop` and :meth:`start` are its death and its return."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[Seen] = []
        self.at_once = self.most_at_once = 0
        self.gate = threading.Event()
        """Requests below ``/wait`` are answered when it is set."""
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self.start()

    def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen(128)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.gate.set()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def targets(self) -> list[str]:
        return [one.target for one in list(self.seen)]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        with connection, contextlib.suppress(OSError):
            http = h11.Connection(h11.SERVER)
            request, body = None, b""
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(connection.recv(65536))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    break
            if request is not None:
                headers = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
                seen = Seen(request.method.decode(), request.target.decode(), headers, body)
                with self._lock:
                    self.seen.append(seen)
                    self.at_once += 1
                    self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    self._answer(connection, seen)
                finally:
                    with self._lock:
                        self.at_once -= 1
        self._open.discard(connection)

    def _answer(self, connection: socket.socket, seen: Seen) -> None:
        path = seen.target.partition("?")[0]
        head = b"HTTP/1.1 200 OK\r\n"
        if path.startswith("/wait"):
            self.gate.wait(60)
        if path.startswith("/slow"):
            time.sleep(0.05)  # a slow server is what is asked for
        if path == "/chunked":
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n")
        elif path == "/until-close":
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nuntil close")
        elif path == "/until-gate":
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")
            self.gate.wait(60)
        elif path == "/204":
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif path == "/304":
            connection.sendall(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")
        elif path == "/404":
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
        elif path == "/garbage":
            connection.sendall(b"this is no HTTP\r\n\r\n")
        elif path == "/nothing":
            pass
        elif path == "/never":
            connection.recv(1)
        elif path == "/cut-off":
            connection.sendall(head + b"Content-Length: 100\r\n\r\nonly this")
        elif path == "/hop":
            connection.sendall(
                head + b"Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\n"
                b"X-End: 1\r\nContent-Length: 2\r\n\r\nok"
            )
        elif path.startswith("/big/"):
            size = int(path.rpartition("/")[2])
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % size)
            piece = os.urandom(1) * 65536
            while size > 0:
                connection.sendall(piece[: min(size, len(piece))])
                size -= len(piece)
        else:
            body = seen.target.encode() + b" " + seen.body
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
            if seen.method != "HEAD":
                connection.sendall(body)
