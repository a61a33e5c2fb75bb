"""Says what becomes of an object that is missing: whether dvr-agent runs, and what it says about the router."""

from __future__ import annotations

from dvr_agent.cli.status_text import IN_SYNC
from dvr_agent.cli.why.facts import Facts


def repair_text(facts: Facts) -> str:
    """Return what to do about an object of ours that is missing or wrong."""
    if facts.daemon.unreachable:
        return f"{start_text(facts)}, which repairs it."
    if facts.daemon.router.get("state") == IN_SYNC:
        return (
            "dvr-agent has not noticed it yet, and repairs it at its next check (packet filter tables every "
            "audit_interval seconds). If it stays, or comes back, another program removes it: see the log."
        )
    return f"dvr-agent repairs it by itself; {daemon_text(facts)}."


def daemon_text(facts: Facts) -> str:
    """Return what the running daemon says about the router, in a few words."""
    if facts.daemon.unreachable:
        return _silence(facts)
    record = facts.daemon.router
    if not record:
        return f"the daemon ({facts.daemon.status.get('state')}) does not know the router yet"
    reason = f": {record['reason']}" if record.get("reason") else ""
    return f"the router is {record.get('state')}{reason}{retry_text(facts, ', next try ')}"


def sweep_text(facts: Facts) -> str:
    """Return what to do about objects of a router or address that no document has any more."""
    if facts.daemon.unreachable:
        return f"{start_text(facts)}, whose stale sweep removes it, or see `dvrctl cleanup --dry-run`."
    return "dvr-agent's stale sweep removes it; `dvrctl cleanup --dry-run` shows the objects, `dvrctl status` a guard."


def start_text(facts: Facts) -> str:
    """Return how to have a daemon that answers, as the beginning of a sentence."""
    daemon = facts.daemon
    if daemon.is_stopped:
        return f"Continue dvr-agent (`kill -CONT {daemon.pid}`)"
    if daemon.is_silent:
        return "Look what dvr-agent waits for (`dvrctl diag`), and restart it (`systemctl restart dvr-agent`)"
    if daemon.pid:
        return f"Restart dvr-agent (process {daemon.pid} has its lock, and does not listen at [dvr_agent] admin_socket)"
    return "Start dvr-agent"


def _silence(facts: Facts) -> str:
    """Return why the daemon does not answer, without the path of its socket, which the line ``daemon`` has."""
    daemon = facts.daemon
    if not daemon.pid:
        return "dvr-agent does not answer" if daemon.is_silent else "dvr-agent is not running"
    return f"dvr-agent (process {daemon.pid}) {'is stopped' if daemon.is_stopped else 'does not answer'}"


def retry_text(facts: Facts, before: str = "") -> str:
    """Return when the daemon tries the router again."""
    retry = facts.daemon.router.get("next_retry")
    return f"{before}in {retry} s" if retry is not None else ""
