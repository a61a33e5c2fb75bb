"""Router documents kept on this host for a start without Neutron: one ``<router id>.json`` each, 0600.

Beside them is a note for each router whose newest document cannot be used, so that ``dvrctl plan`` can say so.

Files are renamed into place, so that a reader (dvrctl reads the directory as it is) sees whole documents.  They are not
synced to disk one by one: after a crash of the host a file may be empty, and is skipped then.  Belongs to the fetch
thread but for :meth:`KeptDocuments.load`, which may run beside it.  What cannot be written is tried again by a timer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from oslo_log import log as logging

from dvr_agent import securefiles
from dvr_agent.errors import DocumentError
from dvr_agent.model.parse import parse_document
from dvr_agent.securedirs import make_directory, open_directory, trusted_users
from dvr_agent.sources import files
from dvr_agent.sources.api import Document
from dvr_agent.sources.neutron.documents import canonical_id, digest, document_name
from dvr_agent.sources.refused_documents import REFUSED

LOG = logging.getLogger(__name__)

SUFFIX = ".json"
RETRY_SECONDS = 10.0
MARKER = ".complete"
"""Its modification time tells when the set was last complete."""


class KeptDocuments:
    """
    :param path: the directory, made when something is written
    :param max_size: bytes of the largest document
    """

    def __init__(self, path: Path, max_size: int) -> None:
        self._path, self._max_size = path, max_size
        self._lock = threading.RLock()
        self._refused: dict[str, str] | None = None
        """Router id → noted reason, empty if it is from an earlier life; None: not looked yet."""
        self._pending: dict[str, bytes] = {}
        """File name → text of what could not be written yet."""
        self._timer: threading.Timer | None = None
        self._closed = False
        self.trouble = ""
        """Why documents cannot be kept, empty if they can; may be read by any thread."""

    def write(self, router_id: str, text: bytes) -> None:
        """Keep a document.  A failure is logged once, and changes nothing else."""
        with self._lock:
            self._put(router_id + SUFFIX, text)
            self.accept(router_id)

    def remove(self, router_id: str) -> None:
        """The router is gone."""
        with self._lock:
            self._remove(router_id + SUFFIX)
            self.accept(router_id)

    def refuse(self, router_id: str, reason: str) -> None:
        """The newest document of the router cannot be used: the one that is kept is an older one."""
        with self._lock:
            refused = self._refusals()
            if refused.get(router_id) != reason:
                refused[router_id] = reason
                self._put(router_id + REFUSED, reason.encode())

    def accept(self, router_id: str) -> None:
        """The newest document of the router is good, or the router is gone."""
        with self._lock:
            refused = self._refusals()
            if router_id in refused and self._remove(router_id + REFUSED):
                del refused[router_id]

    def _refusals(self) -> dict[str, str]:
        if self._refused is None:
            self._refused = dict.fromkeys(self._names(REFUSED), "")
        return self._refused

    def close(self) -> None:
        """Try no more."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    def names(self) -> set[str]:
        """Ids of the routers with a kept document."""
        return self._names(SUFFIX)

    def _names(self, suffix: str) -> set[str]:
        """Ids of the routers with a file of this ending."""
        try:
            with self._directory() as directory:
                found = os.listdir(directory)
        except OSError:
            return set()
        ids = {name: canonical_id(name.removesuffix(suffix)) for name in found if name.endswith(suffix)}
        return {router_id for name, router_id in ids.items() if router_id is not None and name == router_id + suffix}

    def noted(self) -> set[str]:
        """Ids of the routers that something is kept of."""
        return self.names() | self._refusals().keys()

    def complete(self, gone: Collection[str]) -> None:
        """The set is complete now, without these."""
        for router_id in gone:
            self.remove(router_id)
        with self._lock:
            if self._pending:  # not complete before these are written
                self._pending.pop(MARKER, None)
                self._pending[MARKER] = b""
            else:
                self._put(MARKER, b"")

    def since(self) -> float | None:
        """When the set was complete (seconds since the epoch); None: never, or nobody knows."""
        try:
            with self._directory() as directory:
                return os.stat(MARKER, dir_fd=directory, follow_symlinks=False).st_mtime
        except OSError:
            return None

    def load(self) -> Iterator[Document]:
        """The documents; what is no good document of the router that its name says is skipped, with a warning."""
        try:
            with self._directory() as directory:
                for router_id in sorted(self.names()):
                    document = self._read_or_skip(router_id, directory)
                    if document is not None:
                        yield document
        except OSError as exc:
            LOG.warning("kept documents in %s cannot be read: %s", self._path, exc.strerror)

    def _read_or_skip(self, router_id: str, directory: int) -> Document | None:
        try:
            return self._read(router_id, directory)
        except DocumentError as exc:
            LOG.warning("kept document skipped: %s", exc)
        except OSError as exc:
            LOG.warning("kept document of router %s cannot be read: %s", router_id, exc.strerror)
        return None

    def _read(self, router_id: str, directory: int) -> Document | None:
        name = router_id + SUFFIX
        found = files.read(name, directory, self._max_size)
        if found is None:
            return None
        router = parse_document(found.data, name, self._max_size)
        if router.id != router_id:
            raise DocumentError(name, "$.id", router.id, "the id that the file name says")
        return Document(document_name(router_id), router, digest(found.data))

    def _put(self, name: str, text: bytes) -> None:
        try:
            os.close(make_directory(self._path, 0o700, inherit_owner=False))
            with self._directory() as directory:
                securefiles.replace_in(directory, name, text, 0o600)
        except OSError as exc:
            self._pending[name] = text
            self._note(exc)
            if self._timer is None and not self._closed:
                self._timer = threading.Timer(RETRY_SECONDS, self._retry)
                self._timer.name, self._timer.daemon = "neutron-kept", True
                self._timer.start()
            return
        self._pending.pop(name, None)
        if self.trouble and not self._pending:
            LOG.info("recovered: router documents are kept in %s again", self._path)
            self.trouble = ""

    def _remove(self, name: str) -> bool:
        """True if the file is gone."""
        self._pending.pop(name, None)
        try:
            with contextlib.suppress(FileNotFoundError), self._directory() as directory:
                os.unlink(name, dir_fd=directory)
        except OSError as exc:
            self._note(exc)
            return False
        return True

    def _note(self, exc: OSError) -> None:
        text = f"router documents cannot be kept in {self._path}: {exc.strerror}"
        if text != self.trouble:
            LOG.warning("%s", text)
        self.trouble = text

    def _retry(self) -> None:
        """In the timer's thread."""
        with self._lock:
            self._timer = None
            for name, text in list(self._pending.items()):
                self._put(name, text)
                if name in self._pending:
                    return

    @contextlib.contextmanager
    def _directory(self) -> Iterator[int]:
        """The directory, which somebody else's cannot replace: its documents become routers.

        :raises OSError: it is missing, or belongs to another user
        """
        directory = open_directory(self._path)
        try:
            if os.fstat(directory).st_uid not in trusted_users():
                raise OSError(errno.EPERM, "the directory belongs to another user")
            yield directory
        finally:
            os.close(directory)
