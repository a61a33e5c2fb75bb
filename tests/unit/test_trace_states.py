"""Ways through the desired states of recorded routers: what a document means for packets, without a kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dvr_agent.trace.addresses import is_in
from dvr_agent.trace.engine import Start, trace, trace_reply
from dvr_agent.trace.packet import TCP, Way, make_packet
from dvr_agent.trace.state_world import world_of_states
from tests.support.desired_state import desired
from tests.support.recorded_documents import load

HOST, OUTSIDE = "compute1", "198.51.100.9"


class Recorded:
    """A recorded router.

    :ivar floating: a floating IP that is built here
    :ivar fixed: the fixed IP behind it
    :param broken: replaces fields of the qrouter's state
    """

    def __init__(self, **broken: Any) -> None:
        view, made = desired(load("b2_dvr_snat_node_with_vms", HOST), HOST)
        qrouter = replace(made.qrouter, **broken)
        self.world = world_of_states([one for one in (qrouter, made.base, made.slice, made.snat) if one is not None])
        self.qrouter, fip = qrouter.name, view.local_fips[0]
        self.floating, self.fixed = str(fip.address), str(fip.fixed_address)

    def inbound(self, dst: str) -> Way:
        """A packet from outside comes into the fip namespace."""
        fip = next(name for name in self.world.devices if name.startswith("fip-"))
        device = next(name for name in self.world.devices[fip] if name.startswith("fg-"))
        return trace(self.world, make_packet(OUTSIDE, dst, TCP, 80), Start(fip, device))

    def outbound(self) -> Way:
        """A packet of the instance comes into qrouter."""
        inside = [
            name
            for name, device in self.world.devices[self.qrouter].items()
            if any(is_in(self.fixed, one) for one in device.addresses)
        ]
        return trace(self.world, make_packet(self.fixed, OUTSIDE, TCP, 80), Start(self.qrouter, inside[0]))


def test_packet_to_a_floating_ip_goes_to_the_segment_of_its_instance() -> None:
    router = Recorded()
    way = router.inbound(router.floating)
    assert (way.outcome, way.packet.head.dst) == ("leaves", router.fixed), way.reason
    assert way.at is not None
    assert (way.at.namespace, way.at.device[:3]) == (router.qrouter, "qr-")


def test_packet_of_its_instance_leaves_with_the_floating_ip() -> None:
    router = Recorded()
    way = router.outbound()
    assert (way.outcome, way.packet.head.src) == ("leaves", router.floating), way.reason
    assert way.at is not None
    assert way.at.namespace.startswith("fip-")
    answer = trace_reply(router.world, way)
    assert (answer.outcome, answer.packet.head.dst) == ("leaves", router.fixed), answer.reason


def test_packet_to_an_address_without_route_is_dropped_in_the_fip_namespace() -> None:
    way = Recorded().inbound("192.0.2.77")
    assert way.outcome == "dropped"
    assert "has no route to 192.0.2.77" in way.reason


@pytest.mark.parametrize(
    ("removed", "outcome"),
    [({"rules": frozenset()}, "dropped"), ({"routes": frozenset()}, "dropped"), ({"tables": ()}, "leaves")],
)
def test_state_without_a_part_of_it_does_not_translate(removed: dict[str, Any], outcome: str) -> None:
    router = Recorded(**removed)
    way = router.outbound()
    assert (way.outcome, way.packet.head.src) == (outcome, router.fixed), way.reason
