"""Write tables by python-iptables' binding of libiptc (:class:`Handle`); the only module that touches python-iptables.

Used by :mod:`.manager`, and at start by ``kernel/linux.py`` (:func:`probe`).  The binding is ``iptc.ip4tc.iptc`` and
``iptc.ip6tc.ip6tc``.  The package's Rule, Chain and Table layers never run: they redirect file descriptor 1, share
caches between namespaces, and their library may end the process.  Importing the package has side effects too, so it
happens once, on first use:

* it runs ``/sbin/ldconfig`` to find its libraries, several compilers if that fails, and gives up without any of them:
  its search is replaced for the time of the import, so that no process is started and ldconfig is not needed;
* it runs ``ldconfig`` once more for the directory of the iptables extensions (which we do not use), unless
  ``XTABLES_LIBDIR`` is set: we set it for the time of the import;
* it runs ``modprobe ip_tables`` and ``ip6_tables`` where the kernel has modules: wanted;
* it imports distutils, for one path of its own, and so setuptools, 80 ms: an empty module with that function stands
  in for it meanwhile;
* it warns about invalid escapes: kept quiet.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import errno
import os
import sys
import sysconfig
import threading
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from types import ModuleType, TracebackType
from typing import Any, NoReturn

from dvr_agent import libc
from dvr_agent.errors import KernelError, TablesUnavailableError
from dvr_agent.kernel import capability
from dvr_agent.kernel.iptables.layout import BUILTINS, LAYOUTS
from dvr_agent.kernel.netns import in_new_namespace
from dvr_agent.state.filter import Family, FilterRule, Table, TableKey

SONAMES = {
    "c": ("libc.so.6",),
    "xtables": ("libxtables.so.12", "libxtables.so.13", "libxtables.so.11"),
    "ip4tc": ("libip4tc.so.2", "libip4tc.so.0"),
    "ip6tc": ("libip6tc.so.2", "libip6tc.so.0"),
}
"""Run-time libraries by the names that python-iptables asks for, and their sonames; the first that loads is taken."""
NO_TABLES = "this kernel has no legacy packet filter tables (x_tables)"
KERNEL_HINT = (
    f"{NO_TABLES}: load the modules ip_tables, ip6_tables, iptable_* and ip6table_* for nat, mangle, filter and raw; "
    "from Linux 6.17 on the kernel must be built with CONFIG_NETFILTER_XTABLES_LEGACY=y"
)
LIBRARY_HINT = (
    "python-iptables or its libraries cannot be loaded: install python-iptables and libip4tc2, libip6tc2, libxtables12 "
    "(Debian) or iptables-libs (Red Hat)"
)
_MISSING = (errno.ENOENT, errno.ENOPROTOOPT, errno.EPROTONOSUPPORT)
_import_lock = threading.Lock()
_libraries: dict[Family, Any] = {}


def library(family: Family) -> Any:
    """Return the binding of libiptc for one family.

    :raises TablesUnavailableError: the package or a library is missing
    """
    if family not in _libraries:
        with _import_lock:
            try:
                _libraries.update(_load())
            except Exception as exc:
                raise TablesUnavailableError("", "python-iptables", errno.ELIBACC, f"{LIBRARY_HINT} ({exc})") from exc
    return _libraries[family]


def probe() -> None:
    """Check at the start of the daemon that legacy tables can be used here.

    Opens every table that the agent may need, in a namespace that lives only as long as this call.

    :raises TablesUnavailableError: says what an operator has to do
    :raises KernelError: no namespace could be made (not root)
    """
    in_new_namespace(_open_all_tables)


def _open_all_tables() -> None:
    for family, name in product(LAYOUTS, BUILTINS):
        if family == 4 or capability.has_ipv6():
            with Handle("", (family, name)):
                pass


class Handle:
    """A copy of a table in libiptc's memory, from reading to the one commit; a context manager that frees it.

    Made while the thread is in the namespace; may be used outside.
    """

    def __init__(self, namespace: str, key: TableKey) -> None:
        self._family, self._namespace, self._what = key[0], namespace, Table(*key).text
        self._lib = library(key[0])
        self._handle = self._lib.iptc_init(key[1].encode())
        if not self._handle:
            code = _errno()
            if code in _MISSING:
                raise TablesUnavailableError(namespace, self._what, code, KERNEL_HINT)
            raise KernelError(namespace, self._what, code, self._advice(code))

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle:
            handle, self._handle = self._handle, None
            self._lib.iptc_free(handle)

    def create_chain(self, name: str) -> None:
        """Create an empty chain."""
        self._check(self._lib.iptc_create_chain(name.encode(), self._handle), f"-N {name}")

    def flush(self, chain: str) -> None:
        """Delete all rules of a chain."""
        self._check(self._lib.iptc_flush_entries(chain.encode(), self._handle), f"-F {chain}")

    def delete_chain(self, name: str) -> None:
        """Delete an empty chain that no rule leads to."""
        self._check(self._lib.iptc_delete_chain(name.encode(), self._handle), f"-X {name}")

    def insert(self, chain: str, position: int, entry: bytes, rule: FilterRule) -> None:
        """Insert an entry before the one at this position (from 0).

        :param rule: for the error text
        """
        done = self._lib.iptc_insert_entry(chain.encode(), entry, ctypes.c_uint(position), self._handle)
        if done != 1:
            self._fail(_errno(), f"-A {chain} {rule.text}")

    def delete(self, chain: str, position: int) -> None:
        """Delete the rule at this position (from 0)."""
        done = self._lib.iptc_delete_num_entry(chain.encode(), ctypes.c_uint(position), self._handle)
        self._check(done, f"-D {chain} {position + 1}")

    def commit(self, what: Callable[[], str]) -> None:
        """Replace the kernel's table by this one, in one step.

        :param what: makes the error text: the inserted rules
        :raises KernelError: nothing was changed; EAGAIN: another program changed the table since it was read
        """
        done = self._lib.iptc_commit(self._handle)
        if done != 1:
            self._fail(_errno(), what())

    def _check(self, done: int, what: str) -> None:
        if done != 1:
            self._fail(_errno(), what)

    def _fail(self, code: int, what: str) -> NoReturn:
        raise KernelError(self._namespace, f"{self._what}: {what}", code, self._advice(code))

    def _advice(self, code: int) -> str:
        """Return the text for an errno: libiptc's, or advice to the operator where libiptc's text does not help."""
        if code == errno.EMLINK:
            return "a rule that is not ours leads to this chain; delete that rule"
        if code == errno.EAGAIN:
            return "another program keeps changing this table"
        text: bytes = self._lib.iptc_strerror(code)
        return text.decode(errors="replace")


def _errno() -> int:
    """Return the thread's errno, which python-iptables' libraries set (they were loaded without ``use_errno``)."""
    return libc.thread_errno() or errno.EIO


def _load() -> dict[Family, Any]:
    with _quiet_import():
        from iptc.ip4tc import iptc as v4
        from iptc.ip6tc import ip6tc as v6
    return {4: v4, 6: v6}


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """Have python-iptables find its libraries by their sonames, without starting processes."""
    search = ctypes.util.find_library
    had = os.environ.get("XTABLES_LIBDIR")

    def find(name: str) -> str | None:
        """Find a library; None for python-iptables' helper library, which it then finds in its own directory."""
        for soname in SONAMES.get(name, ()):
            with contextlib.suppress(OSError):
                ctypes.CDLL(soname)
                return soname
        return search(name) if name in SONAMES else None

    ctypes.util.find_library = find
    os.environ.setdefault("XTABLES_LIBDIR", "/usr/lib/xtables")
    try:
        with warnings.catch_warnings(), _small_distutils():
            warnings.simplefilter("ignore")
            yield
    finally:
        ctypes.util.find_library = search
        if had is None:
            del os.environ["XTABLES_LIBDIR"]


@contextlib.contextmanager
def _small_distutils() -> Iterator[None]:
    """Stand in for ``distutils.sysconfig`` with the one function that python-iptables takes from it."""
    names = ("distutils", "distutils.sysconfig")
    if any(name in sys.modules for name in names):
        yield
        return
    modules = {name: ModuleType(name) for name in names}
    modules[names[1]].__dict__["get_python_lib"] = lambda: sysconfig.get_path("purelib")
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
