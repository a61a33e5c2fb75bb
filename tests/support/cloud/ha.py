"""HA routers of the cloud: which node is active, and keepalived's processes."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from tests.support.cloud.host import Host
from tests.support.cloud.site import Site
from tests.support.waiting import wait_for


def active(site: Site, nodes: Sequence[Host]) -> Host:
    """Wait until exactly one node holds the router, and the server says so too; returns that node."""

    def one() -> Host | None:
        holding = [node for node in nodes if node.holds(site.router)]
        states = site.api.ha_states(site.router)
        wanted = {node.name: "active" if node in holding else "standby" for node in nodes}
        return holding[0] if len(holding) == 1 and states == wanted else None

    found: Host = wait_for(one, f"one of {[node.name for node in nodes]} is active, and known as such")
    return found


def other(node: Host, nodes: Sequence[Host]) -> Host:
    """The one of two nodes that is not this one."""
    return next(one for one in nodes if one is not node)


def keepalived(node: Host, router: str) -> list[int]:
    """Ids (the host's own) of the router's keepalived and its VRRP child, as their files say; none if they are gone."""
    found = []
    for suffix in ("keepalived", "keepalived-vrrp"):
        file = node.state / "ha_confs" / f"{router}.pid.{suffix}"
        text = file.read_text().strip() if file.exists() else ""
        if text and router in node.run("cat", f"/proc/{text}/cmdline", check=False):
            found.append(int(text))
    return found


def send(node: Host, router: str, number: signal.Signals, vrrp_only: bool = False) -> None:
    """Send a signal to the router's keepalived: to both processes, or to the VRRP child alone."""
    pids = keepalived(node, router)
    assert pids, f"no keepalived of {router} on {node.name}"
    for pid in pids[1:] if vrrp_only else pids:
        node.run("kill", f"-{number.value}", pid, check=False)
