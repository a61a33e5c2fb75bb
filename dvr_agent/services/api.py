"""The interface between ``reconcile`` and a service of routers: radvd, or the metadata proxy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from dvr_agent.model.router import Router


class Service(Protocol):
    """One kind of service, for all routers of this host.

    All methods but :meth:`fileno` and :meth:`status` block and are called from one thread, the one that works on
    routers.  Like the rest of the agent it reads before it writes: what runs already at a start is adopted.

    :ivar name: name of the service in plans, logs and the status
    """

    name: str

    def plan_remove(self, router_id: str) -> list[str]:
        """Return the changes that :meth:`remove` would make, as lines."""

    def remove(self, router_id: str) -> None:
        """End the service of a router: no process or socket may keep the namespace alive, which is removed next.

        :raises ServiceError: a process or file could not be removed; the call may be repeated
        """

    def routers(self) -> Collection[str]:
        """Return ids of all routers with a process, socket or file of this service, whoever made it."""

    def fileno(self) -> int:
        """Return a descriptor, always the same, that is readable when :meth:`changed` must be called."""

    def changed(self) -> Collection[str]:
        """Handle events of the descriptor; returns ids of routers to reconcile again.

        :raises ServiceFatalError: the agent must end (``check_child_processes_action = exit``)
        """

    def check(self) -> Collection[str]:
        """Check without an event, every ``check_child_processes_interval``.

        :returns: ids of routers to reconcile again
        """

    def status(self) -> dict[str, object]:
        """Return JSON-ready values for the admin socket; called from any thread, does not block."""

    def close(self) -> None:
        """Close our descriptors at the end of the agent; the services go on."""


class RouterService(Service, Protocol):
    """A service that acts on a router's document: radvd, or the metadata proxy."""

    def plan(self, router: Router) -> list[str]:
        """Return the changes that :meth:`apply` would make, as lines like ``Change.text``; empty if there are none.

        The router's namespace need not exist yet.  Writes nothing.
        """

    def apply(self, router: Router) -> None:
        """Serve the router, whose namespaces are in sync.

        :raises ServiceError: the router is not served; the call may be repeated
        """
