"""The log of calls to the fake kernel, and the failures that tests ask for."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from dvr_agent.errors import KernelError

METHODS = (
    "namespaces.create",
    "namespaces.remove",
    "namespaces.list",
    "namespaces.exists",
    "namespaces.empty_files",
    "namespaces.remove_file",
    "namespaces.enter",
    "interfaces.observe",
    "interfaces.limits",
    "interfaces.limit_drops",
    "interfaces.apply",
    "interfaces.change",
    "iptables.observe",
    "iptables.replace",
    "iptables.withdraw",
    "iptables.commit",
    "iptables.save",
    "iptables.helper_families",
    "iptables.counts",
    "nftables.observe",
    "nftables.remove",
    "nftables.withdraw",
    "iptables.reserve",
    "conntrack.delete",
    "conntrack.delete_to_ports",
    "conntrack.drop_untranslated",
    "announcer.announce",
    "announcer.send",
)
"""Names of the calls that are logged and can fail.

These three are no methods of the interface: ``interfaces.change`` (namespace, Change), one for each change that
``apply`` makes; ``iptables.commit`` (namespace, Table), one for each table at the end of a ``defer_apply`` block;
``announcer.send`` (namespace, Announcement), one for each announcement.
"""
ANY = "*"
"""Stands for every method, where calls are made to fail."""


class Call(NamedTuple):
    """One call: a name in :data:`METHODS`, and the arguments."""

    method: str
    args: tuple[Any, ...]


@dataclass
class _Fault:
    method: str
    skip: int
    times: int | None
    error: Exception | None
    when: Callable[..., bool] | None


class Faults:
    """The log of calls, and the failures that tests ask for."""

    def __init__(self) -> None:
        self.log: list[Call] = []
        self._faults: list[_Fault] = []

    def add(
        self,
        method: str,
        nth: int,
        error: Exception | None,
        when: Callable[..., bool] | None,
        times: int | None,
    ) -> None:
        """Let calls fail; see :meth:`dvr_agent.kernel.fake.FakeKernel.fail`."""
        if method not in (*METHODS, ANY):
            raise ValueError(f"{method}: not one of {', '.join(METHODS)}")
        self._faults.append(_Fault(method, nth - 1, times, error, when))

    def clear(self) -> None:
        """Let no more calls fail."""
        self._faults.clear()

    def call(self, method: str, *args: Any) -> None:
        """Log the call; raise if a fault applies to it."""
        self.log.append(Call(method, args))
        for fault in self._faults:
            if (
                fault.method not in (method, ANY)
                or fault.times == 0
                or (fault.when is not None and not fault.when(*args))
            ):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
            namespace = args[0] if args and isinstance(args[0], str) else ""
            raise fault.error or KernelError(namespace, method, errno.EIO, "the test wants it to fail")
