"""Says what becomes of an object that is missing: whether dvr-agent runs, and what it says about the router."""

from __future__ import annotations

from dvr_agent.cli.status_text import IN_SYNC
from dvr_agent.cli.why.facts import Facts


def repair_text(facts: Facts) -> str:
    """Return what to do about an object of ours that is missing or wrong."""
    daemon = facts.daemon
    if daemon.unreachable:
        return f"Start dvr-agent, which repairs it ({daemon.unreachable})."
    if facts.daemon.router.get("state") == IN_SYNC:
        return (
            "dvr-agent has not noticed it yet, and repairs it at its next check (packet filter tables every "
            "audit_interval seconds). If it stays, or comes back, another program removes it: see the log."
        )
    return f"dvr-agent repairs it by itself; {daemon_text(facts)}."


def daemon_text(facts: Facts) -> str:
    """Return what the running daemon says about the router, in a few words."""
    if facts.daemon.unreachable:
        return facts.daemon.unreachable
    record = facts.daemon.router
    if not record:
        return f"the daemon ({facts.daemon.status.get('state')}) does not know the router yet"
    reason = f": {record['reason']}" if record.get("reason") else ""
    return f"the router is {record.get('state')}{reason}{retry_text(facts, ', next try ')}"


def retry_text(facts: Facts, before: str = "") -> str:
    """Return when the daemon tries the router again."""
    retry = facts.daemon.router.get("next_retry")
    return f"{before}in {retry} s" if retry is not None else ""
