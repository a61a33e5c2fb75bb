"""Reads and parses document files of a directory, each only when its metadata changed; for ``directory_content``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Set
from typing import NamedTuple

from dvr_agent.errors import DocumentError
from dvr_agent.model.parse import parse_document, peek_router_id
from dvr_agent.sources import files
from dvr_agent.sources.api import Document

SUFFIX = ".json"


class Reading(NamedTuple):
    """A file that was read: either its document or its error.

    :ivar label: the file name as printable text
    :ivar peeked: router id that can still be read in a bad document
    """

    label: str
    document: Document | None
    error: DocumentError | None
    peeked: str | None
    mtime_ns: int

    @property
    def rank(self) -> tuple[bool, bool, int, str]:
        """Sort key of documents found together: good ones first, then ``<router id>.json``, then the oldest file.

        The first good document of a router is in force; after a restart the oldest file most likely was so before.
        """
        is_canonical = self.document is not None and self.label == self.document.router.id + SUFFIX
        return self.document is None, not is_canonical, self.mtime_ns, self.label


class DocumentReader:
    """Reads files, and remembers which version of each it has read.

    :param max_size: bytes; a larger file is a bad document and is not read
    :param has: returns True for a document (label, digest) that is in force already
    :ivar links: names that are symbolic links
    :ivar bytes_read: number of bytes read since the start
    """

    def __init__(self, max_size: int, has: Callable[[str, bytes], bool]) -> None:
        self._max_size, self._has = max_size, has
        self._signatures: dict[str, files.Signature | None] = {}
        self.links: set[str] = set()
        self.bytes_read = 0

    @property
    def known(self) -> Set[str]:
        """Names of all files that were read, good or bad."""
        return self._signatures.keys()

    def names_in(self, directory: int) -> list[str]:
        """Return the names of all documents in a directory, sorted."""
        with os.scandir(directory) as entries:
            found = [(entry.name, entry.is_symlink()) for entry in entries if is_document(entry.name)]
        self.links = {name for name, is_link in found if is_link}
        return sorted(name for name, _ in found)

    def is_new(self, name: str, directory: int) -> bool:
        """Return True if a file seems changed since it was read."""
        known = self._signatures.get(name)
        return known is None or known != files.signature(name, directory)

    def read(self, name: str, directory: int) -> Reading | None:
        """Read a file; None if it does not exist, or is unchanged.

        :raises OSError: this process, or the host, is short of descriptors or memory
        """
        label = files.printable_name(name)
        data, mtime = b"", 0
        try:
            found = files.read(name, directory, self._max_size)
            if found is None:
                return None
            data, mtime = found.data, found.mtime_ns
            self.bytes_read += len(data)
            self._signatures[name] = found.signature
            digest = hashlib.blake2b(data, digest_size=16).digest()
            if self._has(label, digest):
                return None
            document = Document(label, parse_document(data, label, self._max_size), digest)
            return Reading(label, document, None, None, mtime)
        except DocumentError as exc:
            if not data:
                self._signatures[name] = None
            return Reading(label, None, exc, peek_router_id(data) if data else None, mtime)
        finally:
            if files.is_link(name, directory):
                self.links.add(name)

    def forget(self, name: str) -> None:
        """Forget a file that is gone."""
        self._signatures.pop(name, None)
        self.links.discard(name)


def is_document(name: str) -> bool:
    """Return True for the file name of a document: ``*.json`` and not hidden."""
    return name.endswith(SUFFIX) and not name.startswith(".")
