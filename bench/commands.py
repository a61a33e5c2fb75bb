"""The same objects as a shell script makes them: a process per command, or as few processes as its programs allow."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from typing import NamedTuple

from bench.documents import EXTERNAL_BRIDGE, EXTERNAL_NETWORK
from dvr_agent.attach.outer_ends import ALIAS, bridge_name, tap_alias, tap_name
from dvr_agent.kernel.iptables.save import save_text
from dvr_agent.state.link import Link, Port, Veth
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.route import Route
from dvr_agent.state.rule import Rule


class Command(NamedTuple):
    """A command line and its standard input."""

    words: tuple[str, ...]
    text: str | None = None


def run(commands: Iterable[Command]) -> None:
    """One after the other.

    :raises RuntimeError: one failed
    """
    for words, text in commands:
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} → {done.returncode}: {done.stderr.strip()}")


def batched(state: NamespaceState, commands: Iterable[Command]) -> list[Command]:
    """The commands of one namespace by as few processes as possible: ``ip -batch``, a ``sysctl``, a restore a family.

    Of the host's own commands those come first on which the namespace's depend, and those last that need its devices.
    """
    lines: dict[_Group, list[str]] = {group: [] for group in _Group}
    made = []
    for words, text in commands:
        if words[:3] == ("ip", "netns", "add"):
            made.append(Command(words))
        elif text is None:
            group, skipped = _group(words)
            lines[group].append(" ".join(words[skipped:]))
    inside = ("ip", "netns", "exec", state.name, "sysctl", "-qw")
    batches = {
        _Group.BRIDGES: ("ip", "-batch", "-"),
        _Group.INSIDE: ("ip", "-n", state.name, "-batch", "-"),
        _Group.INSIDE_V6: ("ip", "-6", "-n", state.name, "-batch", "-"),
        _Group.OUTSIDE: ("ip", "-batch", "-"),
    }
    sysctls = {_Group.BRIDGE_PARAMETERS: ("sysctl", "-qw"), _Group.TAP_PARAMETERS: ("sysctl", "-qw")}
    for group, found in lines.items():
        if found and group in batches:
            made.append(Command(batches[group], "\n".join(found) + "\n"))
        elif found:
            made.append(Command((*sysctls.get(group, inside), *found)))
    return made + list(_tables(state, whole=True))


class _Group(Enum):
    """What goes into one process, in the order of processes."""

    BRIDGES = auto()
    BRIDGE_PARAMETERS = auto()
    INSIDE = auto()
    INSIDE_V6 = auto()
    TAP_PARAMETERS = auto()
    OUTSIDE = auto()
    PARAMETERS = auto()


def _group(words: Sequence[str]) -> tuple[_Group, int]:
    """Return where a command belongs, and how many of its words are not repeated there."""
    if words[0] == "sysctl":
        is_bridge = words[2].startswith("net/ipv6/conf/brq")
        return (_Group.BRIDGE_PARAMETERS if is_bridge else _Group.TAP_PARAMETERS), 2
    if words[1] == "netns":
        return _Group.PARAMETERS, 6
    if words[1] == "-n":
        return (_Group.INSIDE_V6, 4) if words[3] == "-6" else (_Group.INSIDE, 3)
    is_first = words[2] == "add" or ("alias" in words and "master" not in words)
    return (_Group.BRIDGES if is_first else _Group.OUTSIDE), 1


class Script:
    """Knows which bridges and namespaces are there already."""

    def __init__(self) -> None:
        self._there: set[str] = {EXTERNAL_BRIDGE}

    def commands(self, state: NamespaceState) -> list[Command]:
        """What makes one namespace, or one slice of it."""
        return [Command(tuple(line.split()), None) for line in self._lines(state)] + list(_tables(state))

    def _lines(self, state: NamespaceState) -> Iterator[str]:
        inside = f"ip -n {state.name}"
        if state.name not in self._there:
            self._there.add(state.name)
            yield f"ip netns add {state.name}"
            yield f"{inside} link set lo up"
        for link in sorted(state.links, key=lambda link: link.name):
            yield from self._link(state.name, link)
        for address in sorted(state.addresses):
            broadcast = "" if ":" in address.cidr or address.cidr.endswith(("/31", "/32")) else " broadcast +"
            yield f"{inside} address add {address.cidr}{broadcast} dev {address.device}"
        for neighbour in sorted(state.neighbours):
            where = f"dev {neighbour.device} nud permanent"
            yield f"{inside} neighbour replace {neighbour.dst} lladdr {neighbour.mac} {where}"
        for route in sorted(state.routes, key=lambda route: (route.hops[0].gateway is not None, str(route))):
            yield f"{inside} {_route(route)}"
        for rule in sorted(state.rules, key=str):
            yield f"{inside} {_rule(rule)}"
        for sysctl in sorted(state.sysctls):
            yield f"ip netns exec {state.name} sysctl -qw net/{sysctl.key}={sysctl.value}"

    def _link(self, namespace: str, link: Link) -> Iterator[str]:
        inside, origin = f"ip -n {namespace}", link.origin
        pair = f"{inside} link add {link.name} address {link.mac} mtu {link.mtu} type veth peer name"
        if isinstance(origin, Port):
            bridge = EXTERNAL_BRIDGE if origin.network_id == EXTERNAL_NETWORK else bridge_name(origin.network_id)
            tap = tap_name(origin.port_id)
            if bridge not in self._there:
                self._there.add(bridge)
                yield f"ip link add {bridge} type bridge"
                yield f"ip link set {bridge} alias {ALIAS}"
                yield f"sysctl -qw net/ipv6/conf/{bridge}/disable_ipv6=1"
                yield f"ip link set {bridge} up"
            yield f"{pair} {tap} mtu {link.mtu} netns {os.getpid()}"
            yield f"sysctl -qw net/ipv6/conf/{tap}/disable_ipv6=1"
            yield f"ip link set {tap} alias {tap_alias(origin.port_id, namespace)} master {bridge} up"
        elif isinstance(origin, Veth):
            there = f"address {origin.peer_mac} mtu {link.mtu} netns {origin.peer_namespace}"
            yield f"{pair} {origin.peer_name} {there}"
        yield f"{inside} link set {link.name} up"


def _route(route: Route) -> str:
    family = "-6 " if ":" in route.dst else ""
    hops = [
        f"{f'via {hop.gateway} ' if hop.gateway else ''}dev {hop.device}{' onlink' if hop.onlink else ''}"
        for hop in route.hops
    ]
    via = hops[0] if len(hops) == 1 else " ".join(f"nexthop {hop}" for hop in hops)
    return f"{family}route add {route.dst} table {route.table} proto static {via}"


def _rule(rule: Rule) -> str:
    iif = f" iif {rule.iif}" if rule.iif else ""
    family = "-6 " if rule.family == 6 else ""
    selector = f"from {rule.src or 'all'}{iif}"
    specific = " suppress_prefixlength 0" if rule.suppress_default else ""
    return f"{family}rule add {selector} lookup {rule.table} priority {rule.priority} protocol 0{specific}"


def _tables(state: NamespaceState, whole: bool = False) -> Iterator[Command]:
    """
    :param whole: one process for all tables of a family
    """
    families = [[table for table in state.tables if table.family == family] for family in (4, 6)]
    for tables in families if whole else [[table] for table in state.tables]:
        text = save_text(tables)
        if text:
            program = "iptables-legacy-restore" if tables[0].family == 4 else "ip6tables-legacy-restore"
            yield Command(("ip", "netns", "exec", state.name, program, "-n"), text)
