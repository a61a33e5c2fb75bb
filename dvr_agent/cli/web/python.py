"""How other modules of this package are run as processes: with this interpreter, wherever the current directory is."""

from __future__ import annotations

import sys
from pathlib import Path

import dvr_agent

ENVIRONMENT = {"PYTHONPATH": str(Path(dvr_agent.__file__).parents[1]), "PYTHONSAFEPATH": "1"}
"""Modules come from where this one came from, never from the current directory, which any user may have made."""


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module; needs :data:`ENVIRONMENT`."""
    return [sys.executable, "-m", module, *arguments]
