"""Describes a virtual router to dvr-vrrp: addresses and routes as the netlink messages that add them."""

from __future__ import annotations

from collections.abc import Mapping

from dvr_agent.kernel.announce import AnnouncingDevice
from dvr_agent.kernel.api import GratuitousArp
from dvr_agent.kernel.netlink.address import add_address
from dvr_agent.kernel.netlink.message import HEADER, Request
from dvr_agent.kernel.netlink.route import add_route
from dvr_agent.state.route import on_link_first
from dvr_agent.state.virtual_router import VirtualRouterState
from dvr_agent.vrrp.protocol import Frame, Gateway, VirtualRouter


def describe(state: VirtualRouterState, indexes: Mapping[str, int], macs: Mapping[str, bytes]) -> VirtualRouter:
    """Describe a virtual router.

    :param indexes: of the devices that it names
    :param macs: their MAC addresses
    """
    addresses = (*state.addresses, state.primary)
    announced = [one for one in addresses if one.device in macs]
    return VirtualRouter(
        vr_id=state.vr_id,
        priority=state.priority,
        interval=state.interval,
        interface=indexes[state.device],
        source=state.source,
        address=state.primary.ip,
        password=state.password,
        primary=_message(add_address(state.primary, indexes[state.primary.device])),
        addresses=tuple(_message(add_address(one, indexes[one.device])) for one in state.addresses),
        routes=tuple(_message(add_route(one, indexes)) for one in on_link_first(state.routes)),
        frames=tuple(
            Frame(one.device, protocol, data)
            for one in announced
            for protocol, data in AnnouncingDevice(macs[one.device], GratuitousArp.REQUEST).frames(one.ip)
        ),
        gateways=tuple(Gateway(str(one.gateway), indexes[one.device]) for one in state.gateways),
        check_interval=state.check_interval,
    )


def _message(request: Request) -> bytes:
    return HEADER.pack(HEADER.size + len(request.body), request.kind, request.flags, 0, 0) + request.body
