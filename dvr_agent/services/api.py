"""The interface of one service of a router, between ``reconcile`` and radvd or the metadata proxy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from dvr_agent.model.router import Router


class RouterService(Protocol):
    """One kind of service, for all routers of this host.

    All methods but :meth:`fileno` and :meth:`status` block and are called from one thread, the one that works on
    routers.  Like the rest of the agent it reads before it writes: what runs already at a start is adopted.

    :ivar name: what it is called in plans, logs and the status
    """

    name: str

    def plan(self, router: Router) -> list[str]:
        """Return lines, as in :class:`dvr_agent.state.diff.Change`, for what :meth:`apply` would do, if anything.

        The router's namespace need not exist yet.  Writes nothing.
        """

    def apply(self, router: Router) -> None:
        """Serve the router.  Its namespace and all in it are in place.

        :raises ServiceError: it is not served; the call may be repeated
        """

    def plan_remove(self, router_id: str) -> list[str]:
        """Return lines for what :meth:`remove` would do."""

    def remove(self, router_id: str) -> None:
        """Remove the service of a router: nothing of it keeps the namespace alive, which goes next.

        :raises ServiceError: something could not be ended or removed; the call may be repeated
        """

    def routers(self) -> Collection[str]:
        """Return ids of all routers that this service has anything for, known to this process or not."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when :meth:`changed` has something to do; it stays the same."""

    def changed(self) -> Collection[str]:
        """Note what happened; returns ids of routers to reconcile again.

        :raises ServiceFatalError: the agent must end (``check_child_processes_action = exit``)
        """

    def check(self) -> Collection[str]:
        """Check without an event, every ``check_child_processes_interval``; returns as :meth:`changed`."""

    def status(self) -> dict[str, object]:
        """Return JSON-ready values for the admin socket; called from any thread, does not block."""

    def close(self) -> None:
        """The agent stops: what serves goes on."""
