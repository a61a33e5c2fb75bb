"""Runs in the virtual machine as a service: stands in for neutron-metadata-agent, and answers 200 to everything."""

from __future__ import annotations

import os
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Says who asked, as the proxy told."""

    def do_GET(self) -> None:  # the library's name for it
        body = (self.headers.get("X-Forwarded-For") or "nobody").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Nothing: there is no client address on a Unix socket."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A thread for each connection."""


def main() -> None:
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.umask(0)  # neutron-metadata-agent's socket has mode 0666, too, where it is set up so
    with Server(str(path), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
