"""Import python-ovs and ovsdbapp without eventlet (:func:`load`); used by ``factory``.

``ovs.poller`` imports eventlet wherever it is installed, only to ask whether eventlet has patched ``select``.  In the
daemon eventlet is loaded anyway and patches nothing.  ``dvrctl`` must not load it: it costs memory and prints a
warning.
"""

from __future__ import annotations

import contextlib
import importlib
import select
import sys
from collections.abc import Iterator

from dvr_agent.attach.openvswitch.json_stream import StreamParser
from dvr_agent.errors import ConfigError


def load(debug: bool) -> None:
    """Import both libraries, before any module of this package that needs them is imported.

    :param debug: log the libraries' debug messages; else their warnings only
    :raises ConfigError: the extra is not installed
    """
    try:
        with _without_eventlet():
            vlog = importlib.import_module("ovsdbapp.backend.ovs_idl.vlog")
            poller, json = importlib.import_module("ovs.poller"), importlib.import_module("ovs.json")
            importlib.import_module("ovsdbapp.backend.ovs_idl.connection")
    except ImportError as exc:
        raise ConfigError(
            f"[DEFAULT] interface_driver = openvswitch needs the extra dvr-agent[ovs] (pip install ovsdbapp): {exc}"
        ) from exc
    vlog.use_python_logger(max_level=vlog.DEBUG if debug else vlog.WARN)
    # The library uses select(2), which cannot watch descriptors from 1024 on.
    poller.SelectPoll = select.poll  # type: ignore[attr-defined]
    if json.PARSER == json.PARSER_PY:
        json.Parser = StreamParser  # type: ignore[attr-defined]  # only jsonrpc makes one here


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
