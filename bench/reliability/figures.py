"""Keeps the figures of the last measured run for ``docs/reliability.md``: name of a promise → what was measured."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from bench.reliability.api import Figure

FILE = Path(__file__).with_name("figures.json")


def load() -> dict[str, dict[str, str]]:
    """Return ``text``, ``kept`` (yes or NO), ``date`` and ``machine`` of each figure that was recorded."""
    if not FILE.exists():
        return {}
    found: dict[str, dict[str, str]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def record(measured: Mapping[str, Figure], names: set[str]) -> None:
    """Replace the figures that were measured now; those of promises that are no more go.

    :param names: of all promises
    """
    known = {name: row for name, row in load().items() if name in names}
    for name, figure in measured.items():
        known[name] = {
            "text": figure.text,
            "kept": "yes" if figure.kept else "NO",
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(),
        }
    FILE.write_text(json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> str:
    """Return what the figures depend on, in a few words."""
    return f"{os.cpu_count()} CPUs, Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}"
