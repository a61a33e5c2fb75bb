"""Chooses this host's packet filter, legacy tables or nf_tables, by what the kernel can do.

Used by ``reconcile/factory.py`` and by ``dvrctl`` with the option ``[dvr_agent] packet_filter``.
"""

from __future__ import annotations

from dvr_agent.errors import TablesUnavailableError
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
    if choice == "nftables":
        probe_nftables()
        return _use("nftables", "nf_tables, as packet_filter says")
    try:
        probe_legacy()
    except TablesUnavailableError as legacy:
        if choice == "legacy":
            raise
        _probe_nftables_after(legacy)
        # Its advice follows a colon, and is not needed where nf_tables works.
        return _use("nftables", f"nf_tables, since {legacy.hint.partition(': ')[0]}")
    return _use("legacy", "legacy tables" + (", as packet_filter says" if choice == "legacy" else ", which work here"))


def _use(backend: Backend, reason: str) -> Backend:
    HostFilter.backend, HostFilter.reason = backend, reason
    return backend


def _probe_nftables_after(legacy: TablesUnavailableError) -> None:
    """Check that nf_tables can be used where legacy tables cannot.

    :raises TablesUnavailableError: it cannot either; with both reasons
    """
    try:
        probe_nftables()
    except TablesUnavailableError as exc:
        both = f"neither of two can be used: legacy tables: {legacy.hint}; nf_tables: {exc.hint}"
        raise TablesUnavailableError("", "packet filter", legacy.code, both) from exc
