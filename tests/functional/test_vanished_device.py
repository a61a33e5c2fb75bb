"""A device that is removed after the links were read has no objects, and reading them is no error."""

from __future__ import annotations

import pytest
from pyroute2.netlink import NETLINK_ROUTE

from dvr_agent.kernel.kinds import HANDLERS
from dvr_agent.kernel.netlink.handler import AnyHandler, SliceReader
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.state.ownership import Ownership
from tests.support import lab

GONE = {4711: "qr-gone"}
SLICE = Ownership(devices=frozenset(GONE.values()))


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.kind.name)
def test_objects_on_a_device_that_has_gone_are_none(host: lab.Host, handler: AnyHandler) -> None:
    lab.run("ip", "netns", "add", "slice")
    with NetlinkSocket.open("slice", None, NETLINK_ROUTE) as sock:
        assert not list(handler.read(SliceReader(sock, SLICE, dict(GONE), dict(GONE))))
