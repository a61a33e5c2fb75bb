"""Import python-ovs without eventlet (:func:`load`); used by ``factory``.

``ovs.poller`` imports eventlet wherever it is installed, only to ask whether eventlet has patched ``select``.  In the
daemon eventlet is loaded anyway and patches nothing.  ``dvrctl`` must not load it: it costs memory and prints a
warning.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import select
import sys
from collections.abc import Iterator
from typing import Any

from dvr_agent.attach.openvswitch.json_stream import StreamParser
from dvr_agent.errors import ConfigError

LEVELS = {"emer": logging.CRITICAL, "err": logging.ERROR, "warn": logging.WARNING}
DEBUG_LEVELS = {"info": logging.INFO, "dbg": logging.DEBUG}


def load(debug: bool) -> None:
    """Import the library, before any module of this package that needs it is imported.

    :param debug: log the library's debug messages; else its warnings only
    :raises ConfigError: the extra is not installed
    """
    try:
        with _without_eventlet():
            vlog, poller, json = (importlib.import_module(f"ovs.{name}") for name in ("vlog", "poller", "json"))
            importlib.import_module("ovs.jsonrpc")
    except ImportError as exc:
        raise ConfigError(
            f"[DEFAULT] interface_driver = openvswitch needs the extra dvr-agent[ovs] (pip install ovs): {exc}"
        ) from exc
    for name, level in (LEVELS | DEBUG_LEVELS if debug else LEVELS).items():
        setattr(vlog.Vlog, name, _logger(level))
    # The library uses select(2), which cannot watch descriptors from 1024 on.
    poller.SelectPoll = select.poll  # type: ignore[attr-defined]
    if json.PARSER == json.PARSER_PY:
        json.Parser = StreamParser  # type: ignore[attr-defined]  # only jsonrpc makes one here


def _logger(level: int) -> Any:
    """Return a method of the library's logger that writes to ours."""

    def log(self: Any, message: str, **details: Any) -> None:
        logging.getLogger(f"ovs.{self.name}").log(level, "%s", message, **details)

    return log


@contextlib.contextmanager
def _without_eventlet() -> Iterator[None]:
    if "eventlet" in sys.modules:
        yield
        return
    sys.modules["eventlet"] = None  # type: ignore[assignment]  # import raises ImportError then
    try:
        yield
    finally:
        del sys.modules["eventlet"]
