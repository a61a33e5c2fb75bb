"""Watches the ports of others on external bridges: the way out of the host.  Used by the bridge driver.

A bridge without such a port is nothing to warn of, since hosts without an uplink exist on purpose; one that has lost
its ports is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dvr_agent.attach.links import host_socket
from dvr_agent.attach.outer_ends import ALIAS, TAP, read_alias, read_devices
from dvr_agent.kernel import sysctl
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.link import LinkInfo, decode_link, dump_links
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.state.filter import Family
from dvr_agent.state.wiring import Wire, Wiring

_MARK = f"{ALIAS}:".encode()
"""Begin of the alias of the agent's own ports."""
_IFF_LOWER_UP = 1 << 16
"""The device has a carrier (include/uapi/linux/if.h)."""
_SWITCHES: tuple[tuple[Family, str], ...] = (
    (4, "bridge/bridge-nf-call-iptables"),
    (6, "bridge/bridge-nf-call-ip6tables"),
)
"""Parameters by which the packets of bridges pass by the host's packet filter (br_netfilter)."""


class Uplinks:
    """Remembers which ports of others each external bridge had."""

    def __init__(self, bridges: Iterable[str], counters: WriteCounters) -> None:
        self._bridges, self._counters = sorted(set(bridges)), counters
        self._had: dict[str, set[str]] = {}

    def hindrances(self) -> Sequence[str]:
        """Return the faults of bridges that have no working port of others, though they had one."""
        if not self._bridges:
            return ()
        with host_socket(self._counters) as host:
            found = read_devices(host, self._bridges)
            indexes = {name: bridge.info.ifindex for name, bridge in found.items() if bridge.info.kind == "bridge"}
            return [text for name, index in indexes.items() for text in self._of_bridge(host, name, index)]

    def _of_bridge(self, host: NetlinkSocket, bridge: str, index: int) -> Iterator[str]:
        others = (data for data in host.dump(dump_links(index)) if _MARK not in data)  # there may be thousands of ours
        ports = [link for link in map(decode_link, others) if _is_uplink(link, index)]
        had = self._had.setdefault(bridge, set())
        if ports:
            self._had[bridge] = {port.name for port in ports}
        elif had:
            yield f"bridge {bridge} has lost its port {', '.join(sorted(had))}: nothing outside is reached"
        if ports and not any(port.flags & _IFF_LOWER_UP and port.up for port in ports):
            states = ", ".join(f"{port.name} {'has no carrier' if port.up else 'is down'}" for port in ports)
            yield f"bridge {bridge} reaches nothing outside: its port {states}"


def _is_uplink(link: LinkInfo, bridge: int) -> bool:
    """True for a port that is neither the agent's nor an instance's."""
    return link.master == bridge and not link.name.startswith(TAP) and read_alias(link.alias) is None


def bridge_wiring(links: Sequence[LinkInfo]) -> Wiring:
    """Return the outer ends of ports, and the ports of others on bridges.

    :param links: all devices of the host's namespace
    """
    bridges = {link.ifindex: link.name for link in links if link.kind == "bridge"}
    wires = {
        link.name.removeprefix(TAP): Wire(link.name, bridges.get(link.master, ""), link.up)
        for link in links
        if link.name.startswith(TAP)
    }
    uplinks = {
        name: tuple(link.name for link in links if _is_uplink(link, index)) for index, name in sorted(bridges.items())
    }
    return Wiring(wires, {name: ports for name, ports in uplinks.items() if ports})


def filtered_families() -> Sequence[Family]:
    """Return the families of the packets in bridges that pass by the packet filter of the thread's namespace."""
    values = sysctl.read_here([sysctl.ROOT + key for _family, key in _SWITCHES])
    return [family for (family, _key), value in zip(_SWITCHES, values, strict=True) if value == "1"]
