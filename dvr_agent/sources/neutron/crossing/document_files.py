"""Files in the directory of cached documents: written at once, or by a timer as soon as the disk takes them.

Files are renamed into place, so that a reader (dvrctl reads the directory as it is) sees whole documents.  They are not
synced to disk one by one: after a crash of the host a file may be empty, and is skipped then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from oslo_log import log as logging

from dvr_agent import securefiles
from dvr_agent.errors import DocumentError
from dvr_agent.model.values import canonical_id
from dvr_agent.securedirs import make_directory, open_directory, trusted_users
from dvr_agent.sources import files

LOG = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
MAX_SIZE = 1 << 24
"""Bytes of a file that is read, where nothing else is said."""


class DocumentFiles:
    """The directory.  The fetch thread writes, a timer's thread ``neutron-files`` repeats; one lock around each write.

    :param path: the directory, made when a file is written
    :param max_size: bytes of a file that is read
    :ivar problem: why files cannot be written, empty if they can; any thread may read it
    """

    def __init__(self, path: Path, max_size: int = MAX_SIZE) -> None:
        self._path, self._max_size = path, max_size
        self._lock = threading.RLock()
        self._pending: dict[str, bytes] = {}
        """File name → text that could not be written yet."""
        self._timer: threading.Timer | None = None
        self._closed = False
        self.problem = ""

    def write(self, name: str, text: bytes) -> None:
        """Write a file.  A failure is logged once, and the write repeated until it works."""
        with self._lock:
            self._write(name, text)

    def write_last(self, name: str, text: bytes) -> None:
        """Write a file after all files that are not written yet."""
        with self._lock:
            if self._pending:
                self._pending.pop(name, None)
                self._pending[name] = text
            else:
                self._write(name, text)

    def remove(self, name: str) -> bool:
        """Remove a file; returns True if it is gone."""
        with self._lock:
            self._pending.pop(name, None)
            try:
                with contextlib.suppress(FileNotFoundError), open_documents_directory(self._path) as directory:
                    os.unlink(name, dir_fd=directory)
            except OSError as exc:
                self._failed(exc)
                return False
            return True

    def read(self, name: str) -> bytes:
        """Return the contents of a file, also of one that could not be written yet.

        :raises OSError: it is missing, too large, or cannot be read
        """
        with self._lock:
            if name in self._pending:
                return self._pending[name]
            try:
                with open_documents_directory(self._path) as directory:
                    found = files.read(name, directory, self._max_size)
            except DocumentError as exc:
                raise OSError(errno.EFBIG, str(exc)) from exc
            if found is None:
                raise FileNotFoundError(errno.ENOENT, name)
            return found.data

    def router_ids(self, suffix: str) -> set[str]:
        """Return the ids of the routers that have a file with this suffix."""
        return router_ids(self._path, suffix)

    def close(self) -> None:
        """Stop repeating writes."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _write(self, name: str, text: bytes) -> None:
        try:
            os.close(make_directory(self._path, 0o700, inherit_owner=False))
            with open_documents_directory(self._path) as directory:
                securefiles.replace_in(directory, name, text, 0o600)
        except OSError as exc:
            self._pending[name] = text
            self._failed(exc)
            self._start_timer()
            return
        self._pending.pop(name, None)
        if self.problem and not self._pending:
            LOG.info("recovered: router documents are kept in %s", self._path)
            self.problem = ""

    def _start_timer(self) -> None:
        if self._timer is None and not self._closed:
            self._timer = threading.Timer(RETRY_SECONDS, self._retry)
            self._timer.name, self._timer.daemon = "neutron-files", True
            self._timer.start()

    def _failed(self, exc: OSError) -> None:
        text = f"router documents cannot be kept in {self._path}: {exc.strerror}"
        if text != self.problem:
            LOG.warning("%s", text)
        self.problem = text

    def _retry(self) -> None:
        """Run in the timer's thread."""
        with self._lock:
            self._timer = None
            for name, text in list(self._pending.items()):
                self._write(name, text)
                if name in self._pending:
                    return


def router_ids(path: Path, suffix: str) -> set[str]:
    """Return the ids of the routers that have a file with this suffix; none if the directory cannot be read."""
    try:
        with open_documents_directory(path) as directory:
            found = os.listdir(directory)
    except OSError:
        return set()
    ids = {name: canonical_id(name.removesuffix(suffix)) for name in found if name.endswith(suffix)}
    return {router_id for name, router_id in ids.items() if router_id is not None and name == router_id + suffix}


@contextlib.contextmanager
def open_documents_directory(path: Path) -> Iterator[int]:
    """Open the directory, which only root or this process's user may own: its documents become routers.

    :raises OSError: it is missing, or belongs to another user
    """
    directory = open_directory(path)
    try:
        if os.fstat(directory).st_uid not in trusted_users():
            raise OSError(errno.EPERM, "the directory belongs to another user")
        yield directory
    finally:
        os.close(directory)
