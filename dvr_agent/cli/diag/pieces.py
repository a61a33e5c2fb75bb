"""Lists the pieces of the archive.  Those from which secrets are learned come first: see ``secret_filter``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

from oslo_config import cfg

from dvr_agent import __version__
from dvr_agent.cli.diag import process_pieces
from dvr_agent.cli.diag.kernel_pieces import kernel_pieces
from dvr_agent.cli.diag.piece import Piece, config_piece, json_piece, text_piece
from dvr_agent.cli.diag.secret_filter import MASK, is_secret_name
from dvr_agent.cli.diag.site import Site
from dvr_agent.cli.diag.sources import LOG_BYTES, PieceError, command, dvrctl, file, resource
from dvr_agent.model.parse import peek_router_id
from dvr_agent.options import GROUPS

UNITS = ("dvr-agent", "dvr-metadata-proxy", "dvr-vrrp")
PROGRAMS = (
    ("ip", "-V"), ("iptables-legacy", "--version"), ("iptables", "--version"), ("nft", "--version"),
    ("radvd", "--version"), ("keepalived", "--version"), ("ovs-vsctl", "--version"), ("systemctl", "--version"),
)  # fmt: skip
DOCUMENTS_MAX = 5000
JOURNAL_LINES = "50000"


def pieces(site: Site) -> Iterator[Piece]:
    """Yield all pieces."""
    for make in (_configuration, _services, _documents, _log, _daemon, _verbs, _rest):
        try:
            yield from make(site)
        except Exception as exc:  # noqa: BLE001 - one group must not cost the others
            yield text_piece(f"{make.__name__.strip('_')}.txt", partial(_fail, f"{type(exc).__name__}: {exc}"))


def _rest(site: Site) -> Iterator[Piece]:
    yield text_piece("versions.txt", _versions)
    yield from process_pieces.pieces(site.socket)
    yield from kernel_pieces(site.namespaces)
    if site.has_openvswitch:
        yield text_piece("kernel/openvswitch.txt", partial(command, "ovs-vsctl", "--timeout=10", "show"))


def _configuration(site: Site) -> Iterator[Piece]:
    for number, path in enumerate(site.files, 1):
        # Two files may have one name; their order counts.
        yield config_piece(f"configuration/{number:02d}-{path.name}", partial(_with_path, path))
    yield config_piece("configuration/effective.conf", partial(_effective, site.conf, site.error))


def _with_path(path: Path) -> str:
    return f"# {path}\n{file(path, links=True)}"


def _effective(conf: cfg.ConfigOpts | None, error: str) -> str:
    """Return all options of dvr-agent with their values; of secrets only whether they are set."""
    if conf is None:
        raise PieceError(error)
    lines = [f"# {error}"] if error else []
    for group, opts in GROUPS:
        lines.append(f"[{group}]")
        values = conf if group == "DEFAULT" else conf[group]
        for opt in opts:
            value = values[opt.dest]
            hidden = (opt.secret or is_secret_name(opt.dest)) and value not in (None, "")
            lines.append(f"{opt.dest} = {MASK if hidden else value}")
    return "\n".join(lines) + "\n"


def _services(site: Site) -> Iterator[Piece]:
    """Yield the files of helper processes and the state files of the host."""
    for name in ("fip-linklocal-networks", "fip-priorities"):
        yield text_piece(f"state/{name}", partial(file, site.state_path / name))
    for directory, pattern in ((site.path("ha_confs_path"), "*/*.conf"), (site.path("ra_confs"), "*.conf")):
        for path in sorted(directory.glob(pattern)):
            relative = path.relative_to(directory)
            if not site.router or site.router in str(relative):
                yield config_piece(f"services/{directory.name}/{relative}", partial(file, path))


def _documents(site: Site) -> Iterator[Piece]:
    try:
        found = sorted(entry.name for entry in os.scandir(site.documents))
    except OSError as exc:
        yield text_piece("documents/listing.txt", partial(_fail, f"{site.documents}: {exc.strerror}"))
        return
    yield text_piece(
        "documents/listing.txt", partial(command, "ls", "-la", "--time-style=full-iso", str(site.documents))
    )
    wanted = [name for name in found if name.endswith((".json", ".refused"))]
    for name in wanted[:DOCUMENTS_MAX]:
        path = site.documents / name
        if not site.router or _is_of(path, site.router):
            yield json_piece(f"documents/{name}", partial(file, path, LOG_BYTES))


def _is_of(path: Path, router_id: str) -> bool:
    """Return True if a document is of the router, or may be."""
    if router_id in path.name:
        return True
    try:
        return peek_router_id(file(path, LOG_BYTES).encode("utf-8", "surrogateescape")) in (router_id, None)
    except PieceError:
        return True


def _fail(reason: str) -> str:
    raise PieceError(reason)


def _log(site: Site) -> Iterator[Piece]:
    if site.log_file is not None:
        yield text_piece(f"log/{site.log_file.name}", partial(file, site.log_file, LOG_BYTES))
    words = ("journalctl", "--no-pager", "--quiet", "-o", "short-iso-precise", "-n", JOURNAL_LINES)
    for unit in UNITS:
        yield text_piece(f"log/{unit}.journal.txt", partial(command, *words, "-u", unit))


def _versions() -> str:
    lines = [f"dvr-agent {__version__}", f"Python {sys.version}", f"kernel {' '.join(platform.uname())}", ""]
    lines += sorted(f"{one.metadata['Name']} {one.version}" for one in metadata.distributions())
    for words in PROGRAMS:
        try:
            text = command(*words, seconds=10).splitlines()[0]
        except (PieceError, IndexError) as exc:
            text = str(exc).splitlines()[0] if str(exc) else "no answer"
        lines.append(f"{words[0]}: {text}")
    return "\n".join([*lines, "", file(Path("/etc/os-release"), links=True)])


def _daemon(site: Site) -> Iterator[Piece]:
    router = f"?router={site.router}" if site.router else ""
    for name, path in (
        ("daemon/status.json", "/status"),
        ("daemon/healthz.json", "/healthz"),
        ("daemon/readyz.json", "/readyz"),
        ("daemon/history.json", f"/history{router}"),
    ):
        yield json_piece(name, partial(resource, site.socket, path))
    yield text_piece("daemon/metrics.txt", partial(resource, site.socket, "/metrics"))


def _verbs(site: Site) -> Iterator[Piece]:
    if site.error:
        yield text_piece("dvrctl.txt", partial(_fail, site.error))
        return
    verbs: list[tuple[str, Sequence[str]]] = [
        ("plan.json", ("plan",)),
        ("routers.json", ("show", "routers")),
        ("floating-ips.json", ("show", "fips")),
        ("namespaces.json", ("show", "namespaces")),
    ]
    if site.router:
        verbs += [("router.json", ("show", "router", site.router)), ("why.json", ("why", site.router))]
    for name, words in verbs:
        yield json_piece(f"dvrctl/{name}", partial(dvrctl, site.arguments, *words))
