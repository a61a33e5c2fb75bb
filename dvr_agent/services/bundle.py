"""All services of this host as one object: ``reconcile`` calls it, the daemon waits for its descriptor."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from dvr_agent.errors import ServiceError, ServiceFatalError, about
from dvr_agent.model.router import Router
from dvr_agent.repeats import Repeats
from dvr_agent.services.api import RouterService, Service
from dvr_agent.services.vrrp.place import VrrpPlace, VrrpService

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """One change of a service, a line of a plan.

    :ivar service: name of the service
    :ivar text: sign and object, such as ``+ radvd``
    """

    service: str
    router_id: str
    text: str


class Services:
    """Calls all services in turn (methods of ``RouterService``); a service that fails does not stop the others.

    :param vrrp: services that speak VRRP for HA routers or follow it; who speaks comes first
    """

    def __init__(self, services: Sequence[RouterService] = (), *vrrp: VrrpService) -> None:
        self._of_routers, self._vrrp = tuple(services), vrrp
        self._services: tuple[Service, ...] = (*services, *vrrp)
        self._repeats = Repeats()
        self._poll = select.epoll()
        for service in self._services:
            self._poll.register(service.fileno(), select.EPOLLIN)

    def plan(self, router: Router, place: VrrpPlace | None = None) -> tuple[ServiceChange, ...]:
        """Return the changes that :meth:`apply` would make.

        :param place: of the router's virtual router
        """
        asked = [(service.name, partial(service.plan, router)) for service in self._of_routers]
        if place is not None:
            asked += [(service.name, partial(service.plan, place)) for service in self._starting]
        return self._lines(router.id, asked)

    def plan_remove(self, router_id: str) -> tuple[ServiceChange, ...]:
        """Return the changes that :meth:`remove` would make."""
        asked = [(service.name, partial(service.plan_remove, router_id)) for service in self._services]
        return self._lines(router_id, asked)

    def apply(self, router: Router, place: VrrpPlace | None = None) -> tuple[str, ...]:
        """Serve the router; returns the errors of services that do not serve it.

        :param place: of the router's virtual router
        """
        calls = [(service.name, partial(service.apply, router)) for service in self._of_routers]
        if place is not None:
            calls += [(service.name, partial(service.apply, place)) for service in self._starting]
        return tuple(str(error) for error in _each(calls))

    def leave_vrrp(self, place: VrrpPlace) -> bool:
        """End VRRP of a router that is none of VRRP's any more, before its namespaces change.

        :returns: True if it was ended, so that the namespace has to be read again
        :raises ServiceError: a process does not end
        """
        left = [service.leave(place) for service in self._vrrp if place.state is None]
        return any(left)

    def remove(self, router_id: str) -> None:
        """End the services of a router.

        :raises ServiceError: the first error; all services were tried
        """
        for error in _each([(service.name, partial(service.remove, router_id)) for service in self._services]):
            raise error

    def routers(self) -> set[str]:
        """Return ids of all routers with a process, socket or file of a service."""
        return {router_id for service in self._services for router_id in service.routers()}

    def fileno(self) -> int:
        """Return a descriptor (an epoll) that is readable when any service's is."""
        return self._poll.fileno()

    def changed(self) -> set[str]:
        """Handle events of the services; returns ids of routers to reconcile again.

        :raises ServiceFatalError: the agent must end
        """
        ready = {fd for fd, _ in self._poll.poll(0)}
        return self._router_ids([service.changed for service in self._services if service.fileno() in ready])

    def check(self) -> set[str]:
        """Check all services; returns ids of routers to reconcile again.

        :raises ServiceFatalError: the agent must end
        """
        return self._router_ids([service.check for service in self._services])

    def status(self) -> dict[str, object]:
        """Return the status of each service by its name."""
        return {service.name: service.status() for service in self._services}

    @property
    def troubles(self) -> list[str]:
        """Faults of services that concern the whole host, not one router."""
        statuses = ((service.name, service.status().get("trouble")) for service in self._services)
        return [about(name, trouble) for name, trouble in statuses if trouble]

    def close(self) -> None:
        """Close our descriptors; the services go on."""
        for service in self._services:
            service.close()
        self._poll.close()

    @property
    def _starting(self) -> tuple[VrrpService, ...]:
        """Services of HA routers in the order in which they begin: who follows VRRP is there when it changes."""
        return self._vrrp[::-1]

    @staticmethod
    def _lines(router_id: str, asked: Sequence[tuple[str, Callable[[], Collection[str]]]]) -> tuple[ServiceChange, ...]:
        found = []
        for name, ask in asked:
            try:
                found += [ServiceChange(name, router_id, line) for line in ask()]
            except ServiceError as exc:  # apply() will raise it again
                LOG.debug("%s: %s", name, exc)
        return tuple(found)

    def _router_ids(self, checks: Sequence[Callable[[], Collection[str]]]) -> set[str]:
        found: set[str] = set()
        for check in checks:
            reason = ""
            try:
                found.update(check())
            except ServiceFatalError:
                raise
            except ServiceError as exc:
                reason = str(exc)
            if reason and self._repeats.is_due(reason):
                LOG.warning("%s", reason)
        return found


def _each(calls: Sequence[tuple[str, Callable[[], None]]]) -> list[ServiceError]:
    errors = []
    for name, call in calls:
        try:
            call()
        except ServiceError as exc:
            LOG.debug("%s: %s", name, exc)
            errors.append(exc)
    return errors
