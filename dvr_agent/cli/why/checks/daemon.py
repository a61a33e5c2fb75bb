"""What the running daemon says of the router: state, reason, retry, fights; and of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dvr_agent.cli.status_text import FINE
from dvr_agent.cli.why import causes
from dvr_agent.cli.why.checks.objects import differs
from dvr_agent.cli.why.facts import Facts
from dvr_agent.cli.why.remedy import retry_text, start_text
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong
from dvr_agent.plural import count

_AGENT = re.compile(r"\b(neutron|privsep|\S*l3-agen)")
"""In the name or the command line of a process: it is an agent of Neutron, or a helper of one."""


def daemon(facts: Facts) -> Iterator[Step]:
    """Judge the daemon's record of the router, and fights about its objects."""
    if facts.daemon.unreachable:
        yield _unreachable(facts)
        return
    status, record = facts.daemon.status, facts.daemon.router
    title = facts.subject.title
    for trouble in status.get("troubles") or []:
        if "xtables.lock" in trouble:
            yield wrong("daemon", trouble, "", causes.TABLE_LOCK, reason=trouble)
    for fight in status.get("fights") or []:
        if record and fight.get("router") == record.get("id"):
            by = f", last changed by {fight['changed_by']}" if fight.get("changed_by") else ""
            reason = f"{fight.get('object')}{by}"
            hint = " (a second L3 agent?)" if _AGENT.search(by) else ""
            values = {"router": title, "reason": reason, "hint": hint}
            yield wrong("daemon", f"fight: {reason}", str(fight.get("object")), causes.FIGHT, **values)
    if record:
        yield _record(facts)
    elif facts.subject.router is not None:
        yield unknown("daemon", f"the daemon ({status.get('state')}) does not know the router")
    else:
        yield ok("daemon", f"dvr-agent {status.get('version')} is running ({status.get('state')})")


def _unreachable(facts: Facts) -> Step:
    reason = facts.daemon.unreachable
    if facts.daemon.is_silent:
        return wrong("daemon", reason, "", causes.DAEMON_SILENT, reason=reason, start=start_text(facts))
    return unknown("daemon", reason)


def _record(facts: Facts) -> Step:
    record, title = facts.daemon.router, facts.subject.title
    state, reason = str(record.get("state")), str(record.get("reason") or "")
    if "held back" in reason:
        return wrong("daemon", reason, "", causes.HELD_BACK, router=title, reason=reason)
    if state == "bad document":
        text = "the router has a bad document" if facts.refusal is not None else reason
        return wrong("daemon", text, "", causes.DOCUMENT_REFUSED, router=title, reason=reason, kept="", file="FILE")
    if state == "pending":
        return unknown("daemon", state, "", causes.PENDING, router=title, reason=reason or "its job is queued")
    if state == "degraded":
        is_concerned = record.get("failures") and (facts.plan.ports or differs(facts))
        values = {"router": title, "reason": reason, "retry": retry_text(facts) or "with the next document"}
        cause = causes.REFUSED if is_concerned else causes.DEGRADED
        is_shown = reason.startswith("left out: ") and facts.plan.omitted
        text = f"degraded: {count(len(facts.plan.omitted), 'object')} left out, see above" if is_shown else reason
        return wrong("daemon", text if is_shown else f"degraded: {reason}", "", cause, **values)
    return ok("daemon", f"the router is {state}") if state in FINE else unknown("daemon", state)


def pending(facts: Facts) -> Iterator[Step]:
    """Say when the daemon tries again."""
    record = facts.daemon.router
    if record and record.get("next_retry") is not None:
        tries = count(int(record.get("failures") or 0), "failed try")
        yield unknown("retry", f"{tries}, the next one in {record['next_retry']} s")
