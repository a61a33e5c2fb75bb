"""Reads what the kernel has of a router, for the register of claims: who holds a thing must not depend on memory.

Read only for routers whose claims collide with another's, for routers without a good document, and for routers that are
left alone: a start without them reads nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dvr_agent.desired import claims, names
from dvr_agent.errors import KernelError
from dvr_agent.model.router import Router
from dvr_agent.reconcile.inventory import Inventory, floating_ips
from dvr_agent.reconcile.reader import KernelReader
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership

LOG = logging.getLogger(__name__)

_QROUTER = Ownership(prefixes=(names.INTERNAL, names.ROUTER_TO_FIP, names.GATEWAY))
_SNAT = Ownership(prefixes=(names.CSNAT, names.GATEWAY))
_FIP = Ownership(prefixes=(names.AGENT_GATEWAY,))


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the kernel has of one owner.

    :ivar stems: beginnings of the ids of its ports, as device names contain them
    :ivar external: addresses of its gateway device, and floating IPs
    :ivar inside: addresses of its other devices
    :ivar has_pair: it has a veth pair to a fip namespace
    :ivar is_unknown: the kernel could not be read: the owner counts as having all that it claims
    """

    stems: frozenset[str] = frozenset()
    macs: frozenset[str] = frozenset()
    external: frozenset[str] = frozenset()
    inside: frozenset[str] = frozenset()
    has_pair: bool = False
    is_unknown: bool = False

    def doubt(self, key: str, router: Router | None) -> int:
        """Return 0 if the kernel has the thing, 2 if it has it not, and 1 if the kernel could not be read.

        Who is known to have a thing does not lose it to somebody who may have it.
        """
        return 1 if self.is_unknown else 0 if self.has(key, router) else 2

    def has(self, key: str, router: Router | None) -> bool:
        """Return True if the kernel has what the key of a claim stands for.

        :param router: document of the owner; a bridge is the owner's if one of its ports there is in the kernel
        """
        if self.is_unknown:
            return True
        kind, _, value = key.partition(" ")
        last = value.rpartition(" ")[2]
        if kind == claims.DEVICE:
            return value in self.stems
        if kind == claims.ADDRESS:
            return last in self.external or last in self.inside
        if kind == claims.MAC:
            return last in self.macs
        if kind == claims.PAIR:
            return self.has_pair
        ports = (*router.interfaces, *router.snat_interfaces) if router is not None else ()
        return any(port.id[: names.STEM] in self.stems for port in ports if port.network_id[: names.STEM] == value)


class KernelHoldings:
    """Holdings of routers and of agent gateway ports, as this process found them; each is read once.

    An owner is a router id, or the name of a fip namespace for the agent gateway port in it.
    """

    def __init__(self, kernel: KernelReader) -> None:
        self._kernel = kernel
        self._found = Inventory()
        self._read: dict[str, Holdings] = {}

    def load(self, found: Inventory) -> None:
        """Note which namespaces there are."""
        self._found = Inventory(found.routers, found.slices)  # neither routes nor devices, which no claim is about
        self._read.clear()

    def forget(self, owner: str) -> None:
        """Forget an owner that has left the host."""
        self._found.routers.discard(owner)
        self._read.pop(owner, None)

    def read_again(self, owner: str) -> None:
        """Let the next :meth:`of` read the kernel: it may have changed since this process found it."""
        self._read.pop(owner, None)

    def of(self, owner: str) -> Holdings:
        """Return the holdings of an owner; unknown ones, with a warning, if the kernel cannot be read."""
        known = self._read.get(owner)
        if known is None:
            try:
                known = self._gateway(owner) if owner.startswith(names.FIP) else self._router(owner)
            except KernelError as exc:
                LOG.warning("%s: what it has in the kernel cannot be read, so it keeps what it claims: %s", owner, exc)
                return Holdings(is_unknown=True)
            self._read[owner] = known
        return known

    def routers_without(self, documents: Iterable[str]) -> list[str]:
        """Return the routers in the kernel that have none of these documents."""
        return sorted(self._found.routers - set(documents))

    def keys_of(self, router_id: str) -> Iterator[str]:
        """Yield the keys that a router holds, as far as the kernel tells their network without a document."""
        found = self.of(router_id)
        for stem in sorted(found.stems):
            yield claims.device_key(stem)
        if found.has_pair:
            yield claims.pair_key(router_id)
        for network in sorted(self._found.networks_of(router_id)) if found.has_pair else ():
            for address in sorted(found.external):
                yield claims.address_key(network, address)

    def _router(self, router_id: str) -> Holdings:
        states = [self._observe(names.QROUTER + router_id, _QROUTER), self._observe(names.SNAT + router_id, _SNAT)]
        found = [state for state in states if state is not None]
        addresses = [(one.device, one.ip) for state in found for one in state.addresses]
        outside = [ip for device, ip in addresses if device.startswith(names.GATEWAY)]
        links = [link for state in found for link in state.links]
        return Holdings(
            frozenset(_stems(found)),
            frozenset(link.mac for link in links),
            frozenset((*outside, *floating_ips(self._kernel, router_id))),
            frozenset(ip for device, ip in addresses if not device.startswith(names.GATEWAY)),
            any(link.name.startswith(names.ROUTER_TO_FIP) for link in links),
        )

    def _gateway(self, namespace: str) -> Holdings:
        state = self._observe(namespace, _FIP)
        if state is None:
            return Holdings()
        addresses = frozenset(one.ip for one in state.addresses)
        return Holdings(frozenset(_stems([state])), frozenset(link.mac for link in state.links), addresses)

    def _observe(self, namespace: str, ownership: Ownership) -> NamespaceState | None:
        return self._kernel.interfaces.observe(namespace, ownership, ())


def _stems(states: Iterable[NamespaceState]) -> Iterator[str]:
    """Yield the parts of port ids in the names of devices."""
    for state in states:
        for link in state.links:
            if link.name.startswith(names.PORT_PREFIXES):
                yield link.name.partition("-")[2]
