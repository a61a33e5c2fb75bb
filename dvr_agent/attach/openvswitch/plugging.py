"""One call of ``plug``: examine ports, remove conflicting rows and devices, add missing ones, move devices in.

States of a port, and the action:

================================================  ==================================================================
the row works, and so does its device inside      kept, whichever kind ``ovs_use_veth`` asks for; small repairs
the row works, its device is in the host's        moved in; a device of its name inside is dead (``ovs-vswitchd``
                                                  was restarted, and its userspace datapath made a new device)
the row is there, its device is nowhere           ovs-vswitchd is asked to check again; if that does not help, the row
                                                  is removed, and added when ovs-vswitchd has acted on that
on another bridge, of another type, half a pair   removed, and added anew
of a router that was of another kind              removed; added when the L2 agent has had time to forget it
nothing                                           added
================================================  ==================================================================

A row that is removed and added in one transaction is the same port to ovs-vswitchd, and no device would be made.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from dvr_agent.attach.links import HOST, delete, make_pairs, repair, switch_ipv6_off
from dvr_agent.attach.openvswitch.database import Database
from dvr_agent.attach.openvswitch.leaving import FORGETTING, Leaving
from dvr_agent.attach.openvswitch.port_edits import AddPort, DeletePort, Edit, SetIds, Touch, bridge_missing
from dvr_agent.attach.openvswitch.rows import (
    INTERNAL,
    SYSTEM,
    PortRow,
    all_ids,
    is_of_other_kind,
    outer_name,
    wrong_ids,
)
from dvr_agent.attach.outer_ends import Device, read_devices, same_pair
from dvr_agent.errors import AttachError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.netlink.handler import NO_DEVICE
from dvr_agent.kernel.netlink.link import set_link
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import open_namespace
from dvr_agent.state.link import Port

KERNEL_KIND = "openvswitch"
INTERNAL_KINDS = frozenset({"tun", KERNEL_KIND})
"""Kinds of an internal port's device: of the userspace and of the kernel datapath."""
ROUNDS = 2
"""The second round is for new ports that ovs-vswitchd took for removed ones, so that it made no device."""


class PlugState(Enum):
    """State of a port before it is plugged."""

    WHOLE = "works"
    OUTSIDE = "its device waits in the host's namespace"
    LOST = "its row is there, its device is not"
    WRONG = "something else is in its place"
    NEW = "nothing is there"


@dataclass(frozen=True, slots=True)
class FoundPort:
    """Rows and devices found for a port.

    :ivar row: row of the internal port
    :ivar tap_row: row of the outer end of a veth pair
    :ivar inner: the device in the router's namespace
    :ivar outer: a device of the same name in the host's namespace
    :ivar tap: the outer end in the host's namespace
    """

    port: Port
    row: PortRow | None
    tap_row: PortRow | None
    inner: Device | None
    outer: Device | None
    tap: Device | None


Examined = tuple[FoundPort, PlugState]


class Plugging:
    """One call of ``plug``; :meth:`run` is its entrance."""

    def __init__(
        self,
        database: Database,
        host: NetlinkSocket,
        inside: NetlinkSocket,
        counters: WriteCounters,
        use_veth: bool,
        leaving: Leaving,
    ) -> None:
        self._database, self._host, self._inside = database, host, inside
        self._counters, self._use_veth, self._leaving = counters, use_veth, leaving

    def run(self, namespace: str, ports: Sequence[Port]) -> None:
        """Plug the ports.

        :raises AttachError: see :meth:`dvr_agent.attach.openvswitch.driver.OpenVSwitchDriver.plug`
        """
        failures: list[AttachError] = []
        todo = list(ports)
        for _ in range(ROUNDS):
            todo, refused = self._round(namespace, todo)
            failures += refused
            if not todo:
                break
        failures += [AttachError(HOST, port.text, errno.ENODEV, "Open vSwitch made no device for it") for port in todo]
        if failures:
            raise failures[0]

    def _round(self, namespace: str, ports: Sequence[Port]) -> tuple[list[Port], list[AttachError]]:
        """Plug once; returns the ports that got no device, and Open vSwitch's errors for other ports."""
        states, failures = self._without_leaving(self._examined(ports))
        anew = [found for found, state in states if state is PlugState.WRONG]
        if anew:
            self._clear(anew)
        new = [found.port for found, state in states if state in (PlugState.WRONG, PlugState.NEW)]
        self._write(namespace, [found for found, state in states if state in (PlugState.WHOLE, PlugState.OUTSIDE)], new)
        self._repair([found for found, state in states if state is PlugState.WHOLE])
        waiting = [found.port for found, state in states if state is PlugState.OUTSIDE]
        if self._use_veth:
            return [], failures + self._errors(new, outer=True)
        failures += self._errors(new, outer=False)
        refused = {failure.what for failure in failures}
        return self._move([*waiting, *(port for port in new if port.text not in refused)], states), failures

    def _without_leaving(self, states: Sequence[Examined]) -> tuple[list[Examined], list[AttachError]]:
        """Remove ports of routers that were of another kind; returns the others, and the errors of those that wait."""
        others = [one for one, _ in states if _is_of_other_kind(one)]
        if others:
            self._clear(others)
            self._leaving.note(one.port.device for one in others)
        waits = {one.port: self._leaving.wait(one.port.device) for one, _ in states}
        failures = [
            AttachError(HOST, port.text, errno.EAGAIN, f"{FORGETTING}; plugged again in {wait:.1f} s")
            for port, wait in waits.items()
            if wait
        ]
        return [(one, state) for one, state in states if not waits[one.port]], failures

    # --- read ---------------------------------------------------------------------------------------------------

    def _examined(self, ports: Sequence[Port]) -> list[tuple[FoundPort, PlugState]]:
        found = self._read(ports)
        states = [(one, self._state(one)) for one in found]
        if any(state is PlugState.LOST for _, state in states):
            # The device may only be late: have ovs-vswitchd check again before anything is removed.
            with self._database.changes.expecting(_names(ports)):
                self._database.require(self._database.change([Touch()], configure=True))
            states = [(one, self._state(one)) for one in self._read(ports)]
        for one, state in states:
            if state is PlugState.LOST and one.row is not None and one.row.error:
                raise AttachError(HOST, one.port.text, errno.EIO, f"Open vSwitch says: {one.row.error}")
        return [(one, PlugState.WRONG if state is PlugState.LOST else state) for one, state in states]

    def _read(self, ports: Sequence[Port]) -> list[FoundPort]:
        """Read the rows and devices of ports."""
        devices = [port.device for port in ports]
        taps = [outer_name(device) for device in devices]
        rows = self._database.ports([*devices, *taps])
        inner = read_devices(self._inside, devices)
        outer = read_devices(self._host, [*devices, *taps])
        return [
            FoundPort(
                port,
                rows.get(port.device),
                rows.get(outer_name(port.device)),
                inner.get(port.device),
                outer.get(port.device),
                outer.get(outer_name(port.device)),
            )
            for port in ports
        ]

    def _state(self, found: FoundPort) -> PlugState:
        row, tap_row, inner = found.row, found.tap_row, found.inner
        if self._is_whole_pair(found):
            return PlugState.WHOLE
        right = row is not None and (row.bridge, row.type) == (self._database.bridge, INTERNAL)
        if right and row is not None and tap_row is None and row.works:
            if _is_internal(found.outer):
                return PlugState.WRONG if self._use_veth else PlugState.OUTSIDE
            if _is_internal(inner):
                return PlugState.WHOLE
        if row is None and tap_row is None and inner is None and found.tap is None:
            return PlugState.NEW
        return PlugState.LOST if right and tap_row is None and not self._use_veth and inner is None else PlugState.WRONG

    def _is_whole_pair(self, found: FoundPort) -> bool:
        row = found.tap_row
        if row is None or found.row is not None or found.tap is None or found.inner is None:
            return False
        right = (row.bridge, row.type) == (self._database.bridge, SYSTEM) and row.works
        return right and same_pair(found.tap, found.inner)

    # --- write --------------------------------------------------------------------------------------------------

    def _clear(self, ports: Sequence[FoundPort]) -> None:
        """Remove rows and devices of ports, and wait until ovs-vswitchd has acted on that."""
        database = self._database
        rows = [row.name for found in ports for row in (found.row, found.tap_row) if row is not None]
        if rows:
            with database.changes.expecting(rows):
                database.require(database.change([DeletePort(name) for name in rows], configure=True))
        remove_devices(self._inside, read_devices(self._inside, [found.port.device for found in ports]).values())
        taps = read_devices(self._host, [outer_name(found.port.device) for found in ports])
        delete(self._host, [name for name, device in taps.items() if device.info.kind == "veth"])

    def _write(self, namespace: str, kept: Sequence[FoundPort], new: Sequence[Port]) -> None:
        """Write rows in one transaction, and wait until ovs-vswitchd has acted on it."""
        database = self._database
        edits: list[Edit] = [
            SetIds(row.name, all_ids(found.port, namespace))
            for found in kept
            if (row := found.tap_row or found.row) is not None and wrong_ids(found.port, row)
        ]
        if new:
            if not database.has_bridge():
                raise bridge_missing(database.bridge)
            database.settle()
            if self._use_veth:
                make_pairs(self._inside, new)
                self._raise_taps([outer_name(port.device) for port in new])
            edits += [self._addition(namespace, port) for port in new]
        if edits:
            with database.changes.expecting(_names(new)):
                number = database.change(edits, configure=bool(new))
                # No number: a transaction that timed out before has added the rows after all, perhaps just now.
                database.require(database.wanted() if number is None and new else number)

    def _addition(self, namespace: str, port: Port) -> AddPort:
        ids = all_ids(port, namespace)
        if self._use_veth:
            return AddPort(outer_name(port.device), SYSTEM, ids)
        return AddPort(port.device, INTERNAL, ids)

    def _errors(self, new: Sequence[Port], outer: bool) -> list[AttachError]:
        """Return Open vSwitch's errors of the new ports."""
        names = {port: outer_name(port.device) if outer else port.device for port in new}
        rows = self._database.ports(names.values())
        failures = []
        for port, name in names.items():
            row = rows.get(name)
            if row is None or not row.works:
                said = f"Open vSwitch says: {row.error}" if row and row.error else "Open vSwitch has not added it"
                failures.append(AttachError(HOST, port.text, errno.EIO, said))
        return failures

    def _move(self, ports: Sequence[Port], states: Iterable[tuple[FoundPort, PlugState]]) -> list[Port]:
        """Move devices into the namespace, with MAC and MTU; returns the ports without a device."""
        if not ports:
            return []
        devices = read_devices(self._host, [port.device for port in ports])
        moving = [port for port in ports if _is_internal(devices.get(port.device))]
        dead = {found.port.device for found, state in states if state is PlugState.OUTSIDE and found.inner is not None}
        delete(self._inside, sorted(dead))
        there = open_namespace(self._inside.namespace)
        try:
            with self._database.changes.expecting(port.device for port in moving):
                self._host.batch(
                    [
                        set_link(
                            devices[port.device].info.ifindex,
                            namespace_fd=there,
                            mac=port.mac,
                            mtu=port.mtu,
                            up=True,
                            what=port,
                        )
                        for port in moving
                    ]
                )
        finally:
            os.close(there)
        return [port for port in ports if port not in moving]

    def _repair(self, kept: Sequence[FoundPort]) -> None:
        inner = {found.port.device: found.inner for found in kept if found.inner is not None}
        self._inside.batch([request for found in kept for request in repair(found.port, inner)])
        taps = {found.tap.info.name: found for found in kept if found.tap is not None and found.tap_row is not None}
        wrong = [name for name, found in taps.items() if _tap_differs(found)]
        if wrong:
            mtus = [set_link(name, mtu=taps[name].port.mtu, what=taps[name].port, tolerate=NO_DEVICE) for name in wrong]
            self._host.batch(mtus)  # before, since a device whose MTU was too small for IPv6 gets it with a larger one
            self._raise_taps(wrong)

    def _raise_taps(self, names: Sequence[str]) -> None:
        """Raise outer ends, without IPv6: they are layer 2 only, as those of the bridge driver."""
        switch_ipv6_off(names, self._counters)
        self._host.batch([set_link(name, up=True) for name in names])


def remove_devices(inside: NetlinkSocket, devices: Iterable[Device]) -> None:
    """Remove devices that have no row any more; set ports of the kernel datapath down instead.

    Only ovs-vswitchd can remove the latter (others get ENOTSUP, also for a group with such a device); it does so when
    it sees that the row is gone.
    """
    found = list(devices)
    delete(inside, [device.info.name for device in found if device.info.kind != KERNEL_KIND])
    staying = [device.info.name for device in found if device.info.kind == KERNEL_KIND and device.info.up]
    inside.batch([set_link(name, up=False, tolerate=NO_DEVICE) for name in staying])


def _is_of_other_kind(found: FoundPort) -> bool:
    rows = [row for row in (found.row, found.tap_row) if row is not None]
    return any(is_of_other_kind(found.port, row) for row in rows)


def _tap_differs(found: FoundPort) -> bool:
    tap = found.tap
    return tap is not None and (tap.info.mtu, tap.info.up, tap.ipv6) != (found.port.mtu, True, False)


def _is_internal(device: Device | None) -> bool:
    return device is not None and device.info.kind in INTERNAL_KINDS


def _names(ports: Sequence[Port]) -> list[str]:
    return [name for port in ports for name in (port.device, outer_name(port.device))]
