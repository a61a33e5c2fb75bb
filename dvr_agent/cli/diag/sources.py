"""Where pieces come from: commands with a time limit, files with a size limit, the admin socket.

Each function returns a text or raises :class:`PieceError` with the reason; nothing here waits without an end.
"""

from __future__ import annotations

import http.client
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dvr_agent import securefiles
from dvr_agent.cli.admin_client import UnixConnection
from dvr_agent.cli.process_state import find_process
from dvr_agent.control.unix_socket import UCRED
from dvr_agent.errors import DvrError

COMMAND_SECONDS = 60
FILE_BYTES = 4 * 1024 * 1024
"""Of a longer file the end is taken."""
LOG_BYTES = 16 * 1024 * 1024
SOCKET_SECONDS = 10
_silent: dict[str, str] = {}
"""Path of a socket that let a question time out → what there is to say of it: it is not waited for again."""


class PieceError(DvrError):
    """A piece of the archive cannot be had; its text says why, and what it got so far."""


def command(*words: str, fine: Sequence[int] = (0,), seconds: float = COMMAND_SECONDS) -> str:
    """Run a command and return what it prints on stdout.

    :param fine: exit codes that are no failure, if there is any output
    """
    environ = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
    }
    shown = " ".join(words)
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, env=environ, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise PieceError(f"{shown}: not done after {seconds:.0f} s\n{_decoded(exc.stdout or b'')}") from exc
    except OSError as exc:
        raise PieceError(f"{shown}: {exc.strerror}") from exc
    out = _decoded(done.stdout)
    if done.returncode not in fine or (done.returncode and not out.strip()):
        said = f"{_decoded(done.stderr)}{out}"
        raise PieceError(f"{shown}: exit code {done.returncode}: {said.strip().partition(chr(10))[0]}\n{said}")
    return out


def dvrctl(config: Sequence[str], *words: str) -> str:
    """Run another verb of dvrctl with the same configuration, in a process of its own, whose crash is no crash here.

    What it prints as JSON counts, whatever its exit code says of the host.
    """
    return command(sys.executable, "-m", "dvr_agent.cli.ctl", *config, "-o", "json", *words, fine=(0, 1, 2))


def file(path: Path, limit: int = FILE_BYTES, links: bool = False) -> str:
    """Read a regular file; a FIFO or a device is not opened for long, and not read.

    :param links: also by a link.  In directories of other users a link may lead to what only root may read
    """
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        fd = os.open(path, flags) if links else securefiles.open_regular(path)
    except OSError as exc:
        raise PieceError(f"{path}: {exc.strerror}") from exc
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise PieceError(f"{path}: is no regular file")
        start = max(found.st_size - limit, 0)
        with os.fdopen(os.dup(fd), "rb") as stream:
            stream.seek(start)
            text = _decoded(stream.read(limit))
    except OSError as exc:
        raise PieceError(f"{path}: {exc.strerror}") from exc
    finally:
        os.close(fd)
    return f"(the last {limit} bytes)\n{text}" if start else text


def resource(socket_path: str, path: str) -> str:
    """Ask the daemon by its admin socket; an answer 503 is an answer."""
    if socket_path in _silent:
        raise PieceError(_silent[socket_path])
    connection = UnixConnection(socket_path, SOCKET_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = _decoded(answer.read())
    except (OSError, http.client.HTTPException) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc) or type(exc).__name__
        process = find_process(connection.peer) if isinstance(exc, TimeoutError) else None
        state = f"; {process.text}" if process is not None else ""
        said = f"the daemon does not answer at {socket_path}: {reason}{state}"
        if isinstance(exc, TimeoutError):
            _silent[socket_path] = f"{said} (waited {SOCKET_SECONDS} s, once)"
        raise PieceError(said) from exc
    finally:
        connection.close()
    if answer.status not in (http.client.OK, http.client.SERVICE_UNAVAILABLE):
        raise PieceError(f"the daemon answered {answer.status} {answer.reason}\n{text}")
    return text


def process_behind(path: str) -> int:
    """Return the id of the process that listens on a unix socket; it need not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(SOCKET_SECONDS)
        try:
            client.connect(path)
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        except OSError as exc:
            raise PieceError(f"the daemon does not run: {path}: {exc.strerror or exc}") from exc
    return int(UCRED.unpack(credentials)[0])


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
