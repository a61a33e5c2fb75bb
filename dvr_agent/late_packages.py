"""Has the import of a package load only the modules of it that are named, and its own content when that is asked for.

``pyroute2``: the agent uses constants and message classes, a fifth of its modules, where its package imports all:
80 ms of processor time and 8 MB at each start.  ``rfc3986``: oslo.config imports it for a type of option that nothing
here has: 20 ms.  ``html``, which ``http.server`` needs for a page about an error, has a table of entities:
0.4 MB.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGES = ("pyroute2", "rfc3986", "html")


class _Finder(MetaPathFinder):
    """Finds one package, once."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.package:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _LateLoader(spec.loader)
        return spec


class _LateLoader(Loader):
    """Makes a package without content; a name in it that is no module of it has the content loaded."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__

        def find(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            try:
                return importlib.import_module(f"{package}.{name}")
            except ModuleNotFoundError:
                module.__dict__.pop("__getattr__", None)
                self._loader.exec_module(module)
                return getattr(module, name)

        module.__dict__["__getattr__"] = find


def install() -> None:
    """Load the packages so from now on, if they are not loaded yet."""
    for package in PACKAGES:
        if package not in sys.modules and not any(getattr(one, "package", "") == package for one in sys.meta_path):
            sys.meta_path.insert(0, _Finder(package))
