"""Collects one request of a client: checks its size, and counts its body against the router's limit."""

from __future__ import annotations

from http import HTTPStatus

import h11

from dvr_agent.metadata.settings import ProxySettings
from dvr_agent.metadata_proxy.request_parser import RequestRefusedError
from dvr_agent.metadata_proxy.served_router import ServedRouter


class IncomingRequest:
    """Headers and body received so far; :meth:`forget` when the request is answered or refused.

    :ivar head: first line and headers; None: not complete yet
    :ivar body: bytes of the body so far
    """

    __slots__ = ("_counted", "_router", "body", "head")

    def __init__(self, router: ServedRouter) -> None:
        self._router = router
        self.head: h11.Request | None = None
        self.body = bytearray()
        self._counted = 0

    @property
    def wants_body(self) -> bool:
        """True if the answer has a body: all but the answer to HEAD."""
        return self.head is None or self.head.method != b"HEAD"

    def begin(self, head: h11.Request, settings: ProxySettings) -> None:
        """Take the headers.

        :raises RequestRefusedError: they are too large, or the method or version is not supported
        """
        self.head = head
        size = len(head.method) + len(head.target) + 12
        size += sum(len(name) + len(value) + 4 for name, value in head.headers)
        length = next((int(value) for name, value in head.headers if name == b"content-length"), 0)
        # h11 knows no limit for headers that come complete in one piece.
        if size > settings.max_header_size:
            raise RequestRefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large")
        if not head.http_version.startswith(b"1."):
            raise RequestRefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        if head.method == b"CONNECT":
            raise RequestRefusedError(HTTPStatus.METHOD_NOT_ALLOWED)
        if length > settings.max_body_size:
            raise RequestRefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large")

    def add(self, data: bytes, settings: ProxySettings) -> None:
        """Append bytes of the body.

        :raises RequestRefusedError: the body is too large, or the router's clients have too many bytes in memory
        """
        if len(self.body) + len(data) > settings.max_body_size:
            raise RequestRefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large")
        if not self._router.room_for_body(len(data)):
            raise RequestRefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "bodies")
        self._router.bodies += len(data)
        self._counted += len(data)
        self.body += data

    def forget(self) -> None:
        """Free the memory, here and in the router's count."""
        self._router.bodies -= self._counted
        self._counted, self.head = 0, None
        self.body = bytearray()
