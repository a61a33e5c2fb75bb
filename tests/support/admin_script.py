"""An admin socket that gives scripted answers, for what a running daemon does only now and then."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answers = Callable[[str, str], tuple[int, dict[str, Any]]]
"""Method and path → status code and body."""


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    answers: Answers


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def _answer(self) -> None:
        code, body = self.server.answers(self.command, self.path)
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        """Log nothing."""


@contextmanager
def admin_socket(path: Path, answers: Answers) -> Iterator[None]:
    """Serve on the socket inside the block."""
    with _Server(str(path), _Handler) as server:
        server.answers = answers
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
