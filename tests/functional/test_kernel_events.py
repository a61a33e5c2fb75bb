"""What the listening sockets hear: foreign changes in named namespaces, not our own, and losses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvr_agent.kernel.drift_events import DriftEvents, Event
from dvr_agent.kernel.netlink.address import add_address
from dvr_agent.kernel.netlink.link import LOOPBACK
from dvr_agent.kernel.netlink.listener import BUFFER, OverflowedError
from dvr_agent.kernel.netlink.transport import NetlinkSocket
from dvr_agent.kernel.port_owner import owner_of
from dvr_agent.state.address import Address
from dvr_agent.state.link import Link
from tests.support import lab
from tests.support.waiting import wait_for

LOW, HIGH = Address("lo", "192.0.2.1/32"), Address("lo", "192.0.2.2/32")


@pytest.fixture
def events(host: lab.Host) -> Iterator[DriftEvents]:
    lab.run("ip", "netns", "add", "one")
    made = DriftEvents()
    made.listen("one")
    made.read(1000)
    yield made
    made.close()


def heard(events: DriftEvents) -> list[Event]:
    """All events that wait."""
    found, more = events.read(1000)
    assert not more
    return found


def test_foreign_changes_are_heard_and_own_ones_are_not(events: DriftEvents) -> None:
    with NetlinkSocket.open("one", None) as sock:
        sock.batch([add_address(LOW, LOOPBACK)])
    lab.run("ip", "-n", "one", "address", "add", HIGH.cidr, "dev", "lo")
    (event,) = heard(events)
    assert event[:3] == ("one", HIGH, True)
    assert "process" in owner_of(event.port).text


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
