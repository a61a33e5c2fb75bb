"""Gives the agent documents, state files, casts, answers of the server and admin requests that nobody sane would send.

Inputs are recordings that were changed at random (tests/support/hostile.py), the same in every run; a long run goes on
with those that ``fuzz`` finds by coverage, where atheris is installed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.reliability import fuzz
from bench.reliability.api import Figure, Options
from dvr_agent.errors import DocumentError
from dvr_agent.model.parse import parse_document, peek_router_id
from dvr_agent.reconcile.allocations import Allocations
from dvr_agent.reconcile.statefile import PAIRS_FILE, PRIORITIES_FILE
from tests.support import hostile
from tests.support.daemon_lab import Daemon
from tests.support.recorded_documents import RECORDED
from tests.support.scripted_neutron import Server, desk

QUICK_SHARE = 400
"""A quick run has so many times fewer inputs."""


def measure(options: Options) -> Figure:
    """Give all of them, a kind at a time, on all processors."""
    counts = [count // QUICK_SHARE if options.quick else count for _, count in KINDS]
    with ProcessPoolExecutor(1 if options.quick else None) as pool:
        wrong = list(pool.map(_run, range(len(KINDS)), counts))
    named = [(kind.__name__.replace("_", " "), count) for (kind, _), count in zip(KINDS, counts, strict=True)]
    names = ", ".join(f"{count:,} {name}" for name, count in named)
    lines = [f"{kind.__name__}: {line}" for (kind, _), some in zip(KINDS, wrong, strict=True) for line in some]
    text = f"{sum(counts):,} inputs ({names}): {len(lines)} escaped"
    if options.quick:
        return Figure(text, not lines, tuple(lines[:20]))
    if fuzz.is_missing():
        return Figure(f"{text}; no search by coverage: atheris is not installed", not lines, tuple(lines[:20]))
    runs, found = fuzz.search()
    text = f"{text}; search by coverage (atheris): {runs:,} more, {len(found)} escaped"
    return Figure(text, not lines and not found, (*lines[:20], *found))


def _run(index: int, count: int) -> list[str]:
    return list(KINDS[index][0](random.Random(hostile.SEED + index), count))


def documents(rng: random.Random, count: int) -> Iterator[str]:
    """Yield documents that lead to anything but a router or an error of a document."""
    for _ in range(count):
        data = _document(rng)
        try:
            peek_router_id(data)
            hash(parse_document(data, "hostile.json"))
        except DocumentError as exc:
            if not str(exc).isprintable():
                yield f"not printable: {exc!r}"
        except Exception as exc:  # noqa: BLE001 - that none escapes is the promise
            yield f"{type(exc).__name__}: {exc}: {data[:200]!r}"


def _document(rng: random.Random) -> bytes:
    name = rng.choice(sorted(RECORDED))
    if rng.random() < 0.3:
        return _broken(RECORDED[name], rng)
    document = json.loads(RECORDED[name])
    for _ in range(rng.randrange(1, 4)):
        with contextlib.suppress(IndexError, KeyError, TypeError):  # nothing is left to change
            _, document = hostile.mutate(document, rng)
    return json.dumps(document).encode()


def _broken(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 20)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.3 else changed)


def state_files(rng: random.Random, count: int) -> Iterator[str]:
    """Yield state files that cannot be loaded."""
    logging.disable()
    lines = {PAIRS_FILE: b"%036d,169.254.%d.%d/31\n", PRIORITIES_FILE: b"10.%d.%d.%d,%d\n"}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            for name, line in lines.items():
                numbers = tuple(rng.randrange(300) for _ in range(line.count(b"%")))
                whole = b"".join(line % numbers for _ in range(rng.randrange(1, 5)))
                (Path(folder) / name).write_bytes(_broken(whole, rng))
            try:
                Allocations(Path(folder)).load({}, (), ())
            except Exception as exc:  # noqa: BLE001
                yield f"{type(exc).__name__}: {exc}"


def casts(rng: random.Random, count: int) -> Iterator[str]:
    """Yield casts whose endpoint raised."""
    import oslo_messaging  # only here: it loads much, and the table of promises is read without it

    from dvr_agent.sources.neutron.wire.endpoint import Endpoint

    logging.disable()
    endpoint = Endpoint(lambda _notification: None)
    values = (*hostile.STRANGE_VALUES, *({key: value} for key in ("id", "payload") for value in hostile.STRANGE_VALUES))
    keys = ("routers", "router_id", "payload", "network", "ext_net_id", "port", "x")
    for _ in range(count):
        method = rng.choice(hostile.CASTS)
        args = {key: rng.choice(values) for key in rng.sample(keys, rng.randrange(4))}
        try:
            getattr(endpoint, method)(None, **args)
        except oslo_messaging.ExpectedException:
            continue  # the server is told
        except Exception as exc:  # noqa: BLE001
            yield f"{method} {str(args)[:200]}: {type(exc).__name__}: {exc}"


class _Bugs(logging.Handler):
    """Keeps messages about exceptions that nobody expected."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or "is a bug" in record.getMessage():
            self.found.append(record.getMessage())


def answers(rng: random.Random, count: int) -> Iterator[str]:
    """Yield what unexpected exceptions answers of neutron-server led to."""
    logging.disable(logging.NOTSET)
    bugs, server = _Bugs(), Server()
    logging.getLogger().addHandler(bugs)
    router_id = server.add(1)
    right = server.routers[router_id]
    with tempfile.TemporaryDirectory() as folder, desk(server, Path(folder)) as source:
        source.sync()
        for _ in range(count):
            _, wrong = hostile.mutate({"router": right, "ports_by_subnet": {}}, rng)
            strange = [rng.choice([wrong.get("router"), rng.choice(hostile.STRANGE_VALUES)])]
            server.answers["sync_routers"] = lambda _args, answer=strange: answer  # type: ignore[misc]
            source.sync()
        server.answers.clear()
        source.sync()
        if source.router(router_id) is None:
            yield "the right answer does not heal it"
    logging.getLogger().removeHandler(bugs)
    yield from bugs.found


def admin_requests(rng: random.Random, count: int) -> Iterator[str]:
    """Yield that the daemon died, said that it has a bug, or answers no more."""
    good = b"GET /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with tempfile.TemporaryDirectory(prefix="dvr-hostile-") as folder:
        daemon = Daemon(Path(folder), "tests.support.fake_daemon").start()
        try:
            for _ in range(count):
                _request(daemon, _broken(good.replace(b"/status", rng.choice(PATHS)), rng))
            if not daemon.alive() or daemon.status()["state"] != "in sync":
                yield "it answers no more"
            lines = f"{daemon.out}{daemon.err}".splitlines()
            yield from (line for line in lines if "Traceback" in line or "is a bug" in line)
        finally:
            daemon.stop()


PATHS = (b"/status", b"/routers/../../etc/passwd", b"/routers/%00", b"/sync", b"/" + b"x" * 70_000)


def _request(daemon: Daemon, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as one, contextlib.suppress(OSError):
        one.settimeout(5)
        one.connect(str(daemon.socket))
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        one.recv(65536)


KINDS: tuple[tuple[Callable[[random.Random, int], Iterator[str]], int], ...] = (
    (documents, 60_000),
    (state_files, 20_000),
    (casts, 20_000),
    (answers, 2_000),
    (admin_requests, 3_000),
)
"""What yields what went wrong, and how many inputs a long run has."""
