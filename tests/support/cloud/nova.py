"""Nova's metadata service, as far as neutron-metadata-agent talks to it; on the server side of the cloud.

It answers with what neutron-metadata-agent says of the instance, once it has checked the signature: nothing is known
here that the agent has not found out from the router and the address that the request came from.
"""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import threading

from tests.support.cloud import config


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        instance = self.headers.get("X-Instance-ID", "")
        signature = hmac.new(config.METADATA_SECRET.encode(), instance.encode(), hashlib.sha256).hexdigest()
        right = self.headers.get("X-Instance-ID-Signature") == signature
        said = {"instance": instance, "path": self.path, "body": body.decode(), "headers": dict(self.headers.items())}
        data = json.dumps(said).encode()
        self.send_response(200 if right else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server gives it
        pass


class Nova:
    """Serves until the sandbox ends."""

    def __init__(self) -> None:
        self._server = http.server.ThreadingHTTPServer((config.SERVER, config.NOVA_PORT), _Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
