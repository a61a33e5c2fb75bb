"""Modules of promises: each has ``PROMISES``, a tuple of :class:`bench.reliability.api.Promise`."""

from __future__ import annotations

import importlib
import pkgutil

from bench.reliability.api import Promise


def promises() -> list[Promise]:
    """Return the promises of all modules of this package, by the modules' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [promise for name in names for promise in importlib.import_module(f"{__name__}.{name}").PROMISES]
