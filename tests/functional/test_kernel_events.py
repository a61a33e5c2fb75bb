"""What the listening sockets hear: foreign changes in named namespaces, not our own, and losses."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2.netlink import NETLINK_NETFILTER
from pyroute2.netlink.rtnl import RTM_DELROUTE

from dvr_agent.kernel import netns
from dvr_agent.kernel.api import WriteCounters
from dvr_agent.kernel.drift_events import AnyEvent, DriftEvents, Event, RuleSetChange
from dvr_agent.kernel.netlink.address import add_address
from dvr_agent.kernel.netlink.handler import GONE
from dvr_agent.kernel.netlink.kernel_route import add_kernel_route
from dvr_agent.kernel.netlink.link import LOOPBACK
from dvr_agent.kernel.netlink.listener import BUFFER, OverflowedError
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.netns import entered
from dvr_agent.kernel.nftables.filter_manager import NftablesFilter
from dvr_agent.kernel.nftables.limits import HostLayout, write_limits
from dvr_agent.kernel.nftables.message import begin_transaction, end_transaction
from dvr_agent.kernel.port_owner import owner_of
from dvr_agent.state.address import Address
from dvr_agent.state.diff import Action, Change
from dvr_agent.state.filter import Table
from dvr_agent.state.kernel_route import KernelRoute
from dvr_agent.state.limit import make_limit
from dvr_agent.state.link import Link
from tests.support import lab
from tests.support.filter_rules import qrouter_tables
from tests.support.waiting import wait_for

LOW, HIGH = Address("lo", "192.0.2.1/32"), Address("lo", "192.0.2.2/32")


@pytest.fixture
def events(host: lab.Host) -> Iterator[DriftEvents]:
    lab.run("ip", "netns", "add", "one")
    made = DriftEvents(nftables=True)
    made.listen("one")
    made.read(1000)
    yield made
    made.close()


def heard(events: DriftEvents) -> list[Event]:
    """All events of objects that wait."""
    return [event for event in heard_at_all(events) if isinstance(event, Event)]


def heard_at_all(events: DriftEvents) -> list[AnyEvent]:
    found, more = events.read(1000)
    assert not more
    return found


def put(*wanted: Table) -> None:
    """Write tables as the agent does."""
    with NftablesFilter(WriteCounters()).defer_apply() as pending:
        for table in wanted:
            pending.replace("one", table)


def nft(text: str) -> None:
    lab.in_netns("one", "nft", text)


def test_foreign_changes_are_heard_and_own_ones_are_not(events: DriftEvents) -> None:
    with NetlinkSocket.open("one", None) as sock:
        sock.batch([add_address(LOW, LOOPBACK)])
    lab.run("ip", "-n", "one", "address", "add", HIGH.cidr, "dev", "lo")
    (event,) = heard(events)
    assert event[:3] == ("one", HIGH, True)
    assert "process" in owner_of(event.port).text


def test_of_routes_of_the_kernel_only_what_another_program_has_removed_is_heard(events: DriftEvents) -> None:
    for words in ("link add qr-a type veth peer name other", "link set qr-a up", "link set other up"):
        lab.run("ip", "-n", "one", *words.split())

    def kernel_routes(*commands: str) -> list[tuple[str, bool]]:
        for words in commands:
            lab.run("ip", *words.split())
        return [(event.item.text, event.present) for event in heard(events) if isinstance(event.item, KernelRoute)]

    own = "-n one address {} 10.0.0.1/24 dev qr-a", "-n one address {} 2001:db8::1/64 dev qr-a nodad"
    v4, v6 = "connected route 10.0.0.0/24 dev qr-a", "connected route 2001:db8::/64 dev qr-a"
    assert kernel_routes(*(one.format(verb) for verb in ("add", "delete", "add") for one in own)) == []
    removed = "-n one route delete 10.0.0.0/24", "-6 -n one route delete 2001:db8::/64 dev qr-a"
    assert kernel_routes(*removed) == [(v4, False), (v6, False)]
    added = "-n one route add 10.0.0.0/24 dev qr-a scope link src 10.0.0.1 proto kernel"
    assert kernel_routes(added, "-n one route replace unreachable 10.0.0.0/24") == [
        ("connected route 10.0.0.0/24", False)
    ]
    assert kernel_routes("-n one route delete local 10.0.0.1 table local") == []
    assert kernel_routes("-n one link set qr-a down", "-n one link set qr-a up") == []
    with NetlinkSocket.open("one", None) as sock:
        index = sock.index_of("qr-a")
        assert index is not None
        request = add_kernel_route(KernelRoute("qr-a", "10.0.0.1/24"), index)
        sock.batch([request._replace(kind=RTM_DELROUTE, flags=0, tolerate=GONE)])
    assert kernel_routes() == []


def test_only_links_of_the_host_are_heard(events: DriftEvents) -> None:
    lab.run("ip", "route", "add", "unreachable", "192.0.2.0/24")
    lab.run("ip", "link", "add", "tap0", "type", "bridge")
    found = heard(events)
    assert {event.namespace for event in found} == {""}
    assert {event.item.name for event in found if isinstance(event.item, Link)} == {"tap0"}


def test_a_removed_namespace_is_heard_and_its_successor_too(events: DriftEvents) -> None:
    lab.run("ip", "netns", "delete", "one")
    assert Event("one", None, False, 0) in heard(events)
    lab.run("ip", "netns", "add", "one")
    events.listen("one")
    lab.run("ip", "-n", "one", "address", "add", LOW.cidr, "dev", "lo")
    wait_for(lambda: [event for event in heard(events) if event.item == LOW])


def test_lost_events_are_noticed_and_the_buffer_grows(events: DriftEvents, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    batch.write_text("".join(f"route add unreachable 198.18.{n // 256}.{n % 256}\n" for n in range(12_000)))
    lab.run("ip", "-n", "one", "-batch", batch)
    with pytest.raises(OverflowedError):
        events.read(100_000)
    assert events.buffer_size == 2 * BUFFER
    events.discard()
    lab.run("ip", "-n", "one", "address", "add", LOW.cidr, "dev", "lo")
    assert [event.item for event in heard(events)] == [LOW]


def test_a_namespace_that_ended_unheard_is_heard_again_by_its_name(
    events: DriftEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may have given its inode to its successor."""
    inode = netns.inode_of("one")
    monkeypatch.setattr(netns, "inode_of", lambda _name: inode)
    with contextlib.closing(DriftEvents()) as other:
        other.listen("one")
        lab.run("ip", "netns", "delete", "one")
        lab.run("ip", "netns", "add", "one")
        wait_for(lambda: other.read(1000) and not other.keep().record["namespaces"])
    events.discard()
    assert events.listen("one")
    lab.run("ip", "-n", "one", "address", "add", LOW.cidr, "dev", "lo")
    assert LOW in [event.item for event in heard(events)]


def test_transactions_of_others_on_nf_tables_are_heard_once_with_their_program(events: DriftEvents) -> None:
    put(*qrouter_tables())
    write_limits("one", [Change(Action.ADD, make_limit("lo", "leaving", "192.0.2.1", 1000, 800))], WriteCounters())
    assert not heard_at_all(events), "our own changes are not heard"
    elements = ", ".join(f"192.0.2.{number}" for number in range(200))
    for text in (
        f"add table ip other; add set ip other s {{ type ipv4_addr; elements = {{ {elements} }}; }}",
        "flush ruleset",
    ):
        nft(text)
        (event,) = heard_at_all(events)
        assert isinstance(event, RuleSetChange)
        assert (event.namespace, event.program, event.pid > 0) == ("one", "nft", True)
    nft("list ruleset")
    lab.run("nft", "add table ip other")
    assert not heard_at_all(events), "listings change nothing, and the host's own tables are not ours"


def test_nf_tables_are_not_heard_where_they_are_not_used(host: lab.Host) -> None:
    lab.run("ip", "netns", "add", "one")
    events = DriftEvents()
    events.listen("one")
    nft("add table ip other")
    assert not heard_at_all(events)
    events.close()


def test_lost_events_of_nf_tables_are_noticed(events: DriftEvents) -> None:
    with entered("one"):
        raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    made = HostLayout.messages
    with NetlinkSocket("one", raw, None) as sock:
        for _ in range(12_000):
            sock.transaction(begin_transaction(None), [made.new_table(), made.delete_table()], end_transaction())
    with pytest.raises(OverflowedError):
        events.read(100_000)
    assert events.buffer_size == 2 * BUFFER
    events.discard()
    nft("add table ip other")
    assert len(heard_at_all(events)) == 1


def test_the_newest_namespace_has_the_lowest_number_and_busy_ones_come_before_it(host: lab.Host) -> None:
    """For each notification the kernel looks for the number of its namespace from the lowest on."""
    names = ["one", "busy", "two", "busier"]
    with contextlib.closing(DriftEvents(is_busy=lambda name: name.startswith("bus"))) as events:
        for name in names:
            lab.run("ip", "netns", "add", name)
            lab.run("ip", "-n", name, "link", "set", "lo", "up")
            assert events.listen(name)
        numbers = {name: number for name, (number, *_) in events.keep().record["namespaces"].items()}
        assert sorted(names, key=numbers.__getitem__) == ["busy", "busier", "two", "one"]
        for name in names:
            lab.run("ip", "-n", name, "route", "add", "198.51.100.0/24", "dev", "lo")
        found, _more = events.read(100)
        assert {event.namespace for event in found} >= {"busy", "busier"} | {"one", "two"}
