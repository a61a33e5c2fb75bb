"""The admin socket: HTTP/1.1 on a unix socket that only its owner may use; ``dvrctl`` reads it.

``admin_resources`` lists what it answers.  Requests are handled in green threads; none of them waits for the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket as native_socket
import stat
from functools import partial
from pathlib import Path
from typing import Any

from dvr_agent.daemon import eventlet_shim
from dvr_agent.daemon.admin_listener import BACKLOG, AdminListener
from dvr_agent.daemon.http_application import HttpApplication
from dvr_agent.daemon.http_resources import ResourceTable
from dvr_agent.errors import ConfigError
from dvr_agent.securedirs import make_directory


class AdminServer:
    """Listens from :meth:`start` to :meth:`close`."""

    def __init__(self, path: str, resources: ResourceTable) -> None:
        self._path, self._application = Path(path), HttpApplication("admin socket", resources)
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
        eventlet_shim.spawn(partial(self._application.serve, AdminListener(self._socket)))

    def close(self) -> None:
        """Stop listening and remove the socket, unless another socket has taken its place."""
        with contextlib.suppress(OSError):
            if self._socket is not None and self._path.stat().st_ino == self._inode:
                self._path.unlink()


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
