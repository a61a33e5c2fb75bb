"""Find out which connection tracking helpers this kernel has, by asking for each in a namespace of its own.

The kernel lists helpers nowhere, and refuses a whole table for one that it lacks (``xt_ct_set_helper``,
net/netfilter/xt_CT.c); asking loads the helper's module.  Some helpers are of one family only.
"""

from __future__ import annotations

import errno

from dvr_agent import libc
from dvr_agent.errors import KernelError
from dvr_agent.kernel import capability
from dvr_agent.kernel.iptables.layout import LAYOUTS
from dvr_agent.kernel.iptables.libiptc import Handle, library
from dvr_agent.kernel.iptables.rule_codec import encode
from dvr_agent.state.filter import CtHelper, Family, FilterRule, Transport
from dvr_agent.threads import start_thread

_RAW, _HOOK = "raw", "PREROUTING"


class HelperProbe:
    """Remembers which helpers there are; a helper that is missing is asked for again, since its module may come."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], frozenset[Family]] = {}

    def families(self, name: str, protocol: Transport) -> frozenset[Family]:
        """Return the families for which the kernel has a helper for this protocol; empty: it has none of this name.

        :raises KernelError: it could not be asked
        """
        known = self._found.get((name, protocol))
        if known is None:
            known = _ask(FilterRule(CtHelper(name), protocol=protocol))
            if known:
                self._found[name, protocol] = known
        return known


def _ask(rule: FilterRule) -> frozenset[Family]:
    """Commit the rule in each family, in a namespace that ends with this call."""
    found: set[Family] = set()
    failures: list[KernelError] = []
    families: list[Family] = [family for family in LAYOUTS if family == 4 or capability.has_ipv6()]
    entries = {family: (library(family), encode(rule, family))[1] for family in families}

    def commit_all() -> None:
        try:
            libc.unshare(libc.CLONE_NEWNET)
            for family, entry in entries.items():
                if _takes(family, entry, rule):
                    found.add(family)
        except OSError as exc:
            failures.append(KernelError("", "new namespace", exc.errno or errno.EIO, "the agent needs CAP_SYS_ADMIN"))
        except KernelError as exc:
            failures.append(exc)

    start_thread("probe helper", commit_all).join()  # its namespace ends with it
    if failures:
        raise failures[0]
    return frozenset(found)


def _takes(family: Family, entry: bytes, rule: FilterRule) -> bool:
    with Handle("", (family, _RAW)) as handle:
        handle.insert(_HOOK, 0, entry, rule)
        try:
            handle.commit(lambda: rule.text)
        except KernelError as exc:
            if exc.code != errno.ENOENT:
                raise
            return False
    return True
