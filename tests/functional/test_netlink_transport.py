"""The netlink transport against the real kernel: refusals carry the kernel's text, transactions are all or nothing."""

from __future__ import annotations

import errno
import logging

import pytest
from pyroute2.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, NLM_F_DUMP

from dvr_agent.errors import KernelError, NamespaceGoneError
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.conntrack import message as conntrack
from dvr_agent.kernel.netlink.address import add_address
from dvr_agent.kernel.netlink.framing import BATCH_MESSAGES
from dvr_agent.kernel.netlink.handler import NO_DEVICE
from dvr_agent.kernel.netlink.link import LOOPBACK, add_bridge, get_link, index_and_name, set_link
from dvr_agent.kernel.netlink.message import Request
from dvr_agent.kernel.netlink.schema import attribute
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables import message as nftables
from dvr_agent.state.address import Address
from tests.support import lab

NS = "transport"
PREFIX = bytes(4)


@pytest.fixture
def namespace(host: lab.Host) -> str:
    lab.run("ip", "netns", "add", NS)
    return NS


def test_a_refused_dump_names_the_kernels_reason(namespace: str) -> None:
    """An attribute that is too short; the kernel says so before it begins the dump."""
    bad = conntrack.dump_connections(4, "bad dump")
    with (
        NetlinkSocket.open(namespace, None, NETLINK_NETFILTER) as sock,
        pytest.raises(KernelError, match=r"namespace transport: bad dump: \w+ \(.*\): .*policy") as caught,
    ):
        sock.dump(bad._replace(body=bad.body + attribute(12, b"\1")))
    assert caught.value.hint


def test_a_refused_dump_that_had_begun_names_the_kernels_reason(namespace: str) -> None:
    """Strict checking of the header of a dump of routes happens in the dump itself."""
    refused = Request(26, NLM_F_DUMP, bytes((2, 24)) + bytes(10), "bad dump")
    with NetlinkSocket.open(namespace, None, NETLINK_ROUTE) as sock, pytest.raises(KernelError, match="Invalid values"):
        sock.dump(refused)


@pytest.mark.parametrize("protocol", [NETLINK_ROUTE, NETLINK_NETFILTER])
def test_a_namespace_that_is_gone_is_named(host: lab.Host, protocol: int) -> None:
    with pytest.raises(NamespaceGoneError, match="qrouter-gone"):
        NetlinkSocket.open("qrouter-gone", None, protocol)


def test_changes_and_questions_go_in_one_send_and_are_answered_in_order(namespace: str) -> None:
    counters = WriteCounters()
    with NetlinkSocket.open(namespace, counters) as sock:
        changes = [add_bridge("one"), set_link("absent", up=True), add_bridge("one"), add_bridge("two")]
        failed, links = sock.exchange(changes, [get_link(name, NO_DEVICE) for name in ("two", "absent", "one")])
        assert [failure[:2] for failure in failed] == [(1, errno.ENODEV), (2, errno.EEXIST)]
        assert [data and index_and_name(data)[1] for data in links] == ["two", None, "one"]
        assert counters.netlink == len(changes)
        assert sock.exchange([], []) == ([], [])
        with pytest.raises(KernelError, match="link absent"):
            sock.exchange([set_link("one", up=True)], [get_link("absent")])


def test_the_index_of_a_device_is_asked_for_in_the_namespace_of_the_socket(namespace: str) -> None:
    lab.run("ip", "-n", namespace, "link", "add", "fifteen-bytes-d", "index", "78", "type", "bridge")
    for protocol in (NETLINK_ROUTE, NETLINK_NETFILTER):
        with NetlinkSocket.open(namespace, None, protocol) as sock:
            assert [sock.index_of(name) for name in ("lo", "fifteen-bytes-d", "absent")] == [LOOPBACK, 78, None]


@pytest.mark.parametrize("count", [BATCH_MESSAGES - 1, BATCH_MESSAGES, BATCH_MESSAGES + 1])
def test_changes_that_need_several_sends_are_followed_by_the_questions(namespace: str, count: int) -> None:
    counters = WriteCounters()
    with NetlinkSocket.open(namespace, counters) as sock:
        changes = [add_address(Address("lo", f"10.0.{number}.1/24"), LOOPBACK) for number in range(count)]
        failed, links = sock.exchange([*changes, changes[0]], [get_link("lo"), get_link(LOOPBACK)])
        assert [failure[:2] for failure in failed] == [(count, errno.EEXIST)]
        assert [data and index_and_name(data)[0] for data in links] == [LOOPBACK, LOOPBACK]
    assert counters.netlink == count + 1
    assert len(lab.ip_json("addr", "show", "dev", "lo", netns=namespace)[0]["addr_info"]) == count


def test_a_refused_change_is_named_though_the_question_after_it_has_no_answer_either(namespace: str) -> None:
    with NetlinkSocket.open(namespace, None) as sock:
        with pytest.raises(KernelError, match="link lo type bridge") as caught:
            sock.make([add_bridge("lo")], [get_link("absent")])
        assert caught.value.code == errno.EEXIST
        (data,) = sock.make([add_bridge("one")], [get_link("one")])
        assert data is not None
        assert index_and_name(data)[1] == "one"


def test_a_transaction_is_carried_out_whole_or_not_at_all(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    for table in ("one", "two"):
        lab.in_netns(namespace, "nft", "add", "table", "ip", table)
    caplog.set_level(logging.DEBUG)
    counters = WriteCounters()
    with NetlinkSocket.open(namespace, counters, NETLINK_NETFILTER) as sock:

        def transact(*tables: str, generation: int | None = None) -> None:
            changes = [nftables.delete_table(2, table) for table in tables]
            sock.transaction(nftables.begin_transaction(generation), changes, nftables.end_transaction())

        with pytest.raises(KernelError, match="nft table ip absent") as caught:
            transact("one", "absent", "two")
        assert caught.value.code == errno.ENOENT
        assert (
            "refused in namespace transport: nft_table_msg {'nfgen_family': 2, 'NFTA_TABLE_NAME': 'absent'}"
            in caplog.text
        )
        assert lab.in_netns(namespace, "nft", "list", "tables").split() == ["table", "ip", "one", "table", "ip", "two"]
        with pytest.raises(KernelError) as caught:
            transact("one", generation=1)
        assert caught.value.code == errno.ERESTART
        transact("one", "two")
    assert lab.in_netns(namespace, "nft", "list", "tables") == ""
    assert counters.total() == 0, "a transaction is counted by who asks for it"
