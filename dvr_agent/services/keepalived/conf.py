"""Writes the configuration of keepalived for one virtual router: the values are those of neutron-l3-agent 29.

All hosts of a router have to agree on them (VRRP version 2, one primary address, advertisement interval, password), and
either agent goes on with a keepalived that the other one started.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path

from dvr_agent.services.conntrackd.commands import AT_BACKUP, AT_FAULT, AT_MASTER
from dvr_agent.services.keepalived.health import SECONDS
from dvr_agent.state.address import Address
from dvr_agent.state.route import DEFAULT_V4, DEFAULT_V6, Hop, Route, on_link_first
from dvr_agent.state.virtual_router import VirtualRouterState

GARP_AGAIN = 60
"""Seconds after which a new master announces its addresses once more (``garp_master_delay``)."""
FALL, RISE = 2, 2
"""Checks in a row after which a host yields, and after which it takes part again."""
INDENT = "    "


def keepalived_text(state: VirtualRouterState, script: Path, conntrackd: Path | None = None) -> str:
    """Return the configuration; it has the password in it.

    :param script: checks the gateways, if the virtual router has some
    :param conntrackd: configuration of a conntrackd that is told of each change of the state
    """
    notifications = _notifications(conntrackd) if conntrackd is not None else ()
    return "\n".join(
        (
            *_block("global_defs", _global_defs(state, conntrackd is not None)),
            *(_block(f"vrrp_script {_check(state)}", _script(state, script)) if state.gateways else ()),
            *_block(f"vrrp_instance VR_{state.vr_id}", (*_instance(state), *notifications)),
            "",
        )
    )


def is_same(one: str, other: str) -> bool:
    """Return True if two configurations mean the same: addresses and routes may be in another order."""
    return sorted(filter(None, one.split("\n"))) == sorted(filter(None, other.split("\n")))


def _global_defs(state: VirtualRouterState, notifies: bool) -> Iterator[str]:
    yield "notification_email_from neutron@openstack.local"
    yield "router_id neutron"
    if notifies:
        yield "script_user root"
        if not state.gateways:  # else their check is refused where the directory is another user's, as /bin/sh never is
            yield "enable_script_security"


def _check(state: VirtualRouterState) -> str:
    return f"ha_health_check_{state.vr_id}"


def _script(state: VirtualRouterState, script: Path) -> Iterator[str]:
    yield f'script "{script}"'
    yield f"interval {state.check_interval}"
    yield f"fall {FALL}"
    yield f"rise {RISE}"
    longest = len(state.gateways) * SECONDS
    if state.check_interval <= longest:  # it would be ended before it could say which gateway does not answer
        yield f"timeout {longest + 1}"
    # Where there is a user keepalived_script it would be run as that one, who may not even read it.
    yield "user root"


def _instance(state: VirtualRouterState) -> Iterator[str]:
    yield "state BACKUP"
    yield f"interface {state.device}"
    yield f"virtual_router_id {state.vr_id}"
    yield f"priority {state.priority}"
    yield f"garp_master_delay {GARP_AGAIN}"
    yield "nopreempt"
    yield f"advert_int {state.interval}"
    if state.password:
        yield from _block("authentication", ("auth_type PASS", f"auth_pass {state.password}"))
    yield from _block("track_interface", (state.device,))
    yield from _block("virtual_ipaddress", (f"{state.primary.cidr} dev {state.primary.device}",))
    if state.addresses:
        yield from _block("virtual_ipaddress_excluded", sorted(map(_address, state.addresses)))
    if state.routes:
        yield from _block("virtual_routes", map(_route, on_link_first(state.routes)))
    if state.gateways:
        yield from _block("track_script", (_check(state),))


def _notifications(conntrackd: Path) -> Iterator[str]:
    """Yield the lines that have keepalived call conntrackd, also while there is no agent; no script is left behind."""
    for event, commands in (("master", AT_MASTER), ("backup", AT_BACKUP), ("fault", AT_FAULT)):
        calls = "; ".join(f"conntrackd -C {conntrackd} {command}" for command in commands)
        yield f"notify_{event} \"/bin/sh -c '{calls}'\""


def _block(head: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"{head} {{"
    for line in lines:
        yield INDENT + line
    yield "}"


def _address(address: Address) -> str:
    scope = " scope link" if address.cidr.startswith("fe80:") else ""
    return f"{address.cidr} dev {address.device}{scope} no_track"


def _route(route: Route) -> str:
    if len(route.hops) > 1:
        hops = " ".join(f"nexthop via {hop.gateway} dev {hop.device}" for hop in route.hops)
        return f"{route.dst} no_track protocol static {hops}"
    return f"{route.dst}{_way(route, route.hops[0])} no_track protocol static"


def _way(route: Route, hop: Hop) -> str:
    """Return gateway and device of a route; extra routes have no device, as neutron-l3-agent writes them."""
    if hop.gateway is None:
        return f" dev {hop.device} scope link"
    is_extra = route.dst not in (DEFAULT_V4, DEFAULT_V6) and not ip_address(hop.gateway).is_link_local
    return f" via {hop.gateway}" if is_extra else f" via {hop.gateway} dev {hop.device}"
