"""Facade over reading and writing the objects in real namespaces.

Implements :class:`dvr_agent.kernel.api.InterfacePlumber`; reads by :mod:`dvr_agent.kernel.observe` and
writes by :mod:`dvr_agent.kernel.apply`.  Keeps nothing between calls, no socket and no namespace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dvr_agent.kernel.api import NamespaceManager, WriteCounters
from dvr_agent.kernel.apply import apply
from dvr_agent.kernel.observe import observe, observe_limit_drops, observe_limits
from dvr_agent.state.diff import Change
from dvr_agent.state.limit import Drops, Limit
from dvr_agent.state.missing import Missing
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.neighbour import Neighbour
from dvr_agent.state.ownership import Ownership


class RealPlumber:
    """Reads and writes the objects in real namespaces."""

    def __init__(self, counters: WriteCounters, namespaces: NamespaceManager) -> None:
        self._counters = counters
        self._namespaces = namespaces

    def observe(
        self,
        namespace: str,
        ownership: Ownership,
        sysctls: Iterable[str],
        neighbours: Collection[Neighbour] | None = None,
    ) -> NamespaceState | None:
        """Read the objects that ``ownership`` claims, and those parameters named in ``sysctls`` that exist.

        Never ours, on any device: link-local IPv6 addresses, routes that are neither protocol static nor boot or have
        another type, metric or TOS than the default, rules with another selector than source and input device,
        neighbours that are not permanent.  Nor are neighbours of a family of which none of the devices has an address.

        :param neighbours: look only whether these are as they should be; see the interface
        :returns: None if there is no such namespace; ``tables`` stays empty
        :raises KernelError: the kernel could not be read
        """
        return observe(namespace, ownership, sysctls, self._counters, neighbours)

    def limits(self, namespace: str, ownership: Ownership) -> frozenset[Limit]:
        """Read bandwidth limits only.

        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: they could not be read
        """
        return observe_limits(namespace, ownership)

    def limit_drops(self, namespace: str) -> tuple[Drops, ...]:
        """Read what bandwidth limits have dropped.

        :raises NamespaceGoneError: there is no such namespace
        :raises KernelError: it could not be read
        """
        return observe_limit_drops(namespace)

    def apply(self, namespace: str, changes: Sequence[Change], missing: Missing | None = None) -> None:
        """Make the changes in the given order; see :meth:`dvr_agent.kernel.api.InterfacePlumber.apply`.

        :raises NamespaceGoneError: the namespace, or that of a veth's peer, does not exist
        :raises KernelError: the kernel could not be asked; without ``missing`` also the first object that it refused
        :raises ValueError: ADD of a link that is a port, or of unknown origin
        """
        if not changes:
            return
        refused = Missing() if missing is None else missing
        apply(namespace, changes, self._counters, refused)
        if missing is None and refused.errors:
            raise refused.errors[0]
