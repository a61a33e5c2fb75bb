"""Makes the answer: runs all checks, and chooses the sentence.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.causes import CAUSES, Cause
from dvr_agent.cli.why.checks import CHECKS
from dvr_agent.cli.why.consequences import follows, is_disputed
from dvr_agent.cli.why.facts import Facts, Kind
from dvr_agent.cli.why.verdicts import Step, Verdict
from dvr_agent.desired.qos import policy_of
from dvr_agent.plural import count
from dvr_agent.state.limit import Limit

_RANK = {cause.key: number for number, cause in enumerate(CAUSES)}

_DOUBTS = (causes.FILTER_DROP, causes.FOREIGN_NAT, causes.HOST_FILTER, causes.RULE_BEFORE)


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer.

    :ivar subject: as it was asked for
    :ivar cause: the fault that the sentence names; None: nothing wrong was found
    :ivar sentence: explains everything
    :ivar advice: what to do
    """

    subject: str
    steps: tuple[Step, ...]
    cause: Cause | None
    sentence: str
    advice: str

    @property
    def is_wrong(self) -> bool:
        """True if any line is wrong."""
        return any(step.verdict is Verdict.WRONG for step in self.steps)


def answer(facts: Facts) -> Answer:
    """Run all checks, and explain what they found."""
    steps = tuple(_once(step for check in CHECKS for step in check(facts)))
    subject = facts.subject.address or facts.subject.title or facts.subject.text
    step = _explaining(steps)
    if step is None or step.cause is None:
        right = _right(facts)
        notes = _limits_note(facts) + _doubts_note(steps)
        sentence = _filled(right.sentence, _titled(facts, subject), {}) + notes
        return Answer(subject, steps, None, sentence, _filled(right.advice, subject, {}))
    notes = _limits_note(facts) if step.cause is causes.REST_DIFFERS else ""
    sentence = _filled(step.cause.sentence, subject, dict(step.values)) + notes + _also_wrong(steps, step)
    return Answer(subject, steps, step.cause, sentence, _filled(step.cause.advice, subject, dict(step.values)))


def _once(steps: Iterable[Step]) -> Iterable[Step]:
    """Drop lines that say the same."""
    seen: set[tuple[str, str, str]] = set()
    for step in steps:
        key = (step.step, step.text, step.object)
        if key not in seen:
            seen.add(key)
            yield step


def _explaining(steps: Iterable[Step]) -> Step | None:
    """Return the line whose cause comes first; one that is unknown explains only where nothing is wrong."""
    found = [step for step in steps if step.cause is not None and not _is_doubt(step)]
    order = {Verdict.WRONG: 0, Verdict.UNKNOWN: 1, Verdict.OK: 2}
    return min(found, key=lambda step: (order[step.verdict], _RANK[step.cause.key if step.cause else ""]), default=None)


def _also_wrong(steps: Iterable[Step], step: Step) -> str:
    """Return a note on the wrong lines that do not follow from the one that explains, as far as that is known."""
    cause = step.cause
    if cause is None or step.verdict is not Verdict.WRONG:
        return ""
    wrong = [one for one in steps if one.verdict is Verdict.WRONG and one.cause is not None]
    others = [
        one for one in wrong if one.cause is not None and not follows(one.cause, cause) and not is_disputed(one, step)
    ]
    if not others:
        return ""
    places = ", ".join(dict.fromkeys(one.step for one in others))
    return f" ({count(len(others), 'more line')} wrong, maybe by another fault: {places}.)"


def _is_doubt(step: Step) -> bool:
    """True for a rule of another program that takes some packets: many hosts have such rules, for good reasons."""
    return step.verdict is Verdict.UNKNOWN and step.cause in _DOUBTS


def _doubts_note(steps: Iterable[Step]) -> str:
    found = [step.object for step in steps if _is_doubt(step)]
    return f" But rules of other programs take some packets, which may be these: {'; '.join(found)}." if found else ""


def _right(facts: Facts) -> Cause:
    """Return what to say where nothing is wrong."""
    if not facts.subject.fixed:
        return causes.ELSEWHERE_ROUTER
    return causes.ELSEWHERE_ANSWERED if facts.probe.instance or facts.probe.gateway else causes.ELSEWHERE


def _titled(facts: Facts, subject: str) -> str:
    return f"router {subject}" if facts.subject.kind is Kind.ROUTER else subject


def _limits_note(facts: Facts) -> str:
    """Return which bandwidth limits the subject's packets meet, and since when."""
    view, leg = facts.plan.view, facts.path.outside
    limits = {limit for states in facts.plan.desired.values() for state in states for limit in state.limits}
    mine = set(facts.path.addresses)
    if facts.subject.kind is Kind.FIXED and facts.subject.fip is None and leg is not None:
        mine |= {str(fixed.address) for fixed in leg.port.fixed_ips}  # it leaves as the router's gateway address
    found = sorted(limit for limit in limits if limit.address in mine)
    if not found or view is None:
        return ""
    texts = [_limit_text(limit, policy_of(view, limit), facts) for limit in found]
    return f" Its bandwidth is limited: {'; '.join(texts)}. What is above is dropped."


def _limit_text(limit: Limit, policy: str, facts: Facts) -> str:
    since = max((entry["time"] for entry in facts.changes if _sets(entry, limit)), default=None)
    when = f", since {datetime.fromtimestamp(since):%Y-%m-%d %H:%M}" if since is not None else ""
    by = f" (QoS policy {policy}{when})" if policy else ""
    return f"{limit.address} to {limit.rate * 8 / 1000:.10g} kbit/s {limit.direction} {limit.device}{by}"


def _sets(entry: Mapping[str, Any], limit: Limit) -> bool:
    """True if a change of the history has set a limit."""
    lines = [line for group in entry.get("namespaces") or () for line in group.get("changes") or ()]
    return any(line["action"] != "-" and line["text"] == limit.text for line in lines)


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return f"({key} unknown)"


def _filled(text: str, subject: str, values: dict[str, str]) -> str:
    return text.format_map(_Values(values, subject=subject))
