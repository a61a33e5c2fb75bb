"""Values of a port in the OVSDB tables Port and Interface: names, ``external_ids``, faults.  Pure.

:mod:`dvr_agent.attach.openvswitch.row_index` makes them from the copy of the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dvr_agent.attach.outer_ends import TAP
from dvr_agent.state.link import Port

DEVICE_PREFIXES = ("qr-", "qg-", "sg-", "fg-", "ha-")
"""Prefixes of devices of routers.  Other ports (``tap…`` of instances and DHCP, patch ports) are never touched."""
PREFIX_LENGTH = 3
KEY = "dvr-agent-namespace"
"""Key in ``Interface:external_ids`` by which this agent marks its ports; the value is the namespace."""
KIND, KINDS = "dvr-agent-distributed", ("false", "true")
"""Key there by which this agent records whether a port is an interface of a distributed router, and its values."""
INTERNAL, SYSTEM = "internal", ""
"""Interface types: a device that Open vSwitch makes, and an existing device (here: the end of a veth pair)."""
IFACE_ID, IFACE_STATUS, ATTACHED_MAC = "iface-id", "iface-status", "attached-mac"


class PortRow(NamedTuple):
    """One port with its one interface.

    :ivar bridge: name of the bridge it is on, empty for none
    :ivar type: of the interface, see :data:`INTERNAL`
    :ivar ids: ``external_ids`` of the interface
    :ivar ofport: OpenFlow port number; -1: Open vSwitch failed to make it; 0: not known yet
    :ivar error: Open vSwitch's error text, mostly empty
    :ivar here: there is a device of the name in ovs-vswitchd's own namespace
    """

    name: str
    bridge: str
    type: str
    ids: Mapping[str, str]
    ofport: int
    error: str
    here: bool

    @property
    def works(self) -> bool:
        """True if Open vSwitch has made the port."""
        return self.ofport > 0 and not self.error


def outer_name(device: str) -> str:
    """Return the name of a veth pair's outer end, by that of the inner one."""
    return TAP + device[PREFIX_LENGTH:]


def neutron_ids(port: Port) -> dict[str, str]:
    """Return the ``external_ids`` that neutron-l3-agent writes, and that Neutron's Open vSwitch agent reads."""
    return {IFACE_ID: port.port_id, IFACE_STATUS: "active", ATTACHED_MAC: port.mac}


def all_ids(port: Port, namespace: str) -> dict[str, str]:
    """Return the ``external_ids`` that this agent writes."""
    return neutron_ids(port) | {KEY: namespace, KIND: KINDS[port.distributed]}


def is_of_other_kind(port: Port, row: PortRow) -> bool:
    """True if the router was of the other kind, distributed or not, when its port was plugged.

    Neutron's Open vSwitch agent keeps the flows of that kind (``leaving``): packets to a port of a distributed router
    do not leave the host.
    """
    return row.ids.get(KIND, KINDS[port.distributed]) != KINDS[port.distributed]


def is_routers(name: str, ids: Mapping[str, str]) -> bool:
    """True if a port is a router's, plugged by this agent or by neutron-l3-agent."""
    return KEY in ids or (name.startswith(DEVICE_PREFIXES) and IFACE_ID in ids)


def wrong_ids(port: Port, row: PortRow) -> str:
    """Return the fault of a port's ``external_ids``, the first one only; empty if there is none."""
    for key, value in neutron_ids(port).items():
        if row.ids.get(key) != value:
            return f"{row.name} has external_ids:{key}={row.ids.get(key, '(none)')} instead of {value}"
    return ""


def fault(port: Port, row: PortRow | None, bridge: str) -> str:
    """Return the fault of a port's row, empty if there is none.

    :param row: that of the port's device, or of the outer end of its veth pair
    """
    if row is None:
        return f"{port.device} is no port of {bridge}"
    if row.bridge != bridge:
        return f"{row.name} is on bridge {row.bridge or '(none)'} instead of {bridge}"
    expected = INTERNAL if row.name == port.device else SYSTEM
    if row.type != expected:
        return f"{row.name} is an interface of type {row.type or '(system)'} instead of {expected or '(system)'}"
    if row.error:
        return f"{row.name}: {row.error}"
    if row.ofport <= 0:
        return f"{row.name} has no OpenFlow port number"
    if expected == SYSTEM and not row.here:
        return f"{row.name} is missing"
    if is_of_other_kind(port, row):
        return f"{row.name} was plugged for a router that is {'not ' if port.distributed else ''}distributed"
    return wrong_ids(port, row)
