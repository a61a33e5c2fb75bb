"""The built-in attach driver: each network is a Linux bridge, each port a veth pair.

Network N is bridge ``brq<N[:11]>`` in the host's namespace, made if it is missing; external networks may be mapped to
bridges that exist.  A port's inner end is made in the router's namespace, its outer end ``tap<port id[:11]>`` in the
host's.  Devices that the agent makes there are layer 2 only: IPv6 is off before a device comes up, since each device's
autoconfiguration would be flooded over the whole network (and would offer the host's services to it).

A Linux bridge takes the MTU of its smallest port by itself; no code here sets it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from dvr_agent.attach.api import OuterPort
from dvr_agent.attach.links import (
    HOST,
    attach_errors,
    delete,
    host_socket,
    make_pairs,
    repair,
    switch_ipv6_off,
)
from dvr_agent.attach.outer_ends import (
    ALIAS,
    NAME_MAX,
    Device,
    bridge_name,
    check_ports,
    fault,
    read_alias,
    read_device,
    read_devices,
    same_pair,
    tap_alias,
    tap_name,
)
from dvr_agent.attach.uplinks import Uplinks, bridge_wiring, filtered_families
from dvr_agent.errors import AttachError, ConfigError, NamespaceGoneError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.address import decode_addresses, dump_addresses
from dvr_agent.kernel.netlink.handler import EXISTS
from dvr_agent.kernel.netlink.link import (
    IPV6_MIN_MTU,
    LinkInfo,
    add_bridge,
    decode_link,
    dump_links,
    get_link,
    set_link,
)
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.state.filter import Family
from dvr_agent.state.link import Port
from dvr_agent.state.wiring import Wiring

LOG = logging.getLogger(__name__)

EXTERNAL = ("fg-", "qg-")
"""Prefixes of devices of ports in external networks (neutron.agent.l3)."""


class BridgeDriver:
    """Implements :class:`dvr_agent.attach.api.AttachDriver` (its docstrings are the contract).

    Keeps nothing between calls, except the networks of which it has warned, and the bridges that were down.  The
    calling thread's namespace is the host's.
    """

    def __init__(self, external_networks: Mapping[str, str], counters: WriteCounters) -> None:
        """
        :param external_networks: network UUID → existing bridge; it is used as it is and never made
        :raises ConfigError: a key is no UUID, or a bridge name is too long
        """
        self._counters = counters
        self._external = dict(_external(*pair) for pair in external_networks.items())
        self._uplinks = Uplinks(self._external.values(), counters)
        self._warned: set[str] = set()
        self._down: set[str] = set()

    @property
    def is_told_by_links(self) -> bool:
        """True: taps, bridges and what connects them are links."""
        return True

    def check(self, ports: Iterable[Port]) -> dict[str, str]:
        """Return the faults of outer sides: inner device name → text, for ports with a fault.  Reads only."""
        wanted = list(ports)
        if not wanted:
            return {}
        self._warn_of_unmapped(wanted)
        names = self._bridge_names(wanted)
        with attach_errors(), host_socket(self._counters) as host:
            found = read_devices(host, [*names, *(tap_name(port.port_id) for port in wanted)])
        bridges = {name: found[name] for name in names if name in found}
        down = [name for name, one in bridges.items() if not one.info.up and one.info.alias != ALIAS]
        self._down = self._down.difference(names).union(down)
        faults = {}
        for port in wanted:
            name = self._bridge_of(port.network_id)
            faults[port.device] = fault(port, found.get(tap_name(port.port_id)), bridges.get(name), name)
        return {device: text for device, text in faults.items() if text}

    def obstacles(self, ports: Iterable[Port]) -> dict[str, str]:
        """Return the ports of external networks that lack their bridge, which this driver never makes."""
        wanted = list(ports)
        bridges = {port.device: self._external[port.network_id] for port in wanted if port.network_id in self._external}
        self._warn_of_unmapped(wanted)
        if not bridges:
            return {}
        with attach_errors(), host_socket(self._counters) as host:
            found = read_devices(host, sorted(set(bridges.values())))
        return {device: f"bridge {name} is missing" for device, name in bridges.items() if name not in found}

    def hindrances(self, networks: Collection[str]) -> Sequence[str]:
        """Return the bridges of these networks that are down and that this agent did not make."""
        return [f"bridge {name} is down" for name in map(self._bridge_of, sorted(networks)) if name in self._down]

    def host_hindrances(self) -> Sequence[str]:
        """Return the faults of external bridges that have lost their way out of the host."""
        with attach_errors():
            return self._uplinks.hindrances()

    def filtered_families(self) -> Sequence[Family]:
        """Return the families of the packets in bridges that pass by the host's packet filter."""
        return filtered_families()

    def prepare(self, ports: Mapping[str, Sequence[Port]]) -> None:
        """Do nothing: veth pairs are made at once."""

    def plug(self, namespace: str, ports: Sequence[Port]) -> None:
        """Make each port's device in the namespace, with MAC and MTU, up and connected; repair incomplete ports.

        A port without a fault is not touched.

        :raises AttachError: EINVAL for malformed ids and names, ENODEV for a bridge of an external network
            that does not exist, EEXIST for a device of another kind in the place of an outer end, or what the kernel
            refused; ports before it in the same call may be done or not, and the call can be repeated
        """
        if not ports:
            return
        check_ports(namespace, ports)
        self._warn_of_unmapped(ports)
        with (
            attach_errors(),
            host_socket(self._counters) as host,
            job_sockets.netlink(namespace, self._counters) as inside,
        ):
            names, outer = self._bridge_names(ports), [tap_name(port.port_id) for port in ports]
            found = read_devices(host, [*names, *outer])
            bridges = self._all_bridges(host, ports, {name: found[name] for name in names if name in found})
            taps: dict[str, Device] = {}
            if any(name in found for name in outer) or not make_pairs(inside, ports, EXISTS):
                taps, inner = self._whole_pairs(host, inside, ports)
                make_pairs(inside, [port for port in ports if port.device not in inner])
                inside.batch([request for port in ports if port.device in inner for request in repair(port, inner)])
            ours = [name for name in names if bridges[name].info.alias == ALIAS]
            index = {port: bridges[self._bridge_of(port.network_id)].info.ifindex for port in ports}
            host.batch([request for port in ports for request in _resize(port, taps)])
            switch_ipv6_off(_with_ipv6(bridges, ours) + _with_ipv6(taps, outer), self._counters)
            host.batch(
                [
                    *(set_link(name, up=True) for name in ours if not bridges[name].info.up),
                    *(request for port in ports for request in _connect(port, namespace, taps, index[port])),
                ]
            )

    def mark(self, ports: Iterable[Port]) -> None:
        """Do nothing: bridges treat all ports alike."""

    def unplug(self, namespace: str, devices: Sequence[str]) -> None:
        """Remove devices from the namespace together with their outer sides; an absent one is no error."""
        if not devices:
            return
        with (
            attach_errors(),
            contextlib.suppress(NamespaceGoneError),
            job_sockets.netlink(namespace, self._counters) as inside,
        ):
            delete(inside, list(read_devices(inside, devices)))

    def unplug_outer(self, ports: Sequence[OuterPort]) -> None:
        """Remove stale outer sides; an outer side that has become another port's meanwhile stays."""
        if not ports:
            return
        with attach_errors(), host_socket(self._counters) as host:
            found = read_devices(host, [port.outer for port in ports])
            delete(host, [port.outer for port in ports if _is_outer(found.get(port.outer), port)])

    def release(self, namespace: str) -> None:
        """Do nothing: the kernel removes outer ends together with the inner ones."""

    def fileno(self) -> None:
        """Return None: a bridge raises no events."""

    def acknowledge(self) -> None:
        """Do nothing: there is no event."""

    def wiring(self) -> Wiring:
        """Return the outer sides of all ports by the beginning of their id, and the ports of others on bridges."""
        with attach_errors(), host_socket(self._counters) as host:
            return bridge_wiring([decode_link(data) for data in host.dump(dump_links())])

    def idle(self, networks: Collection[str] = (), without: Collection[str] = ()) -> Sequence[str]:
        """Return the names of unused bridges that this driver made, except those of these networks, sorted.

        Unused: without a port of any kind, a device on top, or an address.

        :param without: namespaces whose ports do not count
        """
        removed = {port.outer for port in self.list() if port.namespace in without} if without else ()
        with attach_errors(), host_socket(self._counters) as host:
            return self._idle(host, networks, removed)

    def tidy(self, networks: Collection[str] = ()) -> Sequence[str]:
        """Remove the bridges that :meth:`idle` names; returns their names, sorted."""
        with attach_errors(), host_socket(self._counters) as host:
            idle = self._idle(host, networks)
            if idle:
                # Read again right before the removal: an instance may just have been plugged.
                idle = self._idle(host, networks)
                delete(host, idle)
        return idle

    def _idle(self, host: NetlinkSocket, networks: Collection[str], removed: Collection[str] = ()) -> Sequence[str]:
        keep = {self._bridge_of(network_id) for network_id in networks}
        devices = [device for device in map(read_device, host.dump(dump_links())) if device.info.name not in removed]
        used = {device.info.master for device in devices} | {device.lower for device in devices}
        ours = [device.info for device in devices if _is_our_bridge(device.info) and device.info.name not in keep]
        idle = {link.ifindex: link.name for link in ours if link.ifindex not in used}
        if not idle:
            return []
        addressed = {address.device for address in decode_addresses(host.dump(dump_addresses()), idle)}
        return sorted(set(idle.values()) - addressed)

    # --- bridges ------------------------------------------------------------------------------------------------

    def _bridge_of(self, network_id: str) -> str:
        return self._external.get(network_id) or bridge_name(network_id)

    def _bridge_names(self, ports: Iterable[Port]) -> list[str]:
        return sorted({self._bridge_of(port.network_id) for port in ports})

    def _all_bridges(
        self, host: NetlinkSocket, ports: Sequence[Port], found: Mapping[str, Device]
    ) -> Mapping[str, Device]:
        """Return the bridges that the ports need; make missing ones of ours, down.

        :param found: those that are there
        """
        for port in ports:
            self._check_bridge(port, found.get(self._bridge_of(port.network_id)))
        missing = [name for name in self._bridge_names(ports) if name not in found]
        if not missing:
            return found
        # The alias is set in the same send: no crash leaves a bridge of ours without its mark.
        changes = [request for name in missing for request in (add_bridge(name), set_link(name, alias=ALIAS))]
        made = host.make(changes, [get_link(name) for name in missing])
        return {**found, **{name: read_device(data) for name, data in zip(missing, made, strict=True) if data}}

    def _warn_of_unmapped(self, ports: Sequence[Port]) -> None:
        """Warn once of each external network that ``external_networks`` lacks while it has others.

        Such a network gets a bridge of its own without an uplink: most likely its line was forgotten.
        """
        for port in ports:
            network = port.network_id
            if not self._external or not port.device.startswith(EXTERNAL) or network in self._external:
                continue
            if network not in self._warned:
                self._warned.add(network)
                LOG.warning(
                    "external network %s is not named in [bridge] external_networks, others are: "
                    "it gets the bridge %s, which no interface of this host is on unless you add one",
                    network,
                    self._bridge_of(network),
                )

    def _check_bridge(self, port: Port, bridge: Device | None) -> None:
        """Check the bridge of a port's network.

        :raises AttachError: it is missing and not ours to make, or no bridge
        """
        name = self._bridge_of(port.network_id)
        what = f"bridge {name} of network {port.network_id}"
        if bridge is None and port.network_id in self._external:
            raise AttachError(HOST, what, errno.ENODEV, "named in [bridge] external_networks, but it does not exist")
        if bridge is not None and bridge.info.kind != "bridge":
            raise AttachError(HOST, what, errno.EEXIST, f"{name} is no Linux bridge but {bridge.info.kind or 'a NIC'}")

    # --- ports --------------------------------------------------------------------------------------------------

    def _whole_pairs(
        self, host: NetlinkSocket, inside: NetlinkSocket, ports: Sequence[Port]
    ) -> tuple[dict[str, Device], dict[str, Device]]:
        """Return outer and inner ends by name, of ports that have both; remove single ends.

        A crash or an operator leaves single ends: an outer end whose inner end is in another namespace, or in one that
        the kernel is removing, or an inner end of another pair.
        """
        taps = read_devices(host, [tap_name(port.port_id) for port in ports])
        inner = read_devices(inside, [port.device for port in ports])
        single_taps, single_inner = [], []
        for port in ports:
            name = tap_name(port.port_id)
            tap, end = taps.get(name), inner.get(port.device)
            if tap is not None and tap.info.kind != "veth":
                hint = f"there is a device of that name of kind {tap.info.kind or 'unknown'}"
                raise AttachError(HOST, f"link {name} of port {port.port_id}", errno.EEXIST, hint)
            if tap is not None and end is not None and same_pair(tap, end):
                continue
            single_taps += [name] if taps.pop(name, None) else []
            single_inner += [port.device] if inner.pop(port.device, None) else []
        delete(host, single_taps)
        delete(inside, single_inner)
        return taps, inner

    # Last, because its name hides the built-in type from annotations below it.
    def list(self) -> list[OuterPort]:
        """Return all existing outer sides that this driver made on this host."""
        with attach_errors(), host_socket(self._counters) as host:
            mark = f"{ALIAS}:".encode()
            links = [decode_link(data) for data in host.dump(dump_links()) if mark in data]
        owners = [(link.name, read_alias(link.alias)) for link in links]
        return sorted(OuterPort(owner[0], name, owner[1]) for name, owner in owners if owner is not None)


def _connect(port: Port, namespace: str, taps: Mapping[str, Device], bridge: int) -> Iterator[Request]:
    """Yield the changes that an outer end needs; all of them if it is new."""
    name, alias = tap_name(port.port_id), tap_alias(port.port_id, namespace)
    tap = taps.get(name)
    if tap is None:
        yield set_link(name, master=bridge, alias=alias, up=True, what=port)
        return
    info = tap.info
    if (info.master, info.alias, info.up) != (bridge, alias, True):
        yield set_link(
            name,
            master=bridge if info.master != bridge else None,
            alias=alias if info.alias != alias else None,
            up=None if info.up else True,
            what=port,
        )


def _resize(port: Port, taps: Mapping[str, Device]) -> Iterator[Request]:
    """Yield the change of an outer end with another MTU; the bridge follows by itself."""
    tap = taps.get(tap_name(port.port_id))
    if tap is not None and tap.info.mtu != port.mtu:
        yield set_link(tap.info.name, mtu=port.mtu, what=port)


def _with_ipv6(found: Mapping[str, Device], names: Iterable[str]) -> list[str]:
    """Return those of the devices that have IPv6, or may get it.

    A device that was not found is new, and has it; one whose MTU was too small for IPv6 has got it with a larger one.
    """
    return [name for name in names if name not in found or found[name].ipv6 or found[name].info.mtu < IPV6_MIN_MTU]


def _is_outer(device: Device | None, port: OuterPort) -> bool:
    return device is not None and read_alias(device.info.alias) == (port.port_id, port.namespace)


def _is_our_bridge(link: LinkInfo) -> bool:
    return link.kind == "bridge" and link.alias == ALIAS


def _external(network: str, bridge: str) -> tuple[str, str]:
    try:
        network_id = str(uuid.UUID(network))
    except ValueError as exc:
        raise ConfigError(f"[bridge] external_networks: {network!r} is no network UUID") from exc
    if not 1 <= len(bridge) <= NAME_MAX or "/" in bridge:
        raise ConfigError(f"[bridge] external_networks: {bridge!r} cannot be the name of a bridge")
    return network_id, bridge
