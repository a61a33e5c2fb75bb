"""Chooses this host's packet filter, legacy tables or nf_tables, by what the kernel can do.

Used by ``reconcile/factory.py`` and by ``dvrctl`` with the option ``[dvr_agent] packet_filter``.
"""

from __future__ import annotations

import errno

from dvr_agent.errors import KernelError, TablesUnavailableError
from dvr_agent.kernel.host_filter import Backend, HostFilter
from dvr_agent.kernel.iptables.libiptc import probe as probe_legacy
from dvr_agent.kernel.nftables.filter_probe import probe as probe_nftables
from dvr_agent.settings import FilterChoice


def choose(choice: FilterChoice) -> Backend:
    """Use a packet filter from now on; ``auto``: legacy tables where they work, else nf_tables.

    Each is tried out in a namespace of a moment.

    :raises TablesUnavailableError: it does not work here; with ``auto`` neither does
    :raises KernelError: no namespace could be made (not root)
    """
    HostFilter.backend = "nftables" if choice == "nftables" or not _has_legacy(choice) else "legacy"
    if HostFilter.backend == "nftables":
        try:
            probe_nftables()
        except TablesUnavailableError as exc:
            raise _refused(choice, exc) from exc
    return HostFilter.backend


def _has_legacy(choice: FilterChoice) -> bool:
    try:
        probe_legacy()
    except TablesUnavailableError:
        if choice == "legacy":
            raise
        return False
    return True


def _refused(choice: FilterChoice, exc: TablesUnavailableError) -> KernelError:
    """Return the error of nf_tables, and of the legacy tables too where both were asked for."""
    if choice == "nftables":
        return exc
    try:
        probe_legacy()
    except TablesUnavailableError as legacy:
        both = f"neither legacy tables ({legacy}) nor nf_tables ({exc})"
        return TablesUnavailableError("", "packet filter", errno.EOPNOTSUPP, f"this kernel has {both}")
    return exc
