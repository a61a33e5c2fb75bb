"""Promises whose programs keep them, break them, raise, hang and die: for the test of the runner."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from bench.reliability.api import Figure, Options, Promise


def kept(options: Options) -> Figure:
    """Says where it ran."""
    alone = not list(Path("/run/netns").iterdir()) and os.getpid() < 10
    return Figure(f"{'quick' if options.quick else 'long'}, alone: {alone}", alone)


def broken(_options: Options) -> Figure:
    return Figure("1 of 3 pings lost", False, ("the second one",))


def failing(_options: Options) -> Figure:
    raise RuntimeError("no such bridge")


def hanging(_options: Options) -> Figure:
    threading.Event().wait()
    raise AssertionError


def dying(_options: Options) -> Figure:
    os._exit(9)


def promises() -> list[Promise]:
    """As :func:`bench.reliability.rows.promises`."""
    programs = (broken, failing, dying, hanging, kept)
    return [Promise(one.__name__, "Nothing is lost.", "somebody", ("tests/unit/x.py",), one) for one in programs]
