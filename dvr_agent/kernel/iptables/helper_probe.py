"""Find out which connection tracking helpers this kernel has, by asking for each in a namespace of its own.

The kernel lists helpers nowhere, and refuses a whole table for one that it lacks (``xt_ct_set_helper``,
net/netfilter/xt_CT.c); asking loads the helper's module.  Some helpers are of one family only.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from dvr_agent.errors import KernelError
from dvr_agent.kernel import capability
from dvr_agent.kernel.iptables.layout import LAYOUTS
from dvr_agent.kernel.iptables.libiptc import Handle, library
from dvr_agent.kernel.iptables.rule_codec import encode
from dvr_agent.kernel.netns import in_new_namespace
from dvr_agent.state.filter import CtHelper, Family, FilterRule, Transport

_RAW, _HOOK = "raw", "PREROUTING"
MISSING_SECONDS = 60.0
"""How long a helper counts as missing: its module may be installed, but many routers may name it in one resync."""


def ask_kernel(rule: FilterRule) -> frozenset[Family]:
    """Return the families in which the kernel takes a rule; it is committed in a namespace that ends with this call.

    :raises KernelError: it could not be asked
    """
    families: list[Family] = [family for family in LAYOUTS if family == 4 or capability.has_ipv6()]
    entries = {family: (library(family), encode(rule, family))[1] for family in families}

    return in_new_namespace(
        lambda: frozenset(family for family, entry in entries.items() if _takes(family, entry, rule))
    )


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


class HelperProbe:
    """Remembers which helpers there are, and for a while which are missing.

    :param clock: seconds, as time.monotonic() counts them
    :param ask: asks the kernel
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        ask: Callable[[FilterRule], frozenset[Family]] = ask_kernel,
    ) -> None:
        self._clock, self._ask = clock, ask
        self._found: dict[tuple[str, str], frozenset[Family]] = {}
        self._missing: dict[tuple[str, str], float] = {}

    def families(self, name: str, protocol: Transport) -> frozenset[Family]:
        """Return the families for which the kernel has a helper for this protocol; empty: it has none of this name.

        :raises KernelError: it could not be asked
        """
        key, now = (name, protocol), self._clock()
        known = self._found.get(key)
        if known is not None:
            return known
        if self._missing.get(key, now) > now:
            return frozenset()
        known = self._ask(FilterRule(CtHelper(name), protocol=protocol))
        if known:
            self._found[key] = known
            self._missing.pop(key, None)
        else:
            self._missing[key] = now + MISSING_SECONDS
        return known
