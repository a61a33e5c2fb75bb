"""``dvrctl diag``: collects the pieces, one after the other; one that cannot be had is a text that says why."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dvr_agent import __version__
from dvr_agent.cli.diag.archive import Archive, new_file, safe_name
from dvr_agent.cli.diag.piece import Piece
from dvr_agent.cli.diag.pieces import pieces
from dvr_agent.cli.diag.process_pieces import environment_of
from dvr_agent.cli.diag.secret_filter import SecretFilter
from dvr_agent.cli.diag.site import Site, open_site
from dvr_agent.cli.diag.sources import PieceError, file
from dvr_agent.cli.output import Output, complain
from dvr_agent.errors import DvrError

STDOUT = "-"
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_AUTH_PASS = re.compile(r"\bauth_pass\s+(\S+)")


class DiagError(DvrError):
    """The archive cannot be written."""


def run(args: argparse.Namespace, out: Output) -> int:
    """Run ``dvrctl diag``.

    :returns: 0: the archive is there, whatever pieces it lacks; 1: it is not
    """
    if args.file == STDOUT and (out.json or sys.stdout.isatty()):
        raise DiagError("--file -: the archive goes to stdout, which must be a pipe or a file, without -o json")
    site = open_site(args.config, args.router or "")
    name = f"dvr-diag-{safe_name(site.host)}-{time.strftime(TIME_FORMAT, time.gmtime())}"
    if args.file == STDOUT:
        _write(sys.stdout.buffer, name, site)
        return 0
    path = Path(args.file or f"{name}.tar.gz")
    try:
        with new_file(path) as stream:
            members = _write(stream, name, site)
            size = stream.tell()
    except OSError as exc:
        raise DiagError(f"{path}: {exc.strerror or exc}") from exc
    _report(out, path, size, members)
    return 0


def _report(out: Output, path: Path, size: int, members: list[dict[str, Any]]) -> None:
    missing = [one for one in members if one["error"]]
    if out.json:
        out.document({"file": str(path), "bytes": size, "members": members})
        return
    out.line(f"{path}: {len(members)} pieces, {size} bytes")
    if missing:
        out.line(f"not to be had: {len(missing)} (each is a file that says why)")
    for one in missing:
        out.line(f"  {one['name']}: {one['error']}")
    out.line("Secrets are masked; addresses and names are not. Look through it before you give it away.")


def _write(stream: IO[bytes], name: str, site: Site) -> list[dict[str, Any]]:
    """Write the archive; returns its members."""
    archive, secrets = Archive(stream, name), SecretFilter()
    _learn(secrets, site)
    members = []
    for piece in pieces(site):
        members.append(_add(archive, secrets, piece))
    head = {
        "host": site.host,
        "version": __version__,
        "router": site.router or None,
        "created": name.rpartition("-")[2],
    }
    archive.add("manifest.json", secrets.json(json.dumps({**head, "members": members})).encode())
    archive.close()
    return members


def _add(archive: Archive, secrets: SecretFilter, piece: Piece) -> dict[str, Any]:
    """Add one piece, or why it cannot be had; returns its entry of the manifest."""
    began, error, name = time.monotonic(), "", piece.name
    try:
        text = piece.clean(secrets, piece.make())
    except KeyboardInterrupt:
        raise
    except Exception as exc:  # noqa: BLE001 - whatever it is, the other pieces are needed all the more
        reason = str(exc) if isinstance(exc, DvrError) else f"{type(exc).__name__}: {exc}"
        text = secrets.text(f"not to be had: {reason}\n")
        error, name = text.splitlines()[0].removeprefix("not to be had: "), f"{name}.error.txt"
    added = archive.add(name, text.encode("utf-8", "backslashreplace"))
    return {"name": added, "error": error, "seconds": round(time.monotonic() - began, 3)}


def _learn(secrets: SecretFilter, site: Site) -> None:
    """Learn the secrets of this host before anything is written."""
    for text in _readable(site.files, links=True):
        secrets.config(text)
    for text in _readable(sorted(site.path("ha_confs_path").glob("*/keepalived.conf"))):
        secrets.learn(*_AUTH_PASS.findall(text))
    secrets.learn_named(dict(os.environ))
    for pid in _processes():
        with contextlib.suppress(PieceError):
            secrets.learn_named(environment_of(pid))


def _readable(paths: list[Path], links: bool = False) -> Iterator[str]:
    for path in paths:
        try:
            yield file(path, links=links)
        except PieceError as exc:
            complain(str(exc))


def _processes() -> Iterator[str]:
    """Yield the process ids of dvr-agent and its companions."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if b"dvr" in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield pid
