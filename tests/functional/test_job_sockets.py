"""The netlink sockets that a job keeps, on the real kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from pyroute2.netlink import NETLINK_NETFILTER, NETLINK_ROUTE

from dvr_agent.errors import NamespaceGoneError
from dvr_agent.kernel import job_sockets
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.namespaces import RealNamespaces
from dvr_agent.kernel.netlink.handler import NO_DEVICE
from dvr_agent.kernel.netlink.link import get_link
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.nftables.filter_diff import MESSAGES
from dvr_agent.kernel.nftables.message import GET_TABLE, decode_table, dump
from dvr_agent.kernel.nftables.transaction import commit
from tests.support import lab
from tests.support.waiting import wait_for

ONE = "qrouter-1"


def _descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def _cookie(counters: WriteCounters) -> int:
    with job_sockets.netlink(ONE, counters) as sock:
        return sock.cookie()


def _links() -> set[str]:
    return {link["ifname"] for link in lab.ip_json("link")}


def _plain_veth() -> None:
    lab.run("ip", "link", "add", "outer", "type", "veth", "peer", "name", "inner", "netns", ONE)


def test_a_job_has_one_socket_in_a_namespace(namespaces: RealNamespaces, counters: WriteCounters) -> None:
    with namespaces.job():
        namespaces.create(ONE)
        with job_sockets.netlink(ONE, counters) as first:
            pass
        with namespaces.job(), job_sockets.netlink(ONE, counters) as second:
            assert second is first
        with job_sockets.netlink("", counters) as host, job_sockets.netlink("", counters) as again:
            assert again is host
            assert host is not first


def test_without_a_job_each_caller_has_a_socket_of_its_own(namespaces: RealNamespaces, counters: WriteCounters) -> None:
    namespaces.create(ONE)
    before = _descriptors()
    with job_sockets.netlink(ONE, counters) as first, job_sockets.netlink(ONE, counters) as second:
        assert first is not second
    assert _descriptors() == before


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_no_socket_outlives_its_job(
    namespaces: RealNamespaces, counters: WriteCounters, error: type[BaseException] | None
) -> None:
    namespaces.create(ONE)
    before = _descriptors()

    def work() -> None:
        with namespaces.job(), job_sockets.netlink(ONE, counters), job_sockets.netlink("", counters):
            assert len(_descriptors()) == len(before) + 3  # the way back is one
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(error):
            work()
    assert _descriptors() == before


def test_a_job_in_many_namespaces_keeps_few_sockets(namespaces: RealNamespaces, counters: WriteCounters) -> None:
    names = [f"ns-{number}" for number in range(job_sockets.MOST + 3)]
    for name in names:
        namespaces.create(name)
    before = len(_descriptors())
    with namespaces.job():
        for name in names:
            with job_sockets.netlink(name, counters) as sock:
                assert sock.namespace == name
        assert len(_descriptors()) == before + job_sockets.MOST + 1  # the way back


def test_nf_tables_are_read_and_written_by_one_socket_of_the_job(
    namespaces: RealNamespaces, counters: WriteCounters
) -> None:
    namespaces.create(ONE)
    before = _descriptors()
    with namespaces.job():
        (opened, reader), number = job_sockets.netlink_and(ONE, counters, (NETLINK_ROUTE, NETLINK_NETFILTER), os.getpid)
        assert number == os.getpid()
        with opened as route, reader as first:
            assert route is not first
        with job_sockets.netlink(ONE, counters) as again, job_sockets.netlink(ONE, None, NETLINK_NETFILTER) as second:
            assert (again, second) == (route, first)
        with job_sockets.netlink(ONE, None, NETLINK_NETFILTER) as writer:
            assert writer is first
            assert commit(writer, [MESSAGES[4].new_table()], None, retry=False)
            assert [one.name for one in map(decode_table, writer.dump(dump(GET_TABLE, "tables")))] == ["dvr"]
    assert _descriptors() == before


@pytest.mark.parametrize("in_job", [True, False])
def test_a_socket_is_closed_aside_where_something_was_deleted_from_nf_tables(
    namespaces: RealNamespaces, monkeypatch: pytest.MonkeyPatch, in_job: bool
) -> None:
    namespaces.create(ONE)
    aside: list[NetlinkSocket] = []
    monkeypatch.setattr(job_sockets, "_deleted", {})
    monkeypatch.setattr(job_sockets, "close_aside", aside.append)
    with namespaces.job() if in_job else nullcontext():
        with job_sockets.netlink(ONE, None, NETLINK_NETFILTER) as sock:
            assert commit(sock, [MESSAGES[4].new_table()], None, retry=False)
            assert commit(sock, [MESSAGES[4].delete_table()], None, retry=False)
        with job_sockets.netlink(ONE, None):
            pass
    assert aside == [sock]
    sock.close()
    monkeypatch.setattr(job_sockets, "GRACE", 0)
    for _ in range(2):  # that is over
        with job_sockets.netlink(ONE, None, NETLINK_NETFILTER):
            pass
    assert aside == [sock]


def test_a_removal_within_the_job_ends_the_namespace(namespaces: RealNamespaces, counters: WriteCounters) -> None:
    with namespaces.job():
        namespaces.create(ONE)
        _plain_veth()
        _cookie(counters)
        namespaces.remove(ONE)
        wait_for(lambda: "outer" not in _links(), "the namespace is gone, and its devices with it")
        with pytest.raises(NamespaceGoneError):
            _cookie(counters)


def _removed_and_made_by_us(namespaces: RealNamespaces) -> None:
    namespaces.remove(ONE)
    namespaces.create(ONE)


def _removed_and_made_by_another(_namespaces: RealNamespaces) -> None:
    lab.run("ip", "netns", "delete", ONE)
    lab.run("ip", "netns", "add", ONE)


@pytest.mark.parametrize("replace", [_removed_and_made_by_us, _removed_and_made_by_another])
def test_a_namespace_that_was_replaced_within_the_job_gets_another_socket(
    namespaces: RealNamespaces, counters: WriteCounters, replace: Callable[[RealNamespaces], None]
) -> None:
    with namespaces.job():
        namespaces.create(ONE)
        _plain_veth()
        old = _cookie(counters)
        replace(namespaces)
        new = _cookie(counters)
        assert new != old
        wait_for(lambda: "outer" not in _links(), "nothing keeps the old namespace")
        with job_sockets.netlink(ONE, counters) as sock:
            assert sock.get([get_link("inner", NO_DEVICE)]) == [None]


def test_a_namespace_that_another_program_removes_within_the_job_is_gone(
    namespaces: RealNamespaces, counters: WriteCounters
) -> None:
    with namespaces.job():
        namespaces.create(ONE)
        _plain_veth()
        lab.run("ip", "netns", "delete", ONE)
        with pytest.raises(NamespaceGoneError, match=ONE):
            _cookie(counters)
        wait_for(lambda: "outer" not in _links(), "nothing keeps the old namespace")


def test_only_what_the_job_has_made_is_new(namespaces: RealNamespaces, counters: WriteCounters) -> None:
    lab.run("ip", "netns", "add", "old")
    with namespaces.job():
        namespaces.create(ONE)
        namespaces.create("old")
        with job_sockets.netlink("old", counters):
            assert job_sockets.is_new(ONE)
            assert not job_sockets.is_new("old")
        _removed_and_made_by_another(namespaces)
        _cookie(counters)
        assert not job_sockets.is_new(ONE)
        namespaces.remove(ONE)
        namespaces.create(ONE)
        assert job_sockets.is_new(ONE)
    assert not job_sockets.is_new(ONE)
