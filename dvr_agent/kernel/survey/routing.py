"""Read routes of all types, policy rules with all selectors, and neighbours of all states."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pyroute2.netlink import NLM_F_DUMP
from pyroute2.netlink.rtnl import RTM_GETNEIGH, RTM_GETROUTE, RTM_GETRULE, rt_type
from pyroute2.netlink.rtnl.fibmsg import FR_ACT_VALUES, fibmsg
from pyroute2.netlink.rtnl.ndmsg import NTF_PROXY, ndmsg, states
from pyroute2.netlink.rtnl.rtmsg import RTNH_F_DEAD, rtmsg

from dvr_agent.kernel.netlink.message import AF_INET, AF_INET6, FAMILY_OF_AF, Request
from dvr_agent.kernel.netlink.protocol import protocol_name
from dvr_agent.kernel.netlink.route import RTM_F_CLONED
from dvr_agent.kernel.netlink.rule import FIB_RULE_INVERT, NO_SUPPRESSION
from dvr_agent.kernel.netlink.schema import Schema
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.survey.messages import dumped
from dvr_agent.state.filter import Family
from dvr_agent.trace.world import NeighbourEntry, NextHop, RouteEntry, RuleEntry

TABLES = {255: "local", 254: "main", 253: "default"}
_route_head = Schema(rtmsg).head("family")
_rule_head = Schema(fibmsg).head("family")
_neighbour_head, _proxy_head = Schema(ndmsg).head("family"), Schema(ndmsg).head("family", "flags")
_ANY: dict[Family, str] = {4: "0.0.0.0", 6: "::"}
_STATES: dict[int, str] = {number: name.upper() for name, number in states.items()}
_KNOWN_RULE = frozenset({
    "FRA_DST", "FRA_SRC", "FRA_IIFNAME", "FRA_OIFNAME", "FRA_PRIORITY", "FRA_FWMARK", "FRA_FWMASK", "FRA_TABLE",
    "FRA_SUPPRESS_PREFIXLEN", "FRA_PROTOCOL", "FRA_PAD", "FRA_UNSPEC", "FRA_GOTO", "FRA_FLOW",
})  # fmt: skip
"""Attributes of rules that are understood, or that do not select packets."""


def family_of(message: Any) -> Family | None:
    """Return 4 or 6, None for another family."""
    found = FAMILY_OF_AF.get(message["family"])
    return 4 if found == 4 else 6 if found == 6 else None


def read_routes(sock: NetlinkSocket, devices: Mapping[int, str]) -> tuple[RouteEntry, ...]:
    """Read the routes of all tables, in the kernel's order."""
    found = []
    for family in (AF_INET, AF_INET6):
        for message in dumped(sock, Request(RTM_GETROUTE, NLM_F_DUMP, _route_head(family), "routes"), rtmsg):
            # Packets of dvrctl trace have TOS 0: an IPv4 route for another one does not apply (fib_table_lookup).
            if not message["flags"] & RTM_F_CLONED and not message["tos"]:
                found.append(_route(message, 4 if family == AF_INET else 6, devices))
    return tuple(found)


def _route(message: Any, family: Family, devices: Mapping[int, str]) -> RouteEntry:
    dst = f"{message.get_attr('RTA_DST') or _ANY[family]}/{message['dst_len']}"
    table = message.get_attr("RTA_TABLE") or message["table"]
    kind = rt_type.get(message["type"], str(message["type"]))
    hops = tuple(_hops(message, devices))
    metric = message.get_attr("RTA_PRIORITY") or 0
    src = f"{message.get_attr('RTA_SRC')}/{message['src_len']}" if message["src_len"] else None
    protocol = protocol_name(message["proto"])
    text = _route_text(dst, src, table, kind, hops) + (f" proto {protocol}" if protocol else "")
    return RouteEntry(dst, table, kind, hops, metric, text, src)


def _hops(message: Any, devices: Mapping[int, str]) -> Iterator[NextHop]:
    several = message.get_attr("RTA_MULTIPATH")
    if several:
        for hop in several:
            yield NextHop(_gateway(hop), devices.get(hop["oif"], "?"), bool(hop["flags"] & RTNH_F_DEAD))
    elif (index := message.get_attr("RTA_OIF")) is not None:
        yield NextHop(_gateway(message), devices.get(index, "?"), bool(message["flags"] & RTNH_F_DEAD))


def _gateway(message: Any) -> str | None:
    via = message.get_attr("RTA_VIA")
    if via:
        return str(via.get("addr") if isinstance(via, dict) else via)
    gateway = message.get_attr("RTA_GATEWAY")
    return None if gateway is None else str(gateway)


def _route_text(dst: str, src: str | None, table: int, kind: str, hops: tuple[NextHop, ...]) -> str:
    what = "default" if dst.endswith("/0") else dst
    texts = [f"{f' via {hop.gateway}' if hop.gateway else ''} dev {hop.device}" for hop in hops]
    ways = "".join(f" nexthop{one}" for one in texts) if len(texts) > 1 else "".join(texts)
    shown = "" if table == 254 else f" table {TABLES.get(table, table)}"
    return f"{'' if kind == 'unicast' else f'{kind} '}{what}{f' from {src}' if src else ''}{ways}{shown}"


def read_rules(sock: NetlinkSocket) -> tuple[RuleEntry, ...]:
    """Read the policy rules of both families, in the order in which the kernel tries them."""
    found = []
    for family in (AF_INET, AF_INET6):
        for message in dumped(sock, Request(RTM_GETRULE, NLM_F_DUMP, _rule_head(family), "rules"), fibmsg):
            found.append(_rule(message, 4 if family == AF_INET else 6))
    return tuple(found)


def _rule(message: Any, family: Family) -> RuleEntry:
    action = FR_ACT_VALUES.get(message["action"], "FR_ACT_UNKNOWN").removeprefix("FR_ACT_").lower()
    mark = message.get_attr("FRA_FWMARK") or 0
    mask = message.get_attr("FRA_FWMASK")
    suppress = message.get_attr("FRA_SUPPRESS_PREFIXLEN")
    strange = [name for name, value in message["attrs"] if name not in _KNOWN_RULE and not _is_neutral(name, value)]
    entry = RuleEntry(
        family,
        message.get_attr("FRA_PRIORITY") or 0,
        message.get_attr("FRA_TABLE") or message["table"],
        "lookup" if action == "to_tbl" else action,
        _network(message, "SRC", "src_len"),
        _network(message, "DST", "dst_len"),
        message.get_attr("FRA_IIFNAME"),
        message.get_attr("FRA_OIFNAME"),
        mark,
        mask if mask is not None else 0xFFFFFFFF if mark else 0,
        bool(message["flags"] & FIB_RULE_INVERT),
        None if suppress in (None, NO_SUPPRESSION, -1) else suppress,
        (*strange, *(["tos"] if message["tos"] else [])),
        goto=message.get_attr("FRA_GOTO") or 0,
    )
    return _with_text(entry)


def _is_neutral(name: str, value: Any) -> bool:
    """True for a selector that the kernel reports with every rule although it does not select."""
    return name in ("FRA_SUPPRESS_IFGROUP", "FRA_L3MDEV", "FRA_TUN_ID", "FRA_IP_PROTO") and value in (0, -1, 0xFFFFFFFF)


def _network(message: Any, name: str, length: str) -> str | None:
    address = message.get_attr(f"FRA_{name}")
    return f"{address}/{message[length]}" if address and message[length] else None


def _with_text(rule: RuleEntry) -> RuleEntry:
    parts = [f"{rule.priority}:", "not" if rule.invert else "", f"from {_short(rule.src)}"]
    parts += [
        f"to {_short(rule.dst)}" if rule.dst else "",
        f"fwmark {rule.mark:#x}/{rule.mask:#x}" if rule.mask else "",
    ]
    parts += [f"iif {rule.iif}" if rule.iif else "", f"oif {rule.oif}" if rule.oif else ""]
    actions = {"lookup": f"lookup {TABLES.get(rule.table, rule.table)}", "goto": f"goto {rule.goto}"}
    parts += [actions.get(rule.action, rule.action)]
    parts += [f"suppress_prefixlength {rule.suppress}" if rule.suppress is not None else ""]
    text = " ".join(part for part in parts if part)
    return replace(rule, text=text)


def _short(network: str | None) -> str:
    if network is None:
        return "all"
    return network.removesuffix("/128" if ":" in network else "/32")


def read_neighbours(sock: NetlinkSocket, devices: Mapping[int, str]) -> tuple[NeighbourEntry, ...]:
    """Read the neighbours of both families in all states, and the proxied ones."""
    found = []
    for family in (AF_INET, AF_INET6):
        for head in (_neighbour_head(family), _proxy_head(family, NTF_PROXY)):
            for message in dumped(sock, Request(RTM_GETNEIGH, NLM_F_DUMP, head, "neighbours"), ndmsg):
                entry = _neighbour(message, devices)
                if entry is not None:
                    found.append(entry)
    return tuple(found)


def _neighbour(message: Any, devices: Mapping[int, str]) -> NeighbourEntry | None:
    device, dst = devices.get(message["ifindex"]), message.get_attr("NDA_DST")
    if device is None or not dst:
        return None
    state = _STATES.get(message["state"], str(message["state"]))
    return NeighbourEntry(
        str(dst), device, message.get_attr("NDA_LLADDR") or "", state, bool(message["flags"] & NTF_PROXY)
    )


def read_fdb(sock: NetlinkSocket, devices: Mapping[int, str]) -> frozenset[tuple[str, str]]:
    """Read which MAC addresses were seen at which ports of bridges."""
    request = Request(RTM_GETNEIGH, NLM_F_DUMP, _neighbour_head(socket.AF_BRIDGE), "forwarding database")
    found = set()
    for message in dumped(sock, request, ndmsg):
        mac, device = message.get_attr("NDA_LLADDR"), devices.get(message["ifindex"])
        if mac and device:
            found.add((mac, device))
    return frozenset(found)
