"""Names the reasons for which jobs fail, for the label ``reason`` of metrics: few values, whatever the texts say."""

from __future__ import annotations

from dvr_agent.errors import (
    SHORTAGES,
    AllocationError,
    AttachError,
    DvrError,
    KernelError,
    NamespaceGoneError,
    ServiceError,
    TablesLockedError,
    TablesUnavailableError,
)
from dvr_agent.reconcile.api import RefusedError

BUG = "bug"
SERVICE = "service"
OTHER = "other"
_BY_CLASS: tuple[tuple[type[DvrError], str], ...] = (
    (TablesLockedError, "tables_locked"),
    (TablesUnavailableError, "tables_unavailable"),
    (NamespaceGoneError, "namespace_gone"),
    (AttachError, "attach"),
    (KernelError, "kernel"),
    (AllocationError, "allocation"),
    (ServiceError, SERVICE),
)
"""The first class that an error is of counts: special ones stand before general ones."""
SHORTAGE = "shortage"
REASONS = {
    "kernel": "the kernel refused to read or to change an object",
    "shortage": "the process or the host has no descriptor or memory left",
    "namespace_gone": "a namespace vanished during the job",
    "tables_locked": "another program holds the lock of iptables programs for long",
    "tables_unavailable": "the kernel has no packet filter tables that can be used",
    "attach": "a port could not be connected to its network (bridge, Open vSwitch)",
    "allocation": "a pool of link-local pairs or rule priorities is used up",
    SERVICE: "a helper process (radvd, keepalived, metadata proxy) does not serve the router",
    OTHER: "any other error that has a text for the operator",
    BUG: "an unexpected exception; the log has its traceback",
}
"""All reasons, with their meaning."""


def reason_of(error: DvrError) -> str:
    """Return the reason of an error; of a job with several refused objects that of the first one."""
    if isinstance(error, RefusedError):
        return reason_of(error.errors[0]) if error.errors else SERVICE
    if isinstance(error, KernelError) and error.code in SHORTAGES:
        return SHORTAGE
    return next((name for kind, name in _BY_CLASS if isinstance(error, kind)), OTHER)
