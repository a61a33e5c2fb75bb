"""Reads the configuration and the router documents of dvrctl: files on the command line, or the configured source."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from oslo_config import cfg

from dvr_agent import config, named_files
from dvr_agent.errors import DocumentError, SourceError
from dvr_agent.model.parse import parse_document, peek_router_id
from dvr_agent.model.router import Router
from dvr_agent.sources.api import Bad, Changed, Failed, Synced


class FileResult(NamedTuple):
    """A document file that was read: either its router or its error."""

    path: str
    router: Router | None
    error: DocumentError | None


@dataclass(frozen=True, slots=True)
class Documents:
    """Router documents, good and bad.

    :ivar good: (name of the document, router), one per router
    :ivar bad: one error for each document that cannot be used
    :ivar known: ids of all routers that have a document, as far as documents name one
    :ivar complete: False if a bad document has no readable router id: it may be of any router
    :ivar suspect: a reason to doubt that routers which are not in ``known`` have no document; empty: there is none
    :ivar outdated: router id → why its newest document cannot be used: an older one is in force
    :ivar results: file by file in the order given; empty for documents of a source
    """

    good: tuple[tuple[str, Router], ...]
    bad: tuple[DocumentError, ...]
    known: frozenset[str]
    complete: bool = True
    suspect: str = ""
    results: tuple[FileResult, ...] = ()
    outdated: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> dict[str, str]:
        """Map router ids to the names of the routers."""
        return {router.id: router.name for _, router in self.good}


def load_config(args: argparse.Namespace, required: bool = True) -> cfg.ConfigOpts:
    """Load the configuration that the command line names; warnings of libraries go to stderr.

    :param required: False for a verb that an ordinary user may use: the default files, which may be root's only, are
        left out if they cannot be read
    :raises ConfigError: the configuration cannot be used
    """
    conf = config.load(args.config, prog="dvrctl", readable_only=not required)
    level = logging.DEBUG if conf.debug else logging.WARNING
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:  # of oslo.log's register_options; it would print bare messages
            root.removeHandler(handler)
    logging.basicConfig(level=level, format="dvrctl: %(message)s", stream=sys.stderr)
    return conf


def read_files(paths: Sequence[str], max_size: int) -> Documents:
    """Read documents from files; ``-`` is standard input, and pipes work.

    Of two documents for one router the second is bad.
    """
    first: dict[str, str] = {}
    known: set[str | None] = set()
    results = []
    for path in paths:
        data = b""
        try:
            data = _content(path, max_size)
            router = parse_document(data, path, max_size)
            if router.id in first:
                expected = f"one document per router, and {first[router.id]} is of the same one"
                raise DocumentError(path, "$.id", f'"{router.id}"', expected)
            first[router.id] = path
            known.add(router.id)
            results.append(FileResult(path, router, None))
        except DocumentError as exc:
            known.add(peek_router_id(data))
            results.append(FileResult(path, None, exc))
    good = tuple((path, router) for path, router, _ in results if router is not None)
    bad = tuple(error for _, _, error in results if error is not None)
    return Documents(good, bad, frozenset(i for i in known if i), None not in known, results=tuple(results))


def read_source(conf: cfg.ConfigOpts) -> Documents:
    """Read all documents of the configured source.

    :raises SourceError: the documents cannot be listed
    """
    from dvr_agent.sources.factory import open_documents, refused_documents

    settings = config.source_settings(conf)
    source = open_documents(settings)
    try:
        events = source.rescan()
    finally:
        source.close()
    last = events[-1]
    if isinstance(last, Failed):
        if settings.kind != "neutron":
            raise last.error
        raise SourceError(f"{last.error} (dvrctl fetch gets neutron-server's documents)") from last.error
    if not isinstance(last, Synced):
        raise SourceError("the source of router documents gave no complete listing")
    good = sorted((e.document.name, e.document.router) for e in events if isinstance(e, Changed))
    bad = tuple(event.error for event in events if isinstance(event, Bad))
    outdated = {event.router_id: str(event.error) for event in events if isinstance(event, Bad) and event.router_id}
    outdated |= refused_documents(settings)
    known = last.known | outdated.keys()
    return Documents(tuple(good), bad, known, last.complete, last.suspect, outdated=outdated)


def _content(path: str, max_size: int) -> bytes:
    """Read a file, up to one byte more than allowed: the parser refuses a document of that size.

    :raises DocumentError: the file cannot be read
    """
    try:
        return named_files.read(path, max_size + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise DocumentError(path, "$", f"unreadable ({reason})", "a readable file") from exc
