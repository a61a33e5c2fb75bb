"""What is sent to tc for changes of limits, on a device whose qdisc and filters are made up here."""

from __future__ import annotations

import struct
from typing import cast

import pytest
from pyroute2.netlink.rtnl import RTM_DELQDISC, RTM_DELTFILTER, RTM_GETQDISC, RTM_NEWQDISC, RTM_NEWTFILTER

from dvr_agent.errors import KernelError
from dvr_agent.kernel import tc_limits
from dvr_agent.kernel.netlink import police
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import attribute
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.limit import Limit, make_limit

INDEX, DEVICE = 7, "qg-1"
LEAVING = make_limit(DEVICE, "leaving", "203.0.113.5", 1000, 800)
ENTERING = LEAVING._replace(direction="entering")
OTHER = LEAVING._replace(address="203.0.113.6")
HEAD = struct.Struct("=BxxxiIII")
BY_NEUTRON = (
    HEAD.pack(0, INDEX, 0x80000800, police.INGRESS, police.info_of(1)) + police.put_filter(ENTERING, 0).body[20:]
)


class Device:
    """One device as tc sees it, in place of a socket.

    :ivar kind: of its qdisc ``clsact`` or ``ingress``; empty: neither
    :ivar filters: hook → handle → message
    :ivar sent: what was asked for, in its order
    """

    def __init__(self, kind: str = "") -> None:
        self.kind, self.sent = kind, list[str]()
        self.filters: dict[int, dict[int, bytes]] = {}

    @property
    def sock(self) -> NetlinkSocket:
        return cast(NetlinkSocket, self)

    def index_of(self, _device: str) -> int:
        return INDEX

    def dump(self, request: Request) -> list[bytes]:
        if request.kind == RTM_GETQDISC:
            root = HEAD.pack(0, INDEX, 0x80010000, 0xFFFFFFFF, 0) + attribute(1, b"htb\0")
            ours = HEAD.pack(0, INDEX, police.INGRESS, police.CLSACT, 0) + attribute(1, self.kind.encode() + b"\0")
            return [root, ours] if self.kind else [root]
        _family, _index, _handle, parent, info = HEAD.unpack_from(request.body)
        found = self.filters.get(parent, {}).values()
        return [one for one in found if not info or HEAD.unpack_from(one)[4] == info]

    def batch(self, requests: list[Request]) -> None:
        for request in requests:
            self.sent.append(request.text)
            if not self._do(request):
                raise KernelError("", request.text, 17)

    def _do(self, request: Request) -> bool:
        """What the kernel does; returns False where it refuses."""
        _family, index, handle, parent, _info = HEAD.unpack_from(request.body)
        there = self.filters.setdefault(parent, {})
        if request.kind == RTM_NEWQDISC:
            if self.kind:
                return False
            self.kind = "clsact"
        elif request.kind == RTM_DELQDISC:
            self.kind = ""
            self.filters.clear()
        elif request.kind == RTM_NEWTFILTER:
            assert self.kind == "clsact"
            handle = handle or 0x80000800 + len(there)
            there[handle] = HEAD.pack(0, index, handle, parent, _info) + request.body[20:]
        elif request.kind == RTM_DELTFILTER:
            for one in [handle] if handle else [one for one in there if HEAD.unpack_from(there[one])[4] == _info]:
                there.pop(one)
        return True

    def write(self, action: Action, *limits: Limit) -> list[str]:
        """Make changes; returns what was sent."""
        self.sent.clear()
        tc_limits.write_limits(self.sock, [Change(action, one, one) for one in limits])
        return self.sent

    def read(self) -> set[Limit]:
        return set(tc_limits.read_limits(self.sock, {INDEX: DEVICE}))


def add_other(device: Device) -> None:
    """A filter of another program."""
    body = HEAD.pack(0, INDEX, 1, police.HOOKS["leaving"], police.info_of(300)) + attribute(1, b"matchall\0")
    device.filters.setdefault(police.HOOKS["leaving"], {})[1] = body


def test_the_qdisc_comes_first_and_goes_with_the_last_limit() -> None:
    device = Device()
    assert device.write(Action.ADD, LEAVING, ENTERING)[0] == "tc qdisc dev qg-1 clsact"
    assert device.read() == {LEAVING, ENTERING}
    assert device.write(Action.REMOVE, ENTERING) == ["tc filters dev qg-1 prio 211"]
    assert device.write(Action.ADD, OTHER) == [police.put_filter(OTHER, 0).text]
    assert device.write(Action.REMOVE, OTHER) == [police.delete_filter(OTHER, 0, 1).text]
    assert device.read() == {LEAVING}
    assert device.write(Action.REMOVE, LEAVING) == ["tc qdisc dev qg-1 clsact"]
    assert (device.read(), device.kind) == (set(), "")
    assert device.write(Action.REMOVE, LEAVING) == []


def test_a_change_replaces_a_filter_in_its_place() -> None:
    device = Device()
    device.write(Action.ADD, LEAVING, OTHER)
    handles = list(device.filters[police.HOOKS["leaving"]])
    faster = LEAVING._replace(rate=250_000, burst=250_000)
    assert device.write(Action.CHANGE, faster) == [police.put_filter(faster, 0).text]
    assert device.read() == {faster, OTHER}
    assert list(device.filters[police.HOOKS["leaving"]]) == handles


def test_a_second_filter_for_an_address_goes_with_the_next_change() -> None:
    device = Device()
    device.write(Action.ADD, LEAVING)
    there = device.filters[police.HOOKS["leaving"]]
    there[0x80000801] = (
        HEAD.pack(0, INDEX, 0x80000801, police.HOOKS["leaving"], police.info_of(210)) + there[0x80000800][20:]
    )
    device.write(Action.CHANGE, LEAVING)
    assert list(there) == [0x80000800]


def test_the_ingress_qdisc_of_neutron_l3_agent_is_exchanged() -> None:
    device = Device("ingress")
    classified = BY_NEUTRON[20:28] + attribute(2, BY_NEUTRON[32:] + attribute(1, (1).to_bytes(4, "little")))
    device.filters[police.INGRESS] = {0x80000800: BY_NEUTRON[:20] + classified}
    sent = device.write(Action.ADD, LEAVING)
    assert sent[:2] == ["tc qdisc dev qg-1 ingress", "tc qdisc dev qg-1 clsact"]
    assert device.read() == {LEAVING}


def test_an_ingress_qdisc_with_filters_of_others_stays() -> None:
    device = Device("ingress")
    device.filters[police.INGRESS] = {0x80000800: BY_NEUTRON}  # it leads to no class, as those of neutron-l3-agent do
    with pytest.raises(KernelError, match="clsact in place of ingress, which has filters of another program"):
        device.write(Action.ADD, LEAVING)
    assert len(device.sent) == 1, "no filter was sent: it would be at the one hook of ingress"
    assert (device.kind, device.read()) == ("ingress", set())


def test_filters_of_others_keep_the_qdisc() -> None:
    device = Device("clsact")
    add_other(device)
    assert len(device.write(Action.ADD, LEAVING, ENTERING)) == 2
    assert device.write(Action.REMOVE, LEAVING, ENTERING) == [
        "tc filters dev qg-1 prio 210", "tc filters dev qg-1 prio 211"
    ]  # fmt: skip
    assert (device.kind, list(device.filters[police.HOOKS["leaving"]])) == ("clsact", [1])
