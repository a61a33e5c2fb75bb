"""Reads what ``dvrctl show`` prints: our namespaces in the kernel, and the configured documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from oslo_config import cfg

from dvr_agent.cli.inputs import Documents, read_source
from dvr_agent.cli.output import complain
from dvr_agent.cli.subjects import KnownFloatingIp, Subject, find_router, find_subject
from dvr_agent.config import host_settings, make_settings
from dvr_agent.desired import central, names
from dvr_agent.desired.common import QROUTER_OWNERSHIP
from dvr_agent.desired.host_allocations import new_fip_pair
from dvr_agent.desired.host_settings import HostSettings
from dvr_agent.desired.ndp_proxy import EVERYTHING
from dvr_agent.errors import DvrError, NamespaceGoneError, SourceError
from dvr_agent.kernel.filter_choice import choose
from dvr_agent.kernel.linux import open_kernel
from dvr_agent.kernel.nftables.limit_probe import choose_layout
from dvr_agent.model.router import NEEDS_BINDING_HOST, FloatingIp, Router
from dvr_agent.reconcile.factory import open_attach
from dvr_agent.reconcile.fip_slices import observe_slice
from dvr_agent.reconcile.inventory import Inventory, take_inventory
from dvr_agent.reconcile.reader import KernelReader
from dvr_agent.state.filter import Family, Table, TableKey
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.ownership import Ownership
from dvr_agent.state.translations import dnat_pairs, rules_of
from dvr_agent.state.wiring import Wiring

_DEVICES = {
    names.QROUTER: (names.INTERNAL, names.ROUTER_TO_FIP, names.GATEWAY),
    names.SNAT: (names.CSNAT, names.GATEWAY),
    names.FIP: (names.AGENT_GATEWAY, names.FIP_TO_ROUTER),
}
_FAMILIES: tuple[Family, ...] = (4, 6)
_TABLES: tuple[TableKey, ...] = tuple((f, table) for f in _FAMILIES for table in ("raw", "mangle", "nat", "filter"))
"""Every table that may hold chains of ours."""


class FoundNamespace(NamedTuple):
    """A namespace of ours: its name, prefix (``qrouter-``, ``fip-`` or ``snat-``) and the id behind it."""

    name: str
    prefix: str
    uuid: str


@dataclass
class Host:
    """Kernel and documents of this host; each is read at its first use."""

    conf: cfg.ConfigOpts

    @cached_property
    def kernel(self) -> KernelReader:
        """The kernel of this host, which can only be read."""
        choose(self.conf.dvr_agent.packet_filter)
        choose_layout()
        return open_kernel()

    @cached_property
    def host_name(self) -> str:
        """Name of this host in Neutron."""
        return self.settings.host

    @cached_property
    def settings(self) -> HostSettings:
        """The settings that shape the data plane."""
        return host_settings(self.conf)

    @cached_property
    def documents(self) -> Documents:
        """The configured documents; none, with a warning on stderr, if they cannot be listed."""
        try:
            found = read_source(self.conf)
        except SourceError as exc:
            complain(f"warning: {exc}")
            return Documents((), (), frozenset(), complete=False)
        for bad in found.bad:
            complain(f"warning: {bad}")
        return found

    @cached_property
    def routers(self) -> dict[str, tuple[str, Router]]:
        """Router id → (name of its document, router)."""
        return {router.id: (name, router) for name, router in self.documents.good}

    @cached_property
    def wiring(self) -> Wiring:
        """The layer 2 sides of our ports; none, with a warning on stderr, if they cannot be read."""
        try:
            return open_attach(make_settings(self.conf)).wiring()
        except DvrError as exc:
            complain(f"warning: {exc}")
            return Wiring()

    @cached_property
    def router_names(self) -> dict[str, str]:
        """Id → name of each router with a document or a namespace here; the name is empty where it is not known."""
        ids = self.routers.keys() | self.inventory.routers | self.documents.known
        return {one: self.routers[one][1].name if one in self.routers else "" for one in sorted(ids)}

    def find_router(self, text: str) -> str:
        """Return the id of the router that the operator names (:func:`~dvr_agent.cli.subjects.find_router`).

        :raises NotFoundError: no router is meant, or several are
        """
        return find_router(text, self.router_names)

    def find_subject(self, text: str) -> Subject:
        """Return the router or floating IP that the operator names (:func:`~dvr_agent.cli.subjects.find_subject`).

        :raises NotFoundError: nothing is meant, or several things are
        """
        return find_subject(text, self.router_names, self.floating_ips())

    def floating_ips(self) -> list[KnownFloatingIp]:
        """Return the floating IPs of the documents, and those that the kernel translates without a document."""
        found = {}
        for (router_id, address), places in self.translations().items():
            found[router_id, address] = KnownFloatingIp(router_id, address, places[0][0])
        for router_id, (_, router) in self.routers.items():
            for forwarding in router.features.forwarding_ips:
                address = str(forwarding.address)
                known = found.get((router_id, address))
                found[router_id, address] = KnownFloatingIp(
                    router_id, address, known.fixed if known else "", forwarding.id
                )
            for fip in (*router.omitted_floating_ips, *router.floating_ips):
                one = KnownFloatingIp(router_id, str(fip.address), str(fip.fixed_address), fip.id)
                found[router_id, one.address] = one
        return list(found.values())

    @cached_property
    def inventory(self) -> Inventory:
        """Our namespaces, slices and gateway devices."""
        return take_inventory(self.kernel)

    @cached_property
    def namespaces(self) -> list[FoundNamespace]:
        """Namespaces with names like ours, sorted."""
        parsed = [(name, names.parse_namespace(name)) for name in self.kernel.namespaces.list()]
        return [FoundNamespace(name, *parts) for name, parts in parsed if parts is not None]

    def namespaces_of(self, router_id: str) -> list[str]:
        """Return the names of the namespaces that hold objects of a router."""
        own = [found.name for found in self.namespaces if found.prefix != names.FIP and found.uuid == router_id]
        return own + [names.FIP + network for network in sorted(self.inventory.networks_of(router_id))]

    def devices(self, found: FoundNamespace) -> list[str]:
        """Return the names of our devices in a namespace."""
        state = self.kernel.interfaces.observe(found.name, Ownership(prefixes=_DEVICES[found.prefix]), ())
        return sorted(link.name for link in state.links) if state else []

    def is_stale(self, found: FoundNamespace) -> bool:
        """Return True if the namespace belongs to no document; False if a bad document may be of its router."""
        if not self.documents.complete:
            return False
        if found.prefix == names.FIP:
            stems = {names.router_stem(router_id) for router_id in self.documents.known}
            return not stems & self.inventory.slices.get(found.uuid, {}).keys()
        return found.uuid not in self.documents.known

    def contents(self, router_id: str) -> Iterator[tuple[str, NamespaceState]]:
        """Yield (namespace, objects of the router in it)."""
        stem = names.router_stem(router_id)
        for name in self.namespaces_of(router_id):
            if name.startswith(names.FIP):
                pair = self.inventory.slices[name.removeprefix(names.FIP)][stem]
                known = new_fip_pair(router_id, pair) if pair else None
                state = observe_slice(self.kernel.interfaces, name, router_id, known)
            else:
                ownership = QROUTER_OWNERSHIP if name.startswith(names.QROUTER) else central.OWNERSHIP
                state = self.kernel.interfaces.observe(name, replace(ownership, proxied=EVERYTHING), ())
            if state is not None:
                yield name, state

    def tables(self, namespace: str) -> tuple[Table, ...]:
        """Return the tables of a namespace that have chains of ours, with these chains only."""
        return tuple(table for table in self.kernel.packet_filter.observe(namespace, _TABLES) if table.chains)

    def translations(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """Return (router id, floating IP) → (fixed IP, namespace) of each DNAT rule of ours."""
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for namespace in self.namespaces:
            if namespace.prefix == names.FIP:
                continue
            try:
                tables = self.kernel.packet_filter.observe(namespace.name, ((4, "nat"),))
            except NamespaceGoneError:
                continue
            for floating_ip, fixed_ip in dnat_pairs(rules_of(tables)):
                entries = found.setdefault((namespace.uuid, floating_ip), [])
                if (fixed_ip, namespace.name) not in entries:
                    entries.append((fixed_ip, namespace.name))
        return found

    def place(self, fip: FloatingIp, router: Router) -> str:
        """Return the host that a floating IP belongs to, as text for a table."""
        if fip.host == NEEDS_BINDING_HOST:
            return "central (port is bound nowhere)"
        if fip.is_central or not router.distributed:
            return "central"
        if self.host_name in (fip.host, fip.dest_host):
            return "here" if fip.host == self.host_name else "here (port is moving here)"
        return f"host {fip.host}" if fip.host else "no host"
