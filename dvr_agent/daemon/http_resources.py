"""Finds the function that answers an HTTP request: a table of resources, by path and method.

Knows no sockets and no parts of the daemon: ``admin_resources`` has the daemon's resources, ``http_application`` serves
a table.  A resource is added by one :class:`Resource` in the table::

    Resource("/history", history.answer)                      exactly this path, GET
    Resource("/routers/<id>", router)                         every path below /routers/: request.rest is the id
    Resource("/sync", sync, method="POST")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    :ivar path: the path as the client gave it, without the query
    :ivar rest: what follows the fixed part of a resource's path; empty for a resource without ``<…>``
    :ivar query: the parameters behind ``?``; of one that is given twice the last value
    """

    method: str
    path: str
    rest: str = ""
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    :ivar code: status code and reason, ``200 OK``
    :ivar body: bytes are sent as they are; an iterator of bytes as a stream without an end that is known before; any
        other value as JSON (iterators inside are lists, see ``json_portions``)
    :ivar headers: more headers
    """

    code: str
    body: object
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource.

    :ivar path: ``/status``, or with a name for the rest of the path, ``/routers/<id>``
    :ivar answer: answers a request; belongs to the hub's thread, so it waits neither for the kernel nor for disks
    """

    path: str
    answer: Callable[[Request], Answer]
    method: str = "GET"

    @property
    def prefix(self) -> str:
        """The fixed part of the path."""
        return self.path.partition("<")[0]

    def matches(self, path: str) -> bool:
        """Return True if a request for the path is for this resource."""
        return path.startswith(self.prefix) if self.prefix != self.path else path == self.path


class ResourceTable:
    """Resources by path and method; of several that match a path those that stand first count."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._resources = tuple(resources)

    def answer(self, method: str, path: str, query: str = "") -> Answer:
        """Answer a request; the path is checked before the method, so an unknown path is 404 with any method."""
        first = next((one for one in self._resources if one.matches(path)), None)
        if first is None:
            paths = list(dict.fromkeys(one.path for one in self._resources))
            return Answer("404 Not Found", {"error": f"no {path} here", "paths": paths})
        by_method = {one.method: one for one in self._resources if one.path == first.path}
        if method not in by_method:
            return _not_allowed(sorted(by_method))
        rest = path.removeprefix(first.prefix) if first.prefix != first.path else ""
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        return by_method[method].answer(Request(method, path, rest, parameters))


def _not_allowed(methods: list[str]) -> Answer:
    allowed = ", ".join(methods)
    body = {"error": f"only {allowed} is allowed here", "allow": allowed}
    return Answer("405 Method Not Allowed", body, headers=(("Allow", allowed),))
