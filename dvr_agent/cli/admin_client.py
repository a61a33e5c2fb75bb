"""Asks the running daemon by its admin socket (``dvr_agent.daemon.admin``), for all verbs that need it."""

from __future__ import annotations

import http.client
import json
import os
import socket
from typing import Any

from dvr_agent.errors import DvrError

TIMEOUT = 10.0
"""Seconds within which the daemon must answer; it never waits for the kernel to do so."""


class UnreachableError(DvrError):
    """The daemon gives no answer that can be used."""


class RefusedByDaemonError(UnreachableError):
    """The daemon answers that it cannot do now what it was asked for."""


class UnknownResourceError(RefusedByDaemonError):
    """The daemon is of a version that does not have the resource, or there is no such object."""


def ask(path: str, resource: str, method: str = "GET", timeout: float = TIMEOUT) -> dict[str, Any]:
    """Return the answer of a resource of the admin socket.

    :param path: of the socket
    :param timeout: seconds within which the whole answer must come
    :raises RefusedByDaemonError: it answers with an error; of what it does not have, UnknownResourceError
    :raises UnreachableError: no answer, or an answer that is not JSON
    """
    connection = UnixConnection(path, timeout)
    try:
        connection.request(method, resource)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status >= http.client.BAD_REQUEST:
            kind = UnknownResourceError if response.status == http.client.NOT_FOUND else RefusedByDaemonError
            raise kind(f"the daemon answered {response.status} {response.reason}: {answer['error']}")
    except TimeoutError as exc:
        raise UnreachableError(f"dvr-agent at {path} does not answer within {timeout:g} s") from exc
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        raise UnreachableError(f"dvr-agent is not reachable at {path}: {reason}") from exc
    except (http.client.HTTPException, ValueError, LookupError, TypeError) as exc:
        raise UnreachableError(f"the process that answers at {path} is no dvr-agent: {exc}") from exc
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise UnreachableError(f"the process that answers at {path} is no dvr-agent: no JSON object")
    return answer


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket.

    :param timeout: seconds
    """

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
