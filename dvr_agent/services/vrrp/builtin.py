"""HA routers by dvr-vrrp: one process of the host speaks VRRP for all of them (``[dvr_agent] ha_vrrp = builtin``).

The agent hands a virtual router over, with sockets in its namespace, and again when anything of it changes.  dvr-vrrp
outlives the agent; a dvr-vrrp that starts anew gets all virtual routers at once, before any other work of the agent,
since other hosts wait for its advertisements three intervals only.
"""

from __future__ import annotations

import contextlib
import logging
import select
from collections.abc import Collection
from dataclasses import replace

from dvr_agent import backoff
from dvr_agent.control.connection import AwayError
from dvr_agent.desired import names
from dvr_agent.errors import KernelError, ServiceError
from dvr_agent.kernel.netlink.link import decode_brief, dump_links
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.timerfd import TimerFd
from dvr_agent.services.keepalived.service import KeepalivedService
from dvr_agent.services.vrrp.client import Served, VrrpClient
from dvr_agent.services.vrrp.description import describe
from dvr_agent.services.vrrp.place import VrrpPlace
from dvr_agent.services.vrrp.sockets import opened_sockets
from dvr_agent.state.virtual_router import VirtualRouterState
from dvr_agent.vrrp.protocol import CHECKS_GATEWAYS, VirtualRouter, digest, dumps

LOG = logging.getLogger(__name__)

NAME = "dvr-vrrp"
FIRST_RETRY, LAST_RETRY = 0.05, 2.0
"""Seconds between tries to reach a dvr-vrrp that is away.  One try is a connect(2) on a Unix socket."""


class BuiltinVrrpService:
    """Implements :class:`dvr_agent.services.vrrp.place.VrrpService`.

    :param path: ``[vrrp] control_socket``
    :param keepalived: ends what keepalived served before, without a switch
    """

    name = NAME

    def __init__(self, path: str, keepalived: KeepalivedService) -> None:
        self._client = VrrpClient(path)
        self._keepalived = keepalived
        self._places: dict[str, VrrpPlace] = {}
        self._served: dict[str, Served] = {}
        self._trouble = ""
        self._failures = 0
        self._timer = TimerFd()
        self._poll = select.epoll()
        self._poll.register(self._timer.fileno(), select.EPOLLIN)
        self._connect()

    def plan(self, place: VrrpPlace) -> list[str]:
        """Return the line for a virtual router that dvr-vrrp does not serve, or serves otherwise."""
        if place.state is None:
            return self.plan_remove(place.router_id)
        lines = self._keepalived.plan_remove(place.router_id)
        served = self._served.get(place.router_id)
        if served is None:
            return [*lines, "+ virtual router"] if place.state.may_start else lines
        with contextlib.suppress(ServiceError, KernelError):
            if served.digest != digest(dumps(self._description(place))):
                lines.append("~ virtual router")
        return lines

    def apply(self, place: VrrpPlace) -> None:
        """Have dvr-vrrp serve the virtual router."""
        router_id, state = place.router_id, place.state
        if state is None:
            self.remove(router_id)
            return
        if router_id not in self._served and not state.may_start:
            return  # there would be two masters: advertisements do not get through yet
        # Its addresses stay, and dvr-vrrp goes on as master where it finds them.
        self._keepalived.leave(VrrpPlace(router_id, place.namespace))
        self._places[router_id] = place
        if not self._client.connected:
            raise ServiceError(f"no VRRP: {self._trouble}")
        try:
            self._serve(place)
        except AwayError as exc:
            self._lost(exc)
            raise ServiceError(f"no VRRP: {exc}") from exc
        except (ServiceError, KernelError) as exc:
            raise ServiceError(f"no VRRP: {exc}") from exc
        if self._servable(state) != state:
            raise ServiceError(
                f"{self._client.where} is of an earlier version: gateways are not checked "
                "(ha_vrrp_health_check_interval); expected systemctl restart dvr-vrrp, which is no fail-over"
            )

    def leave(self, place: VrrpPlace) -> bool:
        """Have dvr-vrrp forget the virtual router of a router that is none of VRRP's any more."""
        had_keepalived = self._keepalived.leave(place)
        is_served = place.router_id in self._served
        self._end(place.router_id, keep=bool(place.namespace))
        return had_keepalived or is_served

    def plan_remove(self, router_id: str) -> list[str]:
        """Return the line for a virtual router that dvr-vrrp serves."""
        lines = self._keepalived.plan_remove(router_id)
        return [*lines, "- virtual router"] if router_id in self._served else lines

    def remove(self, router_id: str) -> None:
        """End the virtual router, which another host may take over at once."""
        self._keepalived.remove(router_id)
        self._end(router_id, keep=False)

    def routers(self) -> Collection[str]:
        """Return ids of routers that dvr-vrrp, or a keepalived, serves."""
        ours = {one for one in self._served if names.parse_namespace(names.QROUTER + one)}
        return ours | set(self._keepalived.routers())

    def fileno(self) -> int:
        """Return a descriptor that is readable when dvr-vrrp has gone, or is to be looked for."""
        return self._poll.fileno()

    def changed(self) -> Collection[str]:
        """Handle events; returns ids of routers that a new dvr-vrrp could not be given."""
        ready = {fd for fd, _ in self._poll.poll(0)}
        if self._client.connected and self._client.fileno() in ready:
            self._lost(self._client.gone())
        if self._timer.fileno() in ready and not self._client.connected:
            return self._connect()
        return ()

    def check(self) -> Collection[str]:
        """Return ids of routers that dvr-vrrp should serve and does not."""
        if self._client.connected:
            try:
                self._served = self._client.served()
            except ServiceError as exc:
                self._lost(exc)
        return [router_id for router_id in self._places if router_id not in self._served]

    def status(self) -> dict[str, object]:
        """Return how many virtual routers dvr-vrrp serves, how many have a fault, its process id, why there is none."""
        faults = sum(one.state == "fault" for one in self._served.values())
        return {
            "routers": len(self._served),
            "faults": faults,
            "pid": self._client.pid or None,
            "trouble": self._trouble,
        }

    def close(self) -> None:
        """Disconnect; dvr-vrrp goes on."""
        self._client.close()
        self._keepalived.close()
        self._poll.close()
        self._timer.close()

    def _connect(self) -> list[str]:
        """Connect, and hand over all virtual routers that are not served; returns those that could not be."""
        try:
            self._client.connect()
            self._served = self._client.served()
        except ServiceError as exc:
            self._lost(exc)
            return []
        self._poll.register(self._client.fileno(), select.EPOLLIN)
        self._failures, self._trouble = 0, ""
        LOG.info("VRRP is spoken by dvr-vrrp (process %d)", self._client.pid)
        failed = []
        for router_id, place in self._places.items():
            if router_id in self._served:
                continue
            try:
                self._serve(place)
            except AwayError as exc:
                self._lost(exc)
                return []
            except (ServiceError, KernelError) as exc:
                LOG.warning("router %s: no VRRP: %s", router_id, exc)
                failed.append(router_id)
        return failed

    def _serve(self, place: VrrpPlace) -> None:
        """Hand a virtual router over, unless it is served as it should be."""
        state = place.state
        if state is None:
            return
        router = self._description(place)
        data = dumps(router)
        name, served = digest(data), self._served.get(place.router_id)
        families = {int(one.family) for one in router.gateways}
        with opened_sockets(place.namespace, state.device, state.source, families) as sockets:
            if served is not None and (served.namespace, served.digest) == (sockets.cookie, name):
                return
            self._client.serve(place.router_id, sockets, data)
            self._served[place.router_id] = Served(sockets.cookie, name, "")

    def _servable(self, state: VirtualRouterState) -> VirtualRouterState:
        """Return the virtual router without gateways if this dvr-vrrp does not check them."""
        return state if not state.gateways or CHECKS_GATEWAYS in self._client.features else replace(state, gateways=())

    def _description(self, place: VrrpPlace) -> VirtualRouter:
        """Describe a virtual router by the devices of its namespace."""
        state = place.state
        if state is None:
            raise ServiceError(f"router {place.router_id} takes no part in VRRP")
        with NetlinkSocket.open(place.namespace, None) as sock:
            links = {link.name: link for link in map(decode_brief, sock.dump(dump_links()))}
        try:
            indexes = {name: link.ifindex for name, link in links.items()}
            macs = {name: bytes.fromhex(link.mac.replace(":", "")) for name, link in links.items() if link.mac}
            return describe(self._servable(state), indexes, macs)
        except KeyError as exc:
            raise ServiceError(f"{place.namespace} has no device {exc.args[0]}") from exc

    def _end(self, router_id: str, keep: bool) -> None:
        self._places.pop(router_id, None)
        if router_id not in self._served:
            return
        try:
            if keep:
                self._client.forget(router_id)
            else:
                self._client.stop(router_id)
        except AwayError as exc:
            self._lost(exc)
        self._served.pop(router_id, None)

    def _lost(self, why: ServiceError) -> None:
        """Note that dvr-vrrp is away, and retry soon, then less often."""
        self._client.close()
        self._served = {}
        self._failures += 1
        self._timer.set(backoff.delay(self._failures, FIRST_RETRY, LAST_RETRY))
        if not self._trouble:
            LOG.warning("addresses of HA routers stay as they are, and other hosts may take over: %s", why)
        self._trouble = str(why)
