"""Where ``make deb-check`` has laid what the tests use, and trees that are booted from it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests_deb.container import Container

ROOT = Path(__file__).resolve().parent.parent
SUITE = os.environ.get("SUITE") or "bookworm"


@contextlib.contextmanager
def booted_tree(name: str) -> Iterator[Container]:
    """Boot a host that knows nothing of dvr-agent; what the package depends on is installed."""
    folder = ROOT / ".vm" / SUITE
    container = Container(folder / "host", folder / f"run-{name}-{os.getpid()}")
    container.start()
    try:
        yield container
    finally:
        container.close()
