"""Find out whether this kernel's nf_tables has what our tables need: a sample is written and read back, for real.

In a namespace of a moment.  Used by ``kernel/filter_choice.py`` at the start.
"""

from __future__ import annotations

import errno

from dvr_agent.errors import KernelError, TablesUnavailableError
from dvr_agent.kernel import capability
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netns import in_new_namespace
from dvr_agent.kernel.nftables.filter_manager import NftablesFilter
from dvr_agent.state.filter import (
    CtStateMatch,
    Dnat,
    DportMatch,
    FilterRule,
    MarkMatch,
    Not,
    NoTrack,
    Redirect,
    RestoreConnmark,
    SetMark,
    Snat,
    Table,
    Verdict,
)
from dvr_agent.state.filter_runs import make_table

NEEDS = "CONFIG_NF_TABLES with NF_TABLES_IPV4, NF_TABLES_IPV6, NFT_CT, NFT_NAT and NFT_REDIR"
_PORT = (DportMatch("tcp", 80, 80),)


def _samples() -> list[Table]:
    """Return tables with a rule of each kind that routers have."""
    metadata = FilterRule(Redirect(9697), iif="qr-+", dst="169.254.169.254/32", protocol="tcp", matches=_PORT)
    not_translated = (CtStateMatch(frozenset({"DNAT"}), invert=True),)
    samples = [
        make_table(4, "raw", {"PREROUTING": (FilterRule(NoTrack()),)}),
        make_table(
            4,
            "mangle",
            {"PREROUTING": (FilterRule(SetMark(1, 0xFFFF), iif="qr-1"), FilterRule(RestoreConnmark(0xFFFF)))},
        ),
        make_table(
            4,
            "nat",
            {
                "PREROUTING": (metadata, FilterRule(Dnat("10.0.0.4"), dst="192.0.2.1/32", iif="rfp-1")),
                "POSTROUTING": (
                    FilterRule(Verdict("ACCEPT"), oif=Not("rfp-1"), matches=not_translated),
                    FilterRule(Snat("192.0.2.1", random_fully=True), src="10.0.0.4/32"),
                ),
            },
        ),
    ]
    if capability.has_ipv6():
        blocked = FilterRule(Verdict("DROP"), oif="qr-1", matches=(MarkMatch(1, 0xFFFF, invert=True),))
        samples.append(make_table(6, "filter", {"FORWARD": (blocked,)}))
    return samples


def probe() -> None:
    """Check that our tables can be used here.

    :raises TablesUnavailableError: says what an operator has to do
    :raises KernelError: no namespace could be made (not root)
    """
    samples = _samples()
    found = in_new_namespace(lambda: _written_and_read(samples))
    if isinstance(found, KernelError):
        raise TablesUnavailableError("", "nf_tables", found.code, f"this kernel needs {NEEDS} ({found})")
    if found != samples:
        raise TablesUnavailableError("", "nf_tables", errno.EPROTO, "rules read back otherwise than they were written")


def _written_and_read(samples: list[Table]) -> list[Table] | KernelError:
    """Write tables in the thread's namespace, and read them back; an error of the kernel is returned."""
    packet_filter = NftablesFilter(WriteCounters())
    try:
        with packet_filter.defer_apply() as pending:
            for table in samples:
                pending.replace("", table)
        return list(packet_filter.observe("", [table.key for table in samples]))
    except KernelError as exc:
        return exc
