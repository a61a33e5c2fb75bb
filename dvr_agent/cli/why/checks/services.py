"""Fail-over (VRRP), metadata and router advertisements."""

from __future__ import annotations

from collections.abc import Iterator

from dvr_agent.cli.why import causes
from dvr_agent.cli.why.facts import Facts
from dvr_agent.cli.why.remedy import daemon_text, repair_text
from dvr_agent.cli.why.verdicts import Step, ok, unknown, wrong
from dvr_agent.desired import names

_OF_SERVICE = {"metadata": causes.METADATA_DEAD, "radvd": causes.RADVD_DEAD}
_VRRP = frozenset({"keepalived", "dvr-vrrp", "vrrp"})


def vrrp(facts: Facts) -> Iterator[Step]:
    """Judge the VRRP state of an HA router on this host."""
    view, title = facts.plan.view, facts.subject.title
    if view is None or facts.plan.is_master is None or view.ha_interface is None:
        return
    ha = view.ha_interface
    device = names.device(names.HA, ha.port.id)
    masters = facts.probe.masters
    if not facts.plan.is_master:
        text = "this host is the backup, the addresses are on the master"
        shown = f"{device}: advertisements of {', '.join(masters)}" if masters else device
        yield unknown("vrrp", text, shown, causes.VRRP_BACKUP, router=title)
        if masters == ():
            yield wrong("vrrp", "no host advertises itself as master", device, causes.VRRP_NO_MASTER, router=title)
    elif masters:
        text, item = (
            "another host advertises itself as master, too",
            f"{device}: advertisements of {', '.join(masters)}",
        )
        other = ", ".join(masters)
        yield wrong("vrrp", text, item, causes.VRRP_TWO_MASTERS, router=title, other=other, device=device)
    elif masters is None and ha.state == "standby":
        text = "this host is the master; neutron-server's last document has it as standby (ask with --probe)"
        yield unknown("vrrp", text, device)
    else:
        yield ok("vrrp", "this host is the master", device)


def services(facts: Facts) -> Iterator[Step]:
    """Judge the helper processes of the router."""
    if facts.plan.view is None:
        return
    title = facts.subject.title
    for trouble in facts.plan.service_troubles:
        name = trouble.partition(": ")[0]
        yield wrong("service", trouble, "", _cause(name), router=title, daemon=daemon_text(facts))
    for name, text in facts.plan.services:
        values = {"router": title, "daemon": daemon_text(facts), "repair": repair_text(facts)}
        yield wrong("service", f"{name}: {_says(text)}", text, _cause(name), **values)
    if not facts.plan.services and not facts.plan.service_troubles:
        yield ok("service", "metadata, radvd and VRRP of the router are as they must be, where it has them")


def _cause(name: str) -> causes.Cause:
    return causes.VRRP_DEAD if name in _VRRP else _OF_SERVICE.get(name, causes.SERVICE_WRONG)


def _says(text: str) -> str:
    sign, _, rest = text.partition(" ")
    return (
        f"{rest} {({'+': 'is missing', '-': 'is there and must not be', '~': 'is not current'}).get(sign, '')}".strip()
    )
