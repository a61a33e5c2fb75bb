"""Decide which of the objects found in a namespace are ours; no other module decides it.

A namespace may be shared by several routers (the fip namespace, one slice each) and with objects of an operator.  An
object that an :class:`Ownership` does not claim is not observed, and so is neither changed nor removed
(``docs/dataplane.md``, "What is ours").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dvr_agent.state.route import MAIN_TABLE
from dvr_agent.state.rule import KERNEL_RULES, Rule

FIP_TABLE = 16
"""Routing table of traffic that leaves by a floating IP (neutron.agent.l3.dvr_fip_ns, FIP_RT_TBL)."""
FIP_PRIORITIES = range(32768, 72768)
"""Priorities of the rules that look up ``FIP_TABLE`` (neutron.agent.l3.dvr_fip_ns, FIP_PR_START and _END)."""
SAME_SCOPE_PRIORITY = 80000
"""Priority of the rules for subnets in the external address scope (FAST_PATH_EXIT_PR)."""

V6_PROXIED_PRIORITY = 32763
"""Our IPv6 rules for proxied addresses, which lead to main, before the redirect to SNAT."""
V6_CONNECTED_PRIORITY, V6_REDIRECT_PRIORITY = 32764, 32765
"""Our two IPv6 rules before the kernel's rule for main (32766), whose IPv6 default route leads to the fip namespace."""


class RuleOwner(Enum):
    """How our rules are recognised (``docs/dataplane.md``, "What is ours")."""

    NONE = "none"
    QROUTER = "qrouter"
    """Rules to table 16 with a FIP or same-scope priority; rules with table = priority (redirect to SNAT); the two IPv6
    rules before main."""
    BY_IIF = "iif"
    """``iif`` is one of our devices and table = priority."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """The objects that one slice of a namespace owns.

    :ivar prefixes: devices by the beginning of their name; the whole namespace is read to find them
    :ivar devices: devices by exact name; only these are read (a slice of a shared namespace)
    :ivar rules: how rules of the slice are recognised
    :ivar tables: routing tables that the slice owns as a whole, whatever device a route in them uses
    :ivar kernel_rules: the slice owns what the kernel makes with a namespace: ``lo``, which is up, and ``KERNEL_RULES``
    :ivar proxied: IPv6 networks whose proxied neighbours the slice owns, whatever device they are on; without any none
        are read
    :ivar main_only: of the routes by its devices the slice owns only those of the main table
    :ivar limited: devices by the beginning of their name whose bandwidth limits the slice owns; none are read without
    """

    prefixes: tuple[str, ...] = ()
    devices: frozenset[str] = frozenset()
    rules: RuleOwner = RuleOwner.NONE
    tables: frozenset[int] = frozenset()
    main_only: bool = False
    kernel_rules: bool = False
    proxied: tuple[str, ...] = ()
    limited: tuple[str, ...] = ()

    def limits(self, device: str) -> bool:
        """True if the bandwidth limits of the device are ours."""
        return device.startswith(self.limited)

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

    def owns_rule(self, rule: Rule) -> bool:
        """True if a plain lookup rule is ours."""
        if rule in KERNEL_RULES:
            return self.kernel_rules
        if self.rules is RuleOwner.QROUTER:
            return rule.src is not None and rule.iif is None and _is_of_qrouter(rule)
        if self.rules is RuleOwner.BY_IIF:
            return rule.iif is not None and rule.table == rule.priority and self.owns_device(rule.iif)
        return False


def _is_of_qrouter(rule: Rule) -> bool:
    """True for the rules of :attr:`RuleOwner.QROUTER`."""
    if rule.suppress_default:
        return rule.family == 6 and rule.priority == V6_CONNECTED_PRIORITY and rule.table == MAIN_TABLE
    if rule.priority == V6_PROXIED_PRIORITY:
        return rule.family == 6 and rule.table == MAIN_TABLE
    if rule.priority in (V6_CONNECTED_PRIORITY, V6_REDIRECT_PRIORITY):
        return rule.family == 6 and rule.priority == V6_REDIRECT_PRIORITY and rule.table > V6_REDIRECT_PRIORITY
    by_fip = rule.table == FIP_TABLE and (rule.priority in FIP_PRIORITIES or rule.priority == SAME_SCOPE_PRIORITY)
    return by_fip or rule.table == rule.priority
