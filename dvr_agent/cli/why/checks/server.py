"""What neutron-server knows: its reachability, and the status of a floating IP there."""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.facts import Facts
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong


def server(facts: Facts) -> Iterator[Step]:
    """Judge the connection to the server, and the reported status of the subject."""
    if facts.daemon.unreachable:
        yield unknown("server", "not known: dvr-agent does not answer")
        return
    source = facts.daemon.status.get("source") or {}
    server, bus = source.get("server") or {}, source.get("bus") or {}
    if not server:
        yield ok("server", f"documents come from {source.get('path') or source.get('source')}: no server is asked")
        return
    if server.get("away") or not bus.get("connected", True):
        reason = source.get("error") or ("message bus not connected" if not server.get("away") else "no answer")
        yield wrong("server", str(reason), "", causes.SERVER_AWAY, reason=reason)
    else:
        yield ok("server", "neutron-server answers")
    yield from _status(facts)


def _status(facts: Facts) -> Iterator[Step]:
    fip, statuses = facts.subject.fip, facts.daemon.router.get("floating_ips")
    if fip is None or not isinstance(statuses, dict):
        return
    found = statuses.get(fip.id)
    if found is None:
        yield unknown("server", "this host does not report the floating IP's status")
        return
    wanted, there = found.get("wanted"), found.get("server")
    if there == wanted == "ACTIVE":
        yield ok("server", "the floating IP is ACTIVE at the server")
    elif there == wanted:
        yield wrong("server", f"status {there}", "", causes.STATUS_DOWN, status=there)
    else:
        text = f"status {there} at the server, {wanted} by this host"
        yield wrong("server", text, "", causes.STATUS_WAITING, status=wanted)
