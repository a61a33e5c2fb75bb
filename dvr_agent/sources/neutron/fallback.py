"""Starts without neutron-server: offers the documents that an earlier process cached.

Thread: ``neutron-fallback``, started by a timer.  It meets the others at ``crossing.router_store`` only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from oslo_log import log as logging

from dvr_agent.errors import DocumentError
from dvr_agent.model.parse import parse_document
from dvr_agent.plural import count
from dvr_agent.sources import files
from dvr_agent.sources.api import Document
from dvr_agent.sources.cached_documents import MARKER, SUFFIX
from dvr_agent.sources.neutron.crossing.document_files import open_documents_directory, router_ids
from dvr_agent.sources.neutron.crossing.shared import SharedParts
from dvr_agent.sources.neutron.documents import digest, document_name

LOG = logging.getLogger(__name__)


def use_cached_documents(shared: SharedParts) -> None:
    """Offer the cached documents, unless the server has answered."""
    path, max_size = shared.options.documents, shared.options.max_document_size
    since = complete_since(path)
    if shared.routers.synced or since is None:
        return
    number = 0
    for document in load_documents(path, max_size):
        if shared.fetch_inbox.closed:
            return
        number += shared.routers.offer_cached(document)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    if shared.routers.confirm_cached(f"the server has not answered yet; documents are those kept from {when}"):
        LOG.warning("no answer from neutron-server yet: using %s kept from %s", count(number, "document"), when)


def complete_since(path: Path) -> float | None:
    """Return when the set of documents was last complete (seconds since the epoch); None: never, or not readable."""
    try:
        with open_documents_directory(path) as directory:
            return os.stat(MARKER, dir_fd=directory, follow_symlinks=False).st_mtime
    except OSError:
        return None


def load_documents(path: Path, max_size: int) -> Iterator[Document]:
    """Read the cached documents; a bad one, or one with another router id than its name, is skipped with a warning.

    :param max_size: bytes of the largest document
    """
    try:
        with open_documents_directory(path) as directory:
            for router_id in sorted(router_ids(path, SUFFIX)):
                document = _read_or_skip(router_id, directory, max_size)
                if document is not None:
                    yield document
    except OSError as exc:
        LOG.warning("kept documents in %s cannot be read: %s", path, exc.strerror)


def _read_or_skip(router_id: str, directory: int, max_size: int) -> Document | None:
    try:
        return _read(router_id, directory, max_size)
    except DocumentError as exc:
        LOG.warning("kept document skipped: %s", exc)
    except OSError as exc:
        LOG.warning("kept document of router %s cannot be read: %s", router_id, exc.strerror)
    return None


def _read(router_id: str, directory: int, max_size: int) -> Document | None:
    name = router_id + SUFFIX
    found = files.read(name, directory, max_size)
    if found is None:
        return None
    router = parse_document(found.data, name, max_size)
    if router.id != router_id:
        raise DocumentError(name, "$.id", router.id, "the id that the file name says")
    return Document(document_name(router_id), router, digest(found.data))
