"""Cut one read of a shared namespace into the slices of its owners (:class:`SliceIndex`).

Used by ``reconcile/fip_slices.py`` at a resync, where one read serves all routers of a fip namespace.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from dvr_agent.state.address import Address
from dvr_agent.state.kind import AnyKind, KernelObject
from dvr_agent.state.namespace import KINDS, NamespaceState
from dvr_agent.state.ownership import Ownership


class SliceIndex:
    """The objects of a namespace by device and by routing table.

    :param state: the whole namespace
    """

    def __init__(self, state: NamespaceState) -> None:
        self._name = state.name
        self._link_locals: defaultdict[str, list[Address]] = defaultdict(list)
        for address in state.link_locals:
            self._link_locals[address.device].append(address)
        self._lost_routes, self._adverse = state.lost_routes, state.adverse
        self._by_device: dict[AnyKind, dict[str, list[KernelObject]]] = {}
        self._by_table: dict[AnyKind, dict[int, list[KernelObject]]] = {}
        for kind in KINDS:
            items = state.of_kind(kind)
            by_device: defaultdict[str, list[KernelObject]] = defaultdict(list)
            for item in items:
                for device in kind.devices(item):
                    by_device[device].append(item)
            self._by_device[kind] = by_device
            if kind.table is not None:
                by_table: defaultdict[int, list[KernelObject]] = defaultdict(list)
                for item in items:
                    by_table[kind.table(item)].append(item)
                self._by_table[kind] = by_table

    def take(self, ownership: Ownership) -> NamespaceState:
        """Return the slice with this ownership, which names its devices (``devices``, not ``prefixes``).

        Each slice can be taken once: a resync would keep a copy of what all routers have until the next one.
        """
        found: dict[str, Any] = {kind.field: self._owned(kind, ownership) for kind in KINDS}
        link_locals = frozenset(one for device in ownership.devices for one in self._link_locals.pop(device, ()))
        lost = frozenset(one for one in self._lost_routes if one.device in ownership.devices)
        adverse = frozenset(one for one in self._adverse if one.device in ownership.devices)
        return NamespaceState(
            self._name, ownership, link_locals=link_locals, lost_routes=lost, adverse=adverse, **found
        )

    def _owned(self, kind: AnyKind, ownership: Ownership) -> frozenset[KernelObject]:
        by_device, by_table = self._by_device[kind], self._by_table.get(kind, {})
        if not kind.on_own_devices:
            items = (item for found in by_device.values() for item in found)
            return frozenset(item for item in items if kind.owned(ownership, item))
        candidates = [item for device in ownership.devices for item in by_device.pop(device, ())]
        candidates += [item for table in ownership.tables for item in by_table.pop(table, ())]
        return frozenset(item for item in candidates if kind.owned(ownership, item))
