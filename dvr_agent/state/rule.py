"""Policy routing rules (``ip rule``)."""

from __future__ import annotations

from typing import NamedTuple

from dvr_agent.state.kind import Kind
from dvr_agent.state.routing_tables import table_name


class Rule(NamedTuple):
    """``from SRC [iif DEV] lookup TABLE`` with a priority.  Identity: the whole value.

    Rules with another selector or action are not ours and are not decoded to a value of this type.
    """

    family: int
    """4 or 6."""
    priority: int
    table: int
    src: str | None = None
    """``10.1.0.1/24``: the kernel keeps the host bits; None is ``from all``."""
    iif: str | None = None
    suppress_default: bool = False
    """``suppress_prefixlength 0``: a default route of the table does not count; the next rule is tried."""

    @property
    def selector(self) -> tuple[int, str | None, str | None]:
        """The packets that the rule applies to: a rule can replace another one with the same selector."""
        return (self.family, self.src, self.iif)

    @property
    def _suffix(self) -> str:
        return " suppress_prefixlength 0" if self.suppress_default else ""

    @property
    def text(self) -> str:
        """The rule in iproute2's terms."""
        iif = f" iif {self.iif}" if self.iif else ""
        source = self.src or ("all" if self.family == 4 else "all (IPv6)")  # no other part tells the family
        return f"rule {self.priority}: from {source}{iif} lookup {table_name(self.table)}{self._suffix}"


KERNEL_RULES = frozenset({
    Rule(4, 0, 255), Rule(6, 0, 255), Rule(4, 32766, 254), Rule(6, 32766, 254), Rule(4, 32767, 253),
})  # fmt: skip
"""Rules that the kernel makes with a namespace, for the tables local (255), main (254) and default (253).

``ip rule flush`` removes them, but for local, which other commands remove.  Without main nothing is routed, without
local no address is the namespace's own, so every namespace of ours has them in its desired state.
"""


def _build_rank(rule: Rule) -> int:
    """Return 40 for the kernel's rules, before routes, since the kernel checks a gateway by rules; else 60."""
    return 40 if rule in KERNEL_RULES else 60


RULE_KIND = Kind(
    Rule,
    name="rule",
    field="rules",
    build_rank=_build_rank,
    remove_rank=0,
    owned=lambda ownership, rule: ownership.owns_rule(rule),
    devices=lambda rule: () if rule.iif is None else (rule.iif,),
    goes_with_device=False,  # fib_rules_detach (net/core/fib_rules.c): a rule waits for a device of that name
    selector=lambda rule: rule.selector,
)
