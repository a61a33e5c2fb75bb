"""Which of the objects found in a namespace are ours: the only place that decides it.

A namespace may be shared: by several routers (the fip namespace, one slice each) and with things an operator put
there.  Whatever an :class:`Ownership` does not claim is not observed, and so can be neither changed nor removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dvr_agent.state.route import MAIN_TABLE

FIP_TABLE = 16
"""Routing table of traffic that leaves by a floating IP (neutron.agent.l3.dvr_fip_ns, FIP_RT_TBL)."""
FIP_PRIORITIES = range(32768, 72768)
"""Priorities of the rules that lead there (neutron.agent.l3.dvr_fip_ns, FIP_PR_START and _END)."""
SAME_SCOPE_PRIORITY = 80000
"""Priority of the rules for subnets in the external address scope (FAST_PATH_EXIT_PR)."""


class RuleOwner(Enum):
    """How rules of ours are recognised (dataplane contract, "What is ours")."""

    NONE = "none"
    QROUTER = "qrouter"
    """Lookup in table 16 by a FIP or same-scope priority, or table = priority (redirect to SNAT)."""
    BY_IIF = "iif"
    """``iif`` one of our devices and table = priority."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """What one slice of a namespace answers for.

    :ivar prefixes: devices by the beginning of their name; the whole namespace is read to find them
    :ivar devices: devices by exact name; only these are read (a slice of a shared namespace)
    :ivar rules: how its rules are recognised
    :ivar tables: routing tables that belong to it altogether, whatever device a route in them uses
    :ivar main_only: of the routes on its devices only those of the main table are its own
    """

    prefixes: tuple[str, ...] = ()
    devices: frozenset[str] = frozenset()
    rules: RuleOwner = RuleOwner.NONE
    tables: frozenset[int] = frozenset()
    main_only: bool = False

    def owns_device(self, name: str) -> bool:
        """True if the device, and the addresses, neighbours and routes on it, are ours."""
        return name in self.devices or name.startswith(self.prefixes)

    def owns_route(self, table: int, devices: tuple[str, ...]) -> bool:
        """True if a static or boot route in ``table`` by ``devices`` is ours."""
        if table in self.tables:
            return True
        if self.main_only and table != MAIN_TABLE:
            return False
        return bool(devices) and all(self.owns_device(device) for device in devices)

    def owns_rule(self, priority: int, table: int, src: str | None, iif: str | None) -> bool:
        """True if a plain lookup rule is ours."""
        if self.rules is RuleOwner.QROUTER:
            by_fip = table == FIP_TABLE and (priority in FIP_PRIORITIES or priority == SAME_SCOPE_PRIORITY)
            return src is not None and iif is None and (by_fip or table == priority)
        if self.rules is RuleOwner.BY_IIF:
            return iif is not None and table == priority and iif in self.devices
        return False
