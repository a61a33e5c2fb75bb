"""The attach driver: router ports on Open vSwitch's integration bridge.

Neutron's Open vSwitch agent sets VLAN tags and flows for each port there with the right ``external_ids``.  The ids are
those of neutron-l3-agent, and one more: the namespace that the port was plugged for.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from dvr_agent.attach.api import OuterPort
from dvr_agent.attach.links import attach_errors, delete, host_socket
from dvr_agent.attach.openvswitch.database import Database
from dvr_agent.attach.openvswitch.leaving import Leaving
from dvr_agent.attach.openvswitch.plugging import Plugging, remove_devices
from dvr_agent.attach.openvswitch.port_edits import AddPort, DeletePort, SetIds
from dvr_agent.attach.openvswitch.rows import (
    DEVICE_PREFIXES,
    IFACE_ID,
    INTERNAL,
    KEY,
    KIND,
    KINDS,
    PREFIX_LENGTH,
    PortRow,
    all_ids,
    fault,
    is_routers,
    outer_name,
)
from dvr_agent.attach.outer_ends import check_ports, read_devices
from dvr_agent.attach.uplinks import bridge_wiring
from dvr_agent.errors import AttachError, NamespaceGoneError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.api import NamespaceManager, WriteCounters
from dvr_agent.kernel.netlink.link import decode_link, dump_links, index_and_name
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.state.filter import Family
from dvr_agent.state.link import Port
from dvr_agent.state.wiring import Wire, Wiring

LOG = logging.getLogger(__name__)

NOWHERE = ""
"""Stands for the namespace of a port whose device is in no namespace of a router; the port is stale."""


class OpenVSwitchDriver:
    """Implements :class:`dvr_agent.attach.api.AttachDriver` (its docstrings are the contract).

    The calling thread's namespace is the host's, and that of ``ovs-vswitchd``.
    """

    def __init__(
        self, database: Database, namespaces: NamespaceManager, counters: WriteCounters, use_veth: bool
    ) -> None:
        """
        :param use_veth: make veth pairs, not internal ports.  An existing port of either kind that works stays
        """
        self._database, self._namespaces = database, namespaces
        self._counters, self._use_veth = counters, use_veth
        self._leaving = Leaving()
        self._prepared: int | None = None
        """Number of the configuration with the prepared ports, until :meth:`plug` has waited for it."""

    @property
    def is_told_by_links(self) -> bool:
        """False: rows of the database have no such events."""
        return False

    def check(self, ports: Iterable[Port]) -> dict[str, str]:
        """Return the faults of outer sides: inner device name → text.  Reads the copy of the rows.

        :raises AttachError: OVSDB could not be reached so far; later on the last known rows count
        """
        wanted = list(ports)
        if not wanted:
            return {}
        database = self._database
        if not database.has_bridge():
            return {port.device: f"bridge {database.bridge} is missing" for port in wanted}
        rows = database.ports(name for port in wanted for name in (port.device, outer_name(port.device)))
        chosen = {port: rows.get(port.device) or rows.get(outer_name(port.device)) for port in wanted}
        faults = {port.device: fault(port, row, database.bridge) for port, row in chosen.items()}
        internal = [row.name for row in chosen.values() if row is not None and row.type == INTERNAL and row.here]
        for name in self._in_host(internal):
            faults[name] = faults[name] or f"the device of {name} is in the host's namespace"
        return {device: text for device, text in faults.items() if text}

    def obstacles(self, ports: Iterable[Port]) -> dict[str, str]:
        """Return the reason for all ports: OVSDB or ovs-vswitchd does not answer, or the bridge is missing."""
        wanted = list(ports)
        why = self._database.problem() if wanted else ""
        return {port.device: why for port in wanted} if why else {}

    def hindrances(self, networks: Collection[str]) -> Sequence[str]:
        """Return nothing: the state of bridges belongs to ovs-vswitchd and the L2 agent."""
        return ()

    def host_hindrances(self) -> Sequence[str]:
        """Return nothing, likewise: a missing bridge is a fault of each port (:meth:`check`)."""
        return ()

    def filtered_families(self) -> Sequence[Family]:
        """Return nothing: what Open vSwitch forwards does not pass by the host's packet filter."""
        return ()

    def wiring(self) -> Wiring:
        """Return the ports on the integration bridge, and the devices of instances.

        The uplinks of Open vSwitch's bridges belong to the L2 agent and are not known.
        """
        with attach_errors(), host_socket(self._counters) as host:
            found = bridge_wiring([decode_link(data) for data in host.dump(dump_links())])
        wires = {
            row.name[PREFIX_LENGTH:]: Wire(row.name, row.bridge, row.works, row.type != INTERNAL and row.here)
            for row in self._database.router_ports()
        }
        return Wiring({**found.wires, **wires})

    def prepare(self, ports: Mapping[str, Sequence[Port]]) -> None:
        """Add all missing rows in one transaction, so that ovs-vswitchd makes the devices while namespaces are built.

        Veth pairs need their namespaces first: :meth:`plug` makes them.
        """
        if self._use_veth:
            return
        try:
            self._prepare(ports)
        except AttachError as exc:
            LOG.debug("ports could not be prepared: %s", exc)

    def plug(self, namespace: str, ports: Sequence[Port]) -> None:
        """Make each port's device in the namespace, with MAC and MTU, up and connected; repair incomplete ports.

        Takes one OVSDB transaction; none for prepared ports, two if a conflicting row has to be removed first.

        :raises AttachError: EINVAL for malformed ids and names, ENODEV for a missing bridge or a device that
            Open vSwitch did not make, EIO with Open vSwitch's error of a port, ENOTCONN without a connection, ETIMEDOUT
            without an answer of ovsdb-server or an act of ovs-vswitchd, EAGAIN for a port that must not be added yet
            (:class:`~dvr_agent.attach.openvswitch.leaving.Leaving`), or what the kernel refused; other ports in
            the same call may be done or not, and the call can be repeated
        """
        if not ports:
            return
        check_ports(namespace, ports)
        number, self._prepared = self._prepared, None
        self._database.require(number)
        with (
            attach_errors(),
            host_socket(self._counters) as host,
            job_sockets.netlink(namespace, self._counters) as inside,
        ):
            plugging = Plugging(self._database, host, inside, self._counters, self._use_veth, self._leaving)
            plugging.run(namespace, ports)

    def mark(self, ports: Iterable[Port]) -> None:
        """Record the kind of router in rows that lack it: of neutron-l3-agent, and of older versions of this agent.

        :raises AttachError: the transaction failed
        """
        wanted = {name: port for port in ports for name in (port.device, outer_name(port.device))}
        rows = self._database.ports(wanted) if wanted else {}
        new = {name: KINDS[wanted[name].distributed] for name, row in rows.items() if KIND not in row.ids}
        if new and not self._database.problem():
            self._database.change([SetIds(name, {KIND: kind}) for name, kind in new.items()])

    def unplug(self, namespace: str, devices: Sequence[str]) -> None:
        """Remove devices from the namespace together with their outer sides; an absent one is no error."""
        if not devices:
            return
        names = [name for device in devices for name in (device, outer_name(device))]
        rows = [row for row in self._database.ports(names).values() if row.ids.get(KEY, namespace) == namespace]
        self._delete_rows([row.name for row in rows if row.name in devices or KEY in row.ids], wait=True)
        with attach_errors(), contextlib.suppress(NamespaceGoneError), self._inside(namespace) as inside:
            # Veth pairs, and devices that ovs-vswitchd has not removed.
            remove_devices(inside, read_devices(inside, devices).values())

    def release(self, namespace: str) -> None:
        """Delete the ports of the namespace's devices in one transaction, without waiting for ovs-vswitchd."""
        inside = self._devices(namespace)
        names = {name for device in inside for name in (device, outer_name(device))}
        there = self._database.ports({*names, *self._database.plugged_for(namespace)})
        self._delete_rows([row.name for row in there.values() if _belongs(row, namespace, inside)])

    def unplug_outer(self, ports: Sequence[OuterPort]) -> None:
        """Remove stale outer sides; an outer side that has become another port's meanwhile stays."""
        if not ports:
            return
        rows = self._database.ports(port.outer for port in ports)
        going = [port.outer for port in ports if _is_outer(rows.get(port.outer), port)]
        self._delete_rows(going)
        taps = [name for name in going if rows[name].type != INTERNAL]
        with attach_errors(), host_socket(self._counters) as host:
            delete(host, list(read_devices(host, taps)))

    def fileno(self) -> int:
        """Return the descriptor of the event: another program changed our ports, or Open vSwitch was restarted."""
        return self._database.changes.event.fileno()

    def acknowledge(self) -> None:
        """Clear the event; does not block."""
        self._database.changes.event.clear()

    def idle(self, networks: Collection[str] = (), without: Collection[str] = ()) -> Sequence[str]:
        """Return (): the integration bridge is not ours."""
        return ()

    def tidy(self, networks: Collection[str] = ()) -> Sequence[str]:
        """Do nothing: the integration bridge is not ours."""
        return ()

    def close(self) -> None:
        """End the connection; the driver cannot be used after that."""
        self._database.close()

    # --- inside -------------------------------------------------------------------------------------------------

    def _prepare(self, ports: Mapping[str, Sequence[Port]]) -> None:
        database = self._database
        database.settle()
        wanted = [(namespace, port) for namespace, some in ports.items() for port in some]
        rows = database.ports(name for _, port in wanted for name in (port.device, outer_name(port.device)))
        absent = [(there, port) for there, port in wanted if not rows.keys() & {port.device, outer_name(port.device)}]
        new = [(there, port) for there, port in absent if not self._leaving.wait(port.device)]
        for namespace, port in new:
            check_ports(namespace, [port])
        if new:
            database.changes.expect(port.device for _, port in new)
            edits = [AddPort(port.device, INTERNAL, all_ids(port, there)) for there, port in new]
            self._prepared = database.change(edits, configure=True)

    def _delete_rows(self, names: Sequence[str], wait: bool = False) -> None:
        """Delete ports in one transaction.

        :param wait: wait until ovs-vswitchd has removed the devices, at most the time limit
        """
        if not names:
            return
        database = self._database
        with database.changes.expecting(names):
            number = database.change([DeletePort(name) for name in names], configure=True)
            if wait and number is not None:
                database.reached(number)

    def _inside(self, namespace: str) -> AbstractContextManager[NetlinkSocket]:
        return job_sockets.netlink(namespace, self._counters)

    def _in_host(self, names: Sequence[str]) -> list[str]:
        if not names:
            return []
        with attach_errors(), host_socket(self._counters) as host:
            return list(read_devices(host, names))

    def _devices(self, namespace: str) -> Iterable[str]:
        """Return the names of the devices in a namespace; none if the namespace is gone."""
        with attach_errors(), contextlib.suppress(NamespaceGoneError), self._inside(namespace) as inside:
            return [index_and_name(data)[1] for data in inside.dump(dump_links())]
        return []

    def _places(self, rows: Sequence[PortRow]) -> Mapping[str, str]:
        """Return device name → namespace, of the devices in all namespaces that may have ports."""
        places: dict[str, str] = {}
        ours = {row.ids[KEY] for row in rows if KEY in row.ids}
        searched = self._namespaces.list() if any(KEY not in row.ids for row in rows) else sorted(ours)
        for namespace in searched:
            places |= dict.fromkeys(self._devices(namespace), namespace)
        return places

    # Last, because its name hides the built-in type from annotations below it.
    def list(self) -> list[OuterPort]:
        """Return router ports of this agent and of neutron-l3-agent, with the namespace of their devices.

        The namespace is empty (:data:`NOWHERE`) if the device is in none or in the host's: such ports are stale.
        """
        rows = self._database.router_ports()
        places = self._places(rows)
        found = []
        for row in rows:
            device = row.name if row.type == INTERNAL else _inner_name(row, places)
            found.append(OuterPort(row.ids.get(IFACE_ID, ""), row.name, places.get(device, NOWHERE)))
        return sorted(found)


def _inner_name(row: PortRow, places: Mapping[str, str]) -> str:
    """Return the inner end of the veth pair that a ``tap…`` belongs to."""
    names = [prefix + row.name[len(prefix) :] for prefix in DEVICE_PREFIXES]
    return next((name for name in names if name in places), "")


def _belongs(row: PortRow, namespace: str, devices: Iterable[str]) -> bool:
    return row.ids[KEY] == namespace if KEY in row.ids else row.name in devices and is_routers(row.name, row.ids)


def _is_outer(row: PortRow | None, port: OuterPort) -> bool:
    return row is not None and row.ids.get(IFACE_ID, "") == port.port_id
