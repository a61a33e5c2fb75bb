"""Walk a packet through one chain of a packet filter table, with its jumps (net/ipv4/netfilter/ip_tables.c)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dvr_agent.state.filter import (
    CtHelper,
    Dnat,
    Foreign,
    Jump,
    NoTrack,
    Redirect,
    RestoreConnmark,
    SaveConnmark,
    SetMark,
    Snat,
    Verdict,
)
from dvr_agent.trace.ends import dropped, unknown
from dvr_agent.trace.filter_match import Passing, matches
from dvr_agent.trace.filter_values import OtherTarget, SourceRange, WholeRule, WholeTable, WholeTarget

NatTarget = Dnat | Snat | SourceRange | Redirect | OtherTarget
"""Targets of the nat table that translate; of the last kind only MASQUERADE."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A rule that matched, and what it does.

    :ivar passing: the packet afterwards
    :ivar title: ``nat PREROUTING``
    :ivar nat: a target that translates; the caller carries it out
    """

    rule: WholeRule | None
    table: WholeTable
    chain: str
    number: int
    passing: Passing
    nat: NatTarget | None = None
    untracked: bool = False

    @property
    def text(self) -> str:
        """The rule as iptables-save or nft prints it."""
        return self.table.rule_text(self.chain, self.rule.text) if self.rule else f"-P {self.chain} DROP"


Report = Callable[[Ruling], None]
"""Is called with each rule that matters, in order."""


class ChainWalk:
    """One walk; :meth:`run` does it.

    :ivar untracked: a rule has said that the packet is not tracked
    :ivar nat: the target that ended the walk, if it translates
    """

    def __init__(self, table: WholeTable, base: str, passing: Passing, report: Report) -> None:
        self._table, self._base, self._report = table, base, report
        self.passing = passing
        self.untracked = False
        self.nat: NatTarget | None = None
        self._chain, self._next = base, 0
        self._callers: list[tuple[str, int]] = []

    def run(self) -> None:
        """Walk until a verdict.

        :raises EndOfWay: the packet is dropped, or a rule is not understood
        """
        while True:
            rules = self._table.chains[self._chain].rules
            if self._next >= len(rules):
                if self._return():
                    continue
                self._policy()
                return
            rule = rules[self._next]
            self._next += 1
            if self._applies(rule) and self._carry_out(rule):
                return

    def _applies(self, rule: WholeRule) -> bool:
        answer = matches(rule, self.passing)
        if answer is None and self._matters(rule.target):
            raise unknown(f"whether this rule matches is not known: {self._at(rule)}")
        return bool(answer)

    def _matters(self, target: WholeTarget) -> bool:
        if isinstance(target, OtherTarget):
            return target.effect != "none"
        if isinstance(target, Jump):
            chain = self._table.chains.get(target.chain)
            return chain is None or any(self._matters(rule.target) for rule in chain.rules)
        return not isinstance(target, CtHelper)

    def _at(self, rule: WholeRule) -> str:
        return f"{self._table.title} {self._table.rule_text(self._chain, rule.text)}"

    def _return(self) -> bool:
        if not self._callers:
            return False
        self._chain, self._next = self._callers.pop()
        return True

    def _policy(self) -> None:
        if self._table.chains[self._base].policy == "DROP":
            self._report(Ruling(None, self._table, self._base, -1, self.passing))
            raise dropped(f"the policy of {self._table.title} {self._base} is DROP")

    def _carry_out(self, rule: WholeRule) -> bool:
        """Do what the rule's target says; True: the walk is over."""
        target = rule.target
        match target:
            case Verdict():
                return self._verdict(rule, target)
            case Jump():
                self._callers.append((self._chain, self._next))
                self._enter(target.chain)
            case OtherTarget():
                return self._other(rule, target)
            case Dnat() | Snat() | SourceRange() | Redirect():
                return self._translate(rule, target)
            case NoTrack():
                self.untracked = True
                self._ruling(rule)
            case Foreign():
                raise unknown(f"the effect of this rule is not computed: {self._at(rule)}")
            case _:
                self._set_marks(rule, target)
        return False

    def _enter(self, chain: str) -> None:
        if chain not in self._table.chains:  # chains and rules of nf_tables are read one after the other
            raise unknown(f"chain {chain} of {self._table.title} is not among those that were read")
        self._chain, self._next = chain, 0

    def _verdict(self, rule: WholeRule, verdict: Verdict) -> bool:
        if verdict.name == "RETURN":
            if self._return():
                return False
            self._policy()
            return True
        self._ruling(rule)
        if verdict.name == "DROP":
            raise dropped(f"a rule drops it: {self._at(rule)}")
        return True

    def _other(self, rule: WholeRule, target: OtherTarget) -> bool:
        match target.effect:
            case "drop":
                self._ruling(rule)
                raise dropped(f"a rule rejects it: {self._at(rule)}")
            case "goto":
                self._enter(target.name)
            case "masquerade":
                return self._translate(rule, target)
            case "unknown":
                raise unknown(f"the effect of this rule is not computed: {self._at(rule)}")
        return False

    def _translate(self, rule: WholeRule, target: NatTarget) -> bool:
        self.nat = target
        self._ruling(rule, nat=target)
        return True

    def _set_marks(self, rule: WholeRule, target: WholeTarget) -> None:
        passing, connection = self.passing, self.passing.connection
        mark = passing.packet.mark
        match target:
            case SetMark():
                mark = mark & ~target.mask & 0xFFFFFFFF ^ target.value
            case RestoreConnmark() if connection:
                mark = mark & ~target.mask & 0xFFFFFFFF ^ connection.mark & target.mask
            case SaveConnmark() if connection:
                connection.mark = connection.mark & ~target.mask & 0xFFFFFFFF ^ mark & target.mask
        changed = mark != passing.packet.mark
        self.passing = replace(passing, packet=replace(passing.packet, mark=mark))
        if changed or isinstance(target, SaveConnmark | CtHelper):
            self._ruling(rule)

    def _ruling(self, rule: WholeRule, nat: NatTarget | None = None) -> None:
        self._report(Ruling(rule, self._table, self._chain, self._next - 1, self.passing, nat))
