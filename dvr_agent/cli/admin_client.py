"""Asks the running daemon by its admin socket (``dvr_agent.daemon.admin``), for all verbs that need it."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable
from typing import Any, Self

from oslo_config import cfg

from dvr_agent import lock
from dvr_agent.cli.process_state import Process, find_process
from dvr_agent.control.unix_socket import UCRED
from dvr_agent.errors import DvrError

TIMEOUT = 10.0
"""Seconds within which the daemon must answer; it never waits for the kernel to do so."""


class UnreachableError(DvrError):
    """The daemon gives no answer that can be used.

    :ivar process: the daemon's process, where it exists
    """

    process: Process | None = None


class SilentError(UnreachableError):
    """A process listens on the socket, and does not answer: it is stopped, or it hangs."""


class NotListeningError(UnreachableError):
    """No process listens on the socket."""


class RefusedByDaemonError(UnreachableError):
    """The daemon answers that it cannot do now what it was asked for."""


class UnknownResourceError(RefusedByDaemonError):
    """The daemon is of a version that does not have the resource, or there is no such object."""


class AdminClient:
    """Asks one daemon, for one command: a daemon that let one question time out is not waited for again.

    :param path: of the socket
    :param holder: returns the id of the process that holds the daemon's lock, 0 if none does; None: is not asked
    """

    def __init__(self, path: str, holder: Callable[[], int] | None = None) -> None:
        self._path, self._holder = path, holder
        self._silent: SilentError | None = None

    @classmethod
    def of(cls, conf: cfg.ConfigOpts) -> Self:
        """Make a client of the daemon with this configuration."""
        return cls(conf.dvr_agent.admin_socket, lambda: lock.holder(conf.state_path))

    def forget(self) -> None:
        """Wait again for a daemon that did not answer: for a command that goes on without an end."""
        self._silent = None

    def ask(self, resource: str, method: str = "GET", timeout: float = TIMEOUT) -> dict[str, Any]:
        """Return the answer of a resource of the admin socket.

        :param timeout: seconds within which the whole answer must come
        :raises RefusedByDaemonError: it answers with an error; of what it does not have, UnknownResourceError
        :raises UnreachableError: no answer, or an answer that is not JSON
        """
        if self._silent is not None:
            raise self._silent
        try:
            return _ask(self._path, resource, method, timeout)
        except SilentError as exc:
            self._silent = exc
            raise
        except NotListeningError as exc:
            if self._holder is None:
                raise
            raise _with_lock(exc, self._holder()) from exc


def ask(path: str, resource: str, method: str = "GET", timeout: float = TIMEOUT) -> dict[str, Any]:
    """Ask once; as :meth:`AdminClient.ask`."""
    return AdminClient(path).ask(resource, method, timeout)


def _ask(path: str, resource: str, method: str, timeout: float) -> dict[str, Any]:
    connection = UnixConnection(path, timeout)
    try:
        connection.request(method, resource)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status >= http.client.BAD_REQUEST:
            kind = UnknownResourceError if response.status == http.client.NOT_FOUND else RefusedByDaemonError
            raise kind(f"the daemon answered {response.status} {response.reason}: {answer['error']}")
    except TimeoutError as exc:
        raise _silent(f"dvr-agent at {path} does not answer within {timeout:g} s", connection.peer) from exc
    except BlockingIOError as exc:  # connect(2) of a socket whose queue is full
        raise _silent(f"dvr-agent at {path} accepts no connection", connection.peer) from exc
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        kinds = {FileNotFoundError: NotListeningError, ConnectionRefusedError: NotListeningError}
        raise kinds.get(type(exc), UnreachableError)(f"dvr-agent is not reachable at {path}: {reason}") from exc
    except (http.client.HTTPException, ValueError, LookupError, TypeError) as exc:
        raise UnreachableError(f"the process that answers at {path} is no dvr-agent: {exc}") from exc
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise UnreachableError(f"the process that answers at {path} is no dvr-agent: no JSON object")
    return answer


def _silent(text: str, pid: int) -> SilentError:
    process = find_process(pid)
    error = SilentError(f"{text}: {process.text}" if process is not None else text)
    error.process = process
    return error


def _with_lock(exc: NotListeningError, pid: int) -> NotListeningError:
    """Return the error with what the daemon's lock tells of its process."""
    process = find_process(pid)
    told = f"but the daemon's lock is held: {process.text}" if process is not None else "it is not running"
    error = NotListeningError(f"{exc}; {told}")
    error.process = process
    return error


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket.

    :param timeout: seconds
    :ivar peer: id of the process that listens on the socket, which need not answer; 0 if it is not known
    """

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self.peer = 0

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        credentials = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        self.peer = int(UCRED.unpack(credentials)[0])
