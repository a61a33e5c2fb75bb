"""Router documents kept on this host for a start without Neutron: one ``<router id>.json`` each, 0600.

Beside them is a note for each router whose newest document cannot be used, so that ``dvrctl plan`` can say so.

Files are renamed into place, so that a reader (dvrctl reads the directory as it is) sees whole documents.  They are not
synced to disk one by one: after a crash of the host a file may be empty, and is skipped then.  Belongs to the fetch
thread but for :meth:`KeptDocuments.load`, which may run beside it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from oslo_log import log as logging

from dvr_agent.errors import DocumentError
from dvr_agent.model.parse import parse_document
from dvr_agent.sources import files
from dvr_agent.sources.api import Document
from dvr_agent.sources.kept import REFUSED
from dvr_agent.sources.neutron.documents import canonical_id, digest, document_name

LOG = logging.getLogger(__name__)

SUFFIX = ".json"
MARKER = ".complete"
"""Its modification time tells when the set was last complete."""


class KeptDocuments:
    """
    :param path: the directory, made when something is written
    :param max_size: bytes of the largest document
    """

    def __init__(self, path: Path, max_size: int) -> None:
        self._path, self._max_size = path, max_size
        self._troubled = False
        self._refused: dict[str, str] | None = None
        """Router id → noted reason, empty if it is from an earlier life; None: not looked yet."""

    def write(self, router_id: str, text: bytes) -> None:
        """Keep a document.  A failure is logged once, and changes nothing else."""
        with self._trouble():
            self._replace(router_id + SUFFIX, text)
        self.accept(router_id)

    def remove(self, router_id: str) -> None:
        """The router is gone."""
        with self._trouble(), contextlib.suppress(FileNotFoundError):
            (self._path / (router_id + SUFFIX)).unlink()
        self.accept(router_id)

    def refuse(self, router_id: str, reason: str) -> None:
        """The newest document of the router cannot be used: the one that is kept is an older one."""
        refused = self._refusals()
        if refused.get(router_id) == reason:
            return
        with self._trouble():
            self._replace(router_id + REFUSED, reason.encode())
            refused[router_id] = reason

    def accept(self, router_id: str) -> None:
        """The newest document of the router is good, or the router is gone."""
        refused = self._refusals()
        if router_id not in refused:
            return
        with self._trouble():
            with contextlib.suppress(FileNotFoundError):
                (self._path / (router_id + REFUSED)).unlink()
            del refused[router_id]

    def _refusals(self) -> dict[str, str]:
        if self._refused is None:
            self._refused = dict.fromkeys(self._names(REFUSED), "")
        return self._refused

    def names(self) -> set[str]:
        """Ids of the routers with a kept document."""
        return self._names(SUFFIX)

    def _names(self, suffix: str) -> set[str]:
        """Ids of the routers with a file of this ending."""
        try:
            found = os.listdir(self._path)
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
        with self._trouble():
            self._replace(MARKER, b"")

    def since(self) -> float | None:
        """When the set was complete (seconds since the epoch); None: never, or nobody knows."""
        try:
            return (self._path / MARKER).stat().st_mtime
        except OSError:
            return None

    def load(self) -> Iterator[Document]:
        """The documents; what is no good document of the router that its name says is skipped, with a warning."""
        try:
            directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            LOG.warning("kept documents in %s cannot be read: %s", self._path, exc.strerror)
            return
        try:
            for router_id in sorted(self.names()):
                try:
                    document = self._read(router_id, directory)
                except DocumentError as exc:
                    LOG.warning("kept document skipped: %s", exc)
                    continue
                if document is not None:
                    yield document
        finally:
            os.close(directory)

    def _read(self, router_id: str, directory: int) -> Document | None:
        name = router_id + SUFFIX
        found = files.read(name, directory, self._max_size)
        if found is None:
            return None
        router = parse_document(found.data, name, self._max_size)
        if router.id != router_id:
            raise DocumentError(name, "$.id", router.id, "the id that the file name says")
        return Document(document_name(router_id), router, digest(found.data))

    def _replace(self, name: str, text: bytes) -> None:
        path = str(self._path)
        os.makedirs(path, mode=0o700, exist_ok=True)
        temporary = os.path.join(path, f".{name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            view = memoryview(text)
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        os.replace(temporary, os.path.join(path, name))

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            if not self._troubled:
                LOG.warning("documents cannot be kept in %s: %s", self._path, exc.strerror)
            self._troubled = True
        else:
            self._troubled = False
